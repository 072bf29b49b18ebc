"""How sure is a perplexity, and are two models different?

Losses of neighbouring tokens are alike: they share a topic, an author, a document.  An interval that takes
them for independent is far too narrow.  So all here resample or sum over *groups*, documents or, within one
long text, blocks, and never over tokens.

A mean loss is a ratio, the sum of losses over the count of tokens, and both vary from group to group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lossutils import _checks
from lossutils.perplexity import bits_per_token, perplexity

__all__ = ["Comparison", "Interval", "block_groups", "compare_models", "perplexity_interval"]

# With fewer groups than this no method has the coverage that it claims, nor can a sign test reach 5 %.
MIN_GROUPS = 5
METHODS = ("percentile", "bca", "t")
UNITS = ("perplexity", "bits", "nats")
_BATCH = 1_000_000  # numbers of a resampling that are in memory at once


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it.

    Attributes
    ----------
    estimate : float
        In the unit that was asked for.
    low : float
        The lower end.
    high : float
        The upper end.
    standard_error : float
        Of the estimate, in the same unit, from the spread between groups.
    level : float
        The coverage that was asked for.
    n_groups : int
        The number of groups.
    method : str
        How the ends were found.
    """

    estimate: float
    low: float
    high: float
    standard_error: float
    level: float
    n_groups: int
    method: str


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare_models` found; differences are model a minus model b, in nats per token.

    Attributes
    ----------
    difference : float
        Of the mean losses: negative if a is better.
    low : float
        The lower end of its interval.
    high : float
        The upper end of its interval.
    standard_error : float
        Of the difference, paired: from the differences within each group.
    unpaired_standard_error : float
        What it would be had the two models been scored on different texts of this kind.
    p_value : float
        Two-sided, of the sign-flip test over groups.
    tokens_needed : float
        How many tokens of such text tell the two models apart if both score the same ones; inf if there is no
        difference.
    tokens_needed_unpaired : float
        How many it takes for each model if they score different texts.
    n_tokens : int
        How many tokens, or other units of `counts`, were compared.
    n_groups : int
        In how many groups.
    level : float
        Of the interval, and 1 minus the size of the test that `tokens_needed` plans.
    power : float
        Of that test.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    unpaired_standard_error: float
    p_value: float
    tokens_needed: float
    tokens_needed_unpaired: float
    n_tokens: int
    n_groups: int
    level: float
    power: float


def block_groups(n: int, size: int) -> np.ndarray:
    """Return a group for each token of one long text: blocks of neighbours.

    Use it where a text has no documents.  Blocks must be long: longer than what makes neighbours alike, and
    still 20 or more.

    ::

        block of token i = i * (n // size) // n

    Parameters
    ----------
    n : int >= 1
        The number of tokens.
    size : int in [1, n]
        The least number of tokens of a block.

    Returns
    -------
    int64 array, shape (n,)
        0, ..., 0, 1, ..., 1, ...: n // size blocks, the lengths of which differ by at most one.

    Raises
    ------
    ValueError
        A number outside its range.
    TypeError
        A number that is not an integer.

    Notes
    -----
    There is no short block at the end: what is left over is spread.

    Examples
    --------
    >>> block_groups(8, 3)
    array([0, 0, 0, 0, 1, 1, 1, 1])

    See Also
    --------
    perplexity_interval : takes them.
    """
    n, size = _checks.count("n", n), _checks.count("size", size)
    if size > n:
        raise ValueError(f"size must be at most n = {n}, got {size}")
    return np.arange(int(n), dtype=np.int64) * (int(n) // int(size)) // int(n)


def perplexity_interval(
    nll,
    groups,
    level: float = 0.95,
    *,
    counts=None,
    unit: str = "perplexity",
    method: str = "percentile",
    n_resamples: int = 9999,
    seed: int = 0,
) -> Interval:
    """Return a perplexity, or bits per byte, with an interval that knows that neighbours are alike.

    Use it for each perplexity that is reported.  The groups are drawn with replacement, each with all its
    tokens, and the ratio is computed anew; with S_g and N_g the sum of losses and the count of group g::

        mean = sum_g S_g / sum_g N_g          perplexity = exp(mean)          bits = mean / log(2)

    Parameters
    ----------
    nll : array_like, shape (M,)
        Losses of tokens (nats), or sums of losses of documents with their `counts`.
    groups : array_like, shape (M,)
        The group of each: any labels, such as ``TextScore.document`` or :func:`block_groups`.
    level : float in (0, 1)
        The coverage.
    counts : integer array_like, shape (M,), optional
        What each loss is divided by, in all: 1 for a token (the default), its bytes for bits per byte.
    unit : {"perplexity", "bits", "nats"}
        What is reported, per unit of `counts`.
    method : {"percentile", "bca", "t"}
        The bootstrap's percentiles; the same with a correction for bias and skewness; or no bootstrap, mean
        plus and minus the standard error times Student's t.
    n_resamples : int >= 100
        How often the groups are drawn.
    seed : int
        Of the draws.

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        Fewer than 5 groups, shapes that differ, a loss that is not finite, counts below 0 or, in a group, all 0, an
        unknown unit or method, a level outside (0, 1).
    TypeError
        Losses, counts or numbers of the wrong kind.

    Notes
    -----
    The interval is found for the mean in nats, where it is closest to symmetric, and its ends are converted.

    With few groups plain percentiles are too narrow, by sqrt(1 - 1/G) and by taking a normal quantile for
    Student's.  Both bootstrap methods use Hesterberg's wider percentiles, alpha' = Phi(-sqrt(G / (G - 1)) *
    t_{alpha/2, G - 1}).  Coverage of 95 % intervals in a world with documents of log-normal length, measured
    over 1000 texts (by ``tests/test_intervals.py``; its standard error is about 0.01); in the skewed one, a
    document's mean loss is gamma-distributed around 3 with a standard deviation of 0.5 nats:

    ==========  ====  ====  ====  ====  ====  ====  ====  ====  ====  ====
    .           normal documents              skewed documents
    ----------  ----------------------------  ----------------------------
    groups      5     10    20    30    100   5     10    20    30    100
    ==========  ====  ====  ====  ====  ====  ====  ====  ====  ====  ====
    percentile  .919  .948  .943  .947  .934  .890  .899  .925  .911  .934
    bca         .907  .932  .937  .930  .930  .886  .900  .912  .898  .932
    t           .920  .929  .937  .945  .939  .869  .888  .905  .905  .930
    normal      .824  .900  .921  .932  .935  .791  .842  .880  .895  .925
    ==========  ====  ====  ====  ====  ====  ====  ====  ====  ====  ====

    The last row is the mean plus and minus 1.96 standard errors.  The first is the default.  Blocks of one
    document cover only what varies within it.

    Examples
    --------
    Twenty documents of 50 tokens, with a mean loss of their own each:

    >>> rng = np.random.default_rng(0)
    >>> nll = np.repeat(rng.normal(3.0, 0.3, 20), 50) + rng.normal(0.0, 0.5, 1000)
    >>> found = perplexity_interval(nll, np.repeat(np.arange(20), 50))
    >>> print(f"{found.estimate:.1f}, 95 % from {found.low:.1f} to {found.high:.1f}")
    18.6, 95 % from 16.5 to 20.8
    >>> found = perplexity_interval(nll, np.arange(1000))  # each token for itself: an illusion
    >>> print(f"{found.estimate:.1f}, 95 % from {found.low:.1f} to {found.high:.1f}")
    18.6, 95 % from 18.0 to 19.2

    References
    ----------
    Efron & Tibshirani (1993), *An Introduction to the Bootstrap*, chapters 13 and 14.  Hesterberg (2015),
    "What teachers should know about the bootstrap", The American Statistician 69, 371-386.  Miller (2024),
    arXiv:2411.00640, on clustered standard errors.

    See Also
    --------
    compare_models : for the difference of two models, which is far better known than either.
    """
    _checks.choice("unit", unit, UNITS)
    sums, totals = _by_group(nll, groups, counts)
    found = _mean_interval(sums, totals, level, method, n_resamples, seed)
    convert = {"perplexity": perplexity, "bits": bits_per_token, "nats": lambda nats, n, **_: nats / n}[unit]
    estimate = float(convert(float(sums.sum()), int(totals.sum())))
    # unchecked: the lower end of a mean near 0 may lie below 0
    low, high = (float(convert(end, 1, validate=False)) for end in (found.low, found.high))
    slope = {"perplexity": estimate, "bits": 1 / math.log(2), "nats": 1.0}[unit]
    error = slope * found.standard_error
    return Interval(estimate, low, high, error, found.level, found.n_groups, found.method)


def compare_models(
    nll_a,
    nll_b,
    groups,
    level: float = 0.95,
    *,
    counts=None,
    power: float = 0.8,
    method: str = "percentile",
    n_resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Return how far two models are apart on the same text, and how sure that is.

    Use it before a sentence says that one model is better.  What makes a document hard is hard for both
    models and cancels in the difference.

    With D_g the sum over group g of nll_a - nll_b, N_g its count, N the total and G the number of groups::

        d    = sum_g D_g / N
        se   = sqrt( G / (G - 1) * sum_g (D_g - d N_g)**2 ) / N
        tokens needed = N * ( (z_{1 - alpha/2} + z_power) * se / d )**2

    and unpaired the same with se**2 = se_a**2 + se_b**2.

    Parameters
    ----------
    nll_a, nll_b : array_like, shape (M,)
        Losses of the same tokens (nats) under either model; or, for models with different tokenizers, sums
        of losses of the same documents, with their bytes as `counts`.
    groups : array_like, shape (M,)
        The group of each, as in :func:`perplexity_interval`.
    level : float in (0, 1)
        Of the interval; 1 - level is the size of the test that is planned.
    counts : integer array_like, shape (M,), optional
        What each loss stands for: 1 token by default.  With bytes, read "per byte" and "bytes needed".
    power : float in (0, 1)
        How probable it is to be that the planned test finds the difference.
    method, n_resamples, seed
        As in :func:`perplexity_interval`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError, TypeError
        As :func:`perplexity_interval`, and losses of different lengths.

    Notes
    -----
    The p-value is that of the sign-flip test: if the models were alike, which of them a group's two sums
    belong to would be a coin's toss.  It enumerates all 2**G tosses if they are at most `n_resamples`, else
    it draws `n_resamples`; so it is never below 2 / (n_resamples + 1), nor below 2**(1 - G).

    `tokens_needed` takes the observed difference and spread for the true ones, and a normal test; it is a
    plan, as uncertain as they are, and for a handful of groups too small.  Tokens come in whole documents of
    the present lengths.

    Examples
    --------
    The second model is 0.02 nats better on each token, in noise that is mostly shared:

    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(40), 25)
    >>> a = 3 + rng.normal(0, 0.5, 40)[groups] + rng.normal(0, 1.0, 1000)
    >>> b = a - 0.02 + rng.normal(0, 0.1, 1000)
    >>> found = compare_models(a, b, groups)
    >>> print(f"{found.difference:.3f} nats, from {found.low:.3f} to {found.high:.3f}")
    0.021 nats, from 0.013 to 0.028
    >>> print(f"standard error {found.standard_error:.4f} paired, {found.unpaired_standard_error:.4f} unpaired")
    standard error 0.0036 paired, 0.0979 unpaired

    References
    ----------
    Miller (2024), arXiv:2411.00640, on clustered standard errors, paired differences and power.

    See Also
    --------
    perplexity_interval : of one model.
    """
    alpha = 1 - _share("level", level)
    power = _share("power", power)
    a, b = _losses("nll_a", nll_a), _losses("nll_b", nll_b)
    if a.shape != b.shape:
        raise ValueError(
            f"nll_b must have nll_a's shape {a.shape}, got {b.shape}: a pair needs the same tokens, or sums over "
            "the same documents with counts"
        )
    sums_a, totals = _by_group(a, groups, counts, "nll_a")
    sums_b, _ = _by_group(b, groups, counts, "nll_b")
    differences, _ = _by_group(a - b, groups, counts)
    found = _mean_interval(differences, totals, level, method, n_resamples, seed)
    unpaired = math.hypot(_standard_error(sums_a, totals), _standard_error(sums_b, totals))
    n, d = int(totals.sum()), found.estimate
    factor = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)

    def needed(error):
        return math.inf if d == 0 else float(math.ceil(n * (factor * error / d) ** 2))

    return Comparison(
        difference=d,
        low=found.low,
        high=found.high,
        standard_error=found.standard_error,
        unpaired_standard_error=unpaired,
        p_value=_sign_flip_p(differences, n_resamples, seed),
        tokens_needed=needed(found.standard_error),
        tokens_needed_unpaired=needed(unpaired),
        n_tokens=n,
        n_groups=found.n_groups,
        level=found.level,
        power=power,
    )


# ----------------------------------------------------------------------------------------------------------


def _share(name: str, value) -> float:
    value = _checks.real(name, value)
    if not 0 < value < 1:
        raise ValueError(f"{name} must be between 0 and 1, got {value!r}")
    return value


def _losses(name: str, nll) -> np.ndarray:
    if _checks.is_torch(nll):
        nll = nll.detach().cpu().double().numpy()
    nll = np.asarray(_checks.as_float(name, nll), dtype=np.float64)
    if nll.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {nll.shape}")
    if not np.isfinite(nll).all():
        bad = nll[~np.isfinite(nll)][0]
        raise ValueError(f"{name} must be finite, got {bad}: no interval holds a loss of inf or NaN")
    return nll


def _by_group(nll, groups, counts, name: str = "nll") -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of losses and the count of each group, both float64 (G,)."""
    nll = _losses(name, nll)
    labels = np.asarray(groups.detach().cpu() if _checks.is_torch(groups) else groups)
    if labels.shape != nll.shape:
        raise ValueError(f"groups must have {name}'s shape {nll.shape}, got {labels.shape}")
    if counts is None:
        weights = None
    else:
        weights = np.asarray(_checks.as_integer("counts", counts))
        if weights.shape != nll.shape:
            raise ValueError(f"counts must have {name}'s shape {nll.shape}, got {weights.shape}")
        if (weights < 0).any():
            raise ValueError(f"counts must not be negative, got {weights.min()}")
    _, index = np.unique(labels, return_inverse=True)
    n_groups = int(index.max(initial=-1)) + 1
    if n_groups < MIN_GROUPS:
        raise ValueError(
            f"groups must hold at least {MIN_GROUPS} different groups, got {n_groups}: fewer cannot tell how "
            "groups differ; cut the text into blocks (block_groups) or take more documents"
        )
    totals = np.bincount(index, weights, n_groups).astype(np.float64)
    if not totals.all():
        raise ValueError(
            f"counts must not be 0 throughout a group, as in group {labels[index == totals.argmin()][0]!r}"
        )
    return np.bincount(index, nll, n_groups), totals


def _standard_error(sums: np.ndarray, totals: np.ndarray) -> float:
    """Return the standard error of the ratio of sums, from the groups' residuals (linearised)."""
    groups = len(sums)
    residuals = sums - sums.sum() / totals.sum() * totals
    return math.sqrt(groups / (groups - 1) * float((residuals**2).sum())) / float(totals.sum())


def _ratio(sums, totals, axis=-1):
    with np.errstate(invalid="ignore", divide="ignore"):
        return sums.sum(axis=axis) / totals.sum(axis=axis)


def _mean_interval(sums, totals, level, method, n_resamples, seed) -> Interval:
    """Return the interval of sum(sums) / sum(totals)."""
    _checks.choice("method", method, METHODS)
    level = _share("level", level)
    n_resamples = _checks.count("n_resamples", n_resamples, 100)
    groups = len(sums)
    mean, error = float(_ratio(sums, totals)), _standard_error(sums, totals)
    quantile = stats.t.ppf((1 + level) / 2, groups - 1)
    if method == "t" or error <= 1e-14 * abs(mean):  # nothing varies: BCa would divide 0 by 0
        return Interval(mean, mean - quantile * error, mean + quantile * error, error, level, groups, method)
    wider = 1 - 2 * stats.norm.sf(quantile * math.sqrt(groups / (groups - 1)))
    found = stats.bootstrap(
        (sums, totals),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=int(n_resamples),
        batch=max(1, _BATCH // groups),
        confidence_level=wider,
        method={"bca": "BCa"}.get(method, method),
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high), error, level, groups, method)


def _sign_flip_p(differences: np.ndarray, n_resamples: int, seed: int) -> float:
    if not differences.any():
        return 1.0
    found = stats.permutation_test(
        (differences, np.zeros_like(differences)),
        lambda a, b, axis=-1: (a - b).sum(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=int(n_resamples),
        batch=max(1, _BATCH // len(differences)),
        random_state=np.random.default_rng(seed),
    )
    return float(found.pvalue)
