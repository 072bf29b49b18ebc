"""Surprise, entropy and divergence of distributions that are given as probabilities.

For logits use :mod:`lossutils.cross_entropy`: a probability that underflowed to 0 can't be brought back.
Everything is in nats; :func:`nats_to_bits` converts.  NumPy arrays and torch tensors get the same code.

The convention is 0 * log 0 = 0.  An outcome that p allows and q rules out costs inf.

Result dtypes: float64 if any input is float64 (or integers in NumPy), else float32; sums are kept in float64.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from lossutils import _checks
from lossutils.logspace import result_dtype, working_dtype

__all__ = [
    "bits_to_nats",
    "distribution_cross_entropy",
    "entropy",
    "kl_divergence",
    "nats_to_bits",
    "surprisal",
]

_LN2 = math.log(2.0)
# atanh(s) - s = s**3 * (1/3 + s**2/5 + s**4/7 + ...): 27 terms reach 2**-56 of the first for |s| <= 1/2
_ATANH_TAIL = tuple(1.0 / (2 * k + 3) for k in range(27))


def surprisal(p, *, validate: bool | None = None):
    """Return -log(p): what it costs to see an outcome that had probability p.

    Use it for single probabilities.  From logits use :func:`lossutils.cross_entropy.cross_entropy`.

    ::

        surprisal(p) = -log(p)

    Parameters
    ----------
    p : array_like or torch.Tensor, any shape
        Probabilities in [0, 1].
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor, `p`'s shape
        Nats.  float64 for float64, else float32.

    Raises
    ------
    ValueError
        A value outside [0, 1] (above one by more than rounding: 1e-6, 1e-5, 5e-3, 1e-2 for float64, float32,
        float16, bfloat16), or NaN.
    TypeError
        Integer, boolean or complex tensors.

    Notes
    -----
    surprisal(0) is inf and surprisal(1) is 0.  There is no epsilon in the log: ``log(p + 1e-9)`` caps the
    cost at 20.7 and takes the gradient away where it is needed most.  Accuracy: at most 4 ULP.

    Examples
    --------
    >>> surprisal([0.9, 0.01]).round(3)
    array([0.105, 4.605])

    References
    ----------
    Shannon (1948), "A mathematical theory of communication".

    See Also
    --------
    entropy : the mean surprisal.
    """
    p = _checks.as_float("p", p)
    if _checks.may_read(p, validate):
        _checks.probabilities("p", p)
    p = _cast(p, result_dtype(p))
    xp = torch if _checks.is_torch(p) else np
    with np.errstate(divide="ignore"):
        return 0.0 - xp.log(p)  # 0 - 0, so that certainty costs 0.0 and not -0.0


def entropy(p, axis: int = -1, *, validate: bool | None = None):
    """Return the entropy of a distribution: the mean surprise of someone who knows it.

    Use it as the floor under a cross-entropy, or for the spread of a prediction.

    ::

        H(p) = -sum_c p_c log(p_c)

    Parameters
    ----------
    p : array_like or torch.Tensor, any shape with at least one axis
        Probabilities that sum to one along `axis`.
    axis : int
        The axis of outcomes.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor, `p` without `axis`
        Nats, in [0, log C].  float64 for float64, else float32.

    Raises
    ------
    ValueError
        Negative entries, or a sum that is not one within 1e-6, 1e-5, 5e-3, 1e-2 for float64, float32,
        float16, bfloat16 (NaN is not one); no axis or an axis out of range.
    TypeError
        Integer, boolean or complex tensors.

    Notes
    -----
    Terms with p = 0 count 0; their gradient, which would be inf, is taken as 0.  The sum is not renormalised.
    Accuracy: at most 4 ULP for the numbers given, as no term is negative.

    Examples
    --------
    >>> entropy([0.25] * 4) / np.log(2)
    np.float64(2.0)
    >>> print(entropy([1.0, 0.0]))
    0.0

    References
    ----------
    Shannon (1948), "A mathematical theory of communication".

    See Also
    --------
    distribution_cross_entropy : the mean surprise of someone who believes q.
    """
    p, axis = _distribution("p", p, axis, validate)
    xp = torch if _checks.is_torch(p) else np
    wide = _widen(p)
    terms = wide * xp.log(xp.where(wide == 0, 1.0, wide))
    total = -_sum(terms, axis)
    # an entry may exceed one by a rounding: never let that turn into a negative entropy
    return _cast(xp.where(total > 0, total, 0.0 * total + 0.0), result_dtype(p))


def distribution_cross_entropy(p, q, axis: int = -1, *, validate: bool | None = None):
    """Return the mean surprise of someone who believes q while p is true.

    Use it for distributions given as probabilities; from logits use
    :func:`lossutils.cross_entropy.cross_entropy`.

    ::

        H(p, q) = -sum_c p_c log(q_c) = H(p) + KL(p || q)

    Parameters
    ----------
    p, q : array_like or torch.Tensor
        Probabilities that sum to one along `axis`; shapes that broadcast, with equal sizes along `axis`.
    axis : int
        The axis of outcomes.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor, the broadcast shape without `axis`
        Nats.  float64 if `p` or `q` is, else float32.

    Raises
    ------
    ValueError
        Negative entries, sums that are not one (tolerances as in :func:`entropy`), shapes that do not fit.
    TypeError
        Integer, boolean or complex tensors; a tensor with an array.

    Notes
    -----
    p = 0 costs 0 even where q = 0; p > 0 where q = 0 gives inf.  Accuracy: at most 4 ULP for the numbers
    given.

    Examples
    --------
    >>> float(round(distribution_cross_entropy([0.5, 0.5], [0.9, 0.1]), 4))
    1.204
    >>> print(distribution_cross_entropy([0.5, 0.5], [1.0, 0.0]))
    inf

    References
    ----------
    Shannon (1948), "A mathematical theory of communication".

    See Also
    --------
    kl_divergence : the part that is q's fault.
    """
    p, q, axis = _pair(p, q, axis, validate)
    xp = torch if _checks.is_torch(p) else np
    wide_p, wide_q = _widen(p), _widen(q)
    with np.errstate(divide="ignore"):
        cost = 0.0 - xp.log(xp.where((wide_p == 0) & (wide_q == 0), 1.0, wide_q))
    return _cast(_sum(wide_p * cost, axis), _joint_dtype(p, q))


def kl_divergence(p, q, axis: int = -1, *, validate: bool | None = None):
    """Return the Kullback-Leibler divergence KL(p || q): the extra surprise of believing q while p is true.

    Use it to measure how far a distribution q is from p; it is zero only if they agree, and not symmetric.

    What is computed is the Bregman form, term by term, each term >= 0::

        KL(p || q) = sum_c [ p_c log(p_c / q_c) - p_c + q_c ]

    which is sum_c p_c log(p_c / q_c) when p and q sum to exactly one, and differs from it by the difference
    of the sums, sum(q) - sum(p), when rounding keeps them from it.

    Parameters
    ----------
    p, q : array_like or torch.Tensor
        Probabilities that sum to one along `axis`; shapes that broadcast, with equal sizes along `axis`.
    axis : int
        The axis of outcomes.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor, the broadcast shape without `axis`
        Nats, >= 0.  float64 if `p` or `q` is, else float32.

    Raises
    ------
    ValueError
        Negative entries, sums that are not one (tolerances as in :func:`entropy`), shapes that do not fit.
    TypeError
        Integer, boolean or complex tensors; a tensor with an array.

    Notes
    -----
    p = 0 contributes q, so that both zero contribute 0; p > 0 where q = 0 gives inf.

    The plain sum of p log(p/q) has terms of size ``|p - q|`` that must cancel to about (p - q)**2: near p = q it
    keeps no digit and may be negative.  For p/q in [1/3, 3], with s = (p - q)/(p + q), a term is ::

        (p + q) (s**2 + (1 + s) (atanh(s) - s))

    with a series for the last bracket: nothing cancels.

    Accuracy: at most 4 ULP of the Bregman form for the numbers given, however close p and q are.

    Gradients (torch) are those of the Bregman form: log(p/q) in p and 1 - p/q in q.  Along directions that
    keep the sums they are the gradients of KL; at p = 0 the one in p, which is -inf, is taken as -1.

    Examples
    --------
    >>> float(round(kl_divergence([0.5, 0.5], [0.9, 0.1]), 4))
    0.5108
    >>> p, q = np.array([0.5, 0.5]), np.array([0.5 + 2**-30, 0.5 - 2**-30])
    >>> f"{kl_divergence(p, q):.4e}", bool(np.sum(p * np.log(p / q)) <= 0)  # truth: 2 * 2**-60
    ('1.7347e-18', True)

    References
    ----------
    Kullback & Leibler (1951), "On information and sufficiency".

    See Also
    --------
    distribution_cross_entropy : with the entropy of p added.
    """
    p, q, axis = _pair(p, q, axis, validate)
    xp = torch if _checks.is_torch(p) else np
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        terms = _bregman(xp, _widen(p), _widen(q))
    return _cast(_sum(terms, axis), _joint_dtype(p, q))


def _bregman(xp, p, q):
    """Return p log(p/q) - p + q without cancellation; each branch stays finite where it is not taken."""
    both = p + q
    close = (p <= 3 * q) & (q <= 3 * p) & (both > 0)
    safe = xp.where(close, both, 1.0)
    s = xp.where(close, p - q, 0.0) / safe
    square = s * s
    tail = xp.zeros_like(square)
    for coefficient in reversed(_ATANH_TAIL):
        tail = tail * square + coefficient
    near = both * (square + (1 + s) * (tail * square * s))
    inside = ~close & (p > 0) & (q > 0)
    far_p, far_q = xp.where(inside, p, 1.0), xp.where(inside, q, 1.0)
    ratio = far_p / far_q
    huge = xp.isinf(ratio)  # q below 1e-308
    log_ratio = xp.where(
        huge, xp.log(far_p) - xp.log(far_q), xp.log(far_p / xp.where(huge, xp.ones_like(far_q), far_q))
    )
    far = far_p * log_ratio + (far_q - far_p)
    edge = xp.where(q > 0, q - p, xp.where(p > 0, math.inf, 0.0 * p))  # p = 0, or nothing of q left
    return xp.where(close, near, xp.where(inside, far, edge))


def nats_to_bits(x):
    """Return x / log(2).

    Use it to report a loss in bits: one bit is one halving of the probability.

    ::

        bits = nats / log(2)

    Parameters
    ----------
    x : array_like or torch.Tensor, any shape
        Nats.

    Returns
    -------
    array or torch.Tensor, `x`'s shape
        Bits.  float64 for float64, numbers and NumPy integers, else float32.

    Raises
    ------
    TypeError
        Integer, boolean or complex tensors.

    Notes
    -----
    At most 1.5 ULP: one division by the rounded constant.

    Examples
    --------
    >>> float(nats_to_bits(np.log(8.0)))
    3.0

    References
    ----------
    Shannon (1948), "A mathematical theory of communication".

    See Also
    --------
    bits_to_nats : the inverse.
    """
    x = _checks.as_float("x", x)
    return _cast(_widen(x) / _LN2, result_dtype(x))


def bits_to_nats(x):
    """Return x * log(2).

    Use it to bring a figure in bits, such as bits per byte, back to the unit of the losses.

    ::

        nats = bits * log(2)

    Parameters
    ----------
    x : array_like or torch.Tensor, any shape
        Bits.

    Returns
    -------
    array or torch.Tensor, `x`'s shape
        Nats.  float64 for float64, numbers and NumPy integers, else float32.

    Raises
    ------
    TypeError
        Integer, boolean or complex tensors.

    Notes
    -----
    At most 1.5 ULP: one product with the rounded constant.

    Examples
    --------
    >>> f"{bits_to_nats(1.0):.6f}"
    '0.693147'

    References
    ----------
    Shannon (1948), "A mathematical theory of communication".

    See Also
    --------
    nats_to_bits : the inverse.
    """
    x = _checks.as_float("x", x)
    return _cast(_widen(x) * _LN2, result_dtype(x))


def _widen(x):
    return x.to(working_dtype(x)) if _checks.is_torch(x) else x.astype(np.float64)


def _cast(x, dtype):
    return x.to(dtype) if _checks.is_torch(x) else np.asarray(x).astype(dtype)[()]


def _joint_dtype(p, q):
    return result_dtype(p) if str(result_dtype(p)).endswith("64") else result_dtype(q)


def _sum(x, axis: int):
    """Sum along ``axis``; NumPy sums pairwise only along a contiguous last axis."""
    if _checks.is_torch(x):
        return x.sum(axis)
    return np.ascontiguousarray(np.moveaxis(x, axis, -1)).sum(-1)


def _distribution(name, p, axis, validate):
    p = _checks.as_float(name, p)
    if p.ndim == 0:
        raise ValueError(f"{name} must have an axis of outcomes, got the scalar {p.item()!r}")
    axis = _checks.one_axis("axis", axis, p.ndim)
    if p.shape[axis] == 0:
        raise ValueError(
            f"{name} must have at least one outcome along axis {axis}, got shape {tuple(p.shape)}"
        )
    if _checks.may_read(p, validate):
        _checks.distribution(name, p, axis)
    return p, axis


def _pair(p, q, axis, validate):
    p, q = _checks.as_float("p", p), _checks.as_float("q", q)
    _checks.same_kind(p=p, q=q)
    shapes = f"got p of shape {tuple(p.shape)} and q of shape {tuple(q.shape)}"
    try:
        joint = np.broadcast_shapes(tuple(p.shape), tuple(q.shape))
    except ValueError as error:
        raise ValueError(f"p and q must have shapes that broadcast, {shapes}") from error
    # counted from the end, the axis is the same one in both, whatever their dimensions
    from_end = _checks.one_axis("axis", axis, len(joint)) - len(joint)
    if p.ndim < -from_end or q.ndim < -from_end or p.shape[from_end] != q.shape[from_end]:
        raise ValueError(f"p and q must have the same number of outcomes along axis {axis}, {shapes}")
    p, _ = _distribution("p", p, from_end, validate)
    q, _ = _distribution("q", q, from_end, validate)
    return p, q, from_end
