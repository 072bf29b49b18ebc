"""cross_entropy from logits: accuracy, agreement with torch, gradients, limits, bad input."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from backends import BACKENDS, DEVICES
from hypothesis import given, settings
from hypothesis import strategies as st

from lossutils.cross_entropy import cross_entropy
from lossutils.information import entropy

INF = math.inf
NAN = math.nan
BAR = 4.0
backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64).to(dtype)


def grad_of(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


def same(got, want):
    got, want = (v.detach().numpy() if isinstance(v, torch.Tensor) else v for v in (got, want))
    np.testing.assert_array_equal(got, want)


# ------------------------------------------------------------------------------------------ closed forms


@backend
def test_textbook_values_come_out(make):
    assert float(cross_entropy(make(np.zeros(10)), make(3))) == pytest.approx(math.log(10), rel=1e-15)
    z = make(np.log([[0.9, 0.1], [0.01, 0.99]]))
    got = cross_entropy(z, make([0, 0]), reduction="none")
    np.testing.assert_allclose(np.asarray(got), [0.105, 4.605], atol=5e-4)
    two = make(np.array([[3.0, 1.0, -2.0]]))
    assert float(cross_entropy(two, make([1]))) == pytest.approx(
        math.log(math.exp(3) + math.exp(1) + math.exp(-2)) - 1, rel=1e-14
    )


@backend
def test_the_smoothed_loss_of_a_perfect_model_has_the_known_minimum(make):
    """eps = 0.1 over 50257 classes: 1.4075, the entropy of the smoothed target."""
    classes, eps = 50257, 0.1
    t = np.full(classes, eps / classes)
    t[7] += 1 - eps
    got = float(cross_entropy(make(np.log(t)), make(7), label_smoothing=eps))
    assert got == pytest.approx(1.4075, abs=5e-5)
    assert got == pytest.approx(float(entropy(t)), rel=1e-12)


# ---------------------------------------------------------------------------------- the bar, against mpmath


def rows(dtype, seed=0):
    g = np.random.default_rng(seed)
    for offset, scale, gap in itertools.product(
        (0, -37.3, 1e3, 1e6), (0, 1e-3, 1, 30, 1e3), (0, 1e-4, 0.5, 10, 17, 40, 87, 100, 120)
    ):
        z = g.normal(size=6) * scale + offset
        z[0] = z.max() + gap
        if gap == 0:
            z[3] = z[0]
        if g.random() < 0.4:
            z[g.integers(1, 6)] = -INF
        yield z.astype(dtype)


@backend
@precision
def test_the_loss_stays_within_four_ulp_of_mpmath(make, dtype):
    for z in rows(dtype):
        for y, logp in enumerate(oracles.log_softmax(z)):
            got = cross_entropy(make(z), make(y))
            assert got.dtype == make(z).dtype
            assert oracles.ulp_distance(got, -logp, dtype) <= BAR, (z, y)


@precision
def test_the_gradient_stays_within_four_ulp_of_mpmath_at_every_class(dtype):
    for z in rows(dtype, seed=1):
        for y in (0, 1, 3):
            x = torch.tensor(z, requires_grad=True)
            (grad,) = grad_of(cross_entropy(x, torch.tensor(y)), x)
            assert oracles.worst_ulp(grad, oracles.cross_entropy_grad(z, y), dtype) <= BAR, (z, y)


def test_the_float64_gradient_of_a_wrong_target_does_not_add_tiny_terms_to_one():
    """Adding each tiny term to the argmax's 1 would lose up to half a unit of it every time."""
    for classes in range(4, 40):
        z = np.full(classes, -36.84)  # exp is 1e-16: added to 1 it vanishes
        z[0] = 0
        x = torch.tensor(z, requires_grad=True)
        (grad,) = grad_of(cross_entropy(x, torch.tensor(2)), x)
        assert oracles.worst_ulp(grad, oracles.cross_entropy_grad(z, 2), "float64") <= 2.5, classes


@backend
@precision
def test_a_one_hot_target_of_probabilities_is_as_accurate_as_an_index(make, dtype):
    for z in rows(dtype, seed=2):
        for y in (0, 1):
            target = np.zeros(6, dtype)
            target[y] = 1
            want = oracles.cross_entropy(z, y)
            assert oracles.ulp_distance(cross_entropy(make(z), make(target)), want, dtype) <= BAR, (z, y)
            if make is BACKENDS["torch"]:
                x = torch.tensor(z, requires_grad=True)
                (grad,) = grad_of(cross_entropy(x, make(target)), x)
                assert oracles.worst_ulp(grad, oracles.cross_entropy_grad(z, y), dtype) <= BAR, (z, y)


