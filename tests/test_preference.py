"""Sequence log-probabilities, preference losses, KL estimates: accuracy, limits, gradients, bad input."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from backends import BACKENDS, DEVICES
from hypothesis import given
from hypothesis import strategies as st
from mpmath import exp, expm1, log, log1p, mpf

from lossutils.information import kl_divergence
from lossutils.preference import (
    LOSS_TYPES,
    bradley_terry_loss,
    dpo_loss,
    kl_estimate,
    kto_loss,
    orpo_loss,
    sequence_logprobs,
    simpo_loss,
)

INF, NAN = math.inf, math.nan
BAR = 4.0
# every loss with every smoothing worth a look
VARIANTS = [
    *((kind, 0.0) for kind in LOSS_TYPES if kind != "exo_pair"),
    ("sigmoid", 0.1),
    ("robust", 0.1),
    ("robust", 0.45),
    ("exo_pair", 1e-3),
    ("exo_pair", 0.1),
    ("exo_pair", 0.9),
    ("exo_pair", 1e-12),
    ("exo_pair", 1e-300),
]
backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])
variant = pytest.mark.parametrize(("kind", "eps"), VARIANTS)


# ----------------------------------------------------------------------------------- the formulas, in mpmath


def softplus(x):
    return log1p(exp(x)) if x < 0 else x + log1p(exp(-x))


def sigmoid(x):
    return 1 / (1 + exp(-x))


def slope(x):
    return sigmoid(x) * sigmoid(-x)


def exact_loss(kind, c, r, rc, rr, beta, eps):
    a, b, beta, eps, target = c - rc, r - rr, mpf(beta), mpf(eps), mpf(0.5 / beta)
    m, x = a - b, beta * (a - b)
    return {
        "sigmoid": lambda: (1 - eps) * softplus(-x) + eps * softplus(x),
        "robust": lambda: ((1 - eps) * softplus(-x) - eps * softplus(x)) / (1 - 2 * eps),
        "exo_pair": lambda: (
            sigmoid(x) * (-softplus(-x) - log(1 - eps)) + sigmoid(-x) * (-softplus(x) - log(eps))
        ),
        "hinge": lambda: max(mpf(0), 1 - x),
        "ipo": lambda: (m - target) ** 2,
        "sppo_hard": lambda: (a - target) ** 2 + (b + target) ** 2,
        "nca_pair": lambda: softplus(-beta * a) + (softplus(beta * a) + softplus(beta * b)) / 2,
        "apo_zero": lambda: sigmoid(-beta * a) + sigmoid(beta * b),
        "apo_down": lambda: sigmoid(beta * a) + sigmoid(-x),
    }[kind]()


def exact_gradient(kind, c, r, rc, rr, beta, eps):
    """Return the derivatives in chosen and rejected, and the size of the largest part of the first."""
    a, b, beta, eps, target = c - rc, r - rr, mpf(beta), mpf(eps), mpf(0.5 / beta)
    x, ra, rb = beta * (a - b), beta * a, beta * b
    odd = {
        "sigmoid": lambda: (-(1 - eps) * sigmoid(-x), eps * sigmoid(x)),
        "robust": lambda: (-sigmoid(-x), -eps / (1 - 2 * eps)),
        "exo_pair": lambda: (slope(x) * (x - log((1 - eps) / eps)), mpf(0)),
        "hinge": lambda: (mpf(-1 if x < 1 else 0), mpf(0)),
        "ipo": lambda: (2 * (a - b - target) / beta, mpf(0)),
    }
    if kind in odd:
        parts = odd[kind]()
        return beta * sum(parts), -beta * sum(parts), beta * max(map(abs, parts))
    if kind == "sppo_hard":
        return 2 * (a - target), 2 * (b + target), abs(2 * (a - target))
    parts, other = {
        "nca_pair": lambda: ((-sigmoid(-ra), sigmoid(ra) / 2), sigmoid(rb) / 2),
        "apo_zero": lambda: ((-slope(ra), mpf(0)), slope(rb)),
        "apo_down": lambda: ((slope(ra), -slope(x)), slope(x)),
    }[kind]()
    return beta * sum(parts), beta * other, beta * max(map(abs, parts))


def pairs(dtype, beta, n=7, seed=0):
    """Return four log-probabilities whose margin times beta covers -1e4 to 1e4 and the special points."""
    rng = np.random.default_rng(seed)
    x = np.concatenate(
        [
            rng.choice([-1, 1], n) * 10.0 ** rng.uniform(-6, 4, n),
            rng.uniform(-30, 30, n),
            rng.uniform(-700, 690, n),
            # around the kink, the IPO target, and exo_pair's minimum at eps = 1e-3
            1 + rng.normal(size=n) * 10.0 ** rng.uniform(-12, -1, n),
            0.5 + rng.normal(size=n) * 10.0 ** rng.uniform(-12, -1, n),
            6.9067547786485535 + rng.normal(size=n) * 10.0 ** rng.uniform(-8, 1, n),
        ]
    )
    size = 10.0 ** rng.uniform(-2, 4, len(x))
    r, rc, rr = (-size * rng.random(len(x)) for _ in range(3))
    return [v.astype(dtype) for v in (x / beta + r + rc - rr, r, rc, rr)]


def close(got, want, scale, dtype):
    """Return the error in units of the last place of ``scale``."""
    with oracles.mpmath.workdps(oracles.DIGITS):
        return float(abs(mpf(float(got)) - want) / oracles.ulp(scale, dtype))


def table(*columns):
    return zip(*(oracles.exact(column) for column in columns), strict=True)


# -------------------------------------------------------------------------------------------------- accuracy


@precision
@variant
@pytest.mark.parametrize("beta", [0.1, 2.5])
def test_every_dpo_loss_and_its_gradient_stay_within_four_ulp_of_mpmath(dtype, kind, eps, beta):
    inputs = pairs(dtype, beta)
    tensors = [torch.tensor(v, requires_grad=True) for v in inputs]
    got = dpo_loss(*tensors, beta=beta, label_smoothing=eps, loss_type=kind, reduction="none")
    got.sum().backward()
    with oracles.mpmath.workdps(oracles.DIGITS):
        for i, row in enumerate(table(*inputs)):
            want = exact_loss(kind, *row, beta, eps)
            scale = want
            if kind == "robust" and eps:  # changes sign
                x = mpf(beta) * (row[0] - row[1] - row[2] + row[3])
                scale = max(abs(want), softplus(-x), abs(x * eps / (1 - 2 * eps)))
            assert close(got[i].detach(), want, scale, dtype) <= BAR, (row, want)
            by_c, by_r, part = exact_gradient(kind, *row, beta, eps)
            second = by_r if kind in ("sppo_hard", "nca_pair", "apo_zero", "apo_down") else part
            if abs(by_c) > 1e-300 or by_c == 0:
                assert close(tensors[0].grad[i], by_c, max(abs(by_c), part), dtype) <= BAR, row
                assert close(tensors[1].grad[i], by_r, max(abs(by_r), abs(second)), dtype) <= BAR, row
                assert tensors[2].grad[i] == -tensors[0].grad[i]
                assert tensors[3].grad[i] == -tensors[1].grad[i]


@precision
@pytest.mark.parametrize("margin", [-1e4, 1e4])
@variant
def test_margins_of_ten_thousand_give_finite_losses_and_gradients(dtype, margin, kind, eps):
    inputs = [torch.tensor([v], dtype=getattr(torch, dtype)) for v in (margin - 1e4, -1e4, -5.0, -5.0)]
    inputs[0].requires_grad_()
    loss = dpo_loss(*inputs, beta=1.0, label_smoothing=eps, loss_type=kind)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(inputs[0].grad).all()
    with oracles.mpmath.workdps(oracles.DIGITS):
        want = exact_loss(kind, *(mpf(float(v.detach())) for v in inputs), 1.0, eps)
    assert oracles.ulp_distance(loss.detach(), want, dtype) <= BAR


@precision
def test_inputs_that_cancel_to_their_last_digits_keep_the_margin(dtype):
    """The margin is tiny beside its four parts, and IPO squares what is left of it."""
    rows = [(-1e4, 1e-9, -1e4, 0.0), (-4096.25, 2.0**-30, -4096.25, 5.0), (1e8, 1e-8, 1e8, -3e-9)]
    for row in rows:
        inputs = [np.array([v], dtype) for v in row]
        for kind in ("ipo", "sppo_hard", "hinge", "sigmoid"):
            got = dpo_loss(*inputs, beta=0.5, loss_type=kind)
            with oracles.mpmath.workdps(oracles.DIGITS):
                want = exact_loss(kind, *(oracles.exact(v)[0] for v in inputs), 0.5, 0.0)
            assert oracles.ulp_distance(got, want, dtype) <= BAR, (row, kind)


def odds_rows(dtype, n=40):
    rng = np.random.default_rng(4)
    tiny = -30 if dtype == "float32" else -290
    low = np.concatenate(
        [rng.uniform(tiny, 4, n), rng.uniform(-8, 1, n), rng.uniform(-3, 2.8, n), rng.uniform(-9, -3, n)]
    )
    high = np.concatenate(
        [rng.uniform(tiny, 4, n), rng.uniform(-8, 1, n), rng.uniform(-3, 2.8, n), rng.uniform(-9, -3, n)]
    )
    return (-(10.0**low)).astype(dtype), (-(10.0**high)).astype(dtype)


@precision
def test_the_odds_ratio_stays_within_the_bar_up_to_certainty(dtype):
    c, r = odds_rows(dtype)
    tensors = [torch.tensor(v, requires_grad=True) for v in (c, r)]
    odds = orpo_loss(*tensors, beta=1.0, nll=0.0, reduction="none")
    odds.sum().backward()
    full = orpo_loss(c, r, beta=0.3, reduction="none")
    with oracles.mpmath.workdps(oracles.DIGITS):
        for i, (a, b) in enumerate(table(c, r)):
            q = exp(b - a) * expm1(a) / expm1(b)
            weight = q / (1 + q)
            assert oracles.ulp_distance(odds[i].detach(), log1p(q), dtype) <= BAR, (a, b)
            assert oracles.ulp_distance(full[i], -a + mpf(0.3) * log1p(q), dtype) <= BAR, (a, b)
            assert oracles.ulp_distance(tensors[0].grad[i], weight / expm1(a), dtype) <= BAR + 1, (a, b)
            assert oracles.ulp_distance(tensors[1].grad[i], -weight / expm1(b), dtype) <= BAR + 1, (a, b)


@precision
def test_the_other_losses_and_their_gradients_stay_within_four_ulp_of_mpmath(dtype):
    c, r, rc, rr = pairs(dtype, 2.0)
    cases = [
        (lambda a, b: simpo_loss(a, b, beta=2.0, gamma=1.2, reduction="none"), lambda x: 2 * x - mpf(1.2), 2),
        (lambda a, b: bradley_terry_loss(a, b, reduction="none"), lambda x: x, 1),
        (lambda a, b: bradley_terry_loss(a, b, margin=0.5, reduction="none"), lambda x: x - mpf(0.5), 1),
    ]
    for function, argument, factor in cases:
        tensors = [torch.tensor(v, requires_grad=True) for v in (c - rc + rr, r)]
        got = function(*tensors)
        got.sum().backward()
        with oracles.mpmath.workdps(oracles.DIGITS):
            for i, (a, b) in enumerate(table(*tensors)):
                x = argument(a - b)
                assert oracles.ulp_distance(got[i].detach(), softplus(-x), dtype) <= BAR
                if x < 690:
                    want = factor * sigmoid(-x)
                    assert oracles.ulp_distance(-tensors[0].grad[i], want, dtype) <= BAR
                    assert oracles.ulp_distance(tensors[1].grad[i], want, dtype) <= BAR


@precision
def test_kto_and_its_gradient_stay_within_four_ulp_of_mpmath(dtype):
    c, _, rc, _ = pairs(dtype, 0.1)
    none = torch.zeros(0, dtype=getattr(torch, dtype))
    for sign in (1, -1):
        policy, reference = torch.tensor(c, requires_grad=True), torch.tensor(rc)
        groups = (policy, none, reference, none) if sign > 0 else (none, policy, none, reference)
        got = kto_loss(*groups, beta=0.1, kl=3.7, reduction="none")
        got.sum().backward()
        with oracles.mpmath.workdps(oracles.DIGITS):
            for i, (a, b) in enumerate(table(c, rc)):
                x = sign * mpf(0.1) * (a - b - mpf(3.7))
                assert oracles.ulp_distance(got[i].detach(), sigmoid(-x), dtype) <= BAR
                if abs(x) < 690:
                    want = -sign * mpf(0.1) * slope(x)
                    assert oracles.ulp_distance(policy.grad[i], want, dtype) <= BAR


@precision
def test_kl_estimates_and_their_gradients_stay_within_four_ulp_of_mpmath(dtype):
    rng = np.random.default_rng(5)
    p = -(10.0 ** rng.uniform(-3, 4, 240))
    d = np.concatenate(
        [
            rng.choice([-1, 1], 120) * 10.0 ** rng.uniform(-12, 3, 120),
            rng.uniform(-3, 3, 60),
            rng.uniform(-0.6, 0.6, 60),
        ]
    )
    p[-60:] /= 1e4  # small beside d, so that d has all its digits
    q, p = (p + d).astype(dtype), p.astype(dtype)
    for kind, value, derivative in (
        ("k1", lambda d: -d, lambda d: mpf(-1)),
        ("k2", lambda d: d * d / 2, lambda d: d),
        ("k3", lambda d: expm1(d) - d, expm1),
    ):
        tensors = [torch.tensor(v, requires_grad=True) for v in (p, q)]
        got = kl_estimate(*tensors, kind)
        got.sum().backward()
        with oracles.mpmath.workdps(oracles.DIGITS):
            for i, (a, b) in enumerate(table(p, q)):
                assert oracles.ulp_distance(got[i].detach(), value(b - a), dtype) <= BAR, (kind, b - a)
                for tensor, sign in zip(tensors, (-1, 1), strict=True):
                    want = sign * derivative(b - a)
                    assert oracles.ulp_distance(tensor.grad[i], want, dtype) <= BAR, (kind, b - a)


def test_the_plain_formulas_fail_where_ours_hold():
    d = torch.tensor([2e-4], dtype=torch.float32)
    assert (d.exp() - d - 1).item() == 0
    assert kl_estimate(torch.zeros(1), d).item() == pytest.approx(2e-8, rel=1e-3)

    l = torch.tensor([-1e-8])
    assert torch.log1p(-torch.exp(l)).item() == -INF
    assert torch.isfinite(orpo_loss(l, torch.tensor([-1.0])))

    x = torch.tensor([18.0])
    assert (1 - torch.sigmoid(x)).item() == 0
    got = kto_loss(x, x[:0], torch.zeros(1), x[:0], beta=1.0)
    assert got.item() == pytest.approx(math.exp(-18), rel=1e-6)

    z = torch.tensor([-1000.0])  # log(sigmoid(.)) of TRL's exo_pair, then 0 * -inf from -inf on
    ours = dpo_loss(
        torch.tensor([-INF]),
        z,
        torch.zeros(1),
        torch.zeros(1),
        loss_type="exo_pair",
        label_smoothing=1e-3,
    )
    assert ours.item() == pytest.approx(-math.log(1e-3), rel=1e-6)


# -------------------------------------------------------------------------------------------- closed forms


@backend
@precision
def test_dpo_of_a_policy_that_is_its_reference_is_exactly_log_two(make, dtype):
    c, r = (make(np.array(v, dtype)) for v in ([-3.0, -1234.567], [-0.1, -98.7]))
    losses = np.asarray(dpo_loss(c, r, c, r, reduction="none"))
    assert losses.dtype == dtype
    assert (losses == np.log(2).astype(dtype)).all()
    for eps in (0.1, 0.5, 1.0):
        assert float(dpo_loss(c, r, c, r, label_smoothing=eps)) == pytest.approx(math.log(2), rel=1e-7)


@backend
def test_ipo_at_its_target_margin_is_zero(make):
    for beta in (0.1, 0.25, 1.0):
        zero = make([0.0, 0.0])
        assert float(dpo_loss(make([-2.0, -9.0]) + 0.5 / beta, make([-2.0, -9.0]), zero, zero,
                              beta=beta, loss_type="ipo")) == 0  # fmt: skip


@backend
def test_textbook_values_come_out(make):
    one, zero = make([1.0]), make([0.0])
    assert float(bradley_terry_loss(one, one)) == math.log(2)
    assert float(bradley_terry_loss(one, zero, margin=1.0)) == math.log(2)
    assert float(simpo_loss(make([-1.0]), make([-1.5]), beta=2.0, gamma=1.0)) == math.log(2)
    assert float(orpo_loss(-one, -one, beta=0.5)) == pytest.approx(1 + 0.5 * math.log(2), rel=1e-15)
    # odds of 1/2 are 1, odds of 1/4 are 1/3
    half, quarter = make([math.log(0.5)]), make([math.log(0.25)])
    assert float(orpo_loss(half, quarter, beta=1.0, nll=0.0)) == pytest.approx(math.log(4 / 3), rel=1e-15)
    assert float(kto_loss(one, zero, one, zero)) == 0.5
    assert float(kto_loss(one, zero, one, zero, undesirable_weight=3.0)) == 1.0
    assert float(dpo_loss(zero, zero, zero, zero, loss_type="hinge")) == 1
    assert float(dpo_loss(zero, zero, zero, zero, loss_type="apo_zero")) == 1
    assert float(dpo_loss(zero, zero, zero, zero, loss_type="apo_down")) == 1
    nca = float(dpo_loss(zero, zero, zero, zero, loss_type="nca_pair"))
    assert nca == pytest.approx(2 * math.log(2), rel=1e-15)
    assert float(dpo_loss(zero, zero, zero, zero, loss_type="sppo_hard")) == 50  # 2 * (1 / 0.2)**2


def test_exo_is_zero_where_the_model_holds_the_smoothed_preference_and_positive_elsewhere():
    zero = torch.zeros(1, dtype=torch.float64)
    at = torch.tensor([math.log(999)], dtype=torch.float64)
    options = {"beta": 1.0, "loss_type": "exo_pair", "label_smoothing": 1e-3}
    assert dpo_loss(at, zero, zero, zero, **options).item() < 1e-31
    for step in (1e-3, 1e-6, 1e-9):  # p (1 - p) / 2 times the square of the step
        got = dpo_loss(at + step, zero, zero, zero, **options).item()
        assert got == pytest.approx(0.5 * 0.999 * 0.001 * step**2, rel=2e-3)


def test_robust_undoes_flipped_labels_in_expectation():
    """With a share eps of pairs swapped, the mean robust loss is the loss on clean labels."""
    c, r = torch.tensor([-4.0, 2.0, 9.0]).double(), torch.tensor([1.0, 0.5, -7.0]).double()
    zero, eps = torch.zeros(3).double(), 0.3
    options = {"loss_type": "robust", "label_smoothing": eps, "beta": 0.7, "reduction": "none"}
    noisy = (1 - eps) * dpo_loss(c, r, zero, zero, **options) + eps * dpo_loss(r, c, zero, zero, **options)
    clean = dpo_loss(c, r, zero, zero, beta=0.7, reduction="none")
    torch.testing.assert_close(noisy, clean, rtol=1e-13, atol=1e-14)


def trl(kind, c, r, rc, rr, beta, eps):
    """The formulas as TRL and Liger publish them, in plain torch."""
    a, b = c - rc, r - rr
    x = beta * ((c - r) - (rc - rr))
    if kind == "sigmoid":
        return -F.logsigmoid(x) * (1 - eps) - F.logsigmoid(-x) * eps
    if kind == "robust":
        return (-F.logsigmoid(x) * (1 - eps) + F.logsigmoid(-x) * eps) / (1 - 2 * eps)
    if kind == "exo_pair":
        likely, rare = math.log(1 - eps), math.log(eps)
        return x.sigmoid() * (F.logsigmoid(x) - likely) + (-x).sigmoid() * (F.logsigmoid(-x) - rare)
    if kind == "hinge":
        return torch.relu(1 - x)
    if kind == "ipo":
        return (x / beta - 1 / (2 * beta)) ** 2
    if kind == "sppo_hard":
        return (a - 0.5 / beta) ** 2 + (b + 0.5 / beta) ** 2
    if kind == "nca_pair":
        return -F.logsigmoid(beta * a) - 0.5 * F.logsigmoid(-beta * a) - 0.5 * F.logsigmoid(-beta * b)
    if kind == "apo_zero":
        return (1 - F.sigmoid(beta * a)) + F.sigmoid(beta * b)
    return F.sigmoid(beta * a) + (1 - F.sigmoid(beta * (a - b)))


@variant
def test_dpo_losses_equal_trls_published_formulas(kind, eps):
    generator = torch.Generator().manual_seed(0)
    inputs = [-20 * torch.rand(200, generator=generator, dtype=torch.float64) for _ in range(4)]
    got = dpo_loss(*inputs, beta=0.4, label_smoothing=eps, loss_type=kind, reduction="none")
    torch.testing.assert_close(got, trl(kind, *inputs, 0.4, eps), rtol=1e-11, atol=1e-13)


def test_the_other_losses_equal_trls_published_formulas():
    generator = torch.Generator().manual_seed(1)
    c, r, rc, rr = (-5 * torch.rand(200, generator=generator, dtype=torch.float64) - 1e-3 for _ in range(4))
    odds = (c - r) - (torch.log1p(-torch.exp(c)) - torch.log1p(-torch.exp(r)))
    got = orpo_loss(c, r, beta=0.2, nll=torch.tensor(1.5).double(), reduction="none")
    torch.testing.assert_close(got, 1.5 - 0.2 * F.logsigmoid(odds), rtol=1e-12, atol=0)

    got = simpo_loss(c, r, beta=2.0, gamma=0.5, reduction="none")
    torch.testing.assert_close(got, -F.logsigmoid(2.0 * (c - r - 0.5 / 2.0)), rtol=1e-12, atol=0)

    got = bradley_terry_loss(c, r, margin=rr)
    torch.testing.assert_close(got, -F.logsigmoid(c - r - rr).mean(), rtol=1e-12, atol=0)

    kl = (c - rc).mean().clamp(min=0)
    want = torch.cat(
        [2.0 * (1 - F.sigmoid(0.3 * ((c - rc) - kl))), 0.5 * (1 - F.sigmoid(0.3 * (kl - (r - rr)[:50])))]
    )
    got = kto_loss(
        c,
        r[:50],
        rc,
        rr[:50],
        beta=0.3,
        kl=kl,
        desirable_weight=2.0,
        undesirable_weight=0.5,
        reduction="none",
    )
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)


# --------------------------------------------------------------------------- estimators, by exact enumeration


def two_distributions(seed=0):
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6))


@pytest.mark.parametrize("seed", range(4))
def test_k1_and_k3_are_unbiased_and_k2_is_not(seed):
    p, q = two_distributions(seed)
    truth = float(kl_divergence(p, q))
    mean = {k: float(np.sum(p * kl_estimate(np.log(p), np.log(q), k))) for k in ("k1", "k2", "k3")}
    assert mean["k1"] == pytest.approx(truth, rel=1e-13)
    assert mean["k3"] == pytest.approx(truth, rel=1e-13)
    assert abs(mean["k2"] / truth - 1) > 0.01


def test_differentiating_an_estimate_gives_what_the_notes_say():
    """Mean gradient over samples of p: zero for k1, that of KL(p, q) for k2, of KL(q, p) for k3."""
    p, q = (torch.tensor(v) for v in two_distributions())
    logits = p.log().requires_grad_()

    def gradient_of(value):
        return torch.autograd.grad(value, logits)[0]

    def sampled(kind):
        return gradient_of((p * kl_estimate(logits.log_softmax(0), q.log(), kind)).sum())

    logp = logits.log_softmax(0)
    forward = gradient_of((logp.exp() * (logp - q.log())).sum())
    reverse = gradient_of((q * (q.log() - logits.log_softmax(0))).sum())
    torch.testing.assert_close(sampled("k1"), torch.zeros(6).double(), atol=1e-15, rtol=0)
    torch.testing.assert_close(sampled("k2"), forward, atol=1e-14, rtol=1e-12)
    torch.testing.assert_close(sampled("k3"), reverse, atol=1e-14, rtol=1e-12)


# ------------------------------------------------------------------------------------------------ properties

logps = st.floats(-1e4, 0, width=32)


@given(logps, logps)
def test_k2_and_k3_are_never_negative_and_zero_only_without_a_difference(p, q):
    for dtype in (np.float32, np.float64):
        for kind in ("k2", "k3"):
            value = kl_estimate(np.array(p, dtype), np.array(q, dtype), kind)
            assert value >= 0
            if value == 0:
                assert abs(p - q) < 1e-20


@given(logps, logps, logps, logps, st.sampled_from([0.0, 0.1, 0.5]))
def test_swapping_the_answers_swaps_the_smoothing(c, r, rc, rr, eps):
    one = dpo_loss(c, r, rc, rr, label_smoothing=eps)
    other = dpo_loss(r, c, rr, rc, label_smoothing=1 - eps)
    assert one == pytest.approx(other, rel=1e-14)


@given(st.integers(-5000, 0), st.integers(-5000, 0), st.integers(-999, 999), st.sampled_from(VARIANTS))
def test_what_policy_and_reference_share_does_not_count(c, r, shared, variant):
    kind, eps = variant
    options = {"label_smoothing": eps, "loss_type": kind}
    assert dpo_loss(c, r, -7, -9, **options) == dpo_loss(
        c + shared, r - shared, shared - 7, -shared - 9, **options
    )


@given(st.lists(st.tuples(logps, logps), min_size=1, max_size=5), logps)
def test_losses_fall_as_the_margin_grows(rows, further):
    c, r = (np.array(v, np.float64) for v in zip(*rows, strict=True))
    for loss in (bradley_terry_loss, simpo_loss):
        assert (loss(c - further, r, reduction="none") <= loss(c, r, reduction="none")).all()
    some = (c < 0) | (r < 0)  # both certain: the odds ratio is inf / inf
    near, far = (orpo_loss(v, r, nll=0.0, reduction="none") for v in (c, c + further))
    assert (near <= far)[some].all()


# ---------------------------------------------------------------------------------------------------- limits

LIMITS = [  # loss type, smoothing, (chosen, rejected), the limit
    ("sigmoid", 0.0, (-INF, -1.0), INF),
    ("sigmoid", 0.0, (-1.0, -INF), 0.0),
    ("sigmoid", 0.1, (-1.0, -INF), INF),
    ("sigmoid", 1.0, (-INF, -1.0), 0.0),
    ("robust", 0.0, (-1.0, -INF), 0.0),
    ("robust", 0.1, (-1.0, -INF), -INF),
    ("robust", 0.1, (-INF, -1.0), INF),
    ("exo_pair", 0.1, (-INF, -1.0), -math.log(0.1)),
    ("exo_pair", 0.1, (-1.0, -INF), -math.log(0.9)),
    ("hinge", 0.0, (-INF, -1.0), INF),
    ("hinge", 0.0, (-1.0, -INF), 0.0),
    ("ipo", 0.0, (-INF, -1.0), INF),
    ("ipo", 0.0, (-1.0, -INF), INF),
    ("sppo_hard", 0.0, (-1.0, -INF), INF),
    ("nca_pair", 0.0, (-INF, 0.0), INF),
    ("nca_pair", 0.0, (0.0, -INF), 1.5 * math.log(2)),
    ("apo_zero", 0.0, (-INF, 0.0), 1.5),
    ("apo_zero", 0.0, (0.0, -INF), 0.5),
    ("apo_down", 0.0, (-INF, 0.0), 1.0),
    ("apo_down", 0.0, (0.0, -INF), 0.5),
]


@backend
@precision
@pytest.mark.parametrize(("kind", "eps", "row", "want"), LIMITS)
def test_an_impossible_answer_takes_the_limit(make, dtype, kind, eps, row, want):
    c, r, zero = (make(np.array([v], dtype)) for v in (*row, 0.0))
    got = float(dpo_loss(c, r, zero, zero, label_smoothing=eps, loss_type=kind))
    assert got == want or got == pytest.approx(want, rel=1e-6)


@backend
def test_impossible_answers_in_the_other_losses_take_their_limits(make):
    low, one, zero, none = make([-INF]), make([-1.0]), make([0.0]), make(np.zeros(0))
    for loss in (simpo_loss, bradley_terry_loss, orpo_loss):
        assert float(loss(low, one)) == INF
    for loss in (simpo_loss, bradley_terry_loss):
        assert float(loss(one, low)) == 0
    assert float(orpo_loss(one, low)) == 1  # the imitation is left
    assert float(orpo_loss(zero, one, nll=0.0)) == 0
    assert float(orpo_loss(one, zero, nll=0.0)) == INF
    assert float(kto_loss(low, none, zero, none)) == 1
    assert float(kto_loss(none, low, none, zero)) == 0
    for kind, want in (("k1", INF), ("k2", INF), ("k3", INF)):
        assert float(kl_estimate(one, low, kind)[0]) == want
    for kind, want in (("k1", -INF), ("k2", INF), ("k3", INF)):
        assert float(kl_estimate(low, one, kind)[0]) == want
    assert float(kl_estimate(make([0.0]), make([710.0]))[0]) == INF


@variant
def test_an_infinity_minus_itself_and_nan_are_nan(kind, eps):
    zero = torch.zeros(1)
    for row in ((-INF, 0.0, -INF, 0.0), (NAN, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, NAN)):
        inputs = [torch.tensor([v]) for v in row]
        loss = dpo_loss(*inputs, label_smoothing=eps, loss_type=kind)
        assert loss.isnan()
    assert bradley_terry_loss(zero - INF, zero - INF).isnan()
    assert simpo_loss(zero * NAN, zero).isnan()
    assert orpo_loss(zero, zero).isnan()
    assert orpo_loss(zero - INF, zero - INF).isnan()
    assert orpo_loss(zero + 1, zero - 1, validate=False).isnan()
    assert kl_estimate(zero - INF, zero - INF).isnan().all()


def test_impossible_answers_get_the_gradient_of_the_limit():
    def gradient(function, *values):
        tensors = [torch.tensor([v], dtype=torch.float64, requires_grad=True) for v in values]
        function(*tensors).backward()
        return [t.grad.item() for t in tensors]

    assert gradient(lambda c, r: dpo_loss(c, r, 0 * r, 0 * r, beta=0.1), -INF, -1.0) == [-0.1, 0.1]
    assert gradient(lambda c, r: bradley_terry_loss(c, r), -INF, -1.0) == [-1, 1]
    assert gradient(lambda c, r: bradley_terry_loss(c, r), -1.0, -INF) == [0, 0]
    exo = {"loss_type": "exo_pair", "label_smoothing": 0.1}
    assert gradient(lambda c, r: dpo_loss(c, r, 0 * r, 0 * r, **exo), -INF, -1.0) == [0, 0]
    # certainty: exp(r) / expm1(r), where sigmoid(.) / expm1(c) alone is 0 / 0
    got = gradient(lambda c, r: orpo_loss(c, r, beta=1.0, nll=0.0), 0.0, -1.0)
    assert got == [pytest.approx(math.exp(-1) / math.expm1(-1), rel=1e-15), 0]
    assert gradient(lambda c, r: orpo_loss(c, r, beta=1.0, nll=0.0), -INF, -1.0)[0] == -1


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_reductions_agree_with_each_other_and_nothing_averages_to_nan(reduction):
    c, r, rc, rr = (torch.tensor(v) for v in pairs("float64", 1.0, n=3))
    low = -c.abs() - 0.1
    calls = {
        "dpo": lambda s, k: dpo_loss(c[s], r[s], rc[s], rr[s], reduction=k),
        "kto": lambda s, k: kto_loss(c[s], r[s], rc[s], rr[s], reduction=k),
        "orpo": lambda s, k: orpo_loss(low[s], -r[s].abs(), reduction=k),
        "simpo": lambda s, k: simpo_loss(c[s], r[s], reduction=k),
        "bt": lambda s, k: bradley_terry_loss(c[s], r[s], reduction=k),
        "kl": lambda s, k: kl_estimate(r[s], rr[s], "k2", reduction=k),
    }
    for call in calls.values():
        some, none = slice(None), slice(0, 0)
        each = call(some, "none")
        want = {"none": each, "sum": each.sum(), "mean": each.sum() / len(each)}[reduction]
        torch.testing.assert_close(call(some, reduction), want, rtol=1e-14, atol=0)
        empty = call(none, reduction)
        if reduction == "none":
            assert empty.shape == (0,)
        else:
            assert empty.isnan() if reduction == "mean" else empty == 0


# ------------------------------------------------------------------------------------------------- gradients

INTERIOR = [(-3.1, -4.2, -3.3, -3.9), (-9.0, -2.0, -5.0, -4.0), (-1.0, -8.5, -1.7, -0.4)]


@variant
def test_dpo_gradients_and_second_gradients_match_finite_differences(kind, eps):
    if eps == 1e-300:
        eps = 1e-30
    inputs = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in zip(*INTERIOR, strict=True)]

    def loss(*x):
        return dpo_loss(*x, beta=0.3, label_smoothing=eps, loss_type=kind, reduction="none") * 1.7

    assert torch.autograd.gradcheck(loss, inputs)
    if kind != "hinge":
        assert torch.autograd.gradgradcheck(loss, inputs)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_the_other_gradients_match_finite_differences(reduction):
    c, r, rc, rr = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in zip(*INTERIOR, strict=True)
    )
    options = {"reduction": reduction}
    for function, inputs in (
        (lambda a, b: simpo_loss(a, b, beta=0.7, **options), (c, r)),
        (lambda a, b, m: bradley_terry_loss(a, b, margin=m, **options), (c, r, rc)),
        (lambda a, b: orpo_loss(a, b, beta=0.7, **options), (c, r)),
        (lambda a, b, n: orpo_loss(a, b, nll=n, **options), (c, r, rc)),
        (lambda a, b, d, e: kto_loss(a, b, d, e, kl=0.3, **options), (c, r, rc, rr)),
        (lambda a, b: kl_estimate(a, b, "k1", **options), (c, r)),
        (lambda a, b: kl_estimate(a, b, "k2", **options), (c, r)),
        (lambda a, b: kl_estimate(a, b, "k3", **options), (c, rc)),
        (lambda a, b: kl_estimate(a, b, "k3", **options), (c, r)),
    ):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_no_gradient_flows_to_the_reference_point():
    kl = torch.tensor(0.5, requires_grad=True)
    c = torch.tensor([-1.0], requires_grad=True)
    kto_loss(c, c[:0], torch.zeros(1), c[:0], kl=kl).backward()
    assert kl.grad is None
    assert c.grad.abs().item() > 0


def test_a_reference_point_below_zero_counts_as_zero():
    c, none = np.array([-1.0]), np.zeros(0)
    want = kto_loss(c, none, c, none, kl=0.0)
    assert kto_loss(c, none, c, none, kl=-2.0) == want
    assert (
        kto_loss(torch.tensor(c), torch.zeros(0), torch.tensor(c), torch.zeros(0), kl=torch.tensor(-2.0))
        == want
    )


# ------------------------------------------------------------------------------------- dtypes and devices


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_every_dtype_and_device_gives_the_loss_of_its_numbers(dtype, device):
    inputs = [torch.tensor(v, dtype=dtype) for v in zip(*INTERIOR, strict=True)]
    moved = [x.to(device) for x in inputs]
    wide = [x.double() for x in inputs]
    result = torch.float64 if dtype == torch.float64 else torch.float32
    calls = [
        *(
            lambda *x, k=kind, e=eps: dpo_loss(*x, loss_type=k, label_smoothing=e, reduction="none")
            for kind, eps in VARIANTS
        ),
        lambda *x: kto_loss(*x, kl=0.2, reduction="none"),
        lambda *x: orpo_loss(*x[:2], reduction="none"),
        lambda *x: orpo_loss(*x[:2], nll=0.3, reduction="none"),
        lambda *x: simpo_loss(*x[:2], reduction="none"),
        lambda *x: bradley_terry_loss(*x[:2], margin=0.1, reduction="none"),
        lambda *x: kl_estimate(*x[:2]),
    ]
    for call in calls:
        got = call(*moved)
        assert got.dtype == result
        assert got.device.type == device
        rtol = 1e-13 if dtype == torch.float64 else 3e-7
        torch.testing.assert_close(got.cpu().double(), call(*wide).double(), rtol=rtol, atol=1e-300)


def test_numpy_and_torch_give_the_same_numbers_and_kinds():
    for dtype in (np.float64, np.float32, np.float16):
        arrays = [np.array(v, dtype) for v in zip(*INTERIOR, strict=True)]
        for kind, eps in VARIANTS:
            options = {"loss_type": kind, "label_smoothing": eps, "reduction": "none"}
            got = dpo_loss(*arrays, **options)
            want = dpo_loss(*map(torch.tensor, arrays), **options)
            assert isinstance(got, np.ndarray)
            np.testing.assert_array_equal(got, want.numpy())
            assert got.dtype == want.numpy().dtype
    assert isinstance(dpo_loss(-1.0, -2.0, -1.0, -2.0), np.float64)
    assert isinstance(kl_estimate(-1, -2), np.float64)
    read_only = np.array([-1.0])
    read_only.flags.writeable = False
    assert bradley_terry_loss(read_only, read_only) == math.log(2)


def test_a_plain_number_as_margin_does_not_change_the_dtype():
    x = torch.zeros(2)
    assert bradley_terry_loss(x, x, margin=0.1).dtype == torch.float32
    assert bradley_terry_loss(x.numpy(), x.numpy(), margin=0.1).dtype == np.float32
    assert bradley_terry_loss(x.double(), x.double(), margin=0.1).dtype == torch.float64


# ------------------------------------------------------------------------------------- sequence_logprobs


def by_hand(logits, labels, mask=None, shift=True):
    """One Python loop over everything, in float64."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    totals, counts = [], []
    for i in range(len(labels)):
        total, count = 0.0, 0
        for t in range(labels.shape[1]):
            source = t - 1 if shift else t
            if source < 0 or labels[i, t] == -100 or (mask is not None and not mask[i, t]):
                continue
            z = logits[i, source]
            total += z[labels[i, t]] - z.max() - math.log(np.exp(z - z.max()).sum())
            count += 1
        totals.append(total)
        counts.append(count)
    return np.array(totals), np.array(counts)


