"""More than one process: a vocabulary in shards, and a group of processes for a training run.

:func:`vocab_parallel_cross_entropy` is the loss where each process holds a part of each token's logits.
:func:`process_group` makes the group that ``train(..., group=...)`` takes, where each process holds a part of a batch.
Both need a launcher that starts the processes, such as torchrun.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from . import _checks
from ._processes import ProcessGroupError, meeting_place
from .cross_entropy import REDUCTIONS
from .logspace import relative_exp, result_dtype, working_dtype

__all__ = ["ProcessGroupError", "process_group", "vocab_parallel_cross_entropy"]

ProcessGroupError.__module__ = __name__  # where its readers find it

# What torchrun sets for each process.
ENVIRONMENT = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@contextlib.contextmanager
def process_group(
    *, backend: str | None = None, timeout: float = 600.0
) -> Iterator[dist.ProcessGroup | None]:
    """Join the processes that torchrun started, for a ``with`` block; started alone, be alone.

    Use it around :func:`lossutils.training.train`, so that one script runs as ``python script.py`` and as
    ``torchrun --nproc-per-node=4 script.py``.

    Parameters
    ----------
    backend : str, optional
        As in ``torch.distributed.init_process_group``. None is "cpu:gloo,cuda:nccl" where each process of this machine
        can have a GPU of its own, which then becomes its current device; else "gloo".
    timeout : float
        Seconds that a process waits for the others before it gives up. A killed process is noticed at once; this is
        for one that hangs, and for a network that is gone. Nothing that one process does alone (a checkpoint, an
        evaluation) may take longer.

    Yields
    ------
    torch.distributed.ProcessGroup or None
        The group of all processes; None where no launcher started this one.

    Raises
    ------
    ValueError
        Only a part of what torchrun sets is in the environment, or `timeout` is not positive.

    Notes
    -----
    A group that stands already is yielded and left standing. Otherwise it is dissolved at the end of the block.

    Examples
    --------
    >>> with process_group() as group:
    ...     print(group)  # this example was not started by torchrun
    None

    See Also
    --------
    lossutils.training.train_batches : what a run in several processes does.
    """
    if not timeout > 0:
        raise ValueError(f"timeout must be positive, got {timeout!r}")
    if dist.is_available() and dist.is_initialized():
        yield dist.group.WORLD
        return
    found = [name for name in ENVIRONMENT if name in os.environ]
    if not {"RANK", "WORLD_SIZE"} & set(found):
        yield None
        return
    missing = sorted(set(ENVIRONMENT) - set(found))
    if missing:
        raise ValueError(
            f"the environment has {', '.join(found)} and lacks {', '.join(missing)}: use torchrun"
        )
    local = int(os.environ["LOCAL_RANK"])
    gpus = torch.cuda.device_count() if torch.cuda.is_available() and dist.is_nccl_available() else 0
    if backend is None:
        enough = gpus >= int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        backend = "cpu:gloo,cuda:nccl" if enough else "gloo"
    if "nccl" in backend:
        torch.cuda.set_device(local)
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    try:
        yield dist.group.WORLD
    except BaseException:
        if "nccl" not in backend:  # NCCL may wait for what a lost process still owes
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def vocab_parallel_cross_entropy(
    local_logits: Tensor,
    target: Tensor,
    *,
    group: dist.ProcessGroup | None = None,
    vocab_sizes: Sequence[int] | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    z_loss: float = 0.0,
    validate: bool | None = None,
) -> Tensor:
    r"""Return the cross-entropy of logits whose vocabulary lies in shards, one in each process of a group.

    Use it where the last layer is split over processes by its columns, so that none of them holds all logits of a token
    and the table of logits, the largest tensor of a training step, is never gathered.

    Process r holds the logits of the :math:`V_r` tokens that follow those of the processes before it. With m the
    maximum over all shards, y the target, :math:`e = \exp(z_y - m)` and S the sum over the shards of their own

    .. math:: S_r = \sum_{j \in \text{shard } r, \; j \ne y} \exp(z_j - m),

    loss and gradient are those of :func:`lossutils.cross_entropy.cross_entropy`: the target's term stays out of the
    sum.

    .. math::

        \text{loss} &= \log(1 + S) \text{ by log1p, if } e = 1, \quad \text{else } \log(S + e) + (m - z_y) \\
        \partial\,\text{loss} / \partial z_y &= -S / (S + e), \qquad
        \partial\,\text{loss} / \partial z_j = \exp(z_j - m) / (S + e)

    Parameters
    ----------
    local_logits : torch.Tensor, shape (..., V_local)
        This process's logits (nats), classes last; float64, float32, float16 or bfloat16. V_local may differ between
        processes, and may be 0. -inf masks a token.
    target : torch.Tensor of integers, shape (...)
        Ids in the whole vocabulary, the same in every process; `ignore_index` where nothing is to be predicted.
    group : torch.distributed.ProcessGroup, optional
        The processes that hold the shards, in the order of their ranks in the group. None is the default group.
    vocab_sizes : sequence of int, optional
        V_local of each process, in the order of ranks. None asks the others in each call.
    ignore_index : int
        Rows with this target cost nothing and get a gradient of exactly zero.
    reduction : {"mean", "sum", "none"}
        "mean" divides by the number of targets that are not ignored.
    z_loss : float >= 0
        Factor of the square of the log-partition function, added to each row.
    validate : bool, optional
        Whether to check that the targets are in the vocabulary and that the processes agree on shapes, dtype, targets
        and `vocab_sizes`. None checks where the logits are on the CPU only: on an accelerator it waits for the device.

    Returns
    -------
    torch.Tensor
        A scalar, or target's shape ("none"), in nats; the same in every process. float64 for float64, else float32.

    Raises
    ------
    ValueError
        Shapes that do not fit, a target outside the vocabulary, `vocab_sizes` that are not the shards' lengths,
        processes that disagree, a group that this process is not in, an unknown reduction, a negative z_loss.
    TypeError
        Logits that are no floating tensor, targets that are no tensor of integers.
    RuntimeError
        There is no process group. Also what torch raises if a process does not answer.

    Notes
    -----
    **What is communicated**, for each token and whatever V is:

    ========================= =============================== ======================================
    when                      what                            payload in bytes a token
    ========================= =============================== ======================================
    forward, all-reduce (max) m                               4 (float64: 8)
    forward, all-reduce (sum) S, z_y (float64: ties too)      16 (float64: 24)
    backward                  nothing                         0
    once a call, all-gather   lengths and checks              32 a process, if checked or asked for
    ========================= =============================== ======================================

    Every process must call this function at the same place. Each then calls ``backward`` on its own copy of the loss
    and gets the gradient of its own logits. What comes before the split layer, such as the hidden states, gets from
    each process the part of the gradient that went through its shard: add them (all-reduce) there.

    **Accuracy**: loss and gradient are within 4 ULP of the exact value in float32 and float64, as those of
    `cross_entropy`. Shards change no digit that matters: all terms are positive and are added in float64. (With float64
    logits, n processes may add (n - 1)/2 units of rounding on top, in the worst case.) Reducing ``exp(lse - m)`` with
    the target's term inside, as the plain method does, loses a small S in any number of processes.

    Limits are those of `cross_entropy`: NaN for the mean over nothing, for a row of -inf only and for one that holds
    NaN or +inf in any shard; a target whose logit is -inf costs inf.

    The exponentials are computed again in the backward pass, so nothing of the logits' size is kept besides themselves.
    No double backward: ``create_graph=True`` is an error.

    Examples
    --------
    A group of one process, where the shard is the whole vocabulary:

    >>> import tempfile
    >>> import torch.distributed as dist
    >>> meet = f"file://{tempfile.mkdtemp()}/meet"
    >>> dist.init_process_group("gloo", init_method=meet, rank=0, world_size=1)
    >>> z = torch.tensor([[17.0, 0.0]], requires_grad=True)
    >>> vocab_parallel_cross_entropy(z, torch.tensor([0])).backward()
    >>> [f"{g:.4e}" for g in z.grad[0].tolist()]
    ['-4.1399e-08', '4.1399e-08']
    >>> dist.destroy_process_group()

    References
    ----------
    Shoeybi et al. (2019), "Megatron-LM", arXiv:1909.08053, section 3: a last layer that is split by columns, and
    scalars that travel in place of logits.

    See Also
    --------
    lossutils.cross_entropy.cross_entropy : where one process has all logits.
    lossutils.linear_cross_entropy.linear_cross_entropy : one process, without the table of logits.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "group needs a process group: call torch.distributed.init_process_group, or use "
            "lossutils.parallel.process_group() under torchrun"
        )
    if group is dist.GroupMember.NON_GROUP_MEMBER or dist.get_rank(group) < 0:
        raise ValueError("group is one that this process does not belong to; only its members may call this")
    refused = None
    try:
        _check(local_logits, target, ignore_index, reduction)
        z_loss = _checks.real("z_loss", z_loss, 0.0)
        read = _checks.may_read(local_logits, validate)
    except (TypeError, ValueError) as error:
        refused, read = error, True
    if vocab_sizes is None or read:
        vocab_sizes = _agree(local_logits, target, vocab_sizes, group, refused, read)
    if refused is not None:
        raise refused
    target = target.long()
    if read:
        total = sum(vocab_sizes)
        outside = ((target < 0) | (target >= total)) & (target != ignore_index)
        if outside.any():
            raise ValueError(
                f"target must be in the vocabulary of all shards, [0, {total}), or ignore_index ({ignore_index}), "
                f"got {target[outside][0].item()}"
            )
    start = sum(vocab_sizes[: dist.get_rank(group)])
    shards = _Shards(group, start, int(ignore_index), reduction, z_loss)
    return _VocabParallel.apply(local_logits, target, shards)