@backend
@precision
def test_soft_targets_with_weights_stay_within_four_ulp(make, dtype):
    g = np.random.default_rng(3)
    for z in rows(dtype, seed=3):
        t = g.dirichlet(np.ones(6))
        t[np.isinf(z)] = 0
        t = (t / t.sum()).astype(dtype)
        w = g.uniform(0, 2, 6).astype(dtype)
        got = cross_entropy(make(z), make(t), make(w))
        assert oracles.ulp_distance(got, oracles.cross_entropy(z, t, w), dtype) <= BAR, z


# The table of errors that plain code makes: each row once, as a regression test.


@backend
@pytest.mark.parametrize("gap", [10.0, 17.0, 30.0, 80.0, 120.0])
def test_a_confident_right_float32_prediction_keeps_its_loss_and_gradient(make, gap):
    z = np.array([gap, 0], np.float32)
    want = oracles.cross_entropy(z, 0)
    assert oracles.ulp_distance(cross_entropy(make(z), make(0)), want, "float32") <= 1.5
    x = torch.tensor(z, requires_grad=True)
    (grad,) = grad_of(cross_entropy(x, torch.tensor(0)), x)
    assert oracles.worst_ulp(grad, oracles.cross_entropy_grad(z, 0), "float32") <= 1.5
    if gap >= 17:
        plain = torch.tensor(z, requires_grad=True)
        loss = F.cross_entropy(plain, torch.tensor(0))
        assert loss == 0 and grad_of(loss, plain)[0][0] == 0  # what we differ from


@backend
def test_a_shared_offset_of_a_million_does_not_reach_the_loss(make):
    z = np.array([1.0, 2.0, 3.0], np.float32) + np.float32(1e6)
    got = cross_entropy(make(z), make(0))
    assert oracles.ulp_distance(got, oracles.cross_entropy(z, 0), "float32") <= 1
    assert float(got) == pytest.approx(2.4076, abs=5e-5)
    through_lse = torch.logsumexp(torch.tensor(z), 0) - z[0]
    assert abs(float(through_lse) - 2.4076) > 0.02


@backend
def test_a_large_vocabulary_keeps_the_sum_of_its_small_terms(make):
    """V = 32768, one logit 20 above 32767 zeros: the loss is log1p(32767 exp(-20)), 6.8e-5."""
    z = np.zeros(32768, np.float32)
    z[11] = 20
    with oracles.mpmath.workdps(60):
        want = oracles.mpmath.log1p(32767 * oracles.mpmath.exp(-20))
    assert oracles.ulp_distance(cross_entropy(make(z), make(11)), want, "float32") <= 1
    x = torch.tensor(z, requires_grad=True)
    (grad,) = grad_of(cross_entropy(x, torch.tensor(11)), x)
    with oracles.mpmath.workdps(60):
        s = 32767 * oracles.mpmath.exp(-20)
        assert oracles.ulp_distance(grad[11].item(), -s / (1 + s), "float32") <= 1


@backend
@precision
@pytest.mark.parametrize("gap", [9.7, 17.3, 31.1])
def test_a_large_vocabulary_of_ties_does_not_add_up_their_rounding(make, dtype, gap):
    z = np.full(32768, 0.1, dtype)
    z[5] = gap
    with oracles.mpmath.workdps(60):
        d = oracles.mpmath.mpf(float(z[0])) - oracles.mpmath.mpf(float(z[5]))
        want = oracles.mpmath.log1p(32767 * oracles.mpmath.exp(d))
    assert oracles.ulp_distance(cross_entropy(make(z), make(5)), want, dtype) <= BAR


@backend
def test_a_large_vocabulary_of_random_logits_is_within_four_ulp(make):
    g = np.random.default_rng(4)
    z = g.normal(size=32768) * 3
    z[0] = 40
    with oracles.mpmath.workdps(40):
        s = oracles.mpmath.fsum(oracles.mpmath.exp(v - 40) for v in oracles.exact(z[1:]))
        want = oracles.mpmath.log1p(s)
    assert oracles.ulp_distance(cross_entropy(make(z), make(0)), want, "float64") <= BAR