@pytest.fixture
def batch():
    rng = np.random.default_rng(7)
    logits, labels = rng.normal(size=(5, 9, 11)) * 3, rng.integers(0, 11, (5, 9))
    labels[0, :4] = -100
    labels[1, 6:] = -100
    mask = rng.random((5, 9)) < 0.7
    return logits, labels, mask


@backend
@pytest.mark.parametrize("shift", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_sequence_logprobs_equal_a_loop_over_the_tokens(batch, make, shift, masked):
    logits, labels, mask = batch
    mask = mask if masked else None
    want, counts = by_hand(logits, labels, mask, shift)
    for give in (bool, int):
        given = None if mask is None else make(mask.astype(give))
        total = sequence_logprobs(make(logits), make(labels), given, shift=shift)
        mean = sequence_logprobs(make(logits), make(labels), given, shift=shift, average=True)
        np.testing.assert_allclose(np.asarray(total), want, rtol=1e-13)
        np.testing.assert_allclose(np.asarray(mean), want / counts, rtol=1e-13)


@backend
def test_the_shift_pairs_each_token_with_the_logits_before_it(make):
    """A model that is sure of the next token: nearly no loss with the shift, a large one without."""
    labels = np.array([[0, 1, 2, 3]])
    logits = np.zeros((1, 4, 4))
    logits[0, [0, 1, 2], [1, 2, 3]] = 50.0
    assert float(sequence_logprobs(make(logits), make(labels))[0]) == pytest.approx(0, abs=1e-20)
    assert float(sequence_logprobs(make(logits), make(labels), shift=False)[0]) < -100
    # the first label and the last logits are not used
    other, changed = labels.copy(), logits.copy()
    other[0, 0], changed[0, 3] = 3, 1e3
    assert (
        sequence_logprobs(make(changed), make(other))[0] == sequence_logprobs(make(logits), make(labels))[0]
    )


@backend
def test_a_sequence_without_counted_tokens_is_the_empty_product_or_nan_on_average(make):
    logits, labels = make(np.ones((2, 3, 4))), make(np.array([[-100, -100, -100], [1, 1, 1]]))
    total, mean = sequence_logprobs(logits, labels), sequence_logprobs(logits, labels, average=True)
    assert float(total[0]) == 0 and not np.signbit(float(total[0]))
    assert math.isnan(float(mean[0])) and math.isfinite(float(mean[1]))
    assert (
        float(sequence_logprobs(make(np.ones((1, 1, 4))), make(np.array([[2]])))[0]) == 0
    )  # nothing to predict
    assert sequence_logprobs(make(np.ones((2, 0, 4))), make(np.zeros((2, 0), np.int64))).shape == (2,)
    z = torch.ones(2, 3, 4, requires_grad=True)
    sequence_logprobs(z, torch.tensor([[-100] * 3, [1] * 3]), average=True)[0].backward()
    assert (z.grad == 0).all()


@backend
def test_what_is_masked_is_not_looked_at(make):
    logits = np.zeros((1, 4, 3))
    logits[0, 2] = np.nan
    labels = np.array([[0, 1, 2, 99]])
    got = sequence_logprobs(make(logits), make(labels), make(np.array([[1, 1, 1, 0]])))
    assert float(got[0]) == pytest.approx(-2 * math.log(3), rel=1e-15)
    z = torch.tensor(logits, requires_grad=True)
    sequence_logprobs(z, torch.tensor(labels), torch.tensor([[1, 1, 1, 0]])).sum().backward()
    assert torch.isfinite(z.grad).all()
    assert (z.grad[0, 2:] == 0).all()


@backend
def test_an_impossible_token_makes_the_sequence_impossible(make):
    logits = np.zeros((1, 3, 2))
    logits[0, 0, 1] = -INF
    assert float(sequence_logprobs(make(logits), make(np.array([[0, 1, 0]])))[0]) == -INF


@backend
@precision
def test_long_sequences_keep_their_digits(make, dtype):
    rng = np.random.default_rng(8)
    logits = (rng.normal(size=(1, 1200, 2)) * 6).astype(dtype)
    logits[0, ::3, 0] += 30
    labels = rng.integers(0, 2, (1, 1200))
    labels[0, ::3] = 0
    with oracles.mpmath.workdps(60):
        want = mpf(0)
        for z, y in zip(logits[0], labels[0], strict=True):
            a, b = oracles.exact(z)
            want -= log1p(exp(b - a if y == 0 else a - b))
    got = sequence_logprobs(make(logits), make(labels), shift=False)
    assert oracles.ulp_distance(got[0], want, dtype) <= BAR


@backend
def test_cheap_tokens_beside_a_very_expensive_one_are_not_lost(make):
    """Added one by one, a thousand times log 2 would vanish beside 1e16."""
    logits = np.zeros((1, 1001, 2))
    logits[0, 0, 1] = 1e16
    got = sequence_logprobs(make(logits), make(np.zeros((1, 1001), np.int64)), shift=False)
    assert float(got[0]) == -(1e16 + round(1000 * math.log(2) / 2) * 2)  # floats near 1e16 are 2 apart


def test_the_gradient_of_a_sequence_is_one_hot_minus_softmax_where_it_counts(batch):
    logits, labels, mask = batch
    z = torch.tensor(logits, requires_grad=True)
    upstream = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0]).double()
    sequence_logprobs(z, torch.tensor(labels), torch.tensor(mask)).backward(upstream)
    want = torch.zeros_like(z)
    for i in range(5):
        for t in range(1, 9):
            if labels[i, t] != -100 and mask[i, t]:
                p = torch.softmax(z.detach()[i, t - 1], -1)
                want[i, t - 1] = upstream[i] * (F.one_hot(torch.tensor(labels[i, t]), 11) - p)
    torch.testing.assert_close(z.grad, want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_sequence_logprobs_take_every_dtype_and_device(batch, dtype, device):
    logits, labels, mask = (torch.tensor(v) for v in batch)
    logits = logits.to(dtype)
    got = sequence_logprobs(logits.to(device), labels.to(device), mask.to(device))
    want, _ = by_hand(logits.double().numpy(), labels.numpy(), mask.numpy())
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    np.testing.assert_allclose(
        got.cpu().double().numpy(), want, rtol=1e-12 if dtype == torch.float64 else 2e-7
    )


def test_leading_axes_may_be_any_number(batch):
    logits, labels, _ = (torch.tensor(v) for v in batch)
    one = sequence_logprobs(logits[2], labels[2])
    assert one.shape == ()
    assert one == sequence_logprobs(logits, labels)[2]
    assert sequence_logprobs(logits[None], labels[None]).shape == (1, 5)


def test_dpo_on_sequence_logprobs_trains_towards_the_chosen_answer():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 6, 5, generator=generator, requires_grad=True)
    chosen, rejected = (torch.randint(0, 5, (2, 6), generator=generator) for _ in range(2))
    reference = [sequence_logprobs(logits.detach(), y) for y in (chosen, rejected)]

    def margin():
        return (sequence_logprobs(logits, chosen) - sequence_logprobs(logits, rejected)).mean()

    before = margin().item()
    loss = dpo_loss(sequence_logprobs(logits, chosen), sequence_logprobs(logits, rejected), *reference)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-7)
    loss.backward()
    with torch.no_grad():
        logits -= logits.grad
    assert margin().item() > before


