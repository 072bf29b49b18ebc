"""Do probabilities mean what they say?  Proper scores, and the calibration error.

A score is *proper* if honesty is the best policy: when outcomes are drawn from q, no report has a lower mean
score than q itself.  All scores here are losses: smaller is better.

They take probabilities, not logits, in one of two layouts, told apart by the labels' shape:

- multiclass: probs (..., C) that sum to one, labels (...) in [0, C);
- binary: probs of "yes", any shape, labels of the same shape in {0, 1}.

Results are float64 for float64 and NumPy integers, else float32; sums are kept in float64.
"""

from __future__ import annotations

import numpy as np
import torch

from lossutils import _checks
from lossutils.cross_entropy import REDUCTIONS
from lossutils.logspace import result_dtype, working_dtype

__all__ = ["brier_score", "expected_calibration_error", "log_score", "spherical_score"]


def expected_calibration_error(probs, labels, n_bins: int = 15, *, validate: bool | None = None):
    """Return the expected calibration error: how far confidence and accuracy are apart, bin by bin.

    Use it to ask whether things said with 80 % come true 8 times in 10.  It is no proper score: a forecaster
    who always reports the base rate has none.

    With the confidence c_i and the outcome o_i in {0, 1} of example i, and B_k the examples with c_i in
    ((k - 1) / n_bins, k / n_bins]::

        ECE = sum_k |B_k| / N * | mean_{B_k} o - mean_{B_k} c |  =  sum_k | sum_{B_k} (o - c) | / N

    multiclass: c is the largest probability and o says whether its class was right (the first of several
    largest).  binary: c is the probability of "yes" and o the label, so that bins below 1/2 count too.

    Parameters
    ----------
    probs : array_like or torch.Tensor, shape (..., C) or, binary, (...)
        Probabilities.
    labels : integer array_like or torch.Tensor, shape (...)
        Classes in [0, C), or 0 and 1.
    n_bins : int >= 1
        The number of bins, of equal width; they are open below and closed above, and the first holds 0 too.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    scalar array or torch.Tensor
        In [0, 1].  float64 for float64 and NumPy integers, else float32.  No gradient flows: it is for
        reports.

    Raises
    ------
    ValueError
        Shapes that do not fit, no class, `n_bins` < 1, a probability outside [0, 1], a row that does not sum
        to one (within 1e-6, 1e-5, 5e-3, 1e-2 for float64, float32, float16, bfloat16), a label out of range,
        devices that differ.
    TypeError
        Integer, boolean or complex probability tensors, labels or `n_bins` that are not integers, tensors
        mixed with arrays.

    Notes
    -----
    The number depends on `n_bins` and is biased upwards for few examples: compare only like with like.  It is
    NaN for no examples.

    A bin's edge is k / n_bins rounded to the dtype of `probs`, so that a float32 0.2 lies in the first of
    five bins, as 0.2 does.  ``ceil(p * n_bins)`` puts some edges a bin too high.

    Examples
    --------
    Always 90 % sure, right 3 times in 4:

    >>> probs = [[0.9, 0.1]] * 4
    >>> f"{expected_calibration_error(probs, [0, 0, 0, 1]):.2f}"
    '0.15'

    References
    ----------
    Naeini, Cooper & Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning";
    Guo et al. (2017), arXiv:1706.04599, eq. 3.

    See Also
    --------
    brier_score : calibration and sharpness in one proper score.
    """
    n_bins = _checks.count("n_bins", n_bins)
    probs, labels, binary = _checked(probs, labels, validate)
    dtype = result_dtype(probs)
    tensors = _checks.is_torch(probs)
    if tensors:
        p, labels = probs.detach(), labels.reshape(-1)
        edges = (torch.arange(1, n_bins + 1, dtype=torch.float64) / n_bins).to(p.device, p.dtype)
    else:
        p, labels = probs, labels.reshape(-1)
        edges = (np.arange(1, n_bins + 1) / n_bins).astype(p.dtype)
    if binary:
        confidence, hit = p.reshape(-1), labels
    else:
        rows = p.reshape(-1, p.shape[-1])
        confidence = rows.amax(-1) if tensors else rows.max(-1)
        hit = rows.argmax(-1) == labels
    if len(confidence) == 0:
        return torch.full((), torch.nan, dtype=dtype, device=p.device) if tensors else dtype.type(np.nan)
    if tensors:
        confidence, edges = _widen(confidence).contiguous(), _widen(edges)
        # the last edge takes what rounding put above one
        index = torch.searchsorted(edges, confidence, side="left").clamp(max=n_bins - 1)
        gaps = torch.zeros(n_bins, dtype=confidence.dtype, device=p.device)
        gaps.index_add_(0, index, hit.to(confidence.dtype) - confidence)
    else:
        index = np.minimum(np.searchsorted(edges, confidence, side="left"), n_bins - 1)
        gaps = np.bincount(index, hit - _widen(confidence), n_bins)
    return _cast(abs(gaps).sum() / len(confidence), dtype)