@backend
def test_a_zero_probability_on_a_masked_class_costs_nothing(make):
    z, t = np.array([[0.0, -INF, 1.0]]), np.array([[0.25, 0.0, 0.75]])
    got = float(cross_entropy(make(z), make(t)))
    assert got == pytest.approx(math.log1p(math.e) - 0.75, rel=1e-14)
    assert math.isnan(F.cross_entropy(torch.tensor(z), torch.tensor(t)))  # what we differ from
    x = torch.tensor(z, requires_grad=True)
    (grad,) = grad_of(cross_entropy(x, torch.tensor(t)), x)
    p = 1 / (1 + math.e)
    np.testing.assert_allclose(grad, [[p - 0.25, 0, 0.25 - p]], rtol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_a_float32_loss_without_a_half_precision_error(dtype):
    z = randn(256, 50, dtype=dtype) * 3
    y = torch.arange(256) % 50
    want = float(F.cross_entropy(z.double(), y))
    got = cross_entropy(z, y)
    assert got.dtype == torch.float32
    assert abs(float(got) / want - 1) < 1.2e-7
    assert abs(float(F.cross_entropy(z.bfloat16(), y)) / want - 1) > 1e-4


# ----------------------------------------------------------------------- agreement with torch in float64

LAYOUTS = [(5,), (4, 5), (3, 5, 2), (2, 5, 3, 2)]


def case(shape, target_kind, seed=0):
    logits = randn(*shape, seed=seed) * 3
    axis = 0 if len(shape) == 1 else 1
    if target_kind == "soft":
        return logits, torch.softmax(randn(*shape, seed=seed + 1), axis)
    rest = shape[:axis] + shape[axis + 1 :]
    return logits, torch.randint(0, shape[axis], rest, generator=rng(seed + 1))


@pytest.mark.parametrize("shape", LAYOUTS)
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, -100, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_loss_and_gradient_agree_with_torch(shape, kind, weighted, ignore, smoothing, reduction):
    logits, target = case(shape, kind)
    if kind == "soft" and ignore == 2:  # an index to ignore has no meaning for probabilities, to either of us
        for function, error in ((cross_entropy, ValueError), (F.cross_entropy, RuntimeError)):
            with pytest.raises(error, match="ignore_index"):
                function(logits, target, ignore_index=ignore)
        return
    weight = torch.tensor([0.5, 2.0, 0.0, 1.5, 0.3], dtype=torch.float64) if weighted else None
    if kind == "hard" and ignore is not None:
        target = target.clone()
        target.view(-1)[::2] = ignore
    options = {"reduction": reduction, "label_smoothing": smoothing}
    if ignore is not None:
        options["ignore_index"] = ignore
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    got, want = (
        cross_entropy(ours, target, weight, **options),
        F.cross_entropy(theirs, target, weight, **options),
    )
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13, equal_nan=True)
    upstream = randn(*want.shape, seed=9)
    (a,), (b,) = torch.autograd.grad(got, ours, upstream), torch.autograd.grad(want, theirs, upstream)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13, equal_nan=True)
    plain = cross_entropy(
        logits.numpy(), target.numpy(), None if weight is None else weight.numpy(), **options
    )
    np.testing.assert_allclose(plain, want.detach().numpy(), rtol=1e-12, atol=1e-13)
    assert np.shape(plain) == tuple(want.shape)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_torchs_own_sample_inputs_give_the_loss_and_gradient_of_torch(smoothing):
    samples = oracles.torch_samples("nn.functional.cross_entropy")
    assert len(samples) > 20
    for sample in samples:
        (target,), options = sample.args, {**sample.kwargs, "label_smoothing": smoothing}
        if target.is_floating_point():  # torch draws numbers there; we take distributions
            target = torch.softmax(target, dim=1)
        ours, theirs = sample.input.clone().requires_grad_(), sample.input.clone().requires_grad_()
        got, want = cross_entropy(ours, target, **options), F.cross_entropy(theirs, target, **options)
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12, equal_nan=True)
        upstream = randn(*want.shape, seed=9)
        (a,), (b,) = torch.autograd.grad(got, ours, upstream), torch.autograd.grad(want, theirs, upstream)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_strides_do_not_matter(kind, smoothing):
    logits, target = case((3, 7, 4), kind)
    views = [
        logits,
        logits.transpose(1, 2).contiguous().transpose(1, 2),  # (batch, time, classes) seen as torch wants it
        logits.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        torch.stack([logits, -logits], -1)[..., 0],
    ]
    for view in views:
        x = view.detach().requires_grad_()
        loss = cross_entropy(x, target, label_smoothing=smoothing)
        torch.testing.assert_close(loss, F.cross_entropy(logits, target, label_smoothing=smoothing))
        y = logits.clone().requires_grad_()
        (want,) = grad_of(F.cross_entropy(y, target, label_smoothing=smoothing), y)
        torch.testing.assert_close(grad_of(loss, x)[0], want)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("shape", [(700, 1000), (3, 70_000), (2, 300, 900), (2, 150_000, 3)])
