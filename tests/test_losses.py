"""The losses beside cross-entropy: exact values, gradients, what minimises them, limits, bad input."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from backends import BACKENDS, DEVICES
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from lossutils.calibration import brier_score, spherical_score
from lossutils.cross_entropy import cross_entropy
from lossutils.logspace import softmax
from lossutils.losses import brier_loss, focal_loss, hinge_loss, mae_loss, pinball_loss, spherical_loss

INF, NAN = math.inf, math.nan
backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])


def focal_of(gamma):
    return lambda *args, **options: focal_loss(*args, gamma=gamma, **options)


SMOOTH = {
    "brier": brier_loss,
    "spherical": spherical_loss,
    "mae": mae_loss,
    "focal": focal_loss,
    "focal, gamma 0.5": focal_of(0.5),
    "focal, gamma 0": focal_of(0.0),
}
BAR = {"brier": 8, "spherical": 4, "mae": 6, "focal": 10, "focal, gamma 0.5": 5.5, "focal, gamma 0": 4}
ALL = SMOOTH | {"hinge": hinge_loss}
smooth = pytest.mark.parametrize("name", SMOOTH)
every = pytest.mark.parametrize("loss", ALL.values(), ids=ALL.keys())


# ------------------------------------------------------------------------------------------ values and gradients


def exact_loss(name, z, y):
    """The textbook formula on probabilities, with 400 digits."""
    p = oracles.softmax(z)
    if name == "brier":
        return mpmath.fsum((q - (c == y)) ** 2 for c, q in enumerate(p))
    if name == "spherical":
        return 1 - p[y] / mpmath.sqrt(mpmath.fsum(q * q for q in p))
    if name == "mae":
        return mpmath.fsum(abs(q - (c == y)) for c, q in enumerate(p))
    gamma = {"focal": 2, "focal, gamma 0.5": mpmath.mpf(0.5), "focal, gamma 0": 0}[name]
    return (1 - p[y]) ** gamma * -mpmath.log(p[y])


def exact_gradient(name, z, y):
    """The chain rule through the softmax, dL/dz_k = p_k (g_k - sum_j p_j g_j) with g = dL/dp, with 400 digits."""
    p = oracles.softmax(z)
    n = mpmath.sqrt(mpmath.fsum(q * q for q in p))
    if name == "brier":
        g = [2 * (q - (c == y)) for c, q in enumerate(p)]
    elif name == "spherical":
        g = [p[y] * q / n**3 - (c == y) / n for c, q in enumerate(p)]
    elif name == "mae":
        g = [mpmath.mpf(-1 if c == y else 1) for c in range(len(p))]
    else:
        gamma = {"focal": 2, "focal, gamma 0.5": mpmath.mpf(0.5), "focal, gamma 0": 0}[name]
        r, q = 1 - p[y], p[y]
        slope = gamma * r ** (gamma - 1) * mpmath.log(q) - r**gamma / q if r else mpmath.mpf(0)
        g = [slope if c == y else mpmath.mpf(0) for c in range(len(p))]
    mean = mpmath.fsum(q * d for q, d in zip(p, g, strict=True))
    return [q * (d - mean) for q, d in zip(p, g, strict=True)]


def grid(dtype):
    """Logits over offsets, scales, gaps, ties and masks, with a likely and an unlikely target each."""
    rng = np.random.default_rng(0)
    for offset in (0.0, 3.0, 1e3, 1e6):
        for scale in (0.0, 1.0, 30.0):
            z = rng.normal(size=5) * scale + offset
            for gap in (0.0, 2.0, 17.0, 60.0, 120.0):
                row = z.copy()
                row[1] = z.max() + gap
                yield row.astype(dtype)
    yield np.array([0.0, 0.0, -INF, -3.0], dtype)
    yield np.array([-5.0, 2.0, -INF, -INF], dtype)


@smooth
@precision
def test_values_and_gradients_are_exact_to_a_few_units_in_the_last_place(name, dtype):
    bar = 1 if dtype == "float32" else BAR[name]
    with mpmath.workdps(oracles.DIGITS):
        for row in grid(dtype):
            for y in (0, 1):
                z = torch.tensor(row, requires_grad=True)
                got = SMOOTH[name](z, torch.tensor(y))
                got.backward()
                want, slopes = exact_loss(name, row, y), exact_gradient(name, row, y)
                assert oracles.ulp_distance(got.item(), want, dtype) <= bar, (name, row, y)
                assert oracles.ulp_distance(z.grad[y].item(), slopes[y], dtype) <= bar, (name, row, y)
                # elsewhere a Brier gradient may be a difference of numbers as large as 2 p_j
                for g, s, p in zip(z.grad.tolist(), slopes, oracles.softmax(row), strict=True):
                    size = max(abs(s), 2 * p) if name == "brier" else s
                    assert abs(mpmath.mpf(g) - s) <= bar * oracles.ulp(size, dtype), (name, row, y)


@precision
def test_the_brier_gradient_survives_where_a_wrong_class_is_nearly_certain(dtype):
    with mpmath.workdps(oracles.DIGITS):
        for gap in (5.0, 20.0, 60.0):
            z = torch.tensor(np.array([0.0, gap, 0.5], dtype), requires_grad=True)
            brier_loss(z, torch.tensor(0)).backward()
            want = exact_gradient("brier", z.detach(), 0)
            for g, s in zip(z.grad.tolist(), want, strict=True):
                assert oracles.ulp_distance(g, s, dtype) <= 6


def test_the_pull_at_a_wrong_margin_is_what_the_formulas_say():
    """Two classes, the wrong one ahead by m: with s = sigmoid(-m), CE has 1 - s and Brier 4 s (1 - s)**2."""
    for m in (0.0, 2.0, 5.0, 10.0):
        s = 1 / (1 + math.exp(m))
        want = {cross_entropy: 1 - s, brier_loss: 4 * s * (1 - s) ** 2, mae_loss: 2 * s * (1 - s)}
        for loss, pull in want.items():
            z = torch.tensor([0.0, m], dtype=torch.float64, requires_grad=True)
            loss(z, torch.tensor(0)).backward()
            assert -z.grad[0].item() == pytest.approx(pull, rel=1e-12)


@smooth
def test_first_and_second_derivatives_match_finite_differences(name):
    rng = np.random.default_rng(1)
    z = torch.tensor(rng.normal(size=(3, 4, 2)), requires_grad=True)
    y = torch.tensor(rng.integers(0, 4, (3, 2)))
    y[2, 1] = -100
    for reduction in ("mean", "sum", "none"):
        assert torch.autograd.gradcheck(lambda z, r=reduction: SMOOTH[name](z, y, reduction=r), z)
        assert torch.autograd.gradgradcheck(lambda z, r=reduction: SMOOTH[name](z, y, reduction=r), z)


def test_hinge_gradients_match_finite_differences_away_from_the_kink():
    rng = np.random.default_rng(2)
    z = torch.tensor(rng.normal(size=(8, 4)) * 3, requires_grad=True)
    y = torch.tensor(rng.integers(0, 4, 8))
    for kind in ("crammer-singer", "weston-watkins"):
        assert torch.autograd.gradcheck(lambda z, k=kind: hinge_loss(z, y, kind=k, reduction="none"), z)


@every
def test_gradients_of_a_row_sum_to_zero(loss):
    rng = np.random.default_rng(3)
    z = torch.tensor(rng.normal(size=(20, 6)) * 5, requires_grad=True)
    loss(z, torch.tensor(rng.integers(0, 6, 20)), reduction="sum").backward()
    assert z.grad.sum(-1).abs().max() < 1e-14


# ------------------------------------------------------------------------------- agreement with what others compute


@backend
def test_from_logits_and_from_probabilities_agree(make):
    rng = np.random.default_rng(4)
    z, y = rng.normal(size=(50, 6)) * 2, rng.integers(0, 6, 50)
    p = softmax(z)
    for ours, score, shift in ((brier_loss, brier_score, 0), (spherical_loss, spherical_score, 1)):
        got = np.asarray(ours(make(z), make(y), reduction="none"))
        np.testing.assert_allclose(got, score(p, y, reduction="none") + shift, rtol=1e-12, atol=1e-15)
    got = np.asarray(mae_loss(make(z), make(y), reduction="none"))
    np.testing.assert_allclose(got, np.abs(p - np.eye(6)[y]).sum(-1), rtol=1e-12)


def test_gamma_zero_is_cross_entropy_and_torchs_hinge_is_ours():
    rng = np.random.default_rng(5)
    z, y = torch.tensor(rng.normal(size=(50, 6)) * 3), torch.tensor(rng.integers(0, 6, 50))
    torch.testing.assert_close(focal_loss(z, y, gamma=0.0), cross_entropy(z, y), rtol=1e-15, atol=0)
    for margin in (1.0, 0.3):
        ours = hinge_loss(z, y, kind="weston-watkins", margin=margin)
        torch.testing.assert_close(ours, 6 * F.multi_margin_loss(z, y, margin=margin), rtol=1e-14, atol=0)
    top_two = z.scatter(1, y[:, None], -INF).amax(1)
    by_hand = (1 + top_two - z.gather(1, y[:, None])[:, 0]).clamp(min=0)
    torch.testing.assert_close(hinge_loss(z, y, reduction="none"), by_hand, rtol=1e-14, atol=1e-15)


def test_a_hinge_of_scores_with_a_large_offset_is_exact():
    z = np.array([1e6 + 0.0625, 1e6], np.float32)
    assert hinge_loss(z, 0) == np.float32(0.9375)
    z = np.array([1e15 + 0.125, 1e15])
    assert hinge_loss(z, 0, margin=2**-60) == 0 and hinge_loss(z, 1, margin=2**-52) == 0.125 + 2**-52


# ---------------------------------------------------------------------------------------------- what minimises them


def mean_loss(loss, z, truth):
    n = len(truth)
    return float(truth @ loss(np.tile(z, (n, 1)), np.arange(n), reduction="none"))


@pytest.mark.parametrize("loss", [brier_loss, spherical_loss], ids=["brier", "spherical"])
@given(st.integers(0, 10**6))
def test_no_report_beats_the_truth_under_a_proper_loss(loss, seed):
    rng = np.random.default_rng(seed)
    truth, other = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
    honest = mean_loss(loss, np.log(truth), truth)
    for step in (1.0, 0.1, 1e-3):
        assert mean_loss(loss, np.log((1 - step) * truth + step * other), truth) > honest


def test_the_focal_loss_is_smallest_at_something_flatter_than_the_truth():
    truth = np.array([0.6, 0.3, 0.1])
    best = minimize(lambda z: mean_loss(focal_loss, z, truth), np.zeros(3), tol=1e-14).x
    q = softmax(best)
    assert np.argmax(q) == 0 and q[0] < 0.5 and q[2] > 0.15


def test_the_mean_absolute_error_is_linear_so_its_minimum_is_a_corner():
    truth = np.array([0.4, 0.35, 0.25])
    for p in (truth, np.array([0.5, 0.3, 0.2]), np.ones(3) / 3):
        assert mean_loss(mae_loss, np.log(p), truth) == pytest.approx(2 * (1 - truth @ p), rel=1e-14)
    cornered = mean_loss(mae_loss, np.array([0.0, -800.0, -800.0]), truth)
    assert cornered == pytest.approx(1.2)
    assert cornered < mean_loss(mae_loss, np.log(truth), truth)


def test_a_two_class_hinge_is_smallest_at_the_margin_whatever_the_probability():
    for p in (0.55, 0.8, 0.99):
        truth = np.array([p, 1 - p])
        leads = np.linspace(-3, 3, 61)
        means = [mean_loss(hinge_loss, np.array([lead, 0.0]), truth) for lead in leads]
        assert leads[np.argmin(means)] == pytest.approx(1.0)


def test_without_a_majority_the_crammer_singer_hinge_prefers_no_decision():
    truth = np.array([0.4, 0.3, 0.3])
    level = mean_loss(hinge_loss, np.zeros(3), truth)
    assert level == pytest.approx(1.0)
    for lead in (0.5, 1.0, 2.0):
        assert mean_loss(hinge_loss, np.array([lead, 0.0, 0.0]), truth) > level + 0.05


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.9])
def test_the_pinball_loss_is_smallest_at_the_quantile(quantile):
    y = np.sort(np.random.default_rng(6).lognormal(size=999))
    means = [float(pinball_loss(np.full(999, c), y, quantile)) for c in y]
    assert int(np.argmin(means)) == math.floor(quantile * 999)


@backend
def test_pinball_values_gradients_and_reductions(make):
    x, y = make([1.0, 2.0, 3.0]), make([2.0, 2.0, 1.0])
    assert np.asarray(pinball_loss(x, y, 0.9, reduction="none")).tolist() == pytest.approx([0.9, 0, 0.2])
    assert float(pinball_loss(x, y, 0.9)) == pytest.approx(1.1 / 3)
    assert float(pinball_loss(x, y, 0.9, reduction="sum")) == pytest.approx(1.1)
    assert float(pinball_loss(x, y, 0.5)) == pytest.approx(float(abs(y - x).mean()) / 2)
    assert math.isnan(float(pinball_loss(make(np.zeros(0)), make(np.zeros(0)), 0.5)))
    leaf = torch.tensor([1.0, 3.0], requires_grad=True)
    pinball_loss(leaf, torch.tensor([2.0, 1.0]), 0.9, reduction="sum").backward()
    assert leaf.grad.tolist() == pytest.approx([-0.9, 0.1])


# --------------------------------------------------------------------------------- layout, reductions, ignored rows


@every
@backend
def test_the_layout_is_that_of_cross_entropy(loss, make):
    rng = np.random.default_rng(7)
    z, y = rng.normal(size=(3, 5, 2, 4)), rng.integers(0, 5, (3, 2, 4))
    got = np.asarray(loss(make(z), make(y), reduction="none"))
    assert got.shape == (3, 2, 4)
    for n, i, j in np.ndindex(got.shape):
        one = loss(make(z[n, :, i, j]), make(y[n, i, j]))
        assert np.ndim(one) == 0 and float(one) == pytest.approx(got[n, i, j], rel=1e-14)
    assert float(loss(make(z), make(y))) == pytest.approx(got.mean(), rel=1e-13)
    assert float(loss(make(z), make(y), reduction="sum")) == pytest.approx(got.sum(), rel=1e-13)


@every
def test_ignored_rows_cost_nothing_whatever_they_hold(loss):
    z = torch.tensor([[1.0, 0.0, 2.0], [NAN, 0.0, INF], [0.0, 1.0, -1.0]], requires_grad=True)
    y = torch.tensor([0, -100, 1])
    each = loss(z, y, reduction="none")
    assert each[1] == 0 and torch.isfinite(each).all()
    mean = loss(z, y)
    assert mean.item() == pytest.approx(each.sum().item() / 2, rel=1e-6)
    mean.backward()
    assert z.grad[1].tolist() == [0, 0, 0] and z.grad[0].abs().sum() > 0
    kept = loss(z[[0, 2]], y[[0, 2]])
    assert kept.item() == pytest.approx(mean.item(), rel=1e-6)
    assert loss(z[[0, 2]], torch.tensor([0, 7]), ignore_index=7).item() == pytest.approx(
        each[0].item(), rel=1e-6
    )


@every
@backend
def test_a_mean_over_nothing_is_nan_and_the_sum_zero(loss, make):
    nothing = make(np.zeros((0, 3))), make(np.zeros(0, np.int64))
    ignored = make(np.zeros((2, 3))), make(np.full(2, -100))
    for z, y in (nothing, ignored):
        assert math.isnan(float(loss(z, y)))
        assert float(loss(z, y, reduction="sum")) == 0


@every
def test_a_mean_over_nothing_has_a_zero_gradient(loss):
    z = torch.ones(2, 3, requires_grad=True)
    loss(z, torch.full((2,), -100)).backward()
    assert z.grad.abs().sum() == 0


LIMITS = {
    "brier": (2, 0),
    "spherical": (1, 0),
    "mae": (2, 0),
    "focal": (INF, -1),
    "focal, gamma 0": (INF, -1),
}


@pytest.mark.parametrize("name", LIMITS)
@precision
def test_a_masked_target_costs_the_limit(name, dtype):
    z = torch.tensor(np.array([-INF, 0.0, -900.0], dtype), requires_grad=True)
    loss = SMOOTH[name](z, torch.tensor(0))
    loss.backward()
    assert (loss.item(), z.grad[0].item()) == LIMITS[name]
    assert torch.isfinite(z.grad).all()


@smooth
def test_rows_without_a_finite_maximum_cost_nan(name):
    rows = np.array([[-INF, -INF], [INF, 0.0], [NAN, 0.0]])
    got = SMOOTH[name](rows, np.zeros(3, np.int64), reduction="none")
    assert np.isnan(got).all()


@every
def test_one_class_alone_costs_nothing(loss):
    z = torch.tensor([[3.0]], requires_grad=True)
    cost = loss(z, torch.tensor([0]))
    cost.backward()
    assert cost.item() == 0 and z.grad.item() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
@every
def test_every_dtype_and_device_is_taken(loss, dtype, device):
    rng = np.random.default_rng(8)
    z = torch.tensor(rng.normal(size=(10, 4)) * 3).to(dtype)
    y = torch.tensor(rng.integers(0, 4, 10))
    wide = z.double().requires_grad_()
    want = loss(wide, y)
    want.backward()
    leaf = z.to(device).requires_grad_()
    got = loss(leaf, y.to(device))
    got.backward()
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert got.device.type == device and leaf.grad.dtype == dtype
    torch.testing.assert_close(got.cpu().double(), want.detach(), rtol=1e-6, atol=0)
    coarse = {torch.float64: 1e-13, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    torch.testing.assert_close(leaf.grad.cpu().double(), wide.grad, rtol=coarse, atol=coarse * 1e-2)


# ------------------------------------------------------------------------------------------------------- bad input


Z, Y = [[0.0, 1.0, 2.0], [1.0, 0.0, 0.5]], [0, 2]
BAD = {
    "target too large": (Z, [0, 3], {}, ValueError, "target"),
    "target negative": (Z, [0, -1], {}, ValueError, "target"),
    "target probabilities": (Z, [[1.0, 0, 0], [0, 0, 1.0]], {}, TypeError, "target"),
    "target booleans": (Z, [True, False], {}, TypeError, "target"),
    "target shape": (Z, [0, 1, 2], {}, ValueError, "target"),
    "scalar logits": (1.0, 0, {}, ValueError, "logits"),
    "no classes": (np.zeros((2, 0)), Y, {}, ValueError, "logits"),
    "integer tensor": (torch.tensor([[0, 1, 2]]), torch.tensor([0]), {}, TypeError, "logits"),
    "tensor with a list": (torch.tensor(Z), Y, {}, TypeError, "target"),
    "text": ("logits", Y, {}, TypeError, "logits"),
    "devices": (torch.tensor(Z), torch.tensor(Y, device="meta"), {}, ValueError, "target"),
    "reduction": (Z, Y, {"reduction": "median"}, ValueError, "reduction"),
    "ignore_index": (Z, Y, {"ignore_index": 0.5}, TypeError, "ignore_index"),
}


@every
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_the_name_of_the_argument(loss, case):
    logits, target, options, error, name = BAD[case]
    with pytest.raises(error, match=rf"^{name}\b"):
        loss(logits, target, **options)


BAD_OPTIONS = {
    "gamma below zero": (focal_loss, {"gamma": -0.1}, ValueError),
    "gamma infinite": (focal_loss, {"gamma": INF}, ValueError),
    "gamma nan": (focal_loss, {"gamma": NAN}, ValueError),
    "gamma text": (focal_loss, {"gamma": "2"}, TypeError),
    "gamma boolean": (focal_loss, {"gamma": True}, TypeError),
    "margin zero": (hinge_loss, {"margin": 0.0}, ValueError),
    "margin below zero": (hinge_loss, {"margin": -1.0}, ValueError),
    "margin text": (hinge_loss, {"margin": "wide"}, TypeError),
    "kind": (hinge_loss, {"kind": "squared"}, ValueError),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_a_bad_option_is_refused(case):
    loss, options, error = BAD_OPTIONS[case]
    (name,) = options
    with pytest.raises(error, match=rf"^{name}\b"):
        loss(Z, Y, **options)


@pytest.mark.parametrize(
    ("x", "y", "quantile", "error", "name"),
    [
        ([1.0], [1.0, 2.0], 0.5, ValueError, "target"),
        (np.zeros((2, 1)), np.zeros(2), 0.5, ValueError, "target"),
        ([1.0], [1.0], 0.0, ValueError, "quantile"),
        ([1.0], [1.0], 1.0, ValueError, "quantile"),
        ([1.0], [1.0], NAN, ValueError, "quantile"),
        ([1.0], [1.0], "half", TypeError, "quantile"),
        (torch.tensor([1]), torch.tensor([1.0]), 0.5, TypeError, "input"),
        (torch.tensor([1.0]), [1.0], 0.5, TypeError, "target"),
    ],
)
def test_bad_input_to_the_pinball_loss_is_refused(x, y, quantile, error, name):
    with pytest.raises(error, match=rf"^{name}\b"):
        pinball_loss(x, y, quantile)
