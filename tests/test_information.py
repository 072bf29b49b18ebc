"""surprisal, entropy, cross-entropy and divergence of distributions."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from backends import BACKENDS, DEVICES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from lossutils.information import (
    bits_to_nats,
    distribution_cross_entropy,
    entropy,
    kl_divergence,
    nats_to_bits,
    surprisal,
)

INF = math.inf
backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])
SUM_OFF = {"float64": 1e-6, "float32": 1e-5, "float16": 5e-3}


def distributions(dtype, n=60, classes=8):
    rng = np.random.default_rng(0)
    for i in range(n):
        p = rng.dirichlet(np.full(classes, 10.0 ** rng.uniform(-1.5, 1.5)))
        if i % 4 == 0:
            p[2] = 0
            p /= p.sum()
        yield p.astype(dtype)


# ------------------------------------------------------------------------------------------ closed forms


@backend
def test_textbook_values_come_out(make):
    np.testing.assert_allclose(np.asarray(surprisal(make([0.9, 0.01]))), [0.105, 4.605], atol=5e-4)
    assert float(entropy(make(np.full(10, 0.1)))) == pytest.approx(math.log(10), rel=1e-15)
    assert float(entropy(make(np.full(8, 0.125)))) == pytest.approx(3 * math.log(2), rel=1e-15)
    half, skew = make([0.5, 0.5]), make([0.9, 0.1])
    assert float(kl_divergence(half, skew)) == pytest.approx(0.5 * math.log(0.25 / 0.09), rel=1e-14)
    assert float(kl_divergence(skew, half)) == pytest.approx(math.log(2) - float(entropy(skew)), rel=1e-14)
    assert float(nats_to_bits(make(math.log(2)))) == 1.0
    assert float(bits_to_nats(make(3.0))) == pytest.approx(math.log(8), rel=1e-15)


@backend
def test_bits_and_nats_are_inverse(make):
    x = np.linspace(-5, 40, 91)
    np.testing.assert_allclose(np.asarray(bits_to_nats(nats_to_bits(make(x)))), x, rtol=4e-16)


@backend
def test_divergence_of_shifted_gaussians_is_the_same_both_ways(make):
    """KL(N(0,1) || N(1,1)) is 0.5 nat in both directions; here on a fine grid."""
    x = np.linspace(-12, 13, 5001)
    p, q = (stats.norm.pdf(x, m) / stats.norm.pdf(x, m).sum() for m in (0, 1))
    assert float(kl_divergence(make(p), make(q))) == pytest.approx(0.5, abs=1e-9)
    assert float(kl_divergence(make(q), make(p))) == pytest.approx(0.5, abs=1e-9)


# ---------------------------------------------------------------------------------------------- accuracy


@backend
@precision
def test_all_measures_stay_within_four_ulp_of_mpmath(make, dtype):
    values = list(distributions(dtype))
    for p, q in zip(values, reversed(values), strict=True):
        assert oracles.ulp_distance(entropy(make(p)), oracles.entropy(p), dtype) <= 4
        if (q > 0).all():
            with oracles.mpmath.workdps(60):
                cross = -oracles.mpmath.fsum(
                    a * oracles.mpmath.log(b) for a, b in zip(oracles.exact(p), oracles.exact(q), strict=True)
                )
            assert oracles.ulp_distance(distribution_cross_entropy(make(p), make(q)), cross, dtype) <= 4
            assert oracles.ulp_distance(kl_divergence(make(p), make(q)), oracles.bregman_kl(p, q), dtype) <= 4
        for v, got in zip(p, surprisal(make(p)), strict=True):
            if v > 0:
                assert (
                    oracles.ulp_distance(got, -oracles.mpmath.log(oracles.mpmath.mpf(float(v))), dtype) <= 4
                )


@backend
@precision
@pytest.mark.parametrize("step", [1e-2, 1e-4, 1e-6, 1e-9, 1e-12, 1e-15])
def test_divergence_of_nearly_equal_distributions_keeps_its_digits(make, dtype, step):
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.ones(50)).astype(dtype)
    q = p * (1 + step * rng.normal(size=50))
    q = (q / q.sum()).astype(dtype)
    want = oracles.bregman_kl(p, q)
    assert oracles.ulp_distance(kl_divergence(make(p), make(q)), want, dtype) <= 4


@pytest.mark.parametrize(
    "ratio", [1e-300, 1e-3, 0.3333, 0.3334, 0.5, 0.999, 1.0, 1.001, 2, 2.9999, 3.0001, 1e3]
)
def test_both_branches_of_the_divergence_hold_the_bar(ratio):
    p, q = np.array([0.1, 0.9]), np.array([0.1 / ratio, 0.9]) if ratio >= 1 else np.array([0.1, 0.9])
    if ratio < 1:
        p = np.array([0.1 * ratio, 0.9])
    # not normalised: the Bregman form is defined for any positive numbers, and the oracle computes it
    got = kl_divergence(torch.tensor(p), torch.tensor(q), validate=False)
    assert oracles.ulp_distance(got, oracles.bregman_kl(p, q), "float64") <= 4


def test_the_plain_sum_is_wrong_where_ours_is_right():
    p = np.array([0.5, 0.5])
    q = np.array([0.5 + 2.0**-30, 0.5 - 2.0**-30])
    assert abs(np.sum(p * np.log(p / q)) / 2.0**-59 - 1) > 0.5
    assert kl_divergence(p, q) == pytest.approx(2.0**-59, rel=1e-9)


@backend
def test_a_subnormal_probability_does_not_overflow_the_ratio(make):
    p, q = make([1.0, 0.0]), make([5e-324, 1.0])
    assert float(kl_divergence(p, q)) == pytest.approx(1074 * math.log(2), rel=1e-14)


# ------------------------------------------------------------------------------------------------ limits


@backend
@precision
def test_zero_log_zero_is_zero_and_a_surprise_beyond_q_is_infinite(make, dtype):
    sure, half, other = (make(np.array(v, dtype)) for v in ([1, 0], [0.5, 0.5], [0, 1]))
    assert float(entropy(sure)) == 0 and not math.copysign(1, float(entropy(sure))) < 0
    assert float(distribution_cross_entropy(sure, sure)) == 0 == float(kl_divergence(sure, sure))
    assert float(distribution_cross_entropy(sure, half)) == pytest.approx(math.log(2), rel=1e-7)
    assert float(kl_divergence(sure, half)) == pytest.approx(math.log(2), rel=1e-7)
    for function in (distribution_cross_entropy, kl_divergence):
        assert float(function(half, sure)) == INF
        assert float(function(sure, other)) == INF
    assert float(surprisal(make(np.array(0, dtype)))) == INF
    assert math.copysign(1, float(surprisal(make(np.array(1, dtype))))) == 1


@backend
def test_an_entry_one_rounding_above_one_gives_no_negative_entropy(make):
    assert float(entropy(make([np.nextafter(1, 2), 0.0]))) == 0


@backend
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_measures_work_along_any_axis_and_broadcast(make, axis):
    rng = np.random.default_rng(2)
    p, q = (np.moveaxis(rng.dirichlet(np.ones(4), size=(3, 4)[:1]), -1, axis) for _ in range(2))
    np.testing.assert_allclose(np.asarray(entropy(make(p), axis)), stats.entropy(p, axis=axis), rtol=1e-13)
    np.testing.assert_allclose(
        np.asarray(kl_divergence(make(p), make(q), axis)),
        special.kl_div(p, q).sum(axis),
        rtol=1e-10,
        atol=1e-15,
    )
    np.testing.assert_allclose(
        np.asarray(distribution_cross_entropy(make(p), make(q), axis)), -(p * np.log(q)).sum(axis), rtol=1e-13
    )
    if axis != 0:
        one = kl_divergence(make(p), make(q[0]))
        np.testing.assert_allclose(np.asarray(one), special.kl_div(p, q[0]).sum(-1), rtol=1e-10)


# ---------------------------------------------------------------------------------------- dtypes and kinds


def test_narrow_dtypes_give_float32_and_float64_wins():
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        p = torch.tensor([0.5, 0.5], dtype=dtype)
        for result in (entropy(p), kl_divergence(p, p), distribution_cross_entropy(p, p), surprisal(p)):
            assert result.dtype == torch.float32
        assert kl_divergence(p, p.double()).dtype == torch.float64
        assert nats_to_bits(p).dtype == torch.float32
    assert entropy(np.array([0.5, 0.5], "float16")).dtype == np.float32
    assert entropy([1, 0]).dtype == np.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_softmax_rounded_to_a_narrow_dtype_still_counts_as_a_distribution(dtype):
    generator = torch.Generator().manual_seed(0)
    for classes in (2, 3, 1000, 50257):
        p = torch.randn(4, classes, generator=generator).mul(2).softmax(-1).to(dtype)
        assert torch.isfinite(entropy(p)).all()


# --------------------------------------------------------------------------------------------- gradients


def test_gradients_pass_gradcheck():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.1 + 1e-3, 0.6, 0.02, 0.279], dtype=torch.float64, requires_grad=True)
    loose = {"validate": False}
    assert torch.autograd.gradcheck(lambda a: surprisal(a, **loose), p)
    assert torch.autograd.gradcheck(lambda a: entropy(a, **loose), p)
    for function in (distribution_cross_entropy, kl_divergence):
        assert torch.autograd.gradcheck(lambda a, b, f=function: f(a, b, **loose), (p, q))
        assert torch.autograd.gradgradcheck(lambda a, b, f=function: f(a, b, **loose), (p, q))


def test_gradients_at_zero_probabilities_are_finite():
    p = torch.tensor([0.0, 0.0, 0.5, 0.5], requires_grad=True)
    q = torch.tensor([0.0, 0.2, 0.4, 0.4], requires_grad=True)
    for value in (entropy(p), distribution_cross_entropy(p, q), kl_divergence(p, q)):
        for grad in torch.autograd.grad(value, (p, q), allow_unused=True):
            assert grad is None or torch.isfinite(grad).all()


# -------------------------------------------------------------------------------------------- properties

weights = st.lists(st.floats(1e-6, 1), min_size=2, max_size=10)


@settings(max_examples=60, deadline=None)
@given(weights, st.data())
def test_gibbs_inequality_holds(w, data):
    v = data.draw(st.lists(st.floats(0, 1), min_size=len(w), max_size=len(w)))
    q = np.array(w) / np.sum(w)
    p = (np.array(v) + 1e-9) / np.sum(np.array(v) + 1e-9)
    kl, cross = kl_divergence(p, q), distribution_cross_entropy(p, q)
    assert kl >= 0
    assert cross >= entropy(p) - 1e-14
    assert cross == pytest.approx(entropy(p) + kl, rel=1e-12, abs=1e-14)
    assert kl_divergence(p, p) == 0


@settings(max_examples=60, deadline=None)
@given(weights)
def test_entropy_lies_between_zero_and_log_of_the_number_of_outcomes(w):
    p = np.array(w) / np.sum(w)
    assert 0 <= entropy(p) <= math.log(len(p)) * (1 + 1e-15)
    assert entropy(p) == pytest.approx(entropy(p[::-1]), rel=1e-14)


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "fragments"),
    [
        (lambda: entropy([0.5, 0.6]), ValueError, ["p must sum to one", "1.1"]),
        (lambda: entropy([1.5, -0.5]), ValueError, ["p must be non-negative", "-0.5"]),
        (lambda: entropy([math.nan, 1.0]), ValueError, ["p must sum to one", "nan"]),
        (lambda: entropy(torch.tensor([0.5, math.nan])), ValueError, ["p must sum to one", "nan"]),
        (lambda: entropy([INF, 0.0]), ValueError, ["p must sum to one", "inf"]),
        (lambda: entropy(torch.tensor([0.3, 0.3])), ValueError, ["p must sum to one", "0.6"]),
        (lambda: entropy(0.5), ValueError, ["p must have an axis", "0.5"]),
        (lambda: entropy(np.zeros((2, 0))), ValueError, ["p must", "(2, 0)"]),
        (lambda: entropy([0.5, 0.5], axis=1), ValueError, ["axis", "got 1"]),
        (lambda: entropy(torch.tensor([1, 0])), TypeError, ["p must", "int64"]),
        (lambda: kl_divergence([0.5, 0.5], [0.5, 0.4]), ValueError, ["q must sum to one", "0.9"]),
        (lambda: kl_divergence([0.5, 0.5], [1.0]), ValueError, ["same number", "(1,)"]),
        (lambda: kl_divergence([0.5, 0.5], [0.2, 0.3, 0.5]), ValueError, ["p and q", "(3,)"]),
        (lambda: kl_divergence(torch.tensor([1.0]), np.ones(1)), TypeError, ["q must be a torch tensor"]),
        (lambda: kl_divergence(np.ones((1, 2)) / 2, np.ones(2) / 2, axis=0), ValueError, ["axis 0", "(2,)"]),
        (lambda: distribution_cross_entropy([1.1, -0.1], [0.5, 0.5]), ValueError, ["p must", "-0.1"]),
        (lambda: surprisal(1.5), ValueError, ["p must lie in [0, 1]", "1.5"]),
        (lambda: surprisal([-0.1]), ValueError, ["p must lie in [0, 1]", "-0.1"]),
        (lambda: surprisal(torch.tensor([math.nan])), ValueError, ["p must lie in [0, 1]", "nan"]),
        (lambda: nats_to_bits("x"), TypeError, ["x must"]),
        (lambda: bits_to_nats(torch.tensor([True])), TypeError, ["x must", "bool"]),
    ],
)
def test_bad_input_is_named_in_the_error(call, error, fragments):
    with pytest.raises(error) as caught:
        call()
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(("dtype", "tolerance"), SUM_OFF.items())
@backend
def test_the_tolerance_on_the_sum_is_the_documented_one(make, dtype, tolerance):
    inside = make(np.array([0.5, 0.5 + 0.7 * tolerance], dtype))
    outside = make(np.array([0.5, 0.5 + 1.5 * tolerance], dtype))
    entropy(inside)
    with pytest.raises(ValueError, match="sum to one"):
        entropy(outside)


def test_checks_of_values_can_be_switched_off():
    assert float(entropy(torch.tensor([0.5, 0.6]), validate=False)) > 0


# ------------------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize("device", DEVICES)
def test_each_device_agrees_with_numpy(device):
    p, q = (v.astype("float64") for v in list(distributions("float64"))[1:3])
    a, b = torch.tensor(p, device=device), torch.tensor(q, device=device)
    for function in (kl_divergence, distribution_cross_entropy):
        assert function(a, b).device == a.device
        assert float(function(a, b)) == pytest.approx(float(function(p, q)), rel=1e-13)
    assert float(entropy(a)) == pytest.approx(float(entropy(p)), rel=1e-13)
    with pytest.raises(ValueError, match="sum to one"):
        entropy(a * 2, validate=True)
