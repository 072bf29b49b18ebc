"""Cross-entropy from logits, accurate where the model is confident and right.

Frameworks compute ``logsumexp(z) - z_y``, or ``log_softmax``, with the target's own term inside the sum.
Once exp(z_y - m) = 1 dominates, everything else is rounded away: the loss is 0 and so is the gradient
p - 1.  Here the target's term stays out of the sum.  With m = max z, S the sum over j != y of
exp(z_j - m), and e = exp(z_y - m)::

    loss = log1p(S)                      if y is an argmax (e = 1)
           log(S + e) + (m - z_y)        otherwise, where both parts are >= 0
    dloss/dz_y = -S / (S + e)            never p - 1
    dloss/dz_j = exp(z_j - m) / (S + e)

The torch side works through the rows in blocks that fit the cache and writes the gradient while a block is
still there, so each logit is exponentiated once for loss and gradient together, and no table of
log-probabilities is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from lossutils import _checks
from lossutils.logspace import (
    log_softmax,
    max_and_relative_exp,
    numpy_tail_sum,
    quick_tail_sum,
    relative_exp,
    result_dtype,
    working_dtype,
)

__all__ = ["cross_entropy"]

REDUCTIONS = ("none", "mean", "sum")


def cross_entropy(
    logits,
    target,
    weight=None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    validate: bool | None = None,
):
    """Return the cross-entropy of logits against class indices or class probabilities.

    Use it as ``torch.nn.functional.cross_entropy``: same layout, same options, same values in float64.  It
    differs where that one loses digits, and in the few places that the notes list.

    Per row, with lse = logsumexp(logits) over the C classes, w the class weights (all one if absent), t the
    target distribution (one-hot for an index y), eps = `label_smoothing` and t' = (1 - eps) t + eps / C::

        loss = sum_c w_c t'_c (lse - logits_c)  +  z_loss * (sum_c w_c t_c) * lse**2

    Parameters
    ----------
    logits : array_like or torch.Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Unnormalised log-probabilities (nats); float64, float32, float16 or bfloat16 (NumPy: integers too).
        -inf masks a class.
    target : array_like or torch.Tensor
        Integers of shape (), (N,) or (N, d1, ...) in [0, C) or equal to `ignore_index`; or floating class
        probabilities of `logits`' shape.
    weight : array_like or torch.Tensor, shape (C,), optional
        A weight for each class, floating.  No gradient flows to it.
    ignore_index : int
        Rows with this target cost nothing and get a gradient of exactly zero.  Only for integer targets.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum by the sum of w_y over rows that count (integer targets), or by the number of
        rows (probabilities), as torch does.
    label_smoothing : float in [0, 1]
        The share eps of the target that is spread evenly.  The smoothed loss is not a negative
        log-likelihood: its exp is no perplexity.
    z_loss : float >= 0
        Factor of lse**2, which pins the freedom that softmax leaves in the logits (PaLM uses 1e-4).  The term
        carries the row's weight, so a weighted mean stays a mean of row losses.
    validate : bool, optional
        Whether to check the values of `target` and probabilities.  None checks on the CPU only: on an
        accelerator a check waits for the device, so there it happens only with True.  Shapes and dtypes are
        always checked.

    Returns
    -------
    scalar, or array or torch.Tensor of the shape of integer targets ("none")
        Nats.  float64 for float64 and NumPy integer logits, else float32 (float16 and bfloat16 too).

    Raises
    ------
    ValueError
        Shapes that do not fit, a target outside [0, C), probabilities that are negative or do not sum to one
        (within 1e-6, 1e-5, 5e-3, 1e-2 for float64, float32, float16, bfloat16), an unknown reduction,
        smoothing outside [0, 1], a negative z_loss, an `ignore_index` >= 0 with probabilities, devices that
        differ, a `weight` that requires grad.
    TypeError
        Integer, boolean or complex logits tensors, boolean targets, tensors mixed with arrays.

    Notes
    -----
    Limits.  Mean over nothing (no rows, or all ignored) is NaN, with a gradient of zero; the sum is 0.  A
    target whose logit is -inf costs inf (gradient -1 there).  A row of -inf only, or with +inf or NaN in it,
    costs NaN, unless it is ignored.  These are torch's.

    Differences from torch, on purpose: (1) accuracy, below; (2) float16 and bfloat16 give a float32 loss;
    (3) a product of a zero coefficient (probability or weight) and an infinite cost is 0, not NaN; (4)
    ignored rows get a zero gradient even where their logits are NaN; (5) probabilities must be probabilities;
    (6) targets of any integer dtype, and of probabilities in another float dtype than the logits, are taken.

    Accuracy: loss and gradient, also at y, are within 4 ULP of the exact value for float32 and float64
    integer targets, at any offset and gap, -inf masks and ties included.  float32's plain method is 5e3 ULP
    off at logits [10, 0] and returns 0 at [17, 0].  Sums are kept in float64; float64 itself carries the
    rounding of z - m along (see :mod:`lossutils.logspace`).  With probabilities or smoothing, the loss holds
    the same bound; a gradient p_j - t_j loses relative accuracy only where it really is a difference of close
    numbers.

    torch: the gradient is computed in the forward pass (float16: in the backward pass, where the upstream
    scale is known, so that it does not underflow), and costs one tensor of the logits' size.  A second
    backward through a retained graph recomputes it.  Double backward works, through a slower path that keeps
    whole tables. On devices without float64 (MPS) sums are kept in compensated float32.

    Examples
    --------
    >>> f"{cross_entropy([0.0] * 10, 3):.6f}"  # log 10
    '2.302585'
    >>> f"{cross_entropy([40.0, 0.0], 0):.9e}"  # log1p(exp(-40)), not 0
    '4.248354255e-18'
    >>> z = torch.tensor([[17.0, 0.0]], requires_grad=True)
    >>> cross_entropy(z, torch.tensor([0])).backward()
    >>> [f"{g:.4e}" for g in z.grad[0].tolist()]
    ['-4.1399e-08', '4.1399e-08']

    References
    ----------
    Szegedy et al. (2016), arXiv:1512.00567, label smoothing.  Chowdhery et al. (2023), arXiv:2204.02311,
    section 5, z-loss.

    See Also
    --------
    lossutils.information.distribution_cross_entropy : from probabilities rather than logits.
    lossutils.logspace.log_softmax : all classes' log-probabilities.
    """
    logits, target, weight, options = _checked(
        logits, target, weight, ignore_index, reduction, label_smoothing, z_loss, validate
    )
    if not _checks.is_torch(logits):
        with np.errstate(all="ignore"):
            return _numpy_cross_entropy(logits, target, weight, options)
    if target.requires_grad and torch.is_grad_enabled():
        return _composite(logits, target, weight, options)
    want_grad = logits.requires_grad and torch.is_grad_enabled()
    return _CrossEntropy.apply(logits, target, weight, options, want_grad)


@dataclass(frozen=True)
class _Options:
    ignore_index: int
    reduction: str
    label_smoothing: float
    z_loss: float
    soft: bool


def _checked(logits, target, weight, ignore_index, reduction, label_smoothing, z_loss, validate):
    logits = _checks.as_float("logits", logits)
    if not _checks.is_torch(target):
        _checks.same_kind(logits=logits, target=target)
        target = np.asarray(target)
    soft = target.dtype.is_floating_point if _checks.is_torch(target) else target.dtype.kind == "f"
    target = _checks.as_float("target", target) if soft else _checks.as_integer("target", target)
    _checks.same_kind(logits=logits, target=target)
    _checks.choice("reduction", reduction, REDUCTIONS)
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    options = _Options(
        int(ignore_index),
        reduction,
        _checks.real("label_smoothing", label_smoothing, 0.0, 1.0),
        _checks.real("z_loss", z_loss, 0.0),
        soft,
    )
    shape = tuple(logits.shape)
    if logits.ndim == 0:
        raise ValueError("logits must have shape (C,), (N, C) or (N, C, d1, ...), got a scalar")
    axis = 0 if logits.ndim == 1 else 1
    classes = shape[axis]
    if classes == 0:
        raise ValueError(f"logits must have at least one class, got shape {shape}")
    if weight is not None:
        weight = _checks.as_float("weight", weight)
        _checks.same_kind(logits=logits, weight=weight)
        if tuple(weight.shape) != (classes,):
            raise ValueError(f"weight must have shape ({classes},), one a class, got {tuple(weight.shape)}")
        if _checks.is_torch(weight) and weight.requires_grad:
            raise ValueError("weight must not require grad, got requires_grad=True: no gradient flows to it")
    rows = shape[:axis] + shape[axis + 1 :]
    if soft:
        if tuple(target.shape) != shape:
            hint = ": class indices must be integers" if tuple(target.shape) == rows else ""
            raise ValueError(
                f"target of probabilities must have shape {shape}, got {tuple(target.shape)}{hint}"
            )
        if options.ignore_index >= 0:
            raise ValueError(
                f"ignore_index must be negative with probabilities as target, got {ignore_index}"
            )
        if _checks.may_read(target, validate):
            _checks.distribution("target", target, axis)
        return logits, target, weight, options
    if tuple(target.shape) != rows:
        hint = ": class probabilities must be floating" if tuple(target.shape) == shape else ""
        raise ValueError(
            f"target of class indices must have shape {rows} for logits of shape {shape}, "
            f"got {tuple(target.shape)}{hint}"
        )
    if _checks.may_read(target, validate):
        outside = ((target < 0) | (target >= classes)) & (target != options.ignore_index)
        if outside.any():
            raise ValueError(
                f"target must be in [0, {classes}) or ignore_index ({options.ignore_index}), "
                f"got {target[outside].reshape(-1)[0].item()}"
            )
    return logits, target, weight, options


# ----------------------------------------------------------------------------------------------------------
# NumPy: the formula, row by row of an (R, C) table


def _numpy_cross_entropy(logits, target, weight, options):
    axis = 0 if logits.ndim == 1 else 1
    table = np.moveaxis(logits, axis, -1)
    rows_shape, classes = table.shape[:-1], table.shape[-1]
    z = np.ascontiguousarray(table).reshape(-1, classes)
    w = np.ones(classes) if weight is None else weight.astype(np.float64)
    m, _, _, s = numpy_tail_sum(z)
    log_total = np.log1p(s[:, 0])
    gap = m.astype(np.float64) - z  # >= 0
    eps = options.label_smoothing
    if options.soft:
        t = np.moveaxis(target, axis, -1).reshape(-1, classes).astype(np.float64)
        valid, row_weight, coefficients = (
            np.ones(len(z), bool),
            (w * t).sum(-1),
            w * ((1 - eps) * t + eps / classes),
        )
        denominator = float(len(z))
    else:
        t = target.reshape(-1)
        valid = t != options.ignore_index
        y = np.where(valid, t, 0)
        row_weight = np.where(valid, w[y], 0.0)
        coefficients = np.tile(w * (eps / classes), (len(z), 1))
        coefficients[np.arange(len(z)), y] += (1 - eps) * w[y]
        denominator = row_weight.sum()
    share = coefficients.sum(-1)
    spread = np.where(coefficients == 0, 0.0, coefficients * gap).sum(-1)
    losses = share * log_total + spread
    if options.z_loss:
        losses = losses + options.z_loss * row_weight * (m[:, 0] + log_total) ** 2
    losses = np.where(valid, losses, 0.0)
    dtype = result_dtype(logits)
    if options.reduction == "none":
        return losses.reshape(rows_shape).astype(dtype)[()]
    total = losses.sum()
    return (total / denominator if options.reduction == "mean" else total).astype(dtype)[()]


# ----------------------------------------------------------------------------------------------------------
# torch: blocks of an (R, C, D) view


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, target, weight, options, want_grad):
        ctx.save_for_backward(logits, target, weight)
        ctx.options = options
        early = want_grad and logits.dtype != torch.float16
        loss, ctx.early_grad = _walk(logits, target, weight, options, None, early)
        return loss

    @staticmethod
    def backward(ctx, upstream):
        logits, target, weight = ctx.saved_tensors
        options = ctx.options
        if torch.is_grad_enabled():  # create_graph=True
            loss = _composite(logits, target, weight, options)
            (grad,) = torch.autograd.grad(loss, logits, upstream, create_graph=True)
            return grad, None, None, None, None
        if logits.dtype == torch.float16:  # p / N may underflow before a loss scale can lift it
            _, grad = _walk(logits, target, weight, options, upstream, True)
            return grad, None, None, None, None
        # handed over once, since the receiver may write into it: a second backward computes it anew
        grad, ctx.early_grad = ctx.early_grad, None
        if grad is None:
            _, grad = _walk(logits, target, weight, options, None, True)
        if upstream.ndim or upstream.device.type != "cpu" or upstream.item() != 1.0:
            if not options.soft:  # an infinite upstream times the zero gradient of an ignored row is zero
                upstream = torch.where(target == options.ignore_index, 0.0, upstream)
            grad.mul_(upstream.unsqueeze(0 if grad.ndim == 1 else 1) if upstream.ndim else upstream)
        return grad, None, None, None, None


_BLOCK = 2**19  # elements: a cache holds them, and they outweigh the calls that handle them


def _blocks(rows: int, classes: int, depth: int, device: torch.device):
    """Yield (row slice, depth slice): a block fits a CPU's cache, or fills an accelerator."""
    if rows == 0 or depth == 0:
        return
    budget = _BLOCK * torch.get_num_threads() if device.type == "cpu" else 2**24
    if classes * depth <= budget:
        step = max(1, budget // (classes * depth))
        for start in range(0, rows, step):
            yield slice(start, min(start + step, rows)), slice(0, depth)
        return
    step = max(1, budget // classes)
    for row in range(rows):
        for start in range(0, depth, step):
            yield slice(row, row + 1), slice(start, min(start + step, depth))


def _three_axes(logits):
    """Return the logits as (R, C, D), a view where the memory allows, and the name of the layout."""
    if logits.ndim == 1:
        return logits.view(1, -1, 1) if logits.is_contiguous() else logits[None, :, None], "flat"
    last = logits.movedim(1, -1)
    if last.is_contiguous():  # (N, C), or (N, T, C).transpose(1, 2): classes are neighbours in memory
        return last.view(-1, last.shape[-1], 1), "last"
    return logits.reshape(logits.shape[0], logits.shape[1], math.prod(logits.shape[2:])), "middle"


def _walk(logits, target, weight, options, upstream, want_grad):
    """Return (reduced loss, gradient or None) in one pass over the logits, block by block."""
    z, layout = _three_axes(logits)
    rows, classes, depth = z.shape
    work = working_dtype(z)
    grad = g3 = None
    if want_grad:
        grad = torch.empty_like(logits) if layout != "middle" else logits.new_empty(logits.shape)
        g3 = _three_axes(grad)[0]
    w = None if weight is None else weight.detach().to(work)
    if options.soft:
        t = target.detach()
        t = (t.movedim(1, -1) if layout == "last" else t).reshape(rows, classes, depth)
        valid, row_weight, denominator = None, None, float(rows * depth)
    else:
        t = target.reshape(rows, 1, depth)
        valid = t != options.ignore_index
        t = torch.where(valid, t, 0)
        row_weight = valid.to(work) if w is None else torch.where(valid, w[t], 0.0)
        denominator = row_weight.sum()
    scale = _row_scale(upstream, denominator, options, (rows, 1, depth), z.device, work)
    losses = torch.empty((rows, 1, depth), dtype=work, device=z.device)
    scratch = None
    for r, d in _blocks(rows, classes, depth, z.device):
        block, keep = z[r, :, d], None if valid is None else valid[r, :, d]
        out = None if g3 is None else g3[r, :, d]
        if keep is not None and z.device.type == "cpu":  # look before computing: it costs no waiting here
            if not keep.any():
                losses[r, :, d] = 0.0
                if out is not None:
                    out.zero_()
                continue
            keep = None if keep.all() else keep
        if scratch is None:  # the first block is the largest
            scratch = torch.empty(block.numel(), dtype=work, device=z.device)
        buffer = scratch[: block.numel()].view(block.shape)
        row_scale = None if out is None else scale[r, :, d]
        if options.soft or options.label_smoothing:
            loss = _dense_block(block, t[r, :, d], w, options, buffer, row_scale, out)
        else:
            loss = _index_block(block, t[r, :, d], row_weight[r, :, d], options, buffer, row_scale, out)
        if keep is not None:
            loss = torch.where(keep, loss, 0.0)
            if out is not None:
                out.masked_fill_(~keep, 0.0)
        losses[r, :, d] = loss
    dtype = result_dtype(logits)
    if options.reduction == "none":
        shape = logits.shape[:1] + logits.shape[2:] if logits.ndim > 1 else ()
        return losses.reshape(shape).to(dtype), grad
    total = losses.sum()
    return (total / denominator if options.reduction == "mean" else total).to(dtype), grad


def _row_scale(upstream, denominator, options, shape, device, work):
    """Return what each row's gradient is multiplied by, expanded to (R, 1, D); the weights come later."""
    if upstream is None:
        upstream = torch.ones((), dtype=work, device=device)
    scale = upstream.to(work)
    if options.reduction == "mean":
        scale = scale / denominator
    return scale.reshape(shape) if options.reduction == "none" and scale.ndim else scale.expand(shape)


def _index_block(z, y, row_weight, options, buffer, scale, out):
    """Return the weighted losses (r, 1, d) of class indices; write the gradient to ``out`` if given."""
    m, e_all = max_and_relative_exp(z, 1, buffer)
    e = e_all.gather(1, y)
    e_all.scatter_(1, y, 0.0)
    ones = 0
    if z.dtype == e_all.dtype:
        # Nothing to spare: tiny terms added one by one to a 1 would each lose half a unit of it, so the ones
        # (the argmax, if it isn't y, and its ties) are counted and come last.
        top = z == m
        ones = top.sum(1, keepdim=True) - top.gather(1, y).long()
        rest = e_all.masked_fill_(top, 0.0).sum(1, keepdim=True)
        rest = torch.where(torch.isfinite(m), rest, torch.nan)
        e_all.masked_fill_(top, 1.0)
    else:
        rest = e_all.sum(1, keepdim=True)
    s, total = rest + ones, (rest + e) + ones
    # y an argmax: the sum is 1 + S and log1p keeps a small S.  Otherwise S >= 1, and the gap dwarfs any
    # rounding.
    log_total = torch.where(e == 1, torch.log1p(s), torch.log(total))
    loss = log_total + (m - z.gather(1, y))
    lse = m + log_total if options.z_loss else None
    if options.z_loss:
        loss = loss + options.z_loss * lse.square()
    if out is not None:
        scale = scale * row_weight
        slope = 1.0 + 2.0 * options.z_loss * lse if options.z_loss else 1.0
        at_y = -s / total
        if options.z_loss:
            at_y = at_y + (2.0 * options.z_loss) * lse * (e / total)
        out.copy_(e_all.mul_(scale * slope / total))
        out.scatter_(1, y, (scale * at_y).to(out.dtype))
    return _times(row_weight, loss)


def _dense_block(z, t, w, options, buffer, scale, out):
    """Return the losses (r, 1, d) of probabilities ``t`` (r, C, d) or smoothed indices (r, 1, d)."""
    work, classes = buffer.dtype, z.shape[1]
    eps = options.label_smoothing
    column = None if w is None else w.view(1, -1, 1)
    if options.soft:
        coefficients = torch.empty_like(buffer).copy_(t)  # a copy even in float64: it is written to below
        if eps:
            coefficients.mul_(1 - eps).add_(eps / classes)
        if column is not None:
            coefficients.mul_(column)
        if not options.z_loss:
            row_weight = None
        else:
            row_weight = (t.to(work) if column is None else t.to(work) * column).sum(1, keepdim=True)
    else:
        row_weight = torch.ones(t.shape, dtype=work, device=t.device) if w is None else w[t]
        coefficients = torch.full_like(buffer, eps / classes)
        if column is not None:
            coefficients.mul_(column)
        coefficients.scatter_add_(1, t, (1 - eps) * row_weight)
    m, top, e, s = quick_tail_sum(z, 1, buffer)
    total, log_total = 1 + s, torch.log1p(s)
    share = coefficients.sum(1, keepdim=True)
    gap = torch.empty_like(buffer)
    torch.sub(m, z, out=gap)
    if z.device.type == "cpu" and z.amin() > -torch.inf:
        gap.mul_(coefficients)
    else:
        gap = _times(coefficients, gap)
    loss = share * log_total + gap.sum(1, keepdim=True)
    pull = 0.0
    if options.z_loss:
        lse = m + log_total
        loss = loss + options.z_loss * row_weight * lse.square()
        pull = (2.0 * options.z_loss) * row_weight * lse
    if out is not None:
        # (share + pull) p - a; where p is largest (share - a) - share (1 - p) + pull p, with 1 - p = S / (1 +
        # S)
        at_top = None
        if top is not None:
            at_top = (share - coefficients).sub_(share * (s / total) - pull / total).mul_(scale)
        grad = e.mul_(scale * (share + pull) / total).sub_(coefficients.mul_(scale))
        out.copy_(grad if top is None else torch.where(top, at_top, grad))
    return loss


def _times(coefficient, cost):
    """Return the product, with 0 * inf = 0 (and 0 * NaN = NaN: a NaN is never hidden)."""
    return torch.where((coefficient == 0) & (cost == torch.inf), 0.0, coefficient * cost)


def _composite(logits, target, weight, options):
    """Return the loss from differentiable pieces: for double backward and for gradients of a target."""
    axis = 0 if logits.ndim == 1 else 1
    classes = logits.shape[axis]
    work = working_dtype(logits)
    view = [1] * logits.ndim
    view[axis] = classes
    w = logits.new_ones(classes, dtype=work) if weight is None else weight.detach().to(work)
    valid = None
    if options.soft:
        t = target.to(work)
        denominator = float(math.prod(target.shape) // classes)
    else:
        valid = target != options.ignore_index
        y = torch.where(valid, target, 0)
        # an ignored row is replaced before it is used: where() alone would let its NaN into the gradient
        logits = torch.where(valid.unsqueeze(axis), logits, 0.0)
        t = torch.zeros(logits.shape, dtype=work, device=logits.device).scatter(axis, y.unsqueeze(axis), 1.0)
        denominator = torch.where(valid, w[y], 0.0).sum()
    w = w.view(view)
    eps = options.label_smoothing
    coefficients = w * ((1 - eps) * t + eps / classes)
    logp = log_softmax(logits.to(work) if logits.dtype != work else logits, axis)
    infinite = (coefficients.detach() == 0) & (logp.detach() == -torch.inf)
    losses = -(coefficients * torch.where(infinite, 0.0, logp)).sum(axis)
    if options.z_loss:
        m = logits.detach().amax(axis, keepdim=True).to(work)
        lse = m.squeeze(axis) + relative_exp(logits, m.to(logits.dtype)).sum(axis).log()
        losses = losses + options.z_loss * (w * t).sum(axis) * lse.square()
    if valid is not None:
        losses = torch.where(valid, losses, 0.0)
    dtype = result_dtype(logits)
    if options.reduction == "none":
        return losses.to(dtype)
    return (losses.sum() / denominator if options.reduction == "mean" else losses.sum()).to(dtype)
