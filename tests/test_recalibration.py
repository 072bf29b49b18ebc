"""Probabilities put right: against the minimisers of the losses that bent them, exact values, bad input."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import oracles
import pytest
import torch
from backends import BACKENDS, DEVICES
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from lossutils.cross_entropy import cross_entropy
from lossutils.logspace import softmax
from lossutils.losses import focal_loss
from lossutils.recalibration import fit_temperature, restore_focal, restore_prior

INF, NAN = math.inf, math.nan
backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])


def minimiser(loss, truth):
    """The softmax at which the mean of a loss over a truth is smallest, by a general optimiser."""
    n = len(truth)

    def mean(z):
        z = torch.tensor(z, requires_grad=True)
        total = torch.tensor(truth) @ loss(z.expand(n, n), torch.arange(n))
        total.backward()
        return total.item(), z.grad.numpy()

    return softmax(minimize(mean, np.zeros(n), jac=True, method="BFGS", options={"gtol": 1e-11}).x)


# ----------------------------------------------------------------------------------------------------- class weights


@given(st.integers(0, 10**6))
def test_what_a_weighted_loss_learns_is_taken_back_to_the_truth(seed):
    rng = np.random.default_rng(seed)
    truth, weight = rng.dirichlet(np.ones(4)) * 0.9 + 0.025, rng.uniform(0.2, 5, 4)
    w = torch.tensor(weight)
    learned = minimiser(lambda z, y: cross_entropy(z, y, w, reduction="none"), truth)
    np.testing.assert_allclose(restore_prior(learned, weight), truth, atol=1e-6)


@backend
def test_a_number_is_the_weight_of_yes(make):
    p = np.array([0.0, 0.01, 0.35, 0.9, 1.0])
    got = np.asarray(restore_prior(make(p), 14.0))
    pairs = restore_prior(np.stack([1 - p, p], -1), np.array([1.0, 14.0]))[:, 1]
    np.testing.assert_allclose(got, pairs, rtol=1e-14)
    np.testing.assert_allclose(got, p / (p + 14 * (1 - p)), rtol=1e-14)
    np.testing.assert_allclose(restore_prior(got, 1 / 14), p, rtol=1e-13)


@backend
@precision
def test_prior_correction_is_exact_to_four_units_in_the_last_place(make, dtype):
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.random(20), 10.0 ** -rng.uniform(0, 30, 20), 1 - 10.0 ** -rng.uniform(0, 7, 20)])
    p = p.astype(dtype)
    for w in (1e-250, 1e-3, 0.7, 1.0, 14.0, 1e250):
        with mpmath.workdps(oracles.DIGITS):
            want = [v / (v + mpmath.mpf(w) * (1 - v)) for v in oracles.exact(p)]
        assert oracles.worst_ulp(restore_prior(make(p), w), want, dtype) <= 4
    rows, weight = rng.dirichlet(np.full(5, 0.3), 10).astype(dtype), rng.uniform(0.1, 9, 5).astype(dtype)
    with mpmath.workdps(oracles.DIGITS):
        want = []
        for row in rows:
            odds = [a / b for a, b in zip(oracles.exact(row), oracles.exact(weight), strict=True)]
            want += [o / mpmath.fsum(odds) for o in odds]
    assert oracles.worst_ulp(restore_prior(make(rows), make(weight)), want, dtype) <= 4


def test_subtracting_the_log_weights_from_the_logits_is_the_same():
    rng = np.random.default_rng(1)
    z, weight = rng.normal(size=(20, 5)), rng.uniform(0.1, 9, 5)
    np.testing.assert_allclose(restore_prior(softmax(z), weight), softmax(z - np.log(weight)), rtol=1e-13)
    moved = np.moveaxis(restore_prior(softmax(z), weight).reshape(4, 5, 5), -1, 1)
    table = np.moveaxis(softmax(z).reshape(4, 5, 5), -1, 1)
    np.testing.assert_allclose(restore_prior(table, weight, axis=1), moved, rtol=1e-15)


def test_only_the_ratio_of_weights_matters_even_when_they_are_extreme():
    p = np.array([0.2, 0.3, 0.5])
    want = restore_prior(p, [1.0, 2.0, 4.0])
    for scale in (1e-300, 1e300):
        np.testing.assert_allclose(restore_prior(p, np.array([1.0, 2.0, 4.0]) * scale), want, rtol=1e-14)


def test_gradients_flow_through_the_prior_correction():
    rng = np.random.default_rng(2)
    p = torch.tensor(rng.uniform(0.1, 0.9, 6), requires_grad=True)
    rows = torch.tensor(rng.dirichlet(np.ones(4), 3), requires_grad=True)
    weight = torch.tensor(rng.uniform(0.5, 3, 4))
    for w in (0.2, 7.0):
        assert torch.autograd.gradcheck(lambda p, w=w: restore_prior(p, w), p)
    assert torch.autograd.gradcheck(lambda rows: restore_prior(rows, weight, validate=False), rows)


# -------------------------------------------------------------------------------------------------------- focal loss


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_what_a_focal_loss_learns_is_taken_back_to_the_truth(gamma, seed):
    truth = np.random.default_rng(seed).dirichlet(np.ones(4)) * 0.9 + 0.025
    learned = minimiser(lambda z, y: focal_loss(z, y, gamma=gamma, reduction="none"), truth)
    assert learned.max() < truth.max() - 0.01
    np.testing.assert_allclose(restore_focal(learned, gamma), truth, atol=1e-6)


def exact_restored(q, gamma):
    """The formula with 400 digits, 1 - q being the sum of the others."""
    with mpmath.workdps(oracles.DIGITS):
        q = oracles.exact(q)
        h = []
        for c, v in enumerate(q):
            rest = mpmath.fsum(q[:c] + q[c + 1 :])
            h.append(v / (rest**gamma - gamma * rest ** (gamma - 1) * v * mpmath.log(v)) if v else v)
        return [v / mpmath.fsum(h) for v in h]


@backend
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_correction_is_exact_to_a_few_units_in_the_last_place(make, gamma):
    rng = np.random.default_rng(3)
    for _ in range(15):
        q = softmax(rng.normal(size=4) * rng.choice([0.5, 3.0, 12.0]))
        q = np.append(q, 0.0)
        # the numbers do not sum to one exactly, and near one 1 - q sees that: the rest is rounded to 2**-53
        room = (4 + 4 * gamma) * (1 + 2**-53 / q[np.argsort(q)[:-1]].sum() * 1e3)
        assert oracles.worst_ulp(restore_focal(make(q), gamma), exact_restored(q, gamma), "float64") <= room


@backend
def test_certainty_and_impossibility_stay_what_they_are(make):
    assert np.asarray(restore_focal(make([1.0, 0.0, 0.0]))).tolist() == [1, 0, 0]
    assert np.asarray(restore_focal(make([1.0, 0.0]), gamma=0.5)).tolist() == [1, 0]
    assert np.asarray(restore_focal(make([0.5, 0.5]))).tolist() == [0.5, 0.5]
    assert np.asarray(restore_focal(make([0.7, 0.3, 0.0]))).tolist()[2] == 0


def test_the_order_of_classes_stays_and_any_axis_may_hold_them():
    q = np.random.default_rng(4).dirichlet(np.ones(5), (3, 2))
    p = restore_focal(q)
    assert np.array_equal(p.argsort(-1), q.argsort(-1))
    np.testing.assert_array_equal(restore_focal(np.moveaxis(q, -1, 0), axis=0), np.moveaxis(p, -1, 0))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_every_dtype_and_device_is_taken(dtype, device):
    q = torch.tensor([[0.5, 0.25, 0.25], [0.75, 0.125, 0.125], [0.75, 0.125, 0.125]]).to(dtype)
    y = torch.tensor([0, 0, 1])
    want = (
        restore_focal(q.double()),
        restore_prior(q.double(), 3.0),
        fit_temperature(q.double(), y),
    )
    result = torch.float64 if dtype == torch.float64 else torch.float32
    q = q.to(device)
    for got, value in zip((restore_focal(q), restore_prior(q, 3.0)), want, strict=False):
        assert got.dtype == result and got.device.type == device
        torch.testing.assert_close(got.cpu().double(), value, rtol=1e-6, atol=0)
    assert fit_temperature(q, y.to(device)) == pytest.approx(want[2], rel=1e-6)


# ------------------------------------------------------------------------------------------------------- temperature


def told_too_surely(n=2_000, factor=3.0, seed=5):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4)) * 1.5
    y = (softmax(z).cumsum(-1) < rng.random((n, 1))).sum(-1)
    return z * factor, y


@backend
@pytest.mark.parametrize("factor", [0.2, 1.0, 3.0, 100.0])
def test_the_temperature_is_where_the_loss_is_smallest(make, factor):
    z, y = told_too_surely(factor=factor)
    T = fit_temperature(make(z), make(y))
    best = minimize_scalar(
        lambda t: cross_entropy(z / t, y), bounds=(factor / 3, 3 * factor), method="bounded"
    )
    assert pytest.approx(best.x, rel=1e-4) == T
    assert pytest.approx(factor, rel=0.1) == T
    assert cross_entropy(z / T, y) <= best.fun + 1e-12


def test_a_model_that_is_right_four_times_in_five_is_told_to_say_so():
    T = fit_temperature([[3.0, 0.0]] * 5, [0, 0, 0, 0, 1])
    assert pytest.approx(3 / math.log(4), rel=1e-11) == T


def test_ignored_rows_and_offsets_do_not_matter_and_the_layout_is_that_of_cross_entropy():
    z, y = told_too_surely(60)
    T = fit_temperature(z, y)
    more = np.concatenate([z + 1e3, np.full((1, 4), NAN)])
    assert fit_temperature(more, np.append(y, -100)) == pytest.approx(T, rel=1e-9)
    cube = np.moveaxis(z.reshape(10, 6, 4), -1, 1)
    assert fit_temperature(cube, y.reshape(10, 6)) == pytest.approx(T, rel=1e-11)


# ---------------------------------------------------------------------------------------------------------- bad input


P = [[0.5, 0.5], [0.9, 0.1]]
BAD_PRIOR = {
    "weight zero": (0.5, 0.0, ValueError, "weight"),
    "weight negative": (0.5, -2.0, ValueError, "weight"),
    "weight infinite": (0.5, INF, ValueError, "weight"),
    "weight text": (0.5, "14", TypeError, "weight"),
    "weights with a zero": (P, [1.0, 0.0], ValueError, "weight"),
    "weights infinite": (P, [1.0, INF], ValueError, "weight"),
    "weights of another size": (P, [1.0, 2.0, 3.0], ValueError, "weight"),
    "probs above one": ([0.5, 1.5], 2.0, ValueError, "probs"),
    "probs nan": ([NAN], 2.0, ValueError, "probs"),
    "probs that do not sum to one": ([[0.5, 0.6]], [1.0, 2.0], ValueError, "probs"),
    "a scalar with weights": (0.5, [1.0, 2.0], ValueError, "probs"),
    "integer tensor": (torch.tensor([1]), 2.0, TypeError, "probs"),
    "tensor with a list": (torch.tensor(P), [1.0, 2.0], TypeError, "weight"),
}


@pytest.mark.parametrize("case", BAD_PRIOR)
def test_bad_input_to_the_prior_correction_is_refused(case):
    probs, weight, error, name = BAD_PRIOR[case]
    with pytest.raises(error, match=rf"^{name}\b"):
        restore_prior(probs, weight)


@pytest.mark.parametrize(
    ("probs", "gamma", "error", "name"),
    [
        (0.5, 2.0, ValueError, "probs"),
        ([0.5, 0.6], 2.0, ValueError, "probs"),
        ([-0.5, 1.5], 2.0, ValueError, "probs"),
        ([0.5, 0.5], -1.0, ValueError, "gamma"),
        ([0.5, 0.5], INF, ValueError, "gamma"),
        ([0.5, 0.5], "2", TypeError, "gamma"),
        (torch.tensor([1, 0]), 2.0, TypeError, "probs"),
    ],
)
def test_bad_input_to_the_focal_correction_is_refused(probs, gamma, error, name):
    with pytest.raises(error, match=rf"^{name}\b"):
        restore_focal(probs, gamma)


@pytest.mark.parametrize(
    ("logits", "target", "error", "message"),
    [
        ([[2.0, 0.0]], [0], ValueError, "^target.*temperature is 0"),
        ([[2.0, 0.0], [0.0, 2.0]], [1, 0], ValueError, "^target.*infinite"),
        ([[2.0, 0.0], [2.0, 0.0]], [0, 1], ValueError, "^target.*infinite"),
        ([[2.0, 0.0]], [-100], ValueError, "^target must have a row"),
        ([[2.0, 0.0]], [2], ValueError, "^target"),
        ([[2.0, 0.0]], [[0.5, 0.5]], TypeError, "^target"),
        ([[2.0, -INF], [0.0, 1.0]], [0, 0], ValueError, "^logits must be finite"),
        (torch.tensor([[2, 0]]), torch.tensor([0]), TypeError, "^logits"),
    ],
)
def test_bad_input_and_fits_without_an_end_are_refused(logits, target, error, message):
    with pytest.raises(error, match=message):
        fit_temperature(logits, target)