# ------------------------------------------------------------------------------------------------- bad input

ONE, TWO = torch.zeros(1), torch.zeros(2)
LOGITS, LABELS = torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.int64)
BAD = {
    "dpo: shapes": (lambda: dpo_loss(ONE, TWO, ONE, ONE), ValueError, "rejected_logps"),
    "dpo: would broadcast": (lambda: dpo_loss(TWO, TWO, TWO[:, None], TWO), ValueError, "ref_chosen_logps"),
    "dpo: beta 0": (lambda: dpo_loss(ONE, ONE, ONE, ONE, beta=0.0), ValueError, "beta"),
    "dpo: beta < 0": (lambda: dpo_loss(ONE, ONE, ONE, ONE, beta=-0.1), ValueError, "beta"),
    "dpo: beta nan": (lambda: dpo_loss(ONE, ONE, ONE, ONE, beta=NAN), ValueError, "beta"),
    "dpo: beta text": (lambda: dpo_loss(ONE, ONE, ONE, ONE, beta="0.1"), TypeError, "beta"),
    "dpo: loss_type": (lambda: dpo_loss(ONE, ONE, ONE, ONE, loss_type="dpo"), ValueError, "loss_type"),
    "dpo: reduction": (lambda: dpo_loss(ONE, ONE, ONE, ONE, reduction="avg"), ValueError, "reduction"),
    "dpo: smoothing": (
        lambda: dpo_loss(ONE, ONE, ONE, ONE, label_smoothing=1.1),
        ValueError,
        "label_smoothing",
    ),
    "dpo: robust at its pole": (
        lambda: dpo_loss(ONE, ONE, ONE, ONE, loss_type="robust", label_smoothing=0.5),
        ValueError,
        "label_smoothing",
    ),
    "dpo: exo without smoothing": (
        lambda: dpo_loss(ONE, ONE, ONE, ONE, loss_type="exo_pair"),
        ValueError,
        "label_smoothing",
    ),
    "dpo: smoothing that would be ignored": (
        lambda: dpo_loss(ONE, ONE, ONE, ONE, loss_type="ipo", label_smoothing=0.1),
        ValueError,
        "label_smoothing",
    ),
    "dpo: integers": (lambda: dpo_loss(ONE.long(), ONE, ONE, ONE), TypeError, "chosen_logps"),
    "dpo: mixed kinds": (lambda: dpo_loss(ONE, ONE, ONE, np.zeros(1)), TypeError, "ref_rejected_logps"),
    "dpo: text": (lambda: dpo_loss("a", "b", "c", "d"), TypeError, "chosen_logps"),
    "dpo: devices": (lambda: dpo_loss(ONE, ONE.to("meta"), ONE, ONE), ValueError, "rejected_logps"),
    "kto: two axes": (lambda: kto_loss(TWO[None], TWO, TWO[None], TWO), ValueError, "chosen_logps"),
    "kto: shapes": (lambda: kto_loss(TWO, ONE, TWO, TWO), ValueError, "ref_rejected_logps"),
    "kto: beta": (lambda: kto_loss(ONE, ONE, ONE, ONE, beta=0), ValueError, "beta"),
    "kto: weight": (
        lambda: kto_loss(ONE, ONE, ONE, ONE, desirable_weight=-1),
        ValueError,
        "desirable_weight",
    ),
    "kto: kl inf": (lambda: kto_loss(ONE, ONE, ONE, ONE, kl=INF), ValueError, "kl"),
    "kto: kl shape": (lambda: kto_loss(ONE, ONE, ONE, ONE, kl=TWO), ValueError, "kl"),
    "kto: kl type": (lambda: kto_loss(ONE, ONE, ONE, ONE, kl=None), TypeError, "kl"),
    "kto: reduction": (lambda: kto_loss(ONE, ONE, ONE, ONE, reduction=None), ValueError, "reduction"),
    "orpo: not a log-probability": (lambda: orpo_loss(ONE - 1, ONE + 0.5), ValueError, "rejected_logps"),
    "orpo: shapes": (lambda: orpo_loss(ONE - 1, TWO - 1), ValueError, "rejected_logps"),
    "orpo: nll shape": (lambda: orpo_loss(TWO - 1, TWO - 1, nll=torch.zeros(3)), ValueError, "nll"),
    "orpo: beta": (lambda: orpo_loss(ONE - 1, ONE - 1, beta=INF), ValueError, "beta"),
    "simpo: shapes": (lambda: simpo_loss(ONE, TWO), ValueError, "rejected_logps"),
    "simpo: gamma": (lambda: simpo_loss(ONE, ONE, gamma=NAN), ValueError, "gamma"),
    "simpo: beta": (lambda: simpo_loss(ONE, ONE, beta=True), TypeError, "beta"),
    "bt: shapes": (lambda: bradley_terry_loss(ONE, TWO), ValueError, "rejected"),
    "bt: margin shape": (lambda: bradley_terry_loss(TWO, TWO, margin=ONE), ValueError, "margin"),
    "bt: margin kind": (lambda: bradley_terry_loss(TWO, TWO, margin=np.zeros(2)), TypeError, "margin"),
    "bt: booleans": (lambda: bradley_terry_loss(TWO > 0, TWO > 0), TypeError, "chosen"),
    "kl: kind": (lambda: kl_estimate(ONE, ONE, "k4"), ValueError, "kind"),
    "kl: shapes": (lambda: kl_estimate(ONE, TWO), ValueError, "logq"),
    "kl: complex": (lambda: kl_estimate(ONE + 0j, ONE), TypeError, "logp"),
    "kl: reduction": (lambda: kl_estimate(ONE, ONE, reduction="batchmean"), ValueError, "reduction"),
    "logprobs: no classes": (lambda: sequence_logprobs(torch.zeros(2, 3, 0), LABELS), ValueError, "logits"),
    "logprobs: one axis": (lambda: sequence_logprobs(torch.zeros(3), LABELS), ValueError, "logits"),
    "logprobs: labels shape": (lambda: sequence_logprobs(LOGITS, LABELS[:, 1:]), ValueError, "labels"),
    "logprobs: label too large": (lambda: sequence_logprobs(LOGITS, LABELS + 4), ValueError, "labels"),
    "logprobs: label negative": (lambda: sequence_logprobs(LOGITS, LABELS - 1), ValueError, "labels"),
    "logprobs: float labels": (lambda: sequence_logprobs(LOGITS, LABELS.float()), TypeError, "labels"),
    "logprobs: integer logits": (lambda: sequence_logprobs(LOGITS.long(), LABELS), TypeError, "logits"),
    "logprobs: mask shape": (lambda: sequence_logprobs(LOGITS, LABELS, LABELS[0] == 0), ValueError, "mask"),
    "logprobs: mask values": (lambda: sequence_logprobs(LOGITS, LABELS, LABELS + 2), ValueError, "mask"),
    "logprobs: mask dtype": (lambda: sequence_logprobs(LOGITS, LABELS, LABELS + 0.5), TypeError, "mask"),
    "logprobs: mask kind": (
        lambda: sequence_logprobs(LOGITS, LABELS, np.ones((2, 3), bool)),
        TypeError,
        "mask",
    ),
    "logprobs: shift": (lambda: sequence_logprobs(LOGITS, LABELS, shift=1), TypeError, "shift"),
    "logprobs: average": (lambda: sequence_logprobs(LOGITS, LABELS, average="mean"), TypeError, "average"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_the_name_of_the_argument(case):
    call, error, name = BAD[case]
    with pytest.raises(error, match=rf"^{name}\b"):
        call()
