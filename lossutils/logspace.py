"""Sums, softmaxes and logarithms of probabilities that never leave the log domain.

This is the one place in the library that takes ``exp`` of a logit.  NumPy arrays and torch tensors get the
same algorithm: what goes in decides what comes out, lists and numbers count as NumPy.

Three ideas carry the accuracy.

1. *Shift by the maximum*, so that nothing overflows.
2. *Keep the largest term out of the sum.*  The rest, S, may be far below one rounding step of 1 + S, but
   ``log1p(S)`` still sees it.
3. *Do not lose the rounding of the shift.*  ``z - m`` is rounded, and exp turns a rounding of half a unit in
   a number near 100 into a relative error of 100 half-units.  float32 and lower are computed in float64,
   where that no longer matters; float64 carries the rounding error along (Knuth's two-sum) and multiplies it
   back in.

Result dtypes: float64 gives float64; float32, float16 and bfloat16 give float32; integers in NumPy give
float64.  Integer, boolean and complex tensors are refused.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from lossutils import _checks

__all__ = ["log1mexp", "log_expit", "log_softmax", "logsumexp", "softmax"]

_LN2 = math.log(2.0)
_LOG2E = math.log2(math.e)


# ----------------------------------------------------------------------------------------------------------
# the core: exp(x - m), and the sum without its largest term


def result_dtype(x: torch.Tensor | np.ndarray):
    """Return the dtype of a log-domain result: float64 for float64, float32 for everything narrower."""
    if _checks.is_torch(x):
        return torch.float64 if x.dtype == torch.float64 else torch.float32
    return np.dtype(np.float64) if x.dtype == np.float64 else np.dtype(np.float32)


def working_dtype(x: torch.Tensor) -> torch.dtype:
    """Return the dtype that sums are kept in: float64 wherever the device has it."""
    return torch.float32 if x.device.type == "mps" and x.dtype != torch.float64 else torch.float64


def relative_exp(x: torch.Tensor, m: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return exp(x - m) in the working dtype, within about 1.5 ULP however large x and m are.

    -inf in x gives 0; m is the maximum of x, so that nothing overflows.  With ``out`` (working dtype, x's
    shape) everything happens in place and nothing is recorded; without it the result is differentiable in x.
    """
    work = working_dtype(x)
    if out is not None:
        if x.dtype != work:
            return _widened_exp(out.copy_(x), m.to(work))
        torch.sub(x, m, out=out)
        if x.device.type != "cpu" or not torch.isfinite(m).all():
            correction = _two_sum_error(x, m, out)  # of the difference, which exp_ overwrites
            return out.exp_().addcmul_(out, correction)
        # The same sum without its temporaries, which cost more than the arithmetic: scratch that stays in the cache.
        rows = max(1, 2**15 // max(1, out[0].numel()))
        scratch = torch.empty((2, rows, *out.shape[1:]), dtype=out.dtype)
        for x_part, m_part, out_part in zip(x.split(rows), m.split(rows), out.split(rows), strict=True):
            b, correction = scratch[:, : len(x_part)]
            torch.sub(out_part, x_part, out=b)
            torch.sub(out_part, b, out=correction)
            torch.sub(x_part, correction, out=correction).sub_(b.add_(m_part))
            if out_part.amin() == -torch.inf:  # a masked logit: -inf less -inf is no number, its term is 0
                correction.nan_to_num_(nan=0.0)
            out_part.exp_().addcmul_(out_part, correction)
        return out
    if x.dtype != work:
        return (x.to(work) - m.to(work)).exp()
    difference = x - m
    with torch.no_grad():
        correction = _two_sum_error(x, m, difference)
    e = difference.exp()
    return e + e * correction


def _widened_exp(wide: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """Return exp(wide - m) in place, for half precision that was widened.

    The difference is exact to far below one unit of the narrow type, so the extra rounding of a change of base does no
    harm, and exp2 takes half of exp's time on a CPU.
    """
    return wide.sub_(m).mul_(_LOG2E).exp2_()


def max_and_relative_exp(x: torch.Tensor, dim: int, out: torch.Tensor):
    """Return (m, exp(x - m)) with the maximum along ``dim``, m in the working dtype, the rest written to ``out``."""
    if x.dtype == out.dtype:
        m = x.amax(dim, keepdim=True)
        return m, relative_exp(x, m, out)
    m = out.copy_(x).amax(dim, keepdim=True)  # of the wide copy: four times as fast as of the narrow original
    return m, _widened_exp(out, m)


def _two_sum_error(x, m, difference):
    """Return (x - m) - difference exactly, 0 where x is infinite (Knuth's two-sum, on either backend)."""
    b = difference - x
    error = (x - (difference - b)) - (m + b)
    if _checks.is_torch(x):
        return error.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    return np.nan_to_num(error, copy=False, nan=0.0, posinf=0.0, neginf=0.0)


def numpy_relative_exp(x: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Return exp(x - m) in float64, as :func:`relative_exp` does for tensors."""
    if x.dtype != np.float64:
        return np.exp(x.astype(np.float64) - m.astype(np.float64))
    difference = x - m
    correction = _two_sum_error(x, m, difference)
    e = np.exp(difference)
    return e + e * correction


def tail_sum(x: torch.Tensor, dim: int, out: torch.Tensor | None = None):
    """Return (m, top, E, S): the maximum, where it sits, exp(x - m), and the sum of E without one maximum.

    All keep ``dim`` (m, S have size 1 there).  logsumexp is m + log1p(S).  A row of -inf only, or with +inf
    or NaN in it, gives NaN in S.
    """
    m = x.amax(dim, keepdim=True)
    e = relative_exp(x, m, out)
    return m, *_below_top(x, m, e, dim)


def _below_top(x: torch.Tensor, m: torch.Tensor, e: torch.Tensor, dim: int):
    top = x == m
    # ties - 1 is exact, so S is as accurate as a sum of positive terms can be
    s = e.masked_fill_(top, 0.0).sum(dim, keepdim=True) + (top.sum(dim, keepdim=True) - 1)
    e.masked_fill_(top, 1.0)
    return top, e, torch.where(torch.isfinite(m), s, torch.nan)


def quick_tail_sum(x: torch.Tensor, dim: int, out: torch.Tensor):
    """Return :func:`tail_sum`, with None for the second where no S is small enough to need the top taken out.

    Then S = sum(E) - 1 is already accurate and three passes are saved.  It looks at values, so on an
    accelerator, where that means waiting, it always takes the careful way.
    """
    m, e = max_and_relative_exp(x, dim, out)
    if x.device.type == "cpu":
        s = e.sum(dim, keepdim=True) - 1
        # the subtraction costs 2**-53 / S: nothing for float32 above 1e-6, half a unit for float64 above 1
        if (s >= (1.0 if x.dtype == e.dtype else 1e-6)).all():
            return m, None, e, s
    return m, *_below_top(x, m, e, dim)


def numpy_tail_sum(x: np.ndarray):
    """Return (m, top, E, S) along the last axis, as :func:`tail_sum` does for tensors."""
    m = x.max(-1, keepdims=True)
    e = numpy_relative_exp(x, m)
    top = x == m
    # the last axis is contiguous here: NumPy then sums pairwise, elsewhere it would add one by one
    s = np.where(top, 0.0, e).sum(-1, keepdims=True) + (top.sum(-1, keepdims=True) - 1)
    return m, top, e, np.where(np.isfinite(m), s, np.nan)


# ----------------------------------------------------------------------------------------------------------
# torch functions with their own gradients


class _LogSumExp(torch.autograd.Function):
    """log sum b exp(a) over the last axis, which is kept with size 1."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        if b is None:
            m, _, _, s = tail_sum(a, -1)
            value = m.to(s.dtype) + torch.log1p(s)
            # scipy and torch agree on these: nothing there is log 0, and one infinite term wins
            return torch.where(torch.isinf(m), m.to(s.dtype), value).to(result_dtype(a))
        work = working_dtype(a)
        masked = a.masked_fill(b == 0, -torch.inf)
        b = b.to(work)
        key = masked.to(work) + b.abs().log().nan_to_num(neginf=0.0)  # only chooses the term to take out
        k = key.argmax(-1, keepdim=True)
        m, b_k = masked.gather(-1, k), b.gather(-1, k)
        terms = relative_exp(masked, m) * (b / b_k)
        terms = torch.where(b == 0, 0.0, terms)
        s = terms.scatter(-1, k, 0.0).sum(-1, keepdim=True)
        magnitude = torch.where(s > -1, torch.log1p(s), torch.log(-1 - s))
        value = m.to(work) + b_k.abs().log() + magnitude
        positive = (b_k > 0) == (s > -1)
        value = torch.where(positive | (s == -1), value, torch.nan)
        value = torch.where(m == torch.inf, _infinite_sum(masked, b), value)
        return torch.where(m == -torch.inf, -torch.inf, value).to(result_dtype(a))

    @staticmethod
    def backward(ctx, upstream):
        a, b = ctx.saved_tensors
        shift = a.detach() if b is None else a.detach().masked_fill(b == 0, -torch.inf)
        m = shift.amax(-1, keepdim=True)
        e = relative_exp(a, torch.where(m == -torch.inf, 0.0, m))
        # a factor of zero may sit on a term above m, even on +inf: its product is zero, not 0 * inf
        terms = e if b is None else torch.where(b == 0, 0.0, e * b.to(e.dtype))
        total = terms.sum(-1, keepdim=True)
        # a row of zeros (all -inf) has no term that could move it: gradient 0, not 0/0
        scale = upstream.to(e.dtype) / torch.where(total == 0, torch.inf, total)
        grad_a = (scale * terms).to(a.dtype) if ctx.needs_input_grad[0] else None
        grad_b = (scale * e).to(b.dtype) if b is not None and ctx.needs_input_grad[1] else None
        return grad_a, grad_b


def _infinite_sum(a, b):
    """Return the value where some a is +inf: inf if all its coefficients are positive, else NaN."""
    return torch.where(((a == torch.inf) & (b < 0)).any(-1, keepdim=True), torch.nan, torch.inf)


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        _, _, e, s = tail_sum(x, dim)
        p = (e / (1 + s)).to(result_dtype(x))
        ctx.dim, ctx.dtype = dim, x.dtype
        ctx.save_for_backward(p)
        return p

    @staticmethod
    def backward(ctx, upstream):
        (p,) = ctx.saved_tensors
        # Measured from the top class's upstream, the sum no longer holds p_top * upstream_top, which would
        # have to cancel against upstream_top itself when p_top is nearly one.
        k = p.detach().argmax(ctx.dim, keepdim=True)
        relative = upstream - upstream.gather(ctx.dim, k)
        grad = p * (relative - (p * relative).sum(ctx.dim, keepdim=True))
        return grad.to(ctx.dtype), None


class _LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, dim):
        ctx.dim = dim
        ctx.save_for_backward(x)
        m, _, _, s = tail_sum(x, dim)
        return ((x.to(s.dtype) - m.to(s.dtype)) - torch.log1p(s)).to(result_dtype(x))

    @staticmethod
    def backward(ctx, upstream):
        (x,) = ctx.saved_tensors
        dim = ctx.dim
        p = _Softmax.apply(x, dim)
        # upstream_k - p_k * total = upstream_k * (1 - p_k) - p_k * (total - upstream_k), and 1 - p_k is the
        # sum of the other probabilities: no subtraction from one, so the gradient survives p_k -> 1.
        k = x.detach().argmax(dim, keepdim=True)
        zero = torch.zeros_like(k, dtype=upstream.dtype)
        rest = p.scatter(dim, k, zero.to(p.dtype)).sum(dim, keepdim=True)
        others = upstream.scatter(dim, k, zero).sum(dim, keepdim=True)
        top = upstream.gather(dim, k)
        grad = upstream - p * (others + top)
        return grad.scatter(dim, k, top * rest - p.gather(dim, k) * others).to(x.dtype), None


# ----------------------------------------------------------------------------------------------------------
# public functions


def logsumexp(a, axis=None, b=None, keepdims=False):
    """Return log(sum(b * exp(a))) without overflow, and without losing a small sum beside a large term.

    Use it for a log-normaliser (the log-partition function) or to add probabilities that are kept as logs.
    For a loss prefer :func:`lossutils.cross_entropy.cross_entropy`: the difference ``logsumexp(z) - z[y]``
    cancels.

    With m = max(a) and S the sum of exp(a_j - m) over all terms but one largest::

        logsumexp(a) = m + log1p(S)

    and with weights b, where term k has the largest b_k * exp(a_k), and S sums (b_j/b_k) exp(a_j - a_k)::

        logsumexp(a, b) = a_k + log|b_k| + log1p(S)

    Parameters
    ----------
    a : array_like or torch.Tensor, any shape
        Logs (nats).
    axis : None, int or tuple of int
        The axes to sum over; None is all of them.
    b : array_like or torch.Tensor, broadcastable with `a`, optional
        Factors.  A zero removes its term, even where `a` is inf.  Negative factors are allowed.
    keepdims : bool
        Keep the summed axes with size one.

    Returns
    -------
    array or torch.Tensor
        `a` without the summed axes.  float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    TypeError
        Integer, boolean or complex tensors; a tensor with a NumPy `b`; an axis that is not an integer.
    ValueError
        An axis out of range or named twice; `b` that does not broadcast.

    Notes
    -----
    Limits: an empty sum and a row of -inf give -inf (gradient 0 there); a +inf term gives +inf (gradient NaN
    in that row unless its factor is zero); NaN gives NaN; a negative total gives NaN; a total of zero gives
    -inf.

    logsumexp moves with its argument: lse(a + c) = lse(a) + c.

    Accuracy: at most 4 ULP of ``max(|m|, result)`` in float32 and float64, and 4 ULP of the result whenever it is
    not close to zero.  Near zero (for example ``a = [-log 2, -log 2]`` in float64) m and log1p(S) cancel;
    that is the conditioning of the function, not of the method.  With `b` of both signs the total itself may
    cancel. torch: differentiable in `a` and `b`, twice.

    Examples
    --------
    >>> f"{logsumexp([1000.0, 1000.0]) - 1000.0:.6f}"  # log 2
    '0.693147'
    >>> f"{logsumexp([0.0, -40.0]):.9e}"  # naive: log(1 + 4e-18) = 0
    '4.248354255e-18'

    References
    ----------
    Blanchard, Higham & Higham (2021), "Accurately computing the log-sum-exp and softmax functions".

    See Also
    --------
    log_softmax : subtracts it from each logit, without the cancellation.
    """
    a = _checks.as_float("a", a)
    if b is not None:
        b = _checks.as_float("b", b)
        _checks.same_kind(a=a, b=b)
        _check_broadcast(a, b)
    where = _checks.axes("axis", axis, a.ndim)
    if _checks.is_torch(a):
        return _torch_logsumexp(a, where, b, keepdims)
    out_dtype = result_dtype(a)
    if b is not None:
        a, b = np.broadcast_arrays(a, b)
    kept = tuple(1 if i in where else n for i, n in enumerate(a.shape))
    shape = kept if keepdims else tuple(n for i, n in enumerate(a.shape) if i not in where)
    rows = _numpy_rows(a, where)
    if rows.shape[-1] == 0:
        return np.full(shape, -np.inf, out_dtype)[()]
    with np.errstate(all="ignore"):
        value = _numpy_logsumexp(rows, None if b is None else _numpy_rows(b, where))
        return value.reshape(shape).astype(out_dtype)[()]


def _check_broadcast(a, b) -> None:
    try:
        joint = np.broadcast_shapes(tuple(a.shape), tuple(b.shape))
    except ValueError:
        joint = None
    if joint is None or len(joint) != a.ndim:
        raise ValueError(
            f"b must broadcast with a without adding axes, got b of shape {tuple(b.shape)} "
            f"and a of shape {tuple(a.shape)}"
        )


def _numpy_rows(x: np.ndarray, where: tuple[int, ...]) -> np.ndarray:
    """Move the axes to sum over to the end and flatten them to one contiguous axis."""
    others = [i for i in range(x.ndim) if i not in where]
    moved = x.transpose(*others, *where)
    lead = moved.shape[: len(others)]
    return np.ascontiguousarray(moved).reshape(*lead, math.prod(moved.shape[len(others) :]))


def _numpy_logsumexp(a: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    if b is None:
        m, _, _, s = numpy_tail_sum(a)
        return np.where(np.isinf(m), m, m + np.log1p(s))
    a, b = np.where(b == 0, -np.inf, a), b.astype(np.float64)
    key = a + np.nan_to_num(np.log(np.abs(b)), neginf=0.0)
    k = np.argmax(key, -1)[..., None]
    m, b_k = np.take_along_axis(a, k, -1), np.take_along_axis(b, k, -1)
    terms = np.where(b == 0, 0.0, numpy_relative_exp(a, m) * (b / b_k))
    np.put_along_axis(terms, k, 0.0, -1)
    s = terms.sum(-1, keepdims=True)
    value = m.astype(np.float64) + np.log(np.abs(b_k)) + np.where(s > -1, np.log1p(s), np.log(-1 - s))
    value = np.where(((b_k > 0) == (s > -1)) | (s == -1), value, np.nan)
    negative = ((a == np.inf) & (b < 0)).any(-1, keepdims=True)
    value = np.where(m == np.inf, np.where(negative, np.nan, np.inf), value)
    return np.where(m == -np.inf, -np.inf, value)


def _torch_logsumexp(a, where, b, keepdims):
    if b is not None:
        a, b = torch.broadcast_tensors(a, b)
    kept = [1 if i in where else n for i, n in enumerate(a.shape)]
    shape = kept if keepdims else [n for i, n in enumerate(a.shape) if i not in where]
    if any(a.shape[i] == 0 for i in where):
        return torch.full(shape, -torch.inf, dtype=result_dtype(a), device=a.device)
    others = [i for i in range(a.ndim) if i not in where]
    lead = [a.shape[i] for i in others]
    last = math.prod(a.shape[i] for i in where)
    rows = a.permute(*others, *where).reshape(*lead, last)
    if b is not None:
        b = b.permute(*others, *where).reshape(*lead, last)
    return _LogSumExp.apply(rows, b).reshape(shape)


def log_softmax(x, axis=-1):
    """Return the log-probabilities x - logsumexp(x), also where a probability is nearly one.

    Use it when you need the log-probability of every class.  For the loss of one class use
    :func:`lossutils.cross_entropy.cross_entropy`, which does not store the whole table.

    With m = max(x) and S the sum of exp(x_j - m) over all classes but one largest::

        log_softmax(x)_j = (x_j - m) - log1p(S)

    Both parts are <= 0: nothing cancels.

    Parameters
    ----------
    x : array_like or torch.Tensor, any shape with at least one axis
        Logits.  -inf masks a class.
    axis : int
        The axis of classes.

    Returns
    -------
    array or torch.Tensor, `x`'s shape
        Log-probabilities (nats).  float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    TypeError
        Integer, boolean or complex tensors.
    ValueError
        No axis, an empty axis, or an axis out of range.

    Notes
    -----
    Limits: a masked class gets -inf; a row of -inf only, or with +inf or NaN in it, is NaN throughout (as in
    torch; scipy leaves -inf in parts of a row with +inf).

    Accuracy: at most 4 ULP in float32 and float64.  ``log(softmax(x))`` gives -inf from a gap of 104 in
    float32, and the usual ``x - m - log(sum)`` gives 0 for a log-probability under 6e-8.  The gradient at a
    class with p near 1 uses the sum of the other probabilities, never 1 - p.  torch: differentiable twice.
    Half-precision input is computed in float64 and gives float32.  The temporaries are float64: about three
    times a float32 `x`.

    Examples
    --------
    >>> [f"{v:.6e}" for v in log_softmax([20.0, 0.0])]
    ['-2.061154e-09', '-2.000000e+01']
    >>> print(log_softmax([0.0, -np.inf]))
    [  0. -inf]

    References
    ----------
    Blanchard, Higham & Higham (2021), "Accurately computing the log-sum-exp and softmax functions".

    See Also
    --------
    softmax : the probabilities themselves.
    log_expit : two classes, one of whose logits is 0.
    """
    x, axis = _with_classes(x, axis)
    if _checks.is_torch(x):
        return _LogSoftmax.apply(x, axis)
    with np.errstate(all="ignore"):
        rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        m, _, _, s = numpy_tail_sum(rows)
        value = (rows.astype(np.float64) - m.astype(np.float64)) - np.log1p(s)
        return np.moveaxis(value.astype(result_dtype(x)), -1, axis)


def softmax(x, axis=-1):
    """Return the probabilities exp(x) / sum(exp(x)).

    Use it to look at probabilities or to sample.  For a loss stay in the log domain.

    With m = max(x)::

        softmax(x)_j = exp(x_j - m) / sum_i exp(x_i - m)

    Parameters
    ----------
    x : array_like or torch.Tensor, any shape with at least one axis
        Logits.  -inf masks a class.
    axis : int
        The axis of classes.

    Returns
    -------
    array or torch.Tensor, `x`'s shape
        Probabilities.  float64 for float64 and NumPy integers, else float32 (for float16 and bfloat16 too).

    Raises
    ------
    TypeError
        Integer, boolean or complex tensors.
    ValueError
        No axis, an empty axis, or an axis out of range.

    Notes
    -----
    Limits: a masked class gets 0; a row of -inf only, or with +inf or NaN in it, is NaN throughout.
    softmax does not move with its argument: softmax(x + c) = softmax(x).

    Accuracy: at most 4 ULP in float32 and float64.  A plain ``exp(x - m)`` loses up to 50 ULP at a gap of
    100, as the rounding of x - m is multiplied by the gap.  torch: differentiable twice.

    Examples
    --------
    >>> softmax([1000.0, 1000.0, -np.inf])
    array([0.5, 0.5, 0. ])

    References
    ----------
    Blanchard, Higham & Higham (2021), "Accurately computing the log-sum-exp and softmax functions".

    See Also
    --------
    log_softmax : the logs, which do not underflow.
    """
    x, axis = _with_classes(x, axis)
    if _checks.is_torch(x):
        return _Softmax.apply(x, axis)
    with np.errstate(all="ignore"):
        rows = np.ascontiguousarray(np.moveaxis(x, axis, -1))
        _, _, e, s = numpy_tail_sum(rows)
        return np.moveaxis((e / (1 + s)).astype(result_dtype(x)), -1, axis)


def _with_classes(x, axis):
    x = _checks.as_float("x", x)
    if x.ndim == 0:
        raise ValueError(f"x must have an axis of classes, got the scalar {x.item()!r}")
    axis = _checks.one_axis("axis", axis, x.ndim)
    if x.shape[axis] == 0:
        raise ValueError(f"x must have at least one class along axis {axis}, got shape {tuple(x.shape)}")
    return x, axis


def log1mexp(x):
    """Return log(1 - exp(x)) for x <= 0: the log-probability of "not", from the log-probability.

    Use it wherever a formula has log(1 - p) and p is kept as a log: odds (ORPO), complements, survival.

    ::

        log1mexp(x) = log(-expm1(x))    for x > -log 2
                      log1p(-exp(x))    for x <= -log 2

    Parameters
    ----------
    x : array_like or torch.Tensor, any shape
        A log-probability (nats), x <= 0.

    Returns
    -------
    array or torch.Tensor, `x`'s shape
        float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    TypeError
        Integer, boolean or complex tensors.

    Notes
    -----
    Limits: 0 gives -inf, -inf gives 0, x > 0 and NaN give NaN.

    Accuracy: at most 4 ULP in float32 and float64.  ``log1p(-exp(x))`` alone is -inf at x = -1e-8 in float32;
    ``log(-expm1(x))`` alone is 0 at x = -20.  torch: differentiable twice.

    Examples
    --------
    >>> round(float(log1mexp(-1e-8)), 6)  # log(1e-8)
    -18.420681
    >>> f"{log1mexp(-40.0):.9e}"  # -exp(-40)
    '-4.248354255e-18'

    References
    ----------
    Mächler (2012), "Accurately computing ``log(1 - exp(-|a|))``", R package Rmpfr.

    See Also
    --------
    log_expit : log(1 / (1 + exp(-x))).
    """
    x = _checks.as_float("x", x)
    if _checks.is_torch(x):
        x = x.to(result_dtype(x))
        near = x > -_LN2
        # each branch sees a harmless value where the other one is taken: no NaN leaks into the gradient
        close = torch.log(-torch.expm1(torch.where(near, x, -1.0)))
        return torch.where(near, close, torch.log1p(-torch.exp(torch.where(near, -1.0, x))))
    with np.errstate(all="ignore"):
        x = x.astype(result_dtype(x))
        value = np.where(x > -_LN2, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))
        return value.astype(x.dtype)[()]


def log_expit(x):
    """Return log(sigmoid(x)): the log-probability of "yes" from one logit.

    Use it for two-way losses: Bradley-Terry, DPO, binary cross-entropy.  log(1 - sigmoid(x))
    is log_expit(-x).

    ::

        log_expit(x) = min(x, 0) - log1p(exp(-|x|))

    Parameters
    ----------
    x : array_like or torch.Tensor, any shape
        A logit (nats).

    Returns
    -------
    array or torch.Tensor, `x`'s shape
        float64 for float64 and NumPy integers, else float32.

    Raises
    ------
    TypeError
        Integer, boolean or complex tensors.

    Notes
    -----
    Limits: +inf gives 0, -inf gives -inf, NaN gives NaN.

    Accuracy: at most 4 ULP in float32 and float64.  ``log(sigmoid(x))`` is 0 from x = 17 on in float32, and
    -inf below -89.  torch: differentiable twice, gradient sigmoid(-x).

    Examples
    --------
    >>> f"{log_expit(0.0):.6f}"  # -log 2
    '-0.693147'
    >>> f"{log_expit(40.0):.9e}"
    '-4.248354255e-18'

    See Also
    --------
    log_softmax : more than two classes.
    log1mexp : log(1 - exp(x)) of a log-probability.
    """
    x = _checks.as_float("x", x)
    if _checks.is_torch(x):
        return torch.nn.functional.logsigmoid(x.to(result_dtype(x)))
    with np.errstate(all="ignore"):
        x = x.astype(result_dtype(x))
        return (np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))))[()]