@dataclass(frozen=True)
class _Shards:
    group: dist.ProcessGroup | None
    start: int  # the first id of this process's shard
    ignore_index: int
    reduction: str
    z_loss: float


def _check(local_logits, target, ignore_index, reduction) -> None:
    for name, value in (("local_logits", local_logits), ("target", target)):
        if not _checks.is_torch(value):
            raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")
    _checks.as_float("local_logits", local_logits)
    _checks.as_integer("target", target)
    _checks.same_kind(local_logits=local_logits, target=target)
    _checks.choice("reduction", reduction, REDUCTIONS)
    if isinstance(ignore_index, bool) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    if local_logits.ndim == 0 or target.shape != local_logits.shape[:-1]:
        raise ValueError(
            f"target must have the shape of local_logits without the last axis, got {tuple(target.shape)} for "
            f"local_logits of shape {tuple(local_logits.shape)}"
        )


def _agree(local_logits, target, vocab_sizes, group, refused, read) -> list[int]:
    """Return all shards' lengths, or raise in every process if one of them cannot go on or sees something else."""
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    mine = [0, -1, 0, 0]  # -1: refused
    if refused is None:
        ids = target.detach().long().reshape(-1)
        # Wraps around; the same targets in another order give another sum.
        checksum = int((ids * (2 * torch.arange(ids.numel(), device=ids.device) + 1)).sum()) if read else 0
        wide = int(local_logits.dtype == torch.float64)
        mine = [local_logits.shape[-1], wide, ids.numel(), checksum]
    mine = torch.tensor(mine, dtype=torch.int64, device=meeting_place(group))
    rows = [torch.empty_like(mine) for _ in range(size)]
    dist.all_gather(rows, mine, group=group)
    rows = [row.tolist() for row in rows]
    if refused is not None:
        raise refused
    for other, row in enumerate(rows):
        if row[1] < 0:
            raise ValueError(f"process {other} refused its arguments; its own error says why")
        for name, here, there in zip(
            (
                "local_logits' precision (0: float32, 1: float64)",
                "the number of targets",
                "target (a checksum)",
            ),
            rows[rank][1:],
            row[1:],
            strict=True,
        ):
            if here != there:
                raise ValueError(
                    f"{name} is {there} in process {other} and {here} in process {rank}; they must have the same"
                )
    lengths = [row[0] for row in rows]
    if vocab_sizes is not None and list(vocab_sizes) != lengths:
        raise ValueError(f"vocab_sizes is {list(vocab_sizes)}, and the shards have {lengths} tokens")
    if sum(lengths) == 0:
        raise ValueError("local_logits must have at least one token in one of the processes, got none in any")
    return lengths