def test_inputs_of_many_blocks_agree_with_torch(kind, shape, monkeypatch):
    monkeypatch.setattr(sys.modules["lossutils.cross_entropy"], "_BLOCK", 2**17)
    logits, target = case(shape, kind)
    if kind == "hard":
        target[0] = -100  # a whole row, and for the first shape part of a block
    x, y = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    got, want = cross_entropy(x, target), F.cross_entropy(y, target)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(grad_of(got, x)[0], grad_of(want, y)[0], rtol=1e-10, atol=1e-15)


@backend
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_z_loss_adds_the_squared_log_normaliser_with_the_rows_weight(make, kind, reduction):
    logits, target = case((6, 5), kind)
    weight = torch.tensor([0.5, 2.0, 0.1, 1.5, 0.3], dtype=torch.float64)
    row_weight = weight[target] if kind == "hard" else (weight * target).sum(1)
    base = F.cross_entropy(logits, target, weight, reduction="none")
    rows = base + 0.3 * row_weight * torch.logsumexp(logits, 1) ** 2
    total = row_weight.sum() if kind == "hard" else 6
    want = {"none": rows, "sum": rows.sum(), "mean": rows.sum() / total}[reduction]
    got = cross_entropy(make(logits), make(target), make(weight), z_loss=0.3, reduction=reduction)
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-13)


# --------------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("z_loss", [0.0, 0.5])
def test_gradients_pass_gradcheck_once_and_twice(kind, weighted, smoothing, reduction, z_loss):
    logits, target = case((3, 4, 2), kind, seed=5)
    if kind == "hard":
        target[0, 0] = -100
    weight = torch.tensor([0.5, 2.0, 0.1, 1.5], dtype=torch.float64) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing, "z_loss": z_loss}

    def loss(x):
        return -1.7 * cross_entropy(x, target, weight, **options)

    logits.requires_grad_()
    assert torch.autograd.gradcheck(loss, logits)
    assert torch.autograd.gradgradcheck(loss, logits)


def test_gradients_pass_gradcheck_with_masked_classes_and_a_masked_soft_target():
    logits = randn(3, 4)
    logits[0, 1] = logits[2, 3] = -INF
    logits.requires_grad_()
    soft = torch.tensor([[0.5, 0, 0.5, 0], [0.1, 0.2, 0.3, 0.4], [1, 0, 0, 0]], dtype=torch.float64)
    for target in (torch.tensor([0, 1, 2]), soft):
        assert torch.autograd.gradcheck(lambda x, t=target: cross_entropy(x, t), logits)
        assert torch.autograd.gradgradcheck(lambda x, t=target: cross_entropy(x, t), logits)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradients_flow_to_a_soft_target_as_in_torch(smoothing):
    logits, target = case((4, 5), "soft")
    weight = torch.tensor([0.5, 2.0, 0.1, 1.5, 0.3], dtype=torch.float64)
    pairs = [[v.clone().requires_grad_() for v in (logits, target)] for _ in range(2)]
    losses = [
        f(*pair, weight, label_smoothing=smoothing)
        for f, pair in zip((cross_entropy, F.cross_entropy), pairs, strict=True)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    for a, b in zip(grad_of(losses[0], *pairs[0]), grad_of(losses[1], *pairs[1]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@precision
def test_the_gradient_under_create_graph_is_as_accurate_at_the_target(dtype):
    z = np.array([40.0, 0.0, 1.0], dtype)
    x = torch.tensor(z, requires_grad=True)
    (grad,) = torch.autograd.grad(cross_entropy(x, torch.tensor(0)), x, create_graph=True)
    assert oracles.worst_ulp(grad, oracles.cross_entropy_grad(z, 0), dtype) <= BAR


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_retained_graph_gives_the_same_gradient_again(dtype, kind):
    logits, target = case((4, 5), kind)
    x = logits.to(dtype).requires_grad_()
    loss = cross_entropy(x, target if kind == "hard" else target.to(torch.float64))
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    kept = first.clone()
    first.zero_()  # the caller owns what it got
    (second,) = torch.autograd.grad(loss, x, torch.tensor(1.0, dtype=loss.dtype), retain_graph=True)
    (third,) = torch.autograd.grad(loss, x, torch.tensor(0.5, dtype=loss.dtype))
    assert second.dtype == dtype
    same(second.float(), kept.float())
    torch.testing.assert_close(third, kept / 2)


def test_float16_gradients_survive_a_scaled_loss_where_unscaled_ones_would_underflow():
    logits = torch.zeros(4096, 8, dtype=torch.float16)
    logits[:, 0] = 11.0
    x = logits.requires_grad_()
    y = torch.zeros(4096, dtype=torch.long)
    (grad,) = grad_of(cross_entropy(x, y) * 65536.0, x)
    exact = 65536 / 4096 * math.exp(-11) / (1 + 7 * math.exp(-11))
    assert float(grad[0, 1]) == pytest.approx(exact, rel=1e-3)
    assert float(np.float16(exact / 65536)) == 0  # what storing the unscaled gradient would have kept


@backend
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 0.1}], ids=["plain", "all"])
@precision
def test_the_arguments_are_left_as_they_were(make, kind, options, dtype):
    logits, target = case((4, 5), kind)
    arguments = [make(logits.numpy().astype(dtype)), make(target), make(np.linspace(0.5, 2, 5))]
    if kind == "soft":
        arguments[1] = make(target.numpy().astype(dtype))
    before = [np.asarray(v).copy() for v in arguments]
    loss = None
    for reduction in ("mean", "none"):
        if make is BACKENDS["torch"]:
            x = arguments[0].requires_grad_()
            loss = cross_entropy(*arguments, reduction=reduction, **options)
            torch.autograd.grad(loss.sum(), x)
        else:
            loss = cross_entropy(*arguments, reduction=reduction, **options)
    assert loss.shape == (4,)
    for v, kept in zip(arguments, before, strict=True):
        same(v, kept)


