"""What the processes of test_parallel.py do. Each writes what it saw to a file of its own; the tests compare.

The cases are made from fixed seeds, so that the test's own process can make the same ones and compute them alone.
"""

from __future__ import annotations

import datetime
import os
import signal
import time

import numpy as np
import torch
import torch.distributed as dist

from lossutils import TokenMean, cross_entropy
from lossutils.models import WindowModel
from lossutils.parallel import vocab_parallel_cross_entropy
from lossutils.training import Excerpts, train, train_batches

# ------------------------------------------------------------------------------------------ a vocabulary in shards

# For two and for four processes: equal, unequal, and with nothing at one end.
LENGTHS = {
    2: {"equal": [6, 6], "unequal": [9, 2], "empty": [0, 11]},
    4: {"equal": [3, 3, 3, 3], "unequal": [1, 7, 2, 3], "empty": [5, 0, 4, 0]},
}
DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
WIDE = ("float64", "float32")
REDUCED = ("random", "ignored", "none")
KINDS = ("random", "sure", "masked", "ties", "offset", "first shard", "last shard", "ignored", "none", "bad")


def logits_and_target(kind: str, lengths: list[int], dtype: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (4, 3, V) and targets (4, 3)."""
    n = sum(lengths)
    generator = torch.Generator().manual_seed(KINDS.index(kind))
    z = 3 * torch.randn(4, 3, n, generator=generator, dtype=torch.float64)
    y = torch.randint(0, n, (4, 3), generator=generator)
    if kind == "sure":  # the target leads by 5 to 60 nats
        z.scatter_(-1, y[..., None], 10 + torch.linspace(5, 60, 12, dtype=torch.float64).view(4, 3, 1))
    elif kind == "masked":
        z[:2, :, ::2] = -torch.inf  # whole shards of length one, and some targets
        z[3, 0] = -torch.inf
        z[3, 0, y[3, 0]] = 1.5  # nothing but the target
    elif kind == "ties":
        z[:, :, [0, n // 2, n - 1]] = 12.0
        y[0], y[1] = n - 1, 0
    elif kind == "offset":
        z = (4 * z).round() / 4 + (1e4 if dtype in ("bfloat16", "float16") else 1e6)
    elif kind == "first shard":
        y %= next(length for length in lengths if length)
    elif kind == "last shard":
        y = n - 1 - y % [length for length in lengths if length][-1]
    elif kind == "ignored":
        y[::2, 1] = -100
        z[0, 1, 0] = torch.nan
        z[2, 1] = torch.inf
    elif kind == "none":
        y[:] = -100
    elif kind == "bad":  # NaN, +inf and nothing at all, in one row each; the last row of four is sound
        z[0, 0, 0] = z[0, 1, n - 1] = torch.nan
        z[1, 0, 0] = torch.inf
        z[1, 1, y[1, 1]] = torch.inf
        z[2, 0] = -torch.inf
        z[2, 1, y[2, 1]] = torch.nan
    return z.to(DTYPES[dtype]), y


def sharded(z, y, lengths, rank, **options):
    """This process's loss, and the gradient of its shard for a sum with weights."""
    start = sum(lengths[:rank])
    local = z[..., start : start + lengths[rank]].clone().requires_grad_()
    loss = vocab_parallel_cross_entropy(local, y, **options)
    (loss * torch.arange(1, loss.numel() + 1, device=z.device).view(loss.shape)).sum().backward()
    return loss.detach(), local.grad


def vocabulary(rank: int, size: int) -> dict:
    found = {}
    for name, lengths in LENGTHS[size].items():
        for dtype in DTYPES if name == "unequal" else WIDE:
            for kind in KINDS:
                z, y = logits_and_target(kind, lengths, dtype)
                for reduction in ("none", "sum", "mean") if kind in REDUCED else ("none",):
                    found[name, dtype, kind, reduction] = sharded(z, y, lengths, rank, reduction=reduction)
    lengths = LENGTHS[size]["unequal"]
    z, y = logits_and_target("random", lengths, "float32")
    for option in ({"z_loss": 0.01}, {"ignore_index": 1}, {"vocab_sizes": lengths, "validate": False}):
        found[str(option)] = sharded(z, y, lengths, rank, reduction="none", **option)
    strided = z.transpose(0, 1).contiguous().transpose(0, 1)
    found["strided"] = sharded(strided, y, lengths, rank, reduction="none")
    found["one token"] = sharded(z[0, 0], y[0, 0], lengths, rank, reduction="none")
    found["no tokens"] = sharded(z[:0], y[:0], lengths, rank, reduction="sum")
    found["calls"] = {
        "checked": count_calls(z, y, lengths, rank),
        "unchecked": count_calls(z, y, lengths, rank, vocab_sizes=lengths, validate=False),
    }
    found["errors"] = {name: error_of(rank, size, lengths, name) for name in ERRORS}
    found["twice"] = message_of(lambda: twice(z, y, lengths, rank))
    found["hidden"] = split_layer(rank, lengths)
    groups = [dist.new_group([r]) for r in range(size)]
    alone = z.clone().requires_grad_()
    vocab_parallel_cross_entropy(alone, y, group=groups[rank]).backward()
    found["alone"] = alone.grad
    found["stranger"] = message_of(lambda: vocab_parallel_cross_entropy(z, y, group=groups[rank - 1]))
    return found


def count_calls(z, y, lengths, rank, **options) -> dict:
    """The collective calls of one forward and one backward pass, with the numbers of bytes in each."""
    calls: list[tuple[str, int]] = []
    real = dist.all_reduce, dist.all_gather
    dist.all_reduce = lambda t, *a, **k: (calls.append(("all_reduce", t.nbytes)), real[0](t, *a, **k))[1]
    dist.all_gather = lambda o, t, **k: (calls.append(("all_gather", t.nbytes)), real[1](o, t, **k))[1]
    try:
        start = sum(lengths[:rank])
        local = z[..., start : start + lengths[rank]].clone().requires_grad_()
        loss = vocab_parallel_cross_entropy(local, y, **options)
        forward = list(calls)
        loss.backward()
        return {"forward": forward, "backward": calls[len(forward) :]}
    finally:
        dist.all_reduce, dist.all_gather = real


ERRORS = (
    "outside",
    "negative",
    "shape",
    "integer logits",
    "no tensor",
    "float targets",
    "reduction",
    "z_loss",
    "sizes",
    "targets differ",
    "precision differs",
    "one is refused",
)


def error_of(rank: int, size: int, lengths: list[int], name: str) -> str:
    z, y = logits_and_target("random", lengths, "float32")
    z = z[..., : lengths[rank]].clone()
    options: dict = {}
    if name == "outside":
        y[0, 0] = sum(lengths)
    elif name == "negative":
        y[0, 0] = -1
    elif name == "shape":
        y = y[:2]
    elif name == "integer logits":
        z = z.long()
    elif name == "no tensor":
        z = z.tolist()
    elif name == "float targets":
        y = y.float()
    elif name == "reduction":
        options["reduction"] = "average"
    elif name == "z_loss":
        options["z_loss"] = -1.0
    elif name == "sizes":
        options["vocab_sizes"] = lengths[::-1]
    elif name == "targets differ" and rank == size - 1:
        y = y.flip(0)
    elif name == "precision differs" and rank == size - 1:
        z = z.double()
    elif name == "one is refused" and rank == size - 1:
        z = z[0]
    return message_of(lambda: vocab_parallel_cross_entropy(z, y, **options))


def message_of(call) -> str:
    try:
        call()
    except (LookupError, RuntimeError, TypeError, ValueError, FloatingPointError) as error:
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    return ""


def twice(z, y, lengths, rank) -> None:
    start = sum(lengths[:rank])
    local = z[..., start : start + lengths[rank]].clone().requires_grad_()
    (grad,) = torch.autograd.grad(vocab_parallel_cross_entropy(local, y), local, create_graph=True)
    grad.sum().backward()


def layer(vocab_size: int):
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocab_size, 6, generator=generator, dtype=torch.float64)
    return hidden, weight, torch.randint(0, vocab_size, (7,), generator=generator)