class _VocabParallel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, local_logits, target, shards):
        z, y = _table(local_logits), target.reshape(-1, 1)
        rows, n = z.shape
        work, narrow = working_dtype(z), result_dtype(z)
        valid = y != shards.ignore_index
        local = y - shards.start
        mine = valid & (local >= 0) & (local < n)
        local = torch.where(mine, local, 0)

        m = z.amax(1, keepdim=True).to(narrow) if n else z.new_full((rows, 1), -torch.inf, dtype=narrow)
        _reduce(m, dist.ReduceOp.MAX, shards.group)

        # rest: the sum without the target and, in float64, without the largest, of which `ones` counts those that are
        # not the target. Tiny terms that are added to a 1 would each lose half a unit of it.
        parts = torch.zeros((3 if work == z.dtype else 2, rows, 1), dtype=work, device=z.device)
        rest, z_y = parts[0], parts[1]
        if n:
            z_y.copy_(torch.where(mine, z.gather(1, local), 0.0))
            for r, e in _exponentials(z, m):
                e.scatter_(1, local[r], torch.where(mine[r], 0.0, e.gather(1, local[r])))
                if work == z.dtype:
                    top = z[r] == m[r]
                    parts[2, r] = top.sum(1, keepdim=True) - (top.gather(1, local[r]) & mine[r]).to(work)
                    e.masked_fill_(top, 0.0)
                torch.sum(e, 1, keepdim=True, out=rest[r])
        _reduce(parts, dist.ReduceOp.SUM, shards.group)

        e_y = relative_exp(z_y.to(narrow), m)
        # A maximum that is NaN may be lost on its way; then the sum is NaN.
        rest, ones = torch.where(torch.isfinite(m), rest, torch.nan), parts[2:].sum(0)
        s, total = rest + ones, (rest + e_y) + ones
        log_total = torch.where(e_y == 1, torch.log1p(s), torch.log(total))
        loss = log_total + (m - z_y)
        at_y, slope = -s / total, torch.ones_like(total)
        if shards.z_loss:
            lse = m + log_total
            loss = loss + shards.z_loss * lse.square()
            at_y = at_y + (2.0 * shards.z_loss) * lse * (e_y / total)
            slope = slope + (2.0 * shards.z_loss) * lse
        loss = torch.where(valid, loss, 0.0)
        count = valid.sum()
        ctx.save_for_backward(local_logits, local, mine, valid, m, slope / total, at_y, count)
        ctx.reduction = shards.reduction
        if shards.reduction == "none":
            return loss.reshape(target.shape).to(narrow)
        return (loss.sum() / count if shards.reduction == "mean" else loss.sum()).to(narrow)

    @staticmethod
    def backward(ctx, upstream):
        if torch.is_grad_enabled():  # create_graph=True: the gradient would look like a constant
            raise RuntimeError(
                "vocab_parallel_cross_entropy has no second derivative (create_graph=True); cross_entropy has"
            )
        local_logits, local, mine, valid, m, factor, at_y, count = ctx.saved_tensors
        z = _table(local_logits)
        scale = upstream.to(factor.dtype).reshape(-1, 1)
        if ctx.reduction == "mean":
            scale = scale / count
        factor, at_y = scale * factor, scale * at_y
        grad = torch.empty_like(z)
        if z.shape[1]:
            for r, e in _exponentials(z, m):
                grad[r] = e.mul_(factor[r])
                was = grad[r].gather(1, local[r])
                grad[r].scatter_(1, local[r], torch.where(mine[r], at_y[r].to(grad.dtype), was))
            grad.masked_fill_(~valid, 0.0)
        return grad.reshape(local_logits.shape), None, None


def _reduce(tensor: Tensor, operation: dist.ReduceOp, group: dist.ProcessGroup | None) -> None:
    if tensor.numel():  # no targets, in any process
        dist.all_reduce(tensor, operation, group=group)


def _table(logits: Tensor) -> Tensor:
    return logits.reshape(logits.shape[:-1].numel(), logits.shape[-1])


def _exponentials(z: Tensor, m: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of rows with exp(z - m) for them, in scratch memory that may be written to."""
    rows, n = z.shape
    budget = 2**19 * torch.get_num_threads() if z.device.type == "cpu" else 2**24
    step = max(1, budget // n)
    scratch = torch.empty((min(step, rows), n), dtype=working_dtype(z), device=z.device)
    for first in range(0, rows, step):
        r = slice(first, min(first + step, rows))
        yield r, relative_exp(z[r], m[r], scratch[: r.stop - r.start])