def test_no_gradient_is_computed_when_nobody_asks():
    logits, target = case((4, 5), "hard")
    with torch.no_grad():
        assert cross_entropy(logits.requires_grad_(), target).grad_fn is None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("target", ["index", "probabilities", "smoothed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_row_that_is_no_number_leaves_the_other_rows_alone(bad, dtype, target, device):
    z = randn(6, 5, dtype=dtype).to(device)
    z[2] = bad
    y = torch.tensor([0, 1, 2, 3, 4, 0], device=device)
    if target == "probabilities":
        y = torch.softmax(randn(6, 5, seed=1).to(device), 1)
    options = {"label_smoothing": 0.1 if target == "smoothed" else 0.0, "reduction": "none"}
    others = [0, 1, 3, 4, 5]
    with_it, without = z.clone().requires_grad_(), z[others].clone().requires_grad_()
    got = cross_entropy(with_it, y, **options)
    want = cross_entropy(without, y[others], **options)
    torch.testing.assert_close(got[others], want, rtol=1e-6 if dtype != torch.float64 else 1e-14, atol=0)
    (a,) = grad_of(got[others].sum(), with_it)
    (b,) = grad_of(want.sum(), without)
    torch.testing.assert_close(a[others], b, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-12)


def test_ignored_rows_get_exactly_no_gradient_even_from_nan_logits_or_an_infinite_upstream():
    logits, target = case((4, 5), "hard")
    logits[1], target[1] = NAN, -100
    for options in ({}, {"label_smoothing": 0.1}, {"z_loss": 0.1}):
        for reduction in ("mean", "sum", "none"):
            x = logits.clone().requires_grad_()
            loss = cross_entropy(x, target, reduction=reduction, **options)
            assert torch.isfinite(loss).all()
            (grad,) = torch.autograd.grad(loss, x, torch.full_like(loss, INF), retain_graph=True)
            same(grad[1], np.zeros(5))
            (grad,) = torch.autograd.grad(loss, x, torch.ones_like(loss), create_graph=True)
            same(grad[1], np.zeros(5))
            assert torch.isfinite(grad).all()
    assert np.isfinite(cross_entropy(logits.numpy(), target.numpy()))


# ------------------------------------------------------------------------------------------------ limits


@backend
@precision
def test_limits_are_the_documented_ones_on_both_backends(make, dtype):
    def loss(row, y, **options):
        return float(cross_entropy(make(np.array([row], dtype)), make(np.array([y])), **options))

    for row in ([-INF, -INF], [INF, 0], [INF, INF], [INF, -INF], [NAN, 0]):
        for y in (0, 1):
            assert math.isnan(loss(row, y))
        assert math.isnan(
            float(cross_entropy(make(np.array([row], dtype)), make(np.array([[0.5, 0.5]], dtype))))
        )
        assert loss(row, -100, reduction="sum") == 0
    assert loss([0, -INF], 0) == 0 and math.copysign(1, loss([0, -INF], 0)) == 1
    assert loss([0, -INF], 1) == INF
    assert loss([0, -INF], 0, label_smoothing=0.1) == INF
    assert float(cross_entropy(make(np.array([0, -INF], dtype)), make(np.array([0.9, 0.1], dtype)))) == INF


def test_a_target_on_a_masked_class_has_the_finite_gradient_of_torch():
    x = torch.tensor([0.0, -INF, 1.0], requires_grad=True)
    y = x.detach().clone().requires_grad_()
    (a,), (b,) = (
        grad_of(cross_entropy(x, torch.tensor(1)), x),
        grad_of(F.cross_entropy(y, torch.tensor(1)), y),
    )
    torch.testing.assert_close(a, b)


@backend
def test_the_mean_over_nothing_is_nan_and_the_sum_is_zero(make):
    z, ignored = make(np.zeros((3, 4))), make(np.full(3, -100))
    for options in ({}, {"label_smoothing": 0.1}, {"weight": make(np.ones(4))}):
        assert math.isnan(float(cross_entropy(z, ignored, **options)))
        assert float(cross_entropy(z, ignored, reduction="sum", **options)) == 0
    same(cross_entropy(z, ignored, reduction="none"), np.zeros(3))
    empty = make(np.zeros((0, 4)))
    for target in (make(np.zeros(0, int)), make(np.zeros((0, 4)))):
        assert math.isnan(float(cross_entropy(empty, target)))
        assert float(cross_entropy(empty, target, reduction="sum")) == 0
    assert cross_entropy(empty, make(np.zeros(0, int)), reduction="none").shape == (0,)
    assert cross_entropy(make(np.zeros((2, 4, 0))), make(np.zeros((2, 0), int)), reduction="none").shape == (
        2,
        0,
    )
    assert math.isnan(float(cross_entropy(z, make(np.zeros(3, int)), make(np.zeros(4)))))


def test_the_gradient_of_a_mean_over_nothing_is_zero_as_in_torch():
    for options in ({}, {"label_smoothing": 0.1}):
        x = torch.zeros(3, 4, requires_grad=True)
        (grad,) = grad_of(cross_entropy(x, torch.full((3,), -100), **options), x)
        same(grad, np.zeros((3, 4)))


@backend
def test_a_zero_weight_hides_an_infinite_cost_but_not_a_nan(make):
    z, w = make(np.array([[0.0, -INF], [0.0, 1.0]])), make(np.array([1.0, 0.0]))
    assert float(cross_entropy(z, make([1, 0]), w, reduction="sum")) == pytest.approx(math.log1p(math.e))
    assert math.isnan(float(cross_entropy(make(np.array([[0.0, NAN]])), make([1]), w, reduction="sum")))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.int8])