def brier_score(probs, labels, *, reduction: str = "mean", validate: bool | None = None):
    """Return the Brier score: the squared distance between the forecast and what happened.

    Use it as a proper score that stays bounded: a confident error costs at most 2.

    ::

        multiclass:  sum_c (p_c - [c = y])**2          in [0, 2]
        binary:      (p - y)**2                        in [0, 1], half of the same forecast as two classes

    Parameters
    ----------
    probs : array_like or torch.Tensor, shape (..., C) or, binary, (...)
        Probabilities.
    labels : integer array_like or torch.Tensor, shape (...)
        Classes in [0, C), or 0 and 1.
    reduction : {"mean", "sum", "none"}
        Over examples.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    scalar, or array or torch.Tensor of the labels' shape ("none")
        A loss: smaller is better.  float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    ValueError, TypeError
        As :func:`expected_calibration_error`, or an unknown reduction.

    Notes
    -----
    Mean over nothing is NaN, the sum 0.  Accuracy: at most 4 ULP for the numbers given.  As a training loss
    it forgives too much: through a softmax its gradient vanishes for a confident error.  torch:
    differentiable.

    Examples
    --------
    >>> brier_score([[0.75, 0.25], [0.5, 0.5]], [0, 1], reduction="none")
    array([0.125, 0.5  ])
    >>> print(brier_score([0.75], [1]))
    0.0625

    References
    ----------
    Brier (1950), "Verification of forecasts expressed in terms of probability".  Gneiting & Raftery (2007),
    "Strictly proper scoring rules, prediction, and estimation", which has the opposite sign.

    See Also
    --------
    log_score : unbounded, and the one that language models are trained with.
    """
    p, y, binary, finish = _score_inputs(probs, labels, reduction, validate)
    if binary:
        return finish((p - y) ** 2)
    # not sum p**2 - 2 p_y + 1, which cancels where the forecast is good
    yes = _at(p, y)
    return finish((1 - yes) ** 2 + (_without(p, y) ** 2).sum(-1))


def log_score(probs, labels, *, reduction: str = "mean", validate: bool | None = None):
    """Return the logarithmic score: minus the log of the probability of what happened.

    Use it on forecasts that are probabilities already; from logits use
    :func:`lossutils.cross_entropy.cross_entropy`.

    ::

        multiclass:  -log(p_y)
        binary:      -log(p) if y = 1, -log(1 - p) if y = 0

    Parameters
    ----------
    probs : array_like or torch.Tensor, shape (..., C) or, binary, (...)
        Probabilities.
    labels : integer array_like or torch.Tensor, shape (...)
        Classes in [0, C), or 0 and 1.
    reduction : {"mean", "sum", "none"}
        Over examples.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    scalar, or array or torch.Tensor of the labels' shape ("none")
        Nats; a loss: smaller is better.  float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    ValueError, TypeError
        As :func:`expected_calibration_error`, or an unknown reduction.

    Notes
    -----
    An event that was ruled out costs inf; there is no epsilon.  Mean over nothing is NaN, the sum 0.
    Accuracy: at most 4 ULP for the numbers given.  torch: differentiable.

    Examples
    --------
    >>> log_score([[0.9, 0.1], [0.9, 0.1]], [0, 1], reduction="none").round(3)
    array([0.105, 2.303])

    References
    ----------
    Good (1952), "Rational decisions".  Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction,
    and estimation", which has the opposite sign.

    See Also
    --------
    lossutils.information.surprisal : of one probability.
    """
    p, y, binary, finish = _score_inputs(probs, labels, reduction, validate)
    xp = torch if _checks.is_torch(p) else np
    with np.errstate(divide="ignore"):
        if not binary:
            return finish(0.0 - xp.log(_at(p, y)))
        # what rounding put above one counts as one; each branch sees a harmless value where it is not taken
        p = xp.where(p > 1, xp.ones_like(p), p)
        yes, no = xp.log(xp.where(y == 1, p, 0.5)), xp.log1p(-xp.where(y == 1, 0.5, p))
        return finish(0.0 - xp.where(y == 1, yes, no))


