"""Cross-entropy of a vocabulary projection, without ever holding the logits of all tokens.

The logits ``hidden @ weight.T`` of 4096 tokens over 50 000 words take 0.8 GB in float32, and a framework
keeps two or three such tables (logits, log-probabilities, their gradient).  None of them is needed: a row of
logits is used for one number and for its gradient, and both products with that gradient can follow at once.
So the rows are taken in chunks.  A chunk of logits is computed, turned into its own gradient in place, and
multiplied into the gradients of `hidden` and `weight`; then the memory serves the next chunk.

A chunk has to stay large for the matrix products (under 256 rows they are bound by memory), while the
elementwise part wants blocks that fit the cache.  Hence two loops: chunks of rows for the products, blocks
within a chunk for the exponentials, which are those of :mod:`lossutils.logspace`.
"""

from __future__ import annotations

import numbers
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from lossutils import _checks
from lossutils.logspace import quick_tail_sum, working_dtype

__all__ = ["linear_cross_entropy"]

REDUCTIONS = ("none", "mean", "sum")
CHUNK_ROWS = 256  # fewer rows, and the products wait for memory
LARGEST_SOFTCAP = 1e30  # beyond, logit / softcap leaves float32's normal range


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    target: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    softcap: float | None = None,
    chunk_size: int | str = "auto",
    return_lse: bool = False,
    validate: bool | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of the logits ``hidden @ weight.T + bias`` without storing those logits.

    Use it for the last layer of a language model, where the logits of all tokens would be the largest tensor
    of the whole training step.  The value and the gradients are those of
    ``cross_entropy(hidden @ weight.T + bias, target)``.

    Per row, with D the width, V the vocabulary, y the target and c the softcap (if any)::

        a_v  = sum_d hidden_d weight_vd + bias_v
        z_v  = c tanh(a_v / c)                      (z = a without a softcap)
        loss = logsumexp(z) - z_y = log1p(S) + (max z - z_y)

    where S is the sum of exp(z_v - max z) over all v but one where z is largest.

    Parameters
    ----------
    hidden : torch.Tensor, shape (..., D)
        The last hidden states; float64, float32, bfloat16 or float16.
    weight : torch.Tensor, shape (V, D)
        The vocabulary matrix, as ``torch.nn.Linear`` stores it.  `hidden`'s dtype, except under autocast.
    target : torch.Tensor, shape (...)
        Integers in [0, V), or equal to `ignore_index`.
    bias : torch.Tensor, shape (V,), optional
        `weight`'s dtype.  -inf masks a word (without a softcap, which would bring it back).
    ignore_index : int
        Rows with this target cost nothing and get a gradient of zero.  On a CPU they are not computed.
    reduction : {"mean", "sum", "none"}
        "mean" divides the sum by the number of rows that count.
    softcap : float in (0, 1e30], optional
        Bounds the logits to (-softcap, softcap), smoothly.
    chunk_size : int or "auto"
        Rows of logits that exist at a time.  "auto" takes 256 or more (always under 512 on a CPU with
        V >= 32768), and more for a small vocabulary or on an accelerator.  It changes rounding only.
    return_lse : bool
        Also return the log-sum-exp of each row, as z-loss needs it.
    validate : bool, optional
        Whether to check the values of `target`.  None checks on the CPU only: on an accelerator a check waits
        for the device, so there it happens only with True.  Shapes and dtypes are always checked.

    Returns
    -------
    torch.Tensor, scalar, or of `target`'s shape ("none")
        Nats.  float64 for float64 input, float32 for everything narrower.
    torch.Tensor of `target`'s shape, only with `return_lse`
        logsumexp(z) of each row (nats), 0 for ignored rows.  Differentiable, together with the loss.

    Raises
    ------
    ValueError
        Shapes that do not fit, a target outside [0, V), an unknown reduction, a softcap that is not in
        (0, 1e30], a chunk size below one, devices that differ.
    TypeError
        Arguments that are not tensors, integer or complex `hidden`, `weight` or `bias`, dtypes that differ
        outside autocast, targets that are not integers.
    RuntimeError
        A second derivative: the gradient is not differentiable.  ``cross_entropy`` of the full logits is.

    Notes
    -----
    Limits are those of :func:`lossutils.cross_entropy.cross_entropy`.  A mean over nothing (no rows, or all
    ignored) is NaN with a gradient of zero; the sum is 0.  A target whose logit is -inf costs inf.  A row of
    logits with NaN or +inf in it, or of -inf only, costs NaN, unless it is ignored.

    Accuracy.  The loss of each row is within 4 ULP of the exact loss *of the logits that the matrix product
    gave*: the target's term stays out of the sum, in float64 for all narrower dtypes, so a confident and
    right row is never a silent zero. (With a softcap: of the capped logits, rounded to float32 for all
    narrower dtypes.)  What no method can repair is the product's own rounding, about 1e-7
    (float32) of the largest terms in each logit, or what TF32 leaves if torch is allowed to use it.  A mean
    over many tokens averages that out: in float32 it is within 2e-7 of the float64 result for logits of
    ordinary size.  Losses are added in float64 in every dtype. float16 and bfloat16 logits are rounded to
    their dtype, as ``nn.Linear`` rounds them (2**-9 of each logit for bfloat16); everything after that is
    wider, and the weight's gradient is added up over the chunks in float32.

    Time and memory.  With "mean" and "sum" the gradients are computed in the forward pass (three matrix
    products, the least there is) and only scaled in the backward pass. Memory beyond inputs and gradients is
    one chunk of logits, and a small block of float64.  With "none", with `return_lse` and for float16 each
    row's scale is known only in the backward pass: the logits are then computed a second time there (four
    products), again chunk by chunk, so memory stays as small.  So is a second backward through a retained
    graph.  Narrow dtypes keep a float32 sum of `weight`'s shape for a while.  Call it under
    ``torch.no_grad()`` to evaluate: then no gradient is computed. Only the gradients that are needed are
    computed; a frozen `weight` saves a product.

    Under autocast the products run in autocast's dtype and the gradients come back in each input's own.
    Forward-mode derivatives and ``torch.func`` are not supported (torch says so).

    Examples
    --------
    >>> hidden, weight = torch.zeros(2, 5, 8, requires_grad=True), torch.randn(10, 8)
    >>> target = torch.arange(10).reshape(2, 5)
    >>> loss = linear_cross_entropy(hidden, weight, target)
    >>> f"{loss.item():.6f}"  # log 10: all logits are zero
    '2.302585'
    >>> loss.backward()
    >>> hidden.grad.shape
    torch.Size([2, 5, 8])
    >>> sure = linear_cross_entropy(torch.tensor([[17.0]]), torch.tensor([[1.0], [0.0]]), torch.tensor([0]))
    >>> f"{sure.item():.4e}"  # not 0
    '4.1399e-08'

    z-loss, from the log-sum-exp:

    >>> loss, lse = linear_cross_entropy(hidden, weight, target, return_lse=True)
    >>> (loss + 1e-4 * lse.square().mean()).backward()

    References
    ----------
    Wijmans et al. (2025), "Cut Your Losses in Large-Vocabulary Language Models", arXiv:2411.09009.  Hsu et
    al. (2024), "Liger Kernel", arXiv:2410.10989.

    See Also
    --------
    lossutils.cross_entropy.cross_entropy : from logits; label smoothing, class weights, double backward.
    """
    _check_tensors(hidden, weight, target, bias)
    target = _checks.as_integer("target", target)
    _checks.same_kind(hidden=hidden, weight=weight, target=target, **({} if bias is None else {"bias": bias}))
    _check_shapes(hidden, weight, target, bias)
    dtype = _product_dtype(hidden, weight, bias)
    _checks.choice("reduction", reduction, REDUCTIONS)
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, numbers.Integral):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    if not isinstance(return_lse, bool):
        raise TypeError(f"return_lse must be True or False, got {return_lse!r}")
    options = _Options(
        int(ignore_index), reduction, _softcap(softcap), _chunk_size(chunk_size), return_lse, dtype
    )
    if _checks.may_read(target, validate):
        outside = ((target < 0) | (target >= weight.shape[0])) & (target != options.ignore_index)
        if outside.any():
            raise ValueError(
                f"target must be in [0, {weight.shape[0]}) or ignore_index ({options.ignore_index}), "
                f"got {target[outside].reshape(-1)[0].item()}"
            )
    recorded = torch.is_grad_enabled()
    wanted = tuple(recorded and x is not None and x.requires_grad for x in (hidden, weight, bias))
    rows = hidden.reshape(target.numel(), hidden.shape[-1])
    out = _LinearCrossEntropy.apply(rows, weight, bias, target.reshape(-1), options, wanted)
    loss, lse = out if return_lse else (out, None)
    if reduction == "none":
        loss = loss.reshape(target.shape)
    return (loss, lse.reshape(target.shape)) if return_lse else loss


@dataclass(frozen=True)
class _Options:
    ignore_index: int
    reduction: str
    softcap: float | None
    chunk_size: int | None  # None: automatic
    return_lse: bool
    dtype: torch.dtype  # of the matrix products

    @property
    def eager(self) -> bool:
        """Whether all rows' gradients share one upstream factor, so that they can be computed before it is known.

        float16 could not hold them before a loss scale has lifted them out of its subnormal range.
        """
        return self.reduction != "none" and not self.return_lse and self.dtype != torch.float16


# ----------------------------------------------------------------------------------------------------------
# checks


def _check_tensors(hidden, weight, target, bias) -> None:
    named = {"hidden": hidden, "weight": weight, "target": target, "bias": bias}
    for name, x in named.items():
        if x is None and name == "bias":
            continue
        if not _checks.is_torch(x):
            raise TypeError(f"{name} must be a torch tensor, got {type(x).__name__}")
        if name != "target":
            _checks.as_float(name, x)


def _check_shapes(hidden, weight, target, bias) -> None:
    if hidden.ndim == 0:
        raise ValueError("hidden must have shape (..., D), got a scalar")
    if weight.ndim != 2 or weight.shape[0] == 0:
        raise ValueError(
            f"weight must have shape (V, D) with at least one word, got shape {tuple(weight.shape)}"
        )
    if weight.shape[1] != hidden.shape[-1]:
        hint = ": it looks transposed" if weight.shape[0] == hidden.shape[-1] else ""
        raise ValueError(
            f"weight must have hidden's width, {hidden.shape[-1]}, as its second axis, "
            f"got shape {tuple(weight.shape)}{hint}"
        )
    if target.shape != hidden.shape[:-1]:
        raise ValueError(
            f"target must have shape {tuple(hidden.shape[:-1])} for hidden of shape {tuple(hidden.shape)}, "
            f"got {tuple(target.shape)}"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ValueError(f"bias must have shape ({weight.shape[0]},), one a word, got {tuple(bias.shape)}")


def _product_dtype(hidden, weight, bias) -> torch.dtype:
    tensors = {"hidden": hidden, "weight": weight} | ({} if bias is None else {"bias": bias})
    kind = hidden.device.type
    autocast = _has_autocast(kind) and torch.is_autocast_enabled(kind)
    if autocast and all(x.dtype != torch.float64 for x in tensors.values()):  # it leaves float64 alone
        return torch.get_autocast_dtype(kind)
    for name, x in tensors.items():
        if x.dtype != hidden.dtype:
            raise TypeError(
                f"{name} must have hidden's dtype, {_checks.dtype_name(hidden)}, got {_checks.dtype_name(x)}"
            )
    return hidden.dtype


def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)  # not on every device: "meta" has none


def _softcap(value) -> float | None:
    if value is None:
        return None
    cap = _checks.real("softcap", value, 0.0, LARGEST_SOFTCAP)
    if cap == 0:
        raise ValueError(f"softcap must be above zero, got {value!r}: None means no cap")
    return cap


def _chunk_size(value) -> int | None:
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"chunk_size must be a number of rows or 'auto', got {value!r}")
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"chunk_size must be an integer or 'auto', got {value!r}")
    if value < 1:
        raise ValueError(f"chunk_size must be at least 1, got {value!r}")
    return int(value)


# ----------------------------------------------------------------------------------------------------------
# autograd


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, target, options, wanted):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(hidden, weight, bias, target)
        ctx.options = options
        now = wanted if options.eager and any(wanted) else None
        loss, lse, ctx.grads = _walk(hidden, weight, bias, target, options, now)
        return (loss, lse) if options.return_lse else loss

    @staticmethod
    def backward(ctx, upstream, upstream_lse=None):
        saved = ctx.saved_tensors  # first: torch's own error where the graph is gone
        hidden, weight, bias, target = saved
        needs = ctx.needs_input_grad[:3]
        nothing = (None,) * 3
        if upstream is None and upstream_lse is None:
            return (*nothing, *nothing)
        with torch.no_grad():
            if not ctx.options.eager:
                _, _, grads = _walk(*saved, ctx.options, needs, upstream, upstream_lse)
            else:
                # Given away, not kept: the one owner may then scale in place, and autograd takes the memory
                # over as .grad without a copy.  A second backward computes them again, bit for bit.
                grads, ctx.grads = ctx.grads, None
                if grads is None:
                    _, _, grads = _walk(*saved, ctx.options, needs)
                if not (_may_look(upstream) and upstream.item() == 1):
                    _scale(grads, upstream, target != ctx.options.ignore_index)
        grads = tuple(g if need else None for g, need in zip(grads, needs, strict=True))
        if torch.is_grad_enabled():  # create_graph=True
            sources = (hidden, weight, bias, upstream, upstream_lse)
            grads = tuple(None if g is None else _FirstDerivative.apply(g, *sources) for g in grads)
        return (*grads, *nothing)


class _FirstDerivative(torch.autograd.Function):
    """Passes a gradient on, and says what is wrong when somebody differentiates it."""

    @staticmethod
    def forward(ctx, grad, *sources):
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx, *_):
        raise RuntimeError(
            "linear_cross_entropy has no second derivative: use "
            "cross_entropy(torch.nn.functional.linear(hidden, weight, bias), target), which has one"
        )


def _scale(grads, upstream, valid) -> None:
    grad_hidden, *others = grads
    for grad in others:
        if grad is not None:
            grad.mul_(upstream)
    if grad_hidden is not None:  # ignored rows stay zero whatever the upstream gradient is
        grad_hidden.mul_(torch.where(valid, upstream, 0.0).unsqueeze(1))


# ----------------------------------------------------------------------------------------------------------
# the two loops


def _walk(hidden, weight, bias, target, options, wanted, upstream=None, upstream_lse=None):
    """Return (loss, lse or None, gradients or None), one chunk of rows after the other.

    `wanted` says which of the gradients of hidden, weight and bias to compute.  Without upstream gradients
    the loss is differentiated, else the sum of the outputs weighted with them.
    """
    device, dtype, work = hidden.device, options.dtype, working_dtype(hidden)
    classes = len(weight)
    with torch.autocast(device.type, enabled=False) if _has_autocast(device.type) else nullcontext():
        rows = _Rows(hidden, target, options)
        w, b = _blas_ready(weight.to(dtype)), None if bias is None else bias.to(dtype)
        losses = torch.zeros(len(hidden), dtype=work, device=device)
        lses = torch.zeros_like(losses) if options.return_lse else None
        grads = scale = None
        if wanted is not None:
            grads, scale = _Gradients(hidden, weight, wanted, work), _row_scale(rows, upstream, upstream_lse)
        size = _chunk_rows(rows.count, classes, device, options.chunk_size)
        table = torch.empty((size, classes), dtype=dtype, device=device)
        step = min(size, _block_rows(classes, device))
        scratch = torch.empty((step, classes), dtype=work, device=device)
        for index in rows.chunks(size):
            h, y, valid = rows.take(index)
            z = table[: len(h)]
            torch.mm(h, w.t(), out=z) if b is None else torch.addmm(b, h, w.t(), out=z)
            loss, lse = _chunk(z, y, options, scratch, None if scale is None else scale[index], grads)
            losses[index] = loss if valid is None else torch.where(valid, loss, 0.0)
            if lses is not None:
                lses[index] = lse if valid is None else torch.where(valid, lse, 0.0)
            if grads is not None:
                grads.add(index, z, h, w)
        narrow = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        lse = None if lses is None else lses.to(narrow)
        found = None if grads is None else grads.finished(bias)
        if options.reduction == "none":
            return losses.to(narrow), lse, found
        total = losses.sum()
        return (total / rows.number if options.reduction == "mean" else total).to(narrow), lse, found


def _chunk(z, y, options, scratch, scale, grads):
    """Return (loss, lse or None), (r,) each, of a chunk of logits (r, V), block by block."""
    step, losses, lses = len(scratch), [], []
    for start in range(0, len(z), step):
        block = slice(start, start + step)
        buffer = scratch[: len(z[block])]
        loss, lse = _block(
            z[block], y[block], options, buffer, None if scale is None else scale[block], grads
        )
        losses.append(loss)
        lses.append(lse)
    return torch.cat(losses).squeeze(1), torch.cat(lses).squeeze(1) if options.return_lse else None


def _block(z, y, options, buffer, scale, grads):
    """Return (loss, lse or None), (r, 1) each; with the rows' factors in `scale` z becomes its own gradient."""
    x = capped = z
    if options.softcap is not None:
        x = z.to(torch.promote_types(z.dtype, torch.float32)).div(options.softcap)
        capped = x.tanh().mul_(options.softcap)
    m, _, e, s = quick_tail_sum(capped, 1, buffer)
    m, log_total = m.to(s.dtype), torch.log1p(s)
    loss = log_total + (m - capped.gather(1, y))  # both parts >= 0
    lse = torch.where(m.isinf(), m, m + log_total) if options.return_lse else None
    if scale is None:
        return loss, lse
    of_loss, of_lse = scale.split(1, 1)
    total, e_y = 1 + s, e.gather(1, y)
    # The sum over all but y: S if y is (one of) the largest, else it has the largest one's 1 in it.
    others = torch.where(e_y == 1, s, 1 + (s - e_y))
    at_y = (of_lse * e_y - of_loss * others) / total  # never p - 1
    e.mul_((of_loss + of_lse) / total).scatter_(1, y, at_y)
    if options.softcap is not None:
        e.div_(x.cosh_().square_())  # 1 - tanh**2, without the subtraction
    if grads.bias is not None:
        grads.bias.add_(e.sum(0))
    z.copy_(e)
    return loss, lse