def test_any_integer_dtype_serves_as_target(dtype):
    logits, target = case((4, 5), "hard")
    same(cross_entropy(logits, target.to(dtype)), cross_entropy(logits, target))
    numpy_dtype = str(dtype).split(".")[1]
    same(
        cross_entropy(logits.numpy(), target.numpy().astype(numpy_dtype)),
        cross_entropy(logits.numpy(), target.numpy()),
    )


def test_numpy_takes_lists_integers_and_half_precision():
    assert cross_entropy([10, 0], 0).dtype == np.float64
    assert cross_entropy([[10, 0]], [0]) == cross_entropy(np.array([10.0, 0.0]), 0)
    assert cross_entropy(np.array([10, 0], "float16"), 0).dtype == np.float32


def test_autocast_does_not_lower_the_precision():
    logits, target = case((8, 16), "hard")
    x = logits.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = cross_entropy(x, target)
        smooth = cross_entropy(x, target, label_smoothing=0.1)
    assert loss.dtype == torch.float32
    same(loss, cross_entropy(x, target))
    same(smooth, cross_entropy(x, target, label_smoothing=0.1))
    same(grad_of(loss, x)[0], grad_of(cross_entropy(x, target), x)[0])


# -------------------------------------------------------------------------------------------- properties

tables = st.integers(1, 6).flatmap(
    lambda c: st.lists(st.lists(st.floats(-40, 40), min_size=c, max_size=c), min_size=1, max_size=6)
)