def split_layer(rank: int, lengths: list[int]):
    """Gradients of a last layer that is split by its columns: of this part, and of what comes before, summed."""
    hidden, weight, y = layer(sum(lengths))
    start = sum(lengths[:rank])
    h, w = hidden.requires_grad_(), weight[start : start + lengths[rank]].clone().requires_grad_()
    vocab_parallel_cross_entropy(h @ w.T, y).backward()
    dist.all_reduce(h.grad)
    return h.grad, w.grad


# ------------------------------------------------------------------------------------------------------ training

TEXT = np.random.default_rng(0).integers(0, 5, 600)


def window(dtype=torch.float64, seed=0, kind=WindowModel):
    return kind(5, 2, width=8, embedding=4, seed=seed).to(dtype)


class Noisy(WindowModel):
    """A window model with dropout."""

    def forward(self, ids):
        return torch.nn.functional.dropout(super().forward(ids), 0.3, self.training)


class Lines:
    """Batches of rows that count unequally many tokens: (ids, mask) as a dict."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(self, step, generator):
        ids = torch.randint(0, 5, (self.rows, 10), generator=generator)
        ends = torch.randint(1, 11, (self.rows, 1), generator=generator)
        return {"ids": ids, "mask": torch.arange(10) < ends, "note": "kept whole"}


def masked_loss(model, batch):
    assert batch["note"] == "kept whole"
    ids, mask = batch["ids"], batch["mask"]
    target = torch.where(mask, ids, -100)
    return cross_entropy(model(ids).flatten(0, 1), target.flatten(), reduction="sum"), int(mask.sum())


def held_out_loss(group):
    """A loss that the processes of a group compute together, each on its own rows."""
    ids = torch.as_tensor(TEXT[:200]).view(-1, 10)
    rank, size = (0, 1) if group is None else (dist.get_rank(group), dist.get_world_size(group))

    def evaluate(model):
        loss, own = TokenMean(), ids[rank::size]
        loss.update(cross_entropy(model(own).flatten(0, 1), own.flatten(), reduction="sum"), own.numel())
        return (loss if group is None else loss.all_reduce(group)).mean

    return evaluate


def stream(group=None, dtype=torch.float64, kind=WindowModel, seed=0, **options):
    """train() on a text; the history and the weights."""
    model = window(dtype, seed, kind)
    settings = {
        "steps": 12,
        "batch_size": 8,
        "length": 10,
        "learning_rate": 0.02,
        "weight_decay": 0.1,
    } | options
    settings |= {"evaluate": held_out_loss(group), "evaluate_every": 4}
    history = train(model, cross_entropy, TEXT, group=group, **settings)
    return history, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def lines(rows, group=None, **options):
    """train_batches() on rows of unequal lengths."""
    model = window()
    settings = {"steps": 6, "optimizer": "sgd", "learning_rate": 0.5, "clip": None} | options
    history = train_batches(model, masked_loss, Lines(rows), group=group, **settings)
    return history, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def stop_after(n):
    asked = iter(range(10**9))
    return lambda: next(asked) == n


def training(rank: int, size: int, folder: str) -> dict:
    world, last = dist.group.WORLD, size - 1
    found = {
        "float64": stream(world),
        "float32": stream(world, torch.float32),
        "accumulate": stream(world, accumulate=3),
        "other seeds": stream(world, seed=rank),
        "lines": lines(8, world),
        "three rows": lines(3, world),  # fewer than four processes
        "one row": lines(1, world, accumulate=2),
        "dropout": stream(world, kind=Noisy),
        "dropout again": stream(world, kind=Noisy),
    }
    drawn: list[float] = []

    def draws(model, batch):
        drawn.append(torch.rand(()).item())
        return masked_loss(model, batch)

    train_batches(window(), draws, Lines(8), steps=3, group=world)
    found["drawn"] = drawn
    told: list[str] = []
    found["told"] = (stream(world, steps=2, progress=lambda share, message: told.append(message)), told)

    # Stops and files.
    path = f"{folder}/parts"
    found["stopped"] = stream(world, checkpoint=path, stop=stop_after(5) if rank == last else None)
    found["kept"] = os.path.exists(path)  # when the call returns, in every process
    dist.barrier()
    found["resumed"] = stream(world, checkpoint=path, resume=True)
    found["dropout in parts"] = [
        stream(world, kind=Noisy, checkpoint=f"{folder}/noisy", resume=True, stop=stop_after(5))
        for _ in range(3)
    ][-1]
    stream(world, checkpoint=f"{folder}/for-one", stop=stop_after(7))
    found["from one"] = stream(
        world, resume=f"{folder}/from-one-{size}", checkpoint=f"{folder}/from-one-{size}"
    )

    four = Lines(4)

    def terminated(step, generator):
        if step == 3 and rank == last:
            os.kill(os.getpid(), signal.SIGTERM)
        return four(step, generator)

    before = signal.getsignal(signal.SIGTERM)
    found["terminated"] = train_batches(
        window(), masked_loss, terminated, steps=9, group=world, stop=lambda: False
    )
    found["handler is back"] = signal.getsignal(signal.SIGTERM) == before

    # A weight that no process uses, and one that only the first one uses.
    part = torch.nn.ParameterDict({name: torch.ones(2, 2) for name in ("used", "unused", "first only")})

    def parts_loss(model, batch):
        loss = (model["used"] * batch.sum()).sum()
        return (loss + model["first only"].sum() if 0 in batch else loss), len(batch)

    numbers = torch.arange(4.0)
    options = {"steps": 1, "optimizer": "sgd", "weight_decay": 0.5, "learning_rate": 1.0, "clip": None}
    train_batches(part, parts_loss, lambda *_: numbers, group=world, warm_up=0, **options)
    found["parts"] = {name: tensor.detach().clone() for name, tensor in part.items()}

    # Errors.
    def fails(model, batch):
        if rank == last:
            raise KeyError("the last one's own fault")
        return masked_loss(model, batch)

    def not_finite(model, batch):
        loss, n = masked_loss(model, batch)
        return (loss * torch.nan if rank == last and model.calls > 2 else loss), n

    class Counting(WindowModel):
        calls = 0

        def forward(self, ids):
            self.calls += 1
            return super().forward(ids)

    counting = Counting(5, 2, width=8, embedding=4)

    def run(loss=masked_loss, batches=None, model=None, **options):
        model = window() if model is None else model
        train_batches(model, loss, Lines(8) if batches is None else batches, steps=6, group=world, **options)

    def evaluate_fails(model):
        if rank == last:
            raise ValueError("cannot evaluate")
        return 1.0

    def told_enough(share, message):
        raise ValueError("no more of this")

    excerpts = Excerpts(TEXT, batch_size=8, length=10 + (rank == last))
    found["errors"] = {
        "mean": message_of(lambda: run(lambda model, batch: masked_loss(model, batch)[0])),
        "other's": message_of(lambda: run(fails)),
        "settings": message_of(lambda: run(seed=rank)),
        "text": message_of(lambda: run(lambda model, batch: (model(batch).sum(), 1), excerpts)),
        "rows": message_of(lambda: run(batches=lambda *_: {"ids": torch.ones(4, 2), "mask": torch.ones(3)})),
        "no rows": message_of(lambda: run(batches=lambda *_: ["a", "b"])),
        "no tokens": message_of(lambda: run(lambda model, batch: (model(batch["ids"]).sum() * 0, 0))),
        "not finite": message_of(lambda: run(not_finite, model=counting, checkpoint=f"{folder}/nan")),
        "evaluate": message_of(lambda: run(evaluate=evaluate_fails)),
        "progress": message_of(lambda: run(progress=told_enough)),
    }
    found["after the errors"] = lines(8, world)
    return found


def work(rank: int, size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    try:
        found = {"vocabulary": vocabulary(rank, size), "training": training(rank, size, folder)}
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def accidents(rank: int, folder: str) -> None:
    """Three processes: the last one hangs; then, in another run, the first one is killed."""
    found, six = {}, Lines(6)

    def hangs(step, generator):
        if step == 3 and rank == 2:
            time.sleep(20)
        return six(step, generator)

    def dies(step, generator):
        if step == 4 and rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return six(step, generator)

    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    impatient = dist.new_group(timeout=datetime.timedelta(seconds=12))
    dist.barrier()
    for name, batches, group in (("hangs", hangs, impatient), ("dies", dies, dist.group.WORLD)):

        def run(batches=batches, group=group, path=f"{folder}/{name}.run"):
            train_batches(window(), masked_loss, batches, steps=6, group=group, checkpoint=path)

        found[name] = message_of(run)
        dist.destroy_process_group(group)
        torch.save(found, f"{folder}/{rank}.pt")