class _Rows:
    """The rows that count, and how to take a chunk of them."""

    def __init__(self, hidden, target, options):
        self.hidden, self.options = hidden, options
        self.valid = target != options.ignore_index
        self.number = self.valid.sum()
        self.y = torch.where(self.valid, target, 0).unsqueeze(1)
        self.selected = None
        self.may_look = _may_look(hidden)
        if self.may_look and not self.valid.all():
            self.selected = self.valid.nonzero().squeeze(1)
        self.count = len(hidden) if self.selected is None else len(self.selected)

    def chunks(self, size: int):
        for start in range(0, self.count, size):
            some = slice(start, min(start + size, self.count))
            yield some if self.selected is None else self.selected[some]

    def take(self, index):
        """Return (hidden, targets, mask or None): a mask is there where ignored rows could not be left out."""
        h = self.hidden[index].to(self.options.dtype)
        if self.may_look:
            return h, self.y[index], None
        valid = self.valid[index]
        return torch.where(valid.unsqueeze(1), h, 0.0), self.y[index], valid  # 0 * NaN would be NaN


def _may_look(x: torch.Tensor) -> bool:
    """Whether Python may read values: an accelerator would have to finish all its work first."""
    return x.device.type == "cpu"


def _row_scale(rows, upstream, upstream_lse):
    """Return (N, 2): the factors of each row's loss and log-sum-exp in what is differentiated."""
    work = working_dtype(rows.hidden)
    scale = torch.zeros((len(rows.valid), 2), dtype=work, device=rows.valid.device)
    if upstream is not None:
        scale[:, 0] = upstream.to(work)
    elif upstream_lse is None:
        scale[:, 0] = 1.0
    if rows.options.reduction == "mean":
        scale[:, 0] /= rows.number
    if upstream_lse is not None:
        scale[:, 1] = upstream_lse.to(work)
    return torch.where(rows.valid.unsqueeze(1), scale, 0.0)