def spherical_score(probs, labels, *, reduction: str = "mean", validate: bool | None = None):
    """Return the spherical score: minus the cosine between the forecast and what happened.

    Use it as a second bounded proper score, to see what depends on the choice of one.

    ::

        multiclass:  -p_y / sqrt(sum_c p_c**2)         in [-1, 0]
        binary:      the same for (1 - p, p)

    Parameters
    ----------
    probs : array_like or torch.Tensor, shape (..., C) or, binary, (...)
        Probabilities.
    labels : integer array_like or torch.Tensor, shape (...)
        Classes in [0, C), or 0 and 1.
    reduction : {"mean", "sum", "none"}
        Over examples.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    scalar, or array or torch.Tensor of the labels' shape ("none")
        A loss: smaller is better, -1 is the best.  float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    ValueError, TypeError
        As :func:`expected_calibration_error`, or an unknown reduction.

    Notes
    -----
    Mean over nothing is NaN, the sum 0.  Accuracy: at most 4 ULP for the numbers given; near -1 what is
    left to gain is below the rounding of the score.  torch: differentiable.

    Examples
    --------
    >>> spherical_score([[0.5, 0.5], [1.0, 0.0]], [0, 0], reduction="none").round(4)
    array([-0.7071, -1.    ])

    References
    ----------
    Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", which has the
    opposite sign.

    See Also
    --------
    brier_score : the quadratic one.
    """
    p, y, binary, finish = _score_inputs(probs, labels, reduction, validate)
    xp = torch if _checks.is_torch(p) else np
    if binary:
        return finish(-xp.where(y == 1, p, 1 - p) / xp.sqrt(p * p + (1 - p) ** 2))
    return finish(-_at(p, y) / xp.sqrt((p * p).sum(-1)))


# ----------------------------------------------------------------------------------------------------------


def _checked(probs, labels, validate):
    """Return floating probs, int64 labels, and whether they are binary."""
    probs, labels = _checks.as_float("probs", probs), _labels(labels)
    _checks.same_kind(probs=probs, labels=labels)
    shape = tuple(probs.shape)
    binary = tuple(labels.shape) == shape
    if not binary and (not shape or tuple(labels.shape) != shape[:-1]):
        raise ValueError(
            f"labels must have probs' shape {shape} (binary) or that without the last axis (multiclass), "
            f"got {tuple(labels.shape)}"
        )
    if not binary and shape[-1] == 0:
        raise ValueError(f"probs must have at least one class, got shape {shape}")
    if _checks.may_read(probs, validate):
        _checks.probabilities("probs", probs)
        if not binary:
            _checks.distribution("probs", probs, len(shape) - 1)
        classes = 2 if binary else shape[-1]
        outside = (labels < 0) | (labels >= classes)
        if outside.any():
            raise ValueError(f"labels must be in [0, {classes}), got {labels[outside].reshape(-1)[0].item()}")
    return probs, labels, binary


def _labels(labels):
    if not _checks.is_torch(labels) and np.size(labels) == 0 and not hasattr(labels, "dtype"):
        return np.asarray(labels, dtype=np.int64)  # [] holds no floats either
    return _checks.as_integer("labels", labels)


def _score_inputs(probs, labels, reduction, validate):
    _checks.choice("reduction", reduction, REDUCTIONS)
    probs, labels, binary = _checked(probs, labels, validate)
    dtype = result_dtype(probs)

    def finish(losses):
        if reduction == "none":
            return _cast(losses, dtype)
        total = losses.sum()
        if reduction == "sum":
            return _cast(total, dtype)
        n = losses.numel() if _checks.is_torch(losses) else losses.size
        return _cast(total / n if n else total * np.nan, dtype)

    return _widen(probs), labels, binary, finish


def _at(p, y):
    """Return p_y."""
    if _checks.is_torch(p):
        return p.gather(-1, y.unsqueeze(-1)).squeeze(-1)
    return np.take_along_axis(p, y[..., None], -1)[..., 0]


def _without(p, y):
    """Return p with 0 in the place of p_y."""
    if _checks.is_torch(p):
        return p.scatter(-1, y.unsqueeze(-1), 0.0)
    rest = p.copy()
    np.put_along_axis(rest, y[..., None], 0.0, -1)
    return rest


def _widen(x):
    return x.to(working_dtype(x)) if _checks.is_torch(x) else x.astype(np.float64)


def _cast(x, dtype):
    return x.to(dtype) if _checks.is_torch(x) else np.asarray(x).astype(dtype)[()]
