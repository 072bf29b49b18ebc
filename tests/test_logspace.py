"""logsumexp, log_softmax, softmax, log1mexp, log_expit: accuracy, limits, gradients, bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import oracles
import pytest
import torch
from backends import BACKENDS, DEVICES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from lossutils.logspace import log1mexp, log_expit, log_softmax, logsumexp, softmax

INF = math.inf
NAN = math.nan
BAR = 4.0

backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])


def rows(dtype, seed=0):
    """Yield logits over offset x scale x gap, with ties and -inf masks."""
    rng = np.random.default_rng(seed)
    for offset, scale, gap in itertools.product(
        (0, -37.3, 1e3, 1e6), (0, 1e-3, 1, 30, 1e3), (0, 1e-4, 0.5, 10, 17, 87, 120)
    ):
        z = rng.normal(size=6) * scale + offset
        z[0] = z.max() + gap
        if gap == 0:
            z[3] = z[0]
        if rng.random() < 0.4:
            z[rng.integers(1, 6)] = -INF
        yield z.astype(dtype)


def as_numpy(x):
    return x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)


def same(got, want):
    np.testing.assert_array_equal(as_numpy(got), np.asarray(want))


# ---------------------------------------------------------------------------------------------- accuracy


@backend
@precision
def test_log_softmax_and_softmax_stay_within_four_ulp_of_mpmath(make, dtype):
    for z in rows(dtype):
        assert oracles.worst_ulp(log_softmax(make(z)), oracles.log_softmax(z), dtype) <= BAR, z
        assert oracles.worst_ulp(softmax(make(z)), oracles.softmax(z), dtype) <= BAR, z


@backend
@precision
def test_logsumexp_stays_within_four_ulp_of_its_largest_part(make, dtype):
    for z in rows(dtype):
        want = oracles.logsumexp(z)
        error = oracles.ulp_distance(logsumexp(make(z)), want, dtype) * oracles.ulp(want, dtype)
        assert error <= BAR * oracles.ulp(max(abs(want), abs(float(z.max()))), dtype), z


@backend
@precision
def test_logsumexp_keeps_a_sum_that_is_far_below_one(make, dtype):
    z = np.array([0, -40, -41], dtype)
    assert oracles.ulp_distance(logsumexp(make(z)), oracles.logsumexp(z), dtype) <= 1


@backend
@precision
def test_log1mexp_and_log_expit_stay_within_four_ulp_of_mpmath(make, dtype):
    smallest = 1e-30 if dtype == "float32" else 1e-300
    x = -np.concatenate([np.geomspace(smallest, 700, 150), [math.log(2)], np.linspace(0.6, 0.8, 40)]).astype(
        dtype
    )
    assert oracles.worst_ulp(log1mexp(make(x)), oracles.log1mexp(x), dtype) <= BAR
    both = np.concatenate([x, -x])
    assert oracles.worst_ulp(log_expit(make(both)), oracles.log_expit(both), dtype) <= BAR


@backend
def test_log1mexp_is_finite_where_log1p_of_minus_exp_is_not(make):
    x = np.array([-1e-8], np.float32)
    with np.errstate(divide="ignore"):
        assert np.log1p(-np.exp(x))[0] == -INF
    assert abs(float(log1mexp(make(x))[0]) - math.log(1e-8)) < 2e-6


@backend
@pytest.mark.parametrize("gap", [17.3, 50.7, 87.9])
def test_the_rounding_of_the_shift_does_not_reach_the_result(make, gap):
    """Equal tails round the same way, so a plain exp(z - m) would be off by dozens of ULP."""
    z = np.full(1000, 0.1, np.float64)
    z[0] = gap
    got = softmax(make(z))
    plain = np.exp(z - z.max())
    want = oracles.softmax(z[[0, 1]])  # two classes carry the same ratio between them
    with oracles.mpmath.workdps(50):
        ratio = want[1] / want[0]
    assert oracles.ulp_distance(float(got[1]) / float(got[0]), ratio, "float64") <= BAR
    if gap == 87.9:
        assert oracles.ulp_distance(plain[1] / plain[0], ratio, "float64") > BAR


@backend
def test_long_float32_sums_are_kept_in_float64(make):
    z = np.full(2**18, 0.1, np.float32)
    assert float(logsumexp(make(z))) == np.float32(np.float64(np.float32(0.1)) + 18 * math.log(2))


# ------------------------------------------------------------------------------- agreement with other code


@backend
@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, -1), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_sums_the_axes_that_scipy_sums(make, axis, keepdims):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 4, 5)), rng.uniform(0, 2, size=(4, 5))
    b[0, 0] = 0
    np.testing.assert_allclose(
        as_numpy(logsumexp(make(a), axis, keepdims=keepdims)),
        special.logsumexp(a, axis, keepdims=keepdims),
        rtol=1e-14,
    )
    got = as_numpy(logsumexp(make(a), axis, make(b), keepdims))
    np.testing.assert_allclose(got, special.logsumexp(a, axis, b, keepdims), rtol=1e-13, atol=1e-14)


@backend
def test_logsumexp_takes_factors_of_both_signs(make):
    rng = np.random.default_rng(2)
    for _ in range(50):
        a, b = rng.normal(size=5) * 3, rng.normal(size=5)
        with np.errstate(invalid="ignore"):
            want = special.logsumexp(a, b=b)
        np.testing.assert_allclose(as_numpy(logsumexp(make(a), b=make(b))), want, rtol=1e-11, atol=1e-12)


@backend
def test_a_negative_total_is_nan_and_a_zero_total_is_minus_inf(make):
    same(logsumexp(make([1.0, 2.0]), b=make([1.0, -5.0])), NAN)
    same(logsumexp(make([1.0, 1.0]), b=make([1.0, -1.0])), -INF)
    same(logsumexp(make([INF, 2.0]), b=make([0.0, 1.0])), 2.0)
    same(logsumexp(make([INF, 2.0]), b=make([-1.0, 1.0])), NAN)
    same(logsumexp(make([1.0, 2.0]), b=make([0.0, 0.0])), -INF)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_softmaxes_agree_with_torch_in_float64_on_any_axis(axis):
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for view in (x, x.transpose(0, 2).contiguous().transpose(0, 2), x[:, ::2]):
        for convert in (lambda v: v, lambda v: v.numpy()):
            np.testing.assert_allclose(
                as_numpy(softmax(convert(view), axis)), torch.softmax(view, axis), rtol=1e-14
            )
            np.testing.assert_allclose(
                as_numpy(log_softmax(convert(view), axis)), torch.log_softmax(view, axis), rtol=1e-13
            )


# ------------------------------------------------------------------------------------------------ limits


@backend
@precision
def test_limits_are_the_documented_ones_on_both_backends(make, dtype):
    def row(*values):
        return make(np.array(values, dtype))

    same(logsumexp(row(-INF, -INF)), -INF)
    same(logsumexp(row()), -INF)
    same(logsumexp(row(INF, 0)), INF)
    same(logsumexp(row(INF, INF)), INF)
    same(logsumexp(row(INF, -INF)), INF)
    same(logsumexp(row(NAN, 0)), NAN)
    same(logsumexp(row(NAN, INF)), NAN)
    for function in (log_softmax, softmax):
        for bad in ((-INF, -INF), (INF, 0), (INF, INF), (INF, -INF), (NAN, 0)):
            same(function(row(*bad)), [NAN, NAN])
    same(log_softmax(row(0, -INF)), [0, -INF])
    same(softmax(row(0, -INF)), [1, 0])
    same(log1mexp(row(0, -INF, 1, NAN)), [-INF, 0, NAN, NAN])
    same(log_expit(row(0, INF, -INF, NAN)), [np.log(np.array(0.5, dtype)), 0, -INF, NAN])


@backend
def test_certainty_costs_zero_without_a_sign(make):
    assert not np.signbit(as_numpy(log_softmax(make([0.0, -INF])))[0])


# ---------------------------------------------------------------------------------------- dtypes and kinds


@pytest.mark.parametrize("function", [logsumexp, log_softmax, softmax, log1mexp, log_expit])
def test_the_kind_that_goes_in_comes_out_and_narrow_dtypes_give_float32(function):
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert function(torch.tensor([-1.0, -2.0], dtype=dtype)).dtype == torch.float32
    assert function(torch.tensor([-1.0, -2.0], dtype=torch.float64)).dtype == torch.float64
    for dtype, want in (
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int32", "float64"),
    ):
        result = function(np.array([-1, -2], dtype))
        assert isinstance(result, (np.ndarray, np.generic)) and result.dtype == want
    assert function([-1, -2]).dtype == np.float64


def test_half_precision_loses_nothing_but_its_own_rounding():
    x = torch.tensor([10.0, 0.0078125, -3.0], dtype=torch.bfloat16)
    same(log_softmax(x), log_softmax(x.float()))
    same(log_softmax(x.half()), log_softmax(x.float()))


# --------------------------------------------------------------------------------------------- gradients


def _leaf(shape, mask=False):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    if mask:
        x[0, 1] = -INF
    return x.requires_grad_()


@pytest.mark.parametrize("mask", [False, True])
def test_gradients_pass_gradcheck_once_and_twice(mask):
    x = _leaf((2, 4), mask)
    finite = torch.tensor([0, 2, 3])
    for function in (
        lambda v: logsumexp(v, -1),
        lambda v: logsumexp(v),
        lambda v: logsumexp(v, 0, keepdims=True),
        lambda v: log_softmax(v)[:, finite],
        lambda v: softmax(v),
        lambda v: softmax(v, 0),
    ):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


def test_elementwise_gradients_pass_gradcheck_once_and_twice():
    x = torch.tensor([-1e-2, -0.5, -0.6931, -0.7, -3.0, -20.0], dtype=torch.float64, requires_grad=True)
    for function in (log1mexp, log_expit, lambda v: log_expit(-v)):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


def test_gradients_flow_to_the_factors_of_logsumexp():
    a = _leaf((2, 4))
    b = torch.tensor([0.5, 0.0, 2.0, -0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: logsumexp(v, -1, b), a)
    positive = torch.tensor([0.5, 0.3, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, w: logsumexp(v, -1, w), (a, positive))
    assert torch.autograd.gradgradcheck(lambda v, w: logsumexp(v, -1, w), (a, positive))
    a, b = torch.tensor([5.0, 0.0], requires_grad=True), torch.tensor([0.0, 1.0], requires_grad=True)
    logsumexp(a, b=b).backward()
    torch.testing.assert_close(b.grad, torch.tensor([math.exp(5), 1.0]))
    same(a.grad, [0, 1])


def test_the_gradient_of_an_all_masked_logsumexp_is_zero():
    x = torch.tensor([[-INF, -INF], [0.0, -INF]], requires_grad=True)
    logsumexp(x, -1).sum().backward()
    same(x.grad, [[0, 0], [1, 0]])


def test_the_gradient_of_a_limit_of_log1mexp_does_not_poison_its_neighbours():
    x = torch.tensor([-INF, -1.0, -800.0], requires_grad=True)
    log1mexp(x).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad[0] == 0


@precision
def test_the_gradient_of_log_softmax_at_a_confident_class_is_within_four_ulp(dtype):
    for z in rows(dtype, seed=4):
        x = torch.tensor(z, requires_grad=True)
        log_softmax(x)[0].backward()
        assert oracles.worst_ulp(-x.grad, oracles.cross_entropy_grad(z, 0), dtype) <= BAR, z


# -------------------------------------------------------------------------------------------- properties

logits = st.lists(st.floats(-50, 50), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(logits, st.floats(-1e3, 1e3))
def test_logsumexp_moves_with_its_argument_and_softmax_does_not(z, shift):
    z = np.array(z)
    np.testing.assert_allclose(logsumexp(z + shift), logsumexp(z) + shift, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(softmax(z + shift), softmax(z), rtol=1e-10)


@settings(max_examples=50, deadline=None)
@given(logits, st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(z, random):
    order = list(range(len(z)))
    random.shuffle(order)
    z = np.array(z)
    np.testing.assert_allclose(log_softmax(z[order]), log_softmax(z)[order], rtol=1e-13, atol=1e-300)


@settings(max_examples=50, deadline=None)
@given(st.floats(-700, 700))
def test_log_expit_is_log_softmax_of_two_classes_and_complements_itself(x):
    np.testing.assert_allclose(log_expit(x), log_softmax([x, 0.0])[0], rtol=1e-14)
    if abs(x) > 1e-3 and log_expit(x) < 0:
        np.testing.assert_allclose(log1mexp(log_expit(x)), log_expit(-x), rtol=1e-9)


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "error", "fragments"),
    [
        (lambda: logsumexp(torch.tensor([1, 2])), TypeError, ["a must", "int64"]),
        (lambda: logsumexp([True, False]), TypeError, ["a must", "bool"]),
        (lambda: logsumexp(np.array([1j])), TypeError, ["a must", "complex128"]),
        (lambda: logsumexp(["a"]), TypeError, ["a must"]),
        (lambda: logsumexp([[1.0], [1.0, 2.0]]), TypeError, ["a must"]),
        (lambda: logsumexp([torch.tensor(1.0)]), TypeError, ["a must", "stack"]),
        (lambda: logsumexp(np.zeros((2, 3)), axis=2), ValueError, ["axis", "got 2"]),
        (lambda: logsumexp(np.zeros((2, 3)), axis=(0, -2)), ValueError, ["axis", "(0, -2)"]),
        (lambda: logsumexp(np.zeros((2, 3)), axis=1.0), TypeError, ["axis", "1.0"]),
        (lambda: logsumexp(np.zeros((2, 3)), b=np.zeros(2)), ValueError, ["b must", "(2,)", "(2, 3)"]),
        (lambda: logsumexp(np.zeros(3), b=np.zeros((2, 3))), ValueError, ["b must", "(2, 3)"]),
        (lambda: logsumexp(torch.zeros(3), b=np.zeros(3)), TypeError, ["b must", "ndarray"]),
        (lambda: log_softmax(3.0), ValueError, ["x must", "scalar 3.0"]),
        (lambda: log_softmax(np.zeros((2, 0))), ValueError, ["x must", "(2, 0)"]),
        (lambda: softmax(torch.zeros(2, 3), 5), ValueError, ["axis", "got 5"]),
        (lambda: softmax(torch.zeros(2, dtype=torch.bool)), TypeError, ["x must", "bool"]),
        (lambda: log1mexp(torch.tensor([1])), TypeError, ["x must", "int64"]),
        (lambda: log_expit("no"), TypeError, ["x must"]),
    ],
)
def test_bad_input_is_named_in_the_error(call, error, fragments):
    with pytest.raises(error) as caught:
        call()
    for fragment in fragments:
        assert fragment in str(caught.value)


# ------------------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_each_device_and_dtype_agrees_with_numpy(device, dtype):
    z = (torch.randn(5, 7, generator=torch.Generator().manual_seed(5)) * 5).to(dtype).to(device)
    reference = z.double().cpu().numpy()
    tolerance = 1e-14 if dtype == torch.float64 else 2e-7
    for function in (log_softmax, softmax, logsumexp, log_expit, lambda v: log1mexp(-abs(v))):
        got = function(z)
        assert got.device == z.device
        np.testing.assert_allclose(got.cpu().numpy(), function(reference), rtol=tolerance)