class _Gradients:
    """The gradients, as they are added up over the chunks."""

    def __init__(self, hidden, weight, wanted, work):
        of_hidden, of_weight, of_bias = wanted
        # In a narrow dtype, chunk after chunk would be lost beside the sum so far.
        wide = torch.promote_types(weight.dtype, torch.float32)
        self.hidden = torch.zeros_like(hidden) if of_hidden else None
        self.weight = torch.empty(weight.shape, dtype=wide, device=weight.device) if of_weight else None
        self.bias = torch.zeros(len(weight), dtype=work, device=weight.device) if of_bias else None
        self.dtype, self.empty = weight.dtype, True

    def add(self, index, grad_logits, h, w) -> None:
        if self.hidden is not None:
            self.hidden[index] = torch.mm(grad_logits, w).to(self.hidden.dtype)
        if self.weight is None:
            return
        fresh, self.empty = self.empty, False  # the first chunk overwrites: no zeros to write and read again
        if self.weight.dtype == grad_logits.dtype:
            self.weight.addmm_(grad_logits.t(), h, beta=0 if fresh else 1)
            return
        step = max(1, 2**22 // max(1, h.shape[1]))
        for start in range(0, len(self.weight), step):
            some = self.weight[start : start + step]
            product = torch.mm(grad_logits[:, start : start + step].t(), h)
            some.copy_(product) if fresh else some.add_(product)

    def finished(self, bias):
        if self.weight is not None and self.empty:
            self.weight.zero_()
        weight = None if self.weight is None else self.weight.to(self.dtype)
        return self.hidden, weight, None if self.bias is None else self.bias.to(bias.dtype)


def _chunk_rows(rows: int, classes: int, device: torch.device, chunk_size: int | None) -> int:
    """Return how many rows of logits to hold; automatic: as even as can be, and none left over that is small."""
    if chunk_size is None:
        elements = 2**23 if device.type == "cpu" else 2**26
        several = max(CHUNK_ROWS, elements // classes)
        chunks = max(1, rows // several)
        chunk_size = -(-rows // chunks)
    return max(1, min(chunk_size, rows))


def _block_rows(classes: int, device: torch.device) -> int:
    """Return how many rows make a block of float64 that stays in cache, or fills an accelerator."""
    elements = 2**18 * torch.get_num_threads() if device.type == "cpu" else 2**22
    return max(1, elements // classes)


def _blas_ready(x: torch.Tensor) -> torch.Tensor:
    """Return a matrix that a product reads as it is: otherwise each chunk would copy it."""
    rows, columns = x.shape
    by_rows = x.stride(1) == 1 and x.stride(0) >= columns
    by_columns = x.stride(0) == 1 and x.stride(1) >= rows
    return x if by_rows or by_columns else x.contiguous()
