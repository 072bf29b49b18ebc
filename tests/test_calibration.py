"""Proper scores and calibration error: independent loops, closed forms, properness, bad input."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from backends import BACKENDS, DEVICES
from hypothesis import given
from hypothesis import strategies as st

from lossutils.calibration import brier_score, expected_calibration_error, log_score, spherical_score
from lossutils.information import entropy

INF, NAN = math.inf, math.nan
BAR = 4.0
SCORES = {"brier": brier_score, "log": log_score, "spherical": spherical_score}
backend = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS.keys())
precision = pytest.mark.parametrize("dtype", ["float32", "float64"])
each_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES.keys())


def forecasts(n=300, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.6), n)
    return p, rng.integers(0, classes, n)


def ece_by_hand(confidence, hit, n_bins):
    """Sort into bins by comparing with the edges one by one."""
    bins = [[] for _ in range(n_bins)]
    for c, h in zip(confidence, hit, strict=True):
        k = next(k for k in range(n_bins) if c <= (k + 1) / n_bins)
        bins[k].append((c, h))
    n = len(confidence)
    return sum(len(b) / n * abs(np.mean([h for _, h in b]) - np.mean([c for c, _ in b])) for b in bins if b)


# ----------------------------------------------------------------------------------------- calibration error


@backend
@pytest.mark.parametrize("n_bins", [1, 2, 10, 15, 97])
def test_the_multiclass_error_equals_a_loop_over_the_bins(make, n_bins):
    p, y = forecasts()
    want = ece_by_hand(p.max(-1), p.argmax(-1) == y, n_bins)
    got = expected_calibration_error(make(p), make(y), n_bins)
    assert float(got) == pytest.approx(want, rel=1e-12)


@backend
@pytest.mark.parametrize("n_bins", [1, 2, 10, 15])
def test_the_binary_error_takes_the_probability_of_yes(make, n_bins):
    rng = np.random.default_rng(1)
    p, y = rng.random(400), rng.integers(0, 2, 400)
    got = expected_calibration_error(make(p), make(y), n_bins)
    assert float(got) == pytest.approx(ece_by_hand(p, y, n_bins), rel=1e-12)


@backend
def test_hand_made_cases_come_out(make):
    always = np.array([[0.9, 0.1]] * 4)
    assert float(expected_calibration_error(make(always), make([0, 0, 0, 1]))) == pytest.approx(
        0.15, rel=1e-14
    )
    sure = np.eye(3)
    assert float(expected_calibration_error(make(sure), make([0, 1, 2]))) == 0
    assert float(expected_calibration_error(make(sure), make([1, 2, 0]))) == 1
    # the base rate is calibrated however useless
    assert float(expected_calibration_error(make(np.full(4, 0.25)), make([1, 0, 0, 0]))) == 0
    # both ends: an impossible event in the first bin, a certain one in the last
    assert float(expected_calibration_error(make([0.0, 1.0]), make([0, 1]))) == 0
    assert float(expected_calibration_error(make([0.0, 1.0]), make([1, 0]))) == 1


@backend
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("n_bins", [5, 10, 15])
def test_an_edge_belongs_to_the_bin_below_in_every_dtype(make, dtype, n_bins):
    """One example on an edge with label 1, one just above with label 0: their gaps add up only if apart."""
    for k in range(1, n_bins):
        edge = np.array(k / n_bins).astype(dtype)
        above = np.nextafter(edge, np.array(1, dtype))
        p = np.array([edge, above], dtype)
        got = float(expected_calibration_error(make(p), make([1, 0]), n_bins))
        want = ((1 - float(edge)) + float(above)) / 2
        assert got == pytest.approx(want, rel=1e-3)
        below = np.nextafter(edge, np.array(0, dtype))
        got = float(expected_calibration_error(make(np.array([edge, below], dtype)), make([1, 0]), n_bins))
        assert got == pytest.approx(abs(1 - float(edge) - float(below)) / 2, rel=1e-3, abs=1e-7)


@backend
def test_a_certainty_that_rounding_put_above_one_is_in_the_last_bin(make):
    p = make(np.array([1 + 5e-7, 0.95]))
    assert float(expected_calibration_error(p, make([1, 1]), 10)) == pytest.approx(0.025, rel=1e-4)
    assert float(log_score(p, make([1, 1]), reduction="none")[0]) == 0


def test_the_error_of_calibrated_forecasts_shrinks_with_more_examples():
    rng = np.random.default_rng(2)
    errors = []
    for n in (300, 300_000):
        p = rng.random(n)
        errors.append(float(expected_calibration_error(p, (rng.random(n) < p).astype(int))))
    assert errors[1] < 0.01 < errors[0]


@backend
def test_the_first_of_several_largest_probabilities_is_the_answer(make):
    p = np.array([[0.5, 0.5]])
    assert float(expected_calibration_error(make(p), make([0]))) == 0.5
    assert float(expected_calibration_error(make(p), make([1]))) == 0.5
    assert float(brier_score(make(p), make([1]))) == 0.5


@backend
def test_no_examples_have_no_calibration_error(make):
    got = expected_calibration_error(make(np.zeros((0, 3))), make(np.zeros(0, np.int64)))
    assert math.isnan(float(got))
    assert math.isnan(float(expected_calibration_error(make(np.zeros(0)), make(np.zeros(0, np.int64)))))


@given(st.integers(0, 50), st.integers(1, 30))
def test_the_error_is_between_zero_and_one_and_does_not_depend_on_the_order(seed, n_bins):
    p, y = forecasts(40, 3, seed)
    error = expected_calibration_error(p, y, n_bins)
    assert 0 <= error <= 1
    order = np.random.default_rng(seed).permutation(40)
    assert expected_calibration_error(p[order], y[order], n_bins) == pytest.approx(
        error, rel=1e-12, abs=1e-15
    )
    # with one bin it is the distance of mean confidence and accuracy, the least of all binnings
    one = abs((p.argmax(-1) == y).mean() - p.max(-1).mean())
    assert error >= one - 1e-15


# ---------------------------------------------------------------------------------------------- proper scores


@backend
@precision
def test_scores_stay_within_four_ulp_of_mpmath(make, dtype):
    p, y = forecasts(120)
    p[:3] = [[1, 0, 0, 0], [1 - 1e-7, 1e-7, 0, 0], [0.25] * 4]
    p, y = p.astype(dtype), np.where(np.arange(120) < 3, 0, y)
    got = {name: score(make(p), make(y), reduction="none") for name, score in SCORES.items()}
    with oracles.mpmath.workdps(80):
        want = {name: [] for name in SCORES}
        for row, k in zip(p, y, strict=True):
            e = oracles.exact(row)
            want["brier"].append(sum((v - (j == k)) ** 2 for j, v in enumerate(e)))
            want["log"].append(-oracles.mpmath.log(e[k]))
            want["spherical"].append(-e[k] / oracles.mpmath.sqrt(sum(v * v for v in e)))
        for name in SCORES:
            assert oracles.worst_ulp(got[name], want[name], dtype) <= BAR, name


@backend
@precision
def test_binary_scores_stay_within_four_ulp_of_mpmath(make, dtype):
    rng = np.random.default_rng(3)
    p = np.concatenate(
        [rng.random(80), 10.0 ** rng.uniform(-30, -1, 40), 1 - 10.0 ** rng.uniform(-7, -1, 40)]
    )
    p, y = p.astype(dtype), rng.integers(0, 2, 160)
    y[p == 1] = 1
    got = {name: score(make(p), make(y), reduction="none") for name, score in SCORES.items()}
    with oracles.mpmath.workdps(80):
        e = [v if k else 1 - v for v, k in zip(oracles.exact(p), y, strict=True)]
        norms = [oracles.mpmath.sqrt(v * v + (1 - v) ** 2) for v in e]
        want = {
            "brier": [(1 - v) ** 2 for v in e],
            "log": [-oracles.mpmath.log(v) for v in e],
            "spherical": [-v / n for v, n in zip(e, norms, strict=True)],
        }
        for name in SCORES:
            assert oracles.worst_ulp(got[name], want[name], dtype) <= BAR, name


@backend
def test_textbook_scores_come_out(make):
    p, y = make([[0.75, 0.25], [0.5, 0.5]]), make([0, 1])
    np.testing.assert_array_equal(np.asarray(brier_score(p, y, reduction="none")), [0.125, 0.5])
    np.testing.assert_allclose(np.asarray(log_score(p, y, reduction="none")), [math.log(4 / 3), math.log(2)])
    want = [-0.75 / math.hypot(0.75, 0.25), -math.sqrt(0.5)]
    np.testing.assert_allclose(np.asarray(spherical_score(p, y, reduction="none")), want, rtol=1e-15)
    assert float(brier_score(make([0.75]), make([1]))) == 0.0625  # half of the two-class form


@backend
@each_score
def test_binary_is_two_classes(make, score):
    rng = np.random.default_rng(4)
    p, y = rng.random(50), rng.integers(0, 2, 50)
    half = 0.5 if score is brier_score else 1.0
    two = score(make(np.stack([1 - p, p], -1)), make(y), reduction="none")
    one = score(make(p), make(y), reduction="none")
    np.testing.assert_allclose(np.asarray(one), half * np.asarray(two), rtol=1e-13)


def expected_score(score, report, truth):
    """Return the mean score of a report when outcomes are drawn from the truth, exactly."""
    n = len(truth)
    return float(truth @ score(np.tile(report, (n, 1)), np.arange(n), reduction="none"))


@each_score
@given(st.integers(0, 10**6))
def test_no_report_beats_the_truth(score, seed):
    rng = np.random.default_rng(seed)
    truth, other = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
    honest = expected_score(score, truth, truth)
    assert expected_score(score, other, truth) > honest
    for step in (0.1, 1e-3):  # nearby too
        near = (1 - step) * truth + step * other
        assert expected_score(score, near, truth) > honest


def test_the_score_of_the_truth_is_its_generalised_entropy():
    truth = np.random.default_rng(5).dirichlet(np.ones(5))
    assert expected_score(log_score, truth, truth) == pytest.approx(float(entropy(truth)), rel=1e-14)
    assert expected_score(brier_score, truth, truth) == pytest.approx(1 - truth @ truth, rel=1e-14)
    norm = math.sqrt(truth @ truth)
    assert expected_score(spherical_score, truth, truth) == pytest.approx(-norm, rel=1e-14)


@backend
def test_what_was_ruled_out_costs_its_limit(make):
    p, y = make([[1.0, 0.0], [1.0, 0.0]]), make([0, 1])
    assert [float(v) for v in log_score(p, y, reduction="none")] == [0, INF]
    assert [float(v) for v in brier_score(p, y, reduction="none")] == [0, 2]
    assert [float(v) for v in spherical_score(p, y, reduction="none")] == [-1, 0]
    assert [float(v) for v in log_score(make([0.0, 1.0, 0.0, 1.0]), make([0, 1, 1, 0]), reduction="none")] == [
        0, 0, INF, INF,
    ]  # fmt: skip


@backend
@each_score
def test_reductions_agree_and_a_mean_over_nothing_is_nan(make, score):
    p, y = forecasts(20)
    each = np.asarray(score(make(p), make(y), reduction="none"))
    assert each.shape == (20,)
    assert float(score(make(p), make(y))) == pytest.approx(each.mean(), rel=1e-14)
    assert float(score(make(p), make(y), reduction="sum")) == pytest.approx(each.sum(), rel=1e-14)
    nothing = make(np.zeros((0, 4))), make(np.zeros(0, np.int64))
    assert math.isnan(float(score(*nothing)))
    assert float(score(*nothing, reduction="sum")) == 0
    assert score(*nothing, reduction="none").shape == (0,)


@each_score
def test_gradients_match_finite_differences(score):
    rng = np.random.default_rng(6)
    p = torch.tensor(rng.dirichlet(np.ones(3), 4), requires_grad=True)
    q = torch.tensor(rng.random(4), requires_grad=True)
    y = torch.tensor([0, 1, 1, 0])

    def multiclass(p):  # finite differences leave the simplex
        return score(p, y, reduction="none", validate=False)

    assert torch.autograd.gradcheck(multiclass, p)
    assert torch.autograd.gradcheck(lambda q: score(q, y), q)


def test_the_log_score_has_a_finite_gradient_at_certainty():
    p = torch.tensor([1.0, 0.0], requires_grad=True)
    log_score(p, torch.tensor([1, 0]), reduction="sum").backward()
    assert p.grad.tolist() == [-1, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
def test_every_dtype_and_device_is_taken(dtype, device):
    p, y = (torch.tensor(v) for v in forecasts(60))
    p = p.to(dtype)
    wide = p.double()
    result = torch.float64 if dtype == torch.float64 else torch.float32
    for score in SCORES.values():
        got = score(p.to(device), y.to(device), reduction="none")
        assert got.dtype == result and got.device.type == device
        want = score(wide, y, reduction="none", validate=False)
        torch.testing.assert_close(got.cpu().double(), want, rtol=1e-6, atol=0)
    got = expected_calibration_error(p.to(device), y.to(device))
    assert got.dtype == result and got.device.type == device
    assert not got.requires_grad


def test_leading_axes_may_be_any_number():
    p, y = forecasts(24)
    for score in (*SCORES.values(), expected_calibration_error):
        flat = score(p, y)
        assert score(p.reshape(2, 3, 4, 4), y.reshape(2, 3, 4)) == pytest.approx(flat, rel=1e-14)
    assert brier_score(p[0], y[0]).shape == ()
    strided = torch.tensor(np.random.default_rng(7).random((30, 2)))[:, 0]
    y = torch.ones(30, dtype=torch.int64)
    assert expected_calibration_error(strided, y) == expected_calibration_error(strided.clone(), y)


def test_lists_and_an_empty_list_are_taken():
    assert brier_score([0.5], [1]) == 0.25
    assert math.isnan(brier_score([], []))


P, Y = [[0.5, 0.5], [0.9, 0.1]], [0, 1]
BAD = {
    "label too large": (P, [0, 2], ValueError, "labels"),
    "label negative": (P, [0, -100], ValueError, "labels"),
    "binary label": ([0.5, 0.5], [0, 2], ValueError, "labels"),
    "label floats": (P, [0.0, 1.0], TypeError, "labels"),
    "label booleans": ([0.5, 0.5], [True, False], TypeError, "labels"),
    "label shape": (P, [0, 1, 1], ValueError, "labels"),
    "scalar with a list": (0.5, [1], ValueError, "labels"),
    "above one": ([0.5, 1.5], Y, ValueError, "probs"),
    "below zero": ([-0.1, 0.5], Y, ValueError, "probs"),
    "nan": ([NAN, 0.5], Y, ValueError, "probs"),
    "sums to two": ([[1.0, 1.0], [0.5, 0.5]], Y, ValueError, "probs"),
    "logits": ([[3.0, -2.0], [0.0, 1.0]], Y, ValueError, "probs"),
    "no classes": (np.zeros((2, 0)), Y, ValueError, "probs"),
    "integer tensor": (torch.tensor([0, 1]), torch.tensor([0, 1]), TypeError, "probs"),
    "text": ("half", Y, TypeError, "probs"),
    "tensor with a list": (torch.tensor(P), Y, TypeError, "labels"),
    "devices": (torch.tensor(P), torch.tensor(Y, device="meta"), ValueError, "labels"),
}


@pytest.mark.parametrize("score", [*SCORES.values(), expected_calibration_error])
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_the_name_of_the_argument(score, case):
    probs, labels, error, name = BAD[case]
    with pytest.raises(error, match=rf"^{name}\b"):
        score(probs, labels)


@pytest.mark.parametrize(
    ("n_bins", "error"),
    [(0, ValueError), (-5, ValueError), (10.0, TypeError), (True, TypeError), (None, TypeError)],
)
def test_a_bad_number_of_bins_is_refused(n_bins, error):
    with pytest.raises(error, match=r"^n_bins"):
        expected_calibration_error(P, Y, n_bins)


@each_score
def test_an_unknown_reduction_is_refused(score):
    with pytest.raises(ValueError, match=r"^reduction"):
        score(P, Y, reduction="median")
