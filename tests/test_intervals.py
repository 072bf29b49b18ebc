"""Intervals and comparisons: coverage in worlds whose truth is known, closed forms, and bad input.

Run as a script, this prints the coverage table that the documentation of ``perplexity_interval`` quotes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lossutils.intervals import block_groups, compare_models, perplexity_interval
from lossutils.perplexity import bits_per_byte, perplexity

TRUTH = 3.0


def documents(rng, n_groups, skewed=False):
    """Sums of losses and lengths of documents whose mean losses vary around TRUTH."""
    lengths = np.maximum(5, rng.lognormal(4.5, 0.7, n_groups)).astype(int)
    if skewed:
        means = TRUTH - 0.5 + rng.gamma(1.0, 0.5, n_groups)
    else:
        means = TRUTH + 0.3 * rng.standard_normal(n_groups)
    return means * lengths + 2.3 * np.sqrt(lengths) * rng.standard_normal(n_groups), lengths


def coverage(n_groups, method, *, texts, skewed=False, n_resamples=499, seed=1):
    rng, hits = np.random.default_rng(seed), 0
    for _ in range(texts):
        sums, lengths = documents(rng, n_groups, skewed)
        found = perplexity_interval(
            sums,
            np.arange(n_groups),
            counts=lengths,
            unit="nats",
            method="t" if method == "normal" else method,
            n_resamples=n_resamples,
        )
        if method == "normal":
            hits += abs(found.estimate - TRUTH) <= 1.959964 * found.standard_error
        else:
            hits += found.low <= TRUTH <= found.high
    return hits / texts


def tokens(seed=0, n_groups=30, size=40):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    return 3 + rng.normal(0, 0.3, n_groups)[groups] + rng.normal(0, 1, len(groups)) ** 2, groups


# ------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("method", ["percentile", "bca", "t"])
def test_intervals_over_twenty_documents_cover_the_truth_about_as_often_as_they_say(method):
    # of 300 texts, the share has a standard error of 0.013
    assert 0.88 <= coverage(20, method, texts=300) <= 0.98


def test_the_default_covers_more_often_than_the_plain_percentiles_with_few_documents():
    """Plain percentiles, by scipy alone, on the same texts."""
    rng, plain = np.random.default_rng(1), 0
    for _ in range(200):
        sums, lengths = documents(rng, 6)
        found = stats.bootstrap(
            (sums, lengths.astype(float)),
            lambda s, n, axis=-1: s.sum(axis=axis) / n.sum(axis=axis),
            paired=True,
            vectorized=True,
            n_resamples=499,
            method="percentile",
            random_state=np.random.default_rng(0),
        ).confidence_interval
        plain += found.low <= TRUTH <= found.high
    assert coverage(6, "percentile", texts=200) >= plain / 200 + 0.04


def test_tokens_taken_for_independent_give_an_interval_that_misses_most_of_the_time():
    """Losses that drift slowly (AR(1), 0.98): grouped by token the interval is an illusion, by block it is not."""
    rng, hits, n = np.random.default_rng(0), {"token": 0, "block": 0}, 4000
    for _ in range(60):
        noise = rng.normal(0, 1, n)
        drift = np.empty(n)
        drift[0] = noise[0] / math.sqrt(1 - 0.98**2)
        for i in range(1, n):
            drift[i] = 0.98 * drift[i - 1] + noise[i]
        nll = 40 + drift
        for name, groups in (("token", np.arange(n)), ("block", block_groups(n, 200))):
            found = perplexity_interval(nll, groups, unit="nats", method="t")
            hits[name] += found.low <= 40 <= found.high
    assert hits["token"] / 60 < 0.45
    assert hits["block"] / 60 > 0.85


def test_the_estimate_is_the_perplexity_of_all_tokens_and_not_a_mean_over_groups():
    nll = np.array([6.0] * 10 + [2.0] * 1000 + [2.0, 3.0, 2.0])
    groups = np.array([0] * 10 + [1] * 1000 + [2, 3, 4])
    found = perplexity_interval(nll, groups, n_resamples=100)
    assert found.estimate == perplexity(nll.sum(), len(nll))
    assert found.n_groups == 5


def test_units_are_conversions_of_one_interval():
    nll, groups = tokens()
    n_bytes = np.random.default_rng(1).integers(1, 6, len(nll))
    by = {
        unit: perplexity_interval(nll, groups, counts=n_bytes, unit=unit, n_resamples=200)
        for unit in ("perplexity", "bits", "nats")
    }
    assert by["bits"].estimate == pytest.approx(float(bits_per_byte(nll.sum(), n_bytes.sum())), rel=1e-14)
    for end in ("low", "estimate", "high"):
        nats = getattr(by["nats"], end)
        assert getattr(by["perplexity"], end) == pytest.approx(math.exp(nats), rel=1e-14)
        assert getattr(by["bits"], end) == pytest.approx(nats / math.log(2), rel=1e-14)
    assert by["nats"].low < by["nats"].estimate < by["nats"].high
    assert by["perplexity"].standard_error == pytest.approx(
        by["perplexity"].estimate * by["nats"].standard_error, rel=1e-14
    )


def test_the_standard_error_is_that_of_a_mean_when_groups_are_of_one_size():
    nll, groups = tokens(n_groups=12)
    means = nll.reshape(12, -1).mean(1)
    found = perplexity_interval(nll, groups, unit="nats", method="t")
    assert found.standard_error == pytest.approx(means.std(ddof=1) / math.sqrt(12), rel=1e-12)
    low, high = stats.t.interval(0.95, 11, means.mean(), found.standard_error)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


def test_the_standard_error_is_the_clustered_one_of_a_double_sum_over_pairs():
    """Miller (2024), written as the sum over pairs of tokens in one group, times G / (G - 1)."""
    rng = np.random.default_rng(3)
    groups = np.sort(rng.integers(0, 6, 60))
    nll = 3 + rng.normal(0, 1, 60)
    mean, total = nll.mean(), 0.0
    for i, j in itertools.product(range(60), repeat=2):
        if groups[i] == groups[j]:
            total += (nll[i] - mean) * (nll[j] - mean)
    want = math.sqrt(6 / 5 * total) / 60
    assert perplexity_interval(nll, groups, unit="nats", method="t").standard_error == pytest.approx(want)


def test_the_order_of_tokens_and_the_names_of_groups_do_not_matter():
    nll, groups = tokens(n_groups=8)
    order = np.random.default_rng(0).permutation(len(nll))
    names = np.array([f"chapter {g:02d}" for g in groups])
    want = perplexity_interval(nll, groups, n_resamples=200)
    got = perplexity_interval(torch.tensor(nll)[order], names[order], n_resamples=200)
    assert dataclasses.astuple(got)[:4] == pytest.approx(dataclasses.astuple(want)[:4], rel=1e-12)


def test_a_higher_level_gives_a_wider_interval_and_a_seed_the_same_one():
    nll, groups = tokens()
    narrow, wide = (perplexity_interval(nll, groups, level, n_resamples=999) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert perplexity_interval(nll, groups, 0.8, n_resamples=999) == narrow
    assert perplexity_interval(nll, groups, 0.8, n_resamples=999, seed=1) != narrow


@pytest.mark.parametrize("method", ["percentile", "bca", "t"])
def test_losses_that_do_not_vary_have_an_interval_of_one_point(method):
    found = perplexity_interval(np.full(60, math.log(10)), block_groups(60, 6), method=method)
    assert found.low == pytest.approx(10) and found.high == pytest.approx(10)


# ------------------------------------------------------------------------------------------------- comparing


def test_a_pair_is_told_apart_by_far_fewer_tokens_than_two_strangers():
    a, groups = tokens(n_groups=60)
    b = a + 0.05 + np.random.default_rng(5).normal(0, 0.2, len(a))
    found = compare_models(a, b, groups)
    assert found.low < -0.05 < found.high < 0
    assert found.p_value < 0.001
    assert found.standard_error * 4 < found.unpaired_standard_error
    ratio = (found.unpaired_standard_error / found.standard_error) ** 2
    assert found.tokens_needed_unpaired / found.tokens_needed == pytest.approx(ratio, rel=0.05)


def test_the_unpaired_error_is_that_of_two_separate_scorings():
    a, groups = tokens(1)
    b, _ = tokens(2)
    found = compare_models(a, b, groups)
    alone = [perplexity_interval(x, groups, unit="nats").standard_error for x in (a, b)]
    assert found.unpaired_standard_error == pytest.approx(math.hypot(*alone), rel=1e-12)


def test_swapping_the_models_turns_the_sign_and_nothing_else():
    a, groups = tokens(1)
    b, _ = tokens(2)
    one, two = compare_models(a, b, groups, method="t"), compare_models(b, a, groups, method="t")
    assert (one.difference, one.low, one.high) == pytest.approx(
        (-two.difference, -two.high, -two.low), rel=1e-12
    )
    assert one.tokens_needed == two.tokens_needed


def test_with_few_groups_the_p_value_counts_all_sign_flips():
    rng = np.random.default_rng(4)
    differences = rng.normal(0.4, 1, 9)
    observed = abs(differences.sum())
    flips = np.array(list(itertools.product([-1, 1], repeat=9))) @ differences
    want = np.mean(np.abs(flips) >= observed - 1e-12)
    found = compare_models(3 + differences, np.full(9, 3.0), np.arange(9))
    assert found.p_value == pytest.approx(want, abs=1e-12)


def test_the_p_value_of_models_that_do_not_differ_is_uniform():
    rng = np.random.default_rng(0)
    below = 0
    for _ in range(300):
        shared = rng.gamma(2, 1, 10)
        a, b = shared + rng.normal(0, 0.1, 10), shared + rng.normal(0, 0.1, 10)
        below += compare_models(a, b, np.arange(10), method="t", n_resamples=2000).p_value <= 0.1
    assert 0.06 <= below / 300 <= 0.14  # the standard error is 0.017


@pytest.mark.parametrize("paired", [True, False])
def test_the_tokens_needed_find_the_difference_eight_times_in_ten(paired):
    """Plan on one long text whose truth is known, then play the planned experiment many times."""
    delta, size = 0.1, 20
    rng = np.random.default_rng(0)

    def texts(n_groups):
        shared = (
            3 + np.repeat(rng.normal(0, 0.3, (n_groups, 1)), size, 1) + rng.normal(0, 0.5, (n_groups, size))
        )
        own = np.repeat(rng.normal(0, 0.1, (n_groups, 1)), size, 1) + rng.normal(0, 0.4, (n_groups, size))
        return shared, shared - delta + own

    a, b = texts(20000)
    groups = np.repeat(np.arange(20000), size)
    plan = compare_models(a.ravel(), b.ravel(), groups, method="t", n_resamples=100)
    needed = plan.tokens_needed if paired else plan.tokens_needed_unpaired
    n_groups, found = round(needed / size), 0
    for _ in range(500):
        a, b = texts(n_groups)
        if not paired:
            b = texts(n_groups)[1]
        a, b = a.mean(1), b.mean(1)
        found += (stats.ttest_rel if paired else stats.ttest_ind)(a, b).pvalue < 0.05
    assert 0.74 <= found / 500 <= 0.86  # the standard error is 0.018; a t test has a little less power


def test_more_power_and_a_stricter_test_need_more_tokens_by_the_closed_form():
    a, groups = tokens(1)
    b, _ = tokens(2)
    usual = compare_models(a, b, groups)
    strict = compare_models(a, b, groups, 0.99, power=0.9)
    # (1.959964 + 0.841621)**2 = 7.8489 and (2.575829 + 1.281552)**2 = 14.8794, from a printed table
    assert usual.tokens_needed == pytest.approx(
        1200 * 7.8489 * (usual.standard_error / usual.difference) ** 2, rel=1e-3
    )
    assert strict.tokens_needed / usual.tokens_needed == pytest.approx(14.8794 / 7.8489, rel=1e-3)


def test_one_model_twice_differs_by_nothing_and_never_will():
    a, groups = tokens()
    found = compare_models(a, a, groups)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.tokens_needed == found.tokens_needed_unpaired == math.inf


def test_models_with_different_tokenizers_are_compared_by_document_and_byte():
    rng = np.random.default_rng(0)
    n_bytes = rng.integers(100, 1000, 25)
    a = n_bytes * rng.normal(1.4, 0.1, 25)
    b = a - 0.05 * n_bytes
    found = compare_models(a, b, np.arange(25), counts=n_bytes)
    assert found.difference == pytest.approx(0.05, rel=1e-12)
    assert found.n_tokens == n_bytes.sum()
    assert found.standard_error < 1e-12 < found.unpaired_standard_error


# --------------------------------------------------------------------------------------------------- blocks


@given(n=st.integers(1, 3000), data=st.data())
def test_blocks_are_consecutive_nearly_equal_and_never_smaller_than_asked_for(n, data):
    size = data.draw(st.integers(1, n))
    groups = block_groups(n, size)
    lengths = np.bincount(groups)
    assert len(groups) == n and (np.diff(groups) >= 0).all()
    assert len(lengths) == n // size
    assert lengths.min() >= size and np.ptp(lengths) <= 1


# ------------------------------------------------------------------------------------------------- bad input

NLL, GROUPS = np.full(10, 2.0), np.arange(10)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "at least 5 different groups, got 4", lambda: perplexity_interval(NLL, GROUPS % 4)),
        (ValueError, "at least 5 different groups, got 0", lambda: perplexity_interval([], [])),
        (ValueError, r"groups must have nll's shape \(10,\)", lambda: perplexity_interval(NLL, GROUPS[1:])),
        (ValueError, "nll must be finite, got inf", lambda: perplexity_interval(NLL * np.inf, GROUPS)),
        (ValueError, "nll must be finite, got nan", lambda: perplexity_interval(NLL * np.nan, GROUPS)),
        (ValueError, "nll must have one dimension", lambda: perplexity_interval(NLL[None], GROUPS[None])),
        (ValueError, "level must be between 0 and 1, got 95", lambda: perplexity_interval(NLL, GROUPS, 95)),
        (ValueError, "level must be between 0 and 1, got 1", lambda: compare_models(NLL, NLL, GROUPS, 1)),
        (ValueError, "unit must be one of", lambda: perplexity_interval(NLL, GROUPS, unit="bytes")),
        (ValueError, "method must be one of", lambda: perplexity_interval(NLL, GROUPS, method="magic")),
        (
            ValueError,
            "n_resamples must be at least 100",
            lambda: perplexity_interval(NLL, GROUPS, n_resamples=9),
        ),
        (
            TypeError,
            "n_resamples must be an integer",
            lambda: perplexity_interval(NLL, GROUPS, n_resamples=1e3),
        ),
        (
            ValueError,
            "counts must not be negative",
            lambda: perplexity_interval(NLL, GROUPS, counts=GROUPS - 1),
        ),
        (
            ValueError,
            "counts must not be 0 throughout",
            lambda: perplexity_interval(NLL, GROUPS, counts=GROUPS),
        ),
        (ValueError, "counts must have nll's shape", lambda: perplexity_interval(NLL, GROUPS, counts=[1, 2])),
        (TypeError, "counts must hold integers", lambda: perplexity_interval(NLL, GROUPS, counts=NLL)),
        (ValueError, "nll_b must have nll_a's shape", lambda: compare_models(NLL, NLL[1:], GROUPS)),
        (ValueError, "nll_b must be finite", lambda: compare_models(NLL, NLL * np.inf, GROUPS)),
        (ValueError, "power must be between", lambda: compare_models(NLL, NLL, GROUPS, power=0)),
        (ValueError, "size must be at most n = 5, got 6", lambda: block_groups(5, 6)),
        (ValueError, "size must be at least 1, got 0", lambda: block_groups(5, 0)),
        (TypeError, "n must be an integer", lambda: block_groups(5.0, 1)),
    ],
)
def test_bad_input_is_refused_by_name(error, message, call):
    with pytest.raises(error, match=message):
        call()


if __name__ == "__main__":
    for skewed in (False, True):
        print("skewed documents" if skewed else "normal documents")
        for method in ("percentile", "bca", "t", "normal"):
            found = [
                coverage(n, method, texts=1000, skewed=skewed, n_resamples=1999) for n in (5, 10, 20, 30, 100)
            ]
            print(f"  {method:12}", "  ".join(f"{share:.3f}" for share in found), flush=True)