def hard_targets(data, z):
    return torch.tensor(data.draw(st.lists(st.integers(0, z.shape[1] - 1), min_size=len(z), max_size=len(z))))


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(-1e3, 1e3), st.data())
def test_a_shift_or_a_permutation_of_the_classes_changes_nothing(table, shift, data):
    z = torch.tensor(table, dtype=torch.float64)
    y = hard_targets(data, z)
    base = cross_entropy(z, y, reduction="none")
    torch.testing.assert_close(cross_entropy(z + shift, y, reduction="none"), base, rtol=1e-9, atol=1e-11)
    order = torch.tensor(data.draw(st.permutations(range(z.shape[1]))))
    moved = cross_entropy(z[:, order], torch.argsort(order)[y], reduction="none")
    torch.testing.assert_close(moved, base, rtol=1e-13, atol=0)


@settings(max_examples=60, deadline=None)
@given(tables, st.data())
def test_the_gradient_of_a_row_sums_to_zero(table, data):
    z = torch.tensor(table, dtype=torch.float64, requires_grad=True)
    for smoothing in (0.0, 0.3):
        loss = cross_entropy(z, hard_targets(data, z), label_smoothing=smoothing, reduction="sum")
        assert grad_of(loss, z)[0].sum(1).abs().max() < 1e-14


@settings(max_examples=60, deadline=None)
@given(tables, st.data())
def test_split_batches_weighted_by_their_tokens_give_the_whole_mean(table, data):
    z = torch.tensor(table, dtype=torch.float64)
    y = hard_targets(data, z)
    y[data.draw(st.integers(0, len(y) - 1))] = -100
    cut = data.draw(st.integers(0, len(z)))
    parts = [
        (cross_entropy(a, b, reduction="sum"), (b != -100).sum())
        for a, b in ((z[:cut], y[:cut]), (z[cut:], y[cut:]))
    ]
    count = sum(n for _, n in parts)
    if count:
        torch.testing.assert_close(
            sum(s for s, _ in parts) / count, cross_entropy(z, y), rtol=1e-13, atol=1e-300
        )


@settings(max_examples=60, deadline=None)
@given(tables, st.integers(0, 2**31))
def test_no_model_beats_the_entropy_of_its_target(table, seed):
    z = np.array(table)
    t = np.random.default_rng(seed).dirichlet(np.ones(z.shape[1]), size=len(z))
    assert (cross_entropy(z, t, reduction="none") >= entropy(t) - 1e-14).all()
    np.testing.assert_allclose(
        cross_entropy(np.log(t + 1e-300), t, reduction="none"), entropy(t), rtol=1e-9, atol=1e-13
    )


# --------------------------------------------------------------------------------------------- bad input

