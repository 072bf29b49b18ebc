"""Perplexity and bits: accuracy, limits, units, bad input."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from backends import BACKENDS, DEVICES
from hypothesis import given
from hypothesis import strategies as st

from lossutils.perplexity import bits_per_byte, bits_per_token, perplexity

INF, NAN = math.inf, math.nan
BAR = 4.0
FUNCTIONS = {"perplexity": perplexity, "bits_per_byte": bits_per_byte, "bits_per_token": bits_per_token}
backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])
each = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())


@backend
@precision
def test_results_stay_within_four_ulp_of_mpmath_at_any_size(make, dtype):
    rng = np.random.default_rng(0)
    n = rng.integers(1, 2**40, 300)
    n[:50] = rng.integers(1, 20, 50)
    mean = np.concatenate([rng.uniform(0, 709, 150), 10.0 ** rng.uniform(-12, 2.8, 150)])
    total = (mean * n).astype(dtype)
    got = {name: function(make(total), make(n)) for name, function in FUNCTIONS.items()}
    with oracles.mpmath.workdps(60):
        means = [t / int(k) for t, k in zip(oracles.exact(total), n, strict=True)]
        bits = [m / oracles.mpmath.log(2) for m in means]
        assert oracles.worst_ulp(got["perplexity"], [oracles.mpmath.exp(m) for m in means], dtype) <= BAR
        assert oracles.worst_ulp(got["bits_per_byte"], bits, dtype) <= BAR
        assert oracles.worst_ulp(got["bits_per_token"], bits, dtype) <= BAR


def test_the_rounded_mean_alone_is_many_ulp_off():
    n = 7
    totals = [700.1 * n + k for k in range(20)]
    with oracles.mpmath.workdps(60):
        wants = [oracles.mpmath.exp(oracles.mpmath.mpf(t) / n) for t in totals]
    plain = [oracles.ulp_distance(math.exp(t / n), w, "float64") for t, w in zip(totals, wants, strict=True)]
    ours = [oracles.ulp_distance(perplexity(t, n), w, "float64") for t, w in zip(totals, wants, strict=True)]
    assert max(plain) > 50
    assert max(ours) <= BAR


@backend
def test_perplexity_is_the_reciprocal_of_the_geometric_mean_of_the_probabilities(make):
    p = np.array([0.5, 0.1, 0.9, 0.02])
    got = perplexity(make(-np.log(p).sum()), make(np.array(4)))
    assert float(got) == pytest.approx(1 / np.prod(p) ** 0.25, rel=1e-14)


def test_textbook_values_come_out():
    assert perplexity(0.0, 5) == 1
    assert perplexity(10 * math.log(50), 10) == pytest.approx(50, rel=1e-14)
    assert bits_per_byte(math.log(2), 1) == 1
    # Llama 2 7B on WikiText: 1.5016 per byte is 0.5865 bits per byte
    assert bits_per_byte(1000 * math.log(1.5016), 1000) == pytest.approx(0.5865, abs=5e-5)
    # the mean of perplexities is not the perplexity of the mean
    assert perplexity(2.0 + 4.0, 2) == pytest.approx(20.0855, abs=1e-4)
    assert np.mean(perplexity([2.0, 4.0], [1, 1])) == pytest.approx(30.9936, abs=1e-4)


@backend
@precision
def test_huge_losses_give_inf_and_not_an_exception(make, dtype):
    # the test settings turn an overflow warning into an error
    assert float(perplexity(make(np.array(1e6, dtype)), 10)) == INF
    assert float(perplexity(make(np.array(INF, dtype)), 10)) == INF
    assert float(bits_per_byte(make(np.array(INF, dtype)), 10)) == INF
    edge = 88.7 if dtype == "float32" else 709.7
    assert math.isfinite(float(perplexity(make(np.array(edge, dtype)), 1)))
    assert perplexity(1.7e308, 1) == INF
    assert math.isfinite(bits_per_byte(1.7e308, 2))


@each
@backend
def test_nan_goes_through(function, make):
    assert math.isnan(float(function(make(np.array(NAN)), 3)))


def test_a_sum_below_zero_by_rounding_is_used_as_it_is():
    assert 0.999999 < perplexity(-1e-7, 1) < 1
    assert perplexity(torch.tensor(-5e-6), 1) < 1
    with pytest.raises(ValueError, match="nll_sum"):
        perplexity(-2e-6, 1)


@given(st.floats(0, 600), st.integers(1, 10**6))
def test_bits_are_the_logarithm_of_the_perplexity(mean, n):
    total = mean * n
    assert bits_per_token(total, n) == pytest.approx(math.log2(perplexity(total, n)), rel=1e-12, abs=1e-12)
    assert bits_per_token(total, n) == bits_per_byte(total, n)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(1, 500)), min_size=1, max_size=6))
def test_arrays_give_what_their_elements_give(rows):
    totals, counts = zip(*rows, strict=True)
    for function in FUNCTIONS.values():
        want = [function(t, n) for t, n in rows]
        np.testing.assert_array_equal(function(totals, counts), want)
        got = function(torch.tensor(totals, dtype=torch.float64), torch.tensor(counts))
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-15)


@each
def test_shapes_broadcast_and_dtypes_follow_the_sum(function):
    assert function(np.ones((3, 1)), np.arange(1, 5)).shape == (3, 4)
    assert isinstance(function(3.0, 2), np.float64)
    assert function(np.float32(3), 2).dtype == np.float32
    assert function(torch.tensor(3.0), 2).dtype == torch.float32
    assert function(torch.tensor(3.0, dtype=torch.bfloat16), 2).dtype == torch.float32
    assert function(torch.tensor(3.0, dtype=torch.float64), torch.tensor(2)).dtype == torch.float64


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_the_same(device):
    total = torch.tensor([1.0, 650.0, 3e5], dtype=torch.float64)
    for function in FUNCTIONS.values():
        got = function(total.to(device), torch.tensor([1, 3, 7], device=device))
        assert got.device.type == device
        np.testing.assert_allclose(got.cpu().numpy(), function(total.numpy(), [1, 3, 7]), rtol=1e-14)


def test_gradients_match_finite_differences():
    total = torch.tensor([2.0, 9.0], dtype=torch.float64, requires_grad=True)
    n = torch.tensor([1, 4])
    for function in FUNCTIONS.values():
        assert torch.autograd.gradcheck(lambda t, f=function: f(t, n), total)


BAD = {
    "count 0": (lambda f: f(1.0, 0), ValueError, "n_"),
    "count negative": (lambda f: f(1.0, -3), ValueError, "n_"),
    "one count 0": (lambda f: f([1.0, 1.0], [2, 0]), ValueError, "n_"),
    "tensor count 0": (lambda f: f(torch.ones(2), torch.tensor([2, 0])), ValueError, "n_"),
    "number 0 with a tensor": (lambda f: f(torch.ones(2), 0), ValueError, "n_"),
    "count float": (lambda f: f(1.0, 2.0), TypeError, "n_"),
    "count boolean": (lambda f: f(1.0, True), TypeError, "n_"),
    "count none": (lambda f: f(1.0, None), TypeError, "n_"),
    "sum negative": (lambda f: f(-12.0, 5), ValueError, "nll_sum"),
    "sum -inf": (lambda f: f(-INF, 5), ValueError, "nll_sum"),
    "one sum negative": (lambda f: f(torch.tensor([1.0, -1.0]), 5), ValueError, "nll_sum"),
    "sum text": (lambda f: f("1.0", 5), TypeError, "nll_sum"),
    "sum integers": (lambda f: f(torch.tensor(3), 5), TypeError, "nll_sum"),
    "shapes": (lambda f: f(np.ones(2), [1, 2, 3]), ValueError, "n_"),
    "array with a tensor": (lambda f: f(np.ones(2), torch.tensor([1, 2])), TypeError, "nll_sum"),
    "tensor with an array": (lambda f: f(torch.ones(2), np.array([1, 2])), TypeError, "n_"),
    "devices": (lambda f: f(torch.ones(2), torch.ones(2, device="meta").long()), ValueError, "n_"),
}


@each
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_the_name_of_the_argument(function, case):
    call, error, name = BAD[case]
    with pytest.raises(error, match=f"^{name}"):
        call(function)