Z, Y = np.zeros((2, 3)), np.array([0, 1])
TZ, TY = torch.zeros(2, 3), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "fragments"),
    [
        (lambda: cross_entropy(Z, [0, 3]), ValueError, ["target must be in [0, 3)", "-100", "got 3"]),
        (
            lambda: cross_entropy(TZ, torch.tensor([0, -1])),
            ValueError,
            ["target must be in [0, 3)", "got -1"],
        ),
        (
            lambda: cross_entropy(TZ, torch.tensor([0, -100]), ignore_index=-1),
            ValueError,
            ["(-1)", "got -100"],
        ),
        (lambda: cross_entropy(Z, [0, 1, 2]), ValueError, ["target of class indices", "(2,)", "(3,)"]),
        (lambda: cross_entropy(Z, np.ones((2, 3), int)), ValueError, ["(2, 3)", "must be floating"]),
        (
            lambda: cross_entropy(Z, [0.0, 1.0]),
            ValueError,
            ["target of probabilities", "(2,)", "must be integers"],
        ),
        (
            lambda: cross_entropy(TZ, torch.zeros(2, 4)),
            ValueError,
            ["target of probabilities", "(2, 3)", "(2, 4)"],
        ),
        (lambda: cross_entropy(Z, np.full((2, 3), 0.3)), ValueError, ["target must sum to one", "0.8999"]),
        (
            lambda: cross_entropy(TZ, torch.tensor([[1.5, -0.5, 0]] * 2)),
            ValueError,
            ["target must be", "-0.5"],
        ),
        (lambda: cross_entropy(TZ, torch.full((2, 3), NAN)), ValueError, ["target must sum to one", "nan"]),
        (
            lambda: cross_entropy(Z, np.full((2, 3), 1 / 3), ignore_index=1),
            ValueError,
            ["ignore_index", "got 1"],
        ),
        (lambda: cross_entropy(Z, Y, reduction="avg"), ValueError, ["reduction", "'mean'", "'avg'"]),
        (lambda: cross_entropy(Z, Y, label_smoothing=1.5), ValueError, ["label_smoothing", "[0, 1]", "1.5"]),
        (lambda: cross_entropy(Z, Y, label_smoothing=-0.1), ValueError, ["label_smoothing", "-0.1"]),
        (lambda: cross_entropy(Z, Y, label_smoothing=NAN), ValueError, ["label_smoothing", "nan"]),
        (lambda: cross_entropy(Z, Y, label_smoothing="a"), TypeError, ["label_smoothing", "'a'"]),
        (lambda: cross_entropy(Z, Y, z_loss=-1e-4), ValueError, ["z_loss", "-0.0001"]),
        (lambda: cross_entropy(Z, Y, z_loss=INF), ValueError, ["z_loss", "inf"]),
        (lambda: cross_entropy(Z, Y, ignore_index=1.0), TypeError, ["ignore_index", "1.0"]),
        (lambda: cross_entropy(1.0, 0), ValueError, ["logits", "scalar"]),
        (lambda: cross_entropy(np.zeros((2, 0)), Y), ValueError, ["logits", "(2, 0)"]),
        (lambda: cross_entropy(Z, Y, np.ones(2)), ValueError, ["weight", "(3,)", "(2,)"]),
        (lambda: cross_entropy(TZ, TY, np.ones(3)), TypeError, ["weight must be a torch tensor"]),
        (lambda: cross_entropy(TZ, Y), TypeError, ["target must be a torch tensor"]),
        (lambda: cross_entropy(Z, TY), TypeError, ["logits must be a torch tensor"]),
        (
            lambda: cross_entropy(TZ, TY, torch.ones(3, requires_grad=True)),
            ValueError,
            ["weight", "requires_grad"],
        ),
        (lambda: cross_entropy(TZ.long(), TY), TypeError, ["logits must", "int64"]),
        (lambda: cross_entropy(TZ.to(torch.complex64), TY), TypeError, ["logits must", "complex64"]),
        (lambda: cross_entropy(TZ, TY.bool()), TypeError, ["target must hold integers", "bool"]),
        (lambda: cross_entropy(Z, np.array([True, False])), TypeError, ["target must hold integers", "bool"]),
        (lambda: cross_entropy(Z, ["a", "b"]), TypeError, ["target"]),
    ],
)
def test_bad_input_is_named_in_the_error(call, error, fragments):
    with pytest.raises(error) as caught:
        call()
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_the_check_of_probabilities_can_be_switched_off():
    target = torch.full((2, 3), 0.3)
    assert torch.isfinite(cross_entropy(TZ, target, validate=False))


# ------------------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_device_and_dtype_agrees_with_float64_on_the_cpu(device, kind, dtype, smoothing):
    logits, target = case((6, 7, 3), kind)
    if kind == "hard":
        target[0, 0] = -100
    x = logits.to(device, dtype).requires_grad_()
    loss = cross_entropy(x, target.to(device), label_smoothing=smoothing)
    reference = x.detach().cpu().double().requires_grad_()
    want = F.cross_entropy(reference, target, label_smoothing=smoothing)
    assert loss.device == x.device
    torch.testing.assert_close(
        loss.cpu().double(), want, rtol=1e-13 if dtype == torch.float64 else 1e-7, atol=0
    )
    (got,), (exact,) = grad_of(loss, x), grad_of(want, reference)
    assert got.dtype == dtype
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-7}.get(dtype, 4e-3)
    torch.testing.assert_close(got.cpu().double(), exact, rtol=tolerance, atol=tolerance * 0.02)


@pytest.mark.parametrize("device", DEVICES)
def test_a_check_of_values_on_an_accelerator_waits_to_be_asked(device):
    z, t = torch.zeros(2, 3, device=device), torch.full((2, 3), 0.3, device=device)
    with pytest.raises(ValueError, match="target must sum to one"):
        cross_entropy(z, t, validate=True)
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            cross_entropy(z.requires_grad_(), torch.tensor([0, 1]).to(device, non_blocking=True)).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
