"""What the processes of one training run tell each other; a run that is alone sends nothing.

There are four kinds of message: a hello before the first step, the weights to begin with, a few numbers (every process
at the same places of the loop, so that one that failed can say so in its turn), and the gradients.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

NUMBERS = 3  # in a message, besides the sign that its sender is well


class ProcessGroupError(RuntimeError):
    """A run of several processes ended because one of them failed, was killed or did not answer.

    The message says which process and why, as far as that is known. A note says where the state of the run stands.
    """


class World:
    """The processes of a run, seen from one of them."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group, self.rank, self.size = group, 0, 1
        self.lost = False  # a process is gone: nothing can be sent any more
        self.step: int | None = None
        self.people: list[tuple[str, int]] = []  # host and process id of each, once they met
        if group is None:
            return
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError("group needs a process group: use lossutils.parallel.process_group()")
        if group is dist.GroupMember.NON_GROUP_MEMBER:
            raise ValueError("group is one that this process does not belong to; only its members may train")
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(f"group must be a torch.distributed.ProcessGroup or None, got {group!r}")
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def writes(self) -> bool:
        """Whether the checkpoint is this process's job: the first's, and the second's if the first may be gone."""
        return self.rank == 0 or (self.rank == 1 and self.lost)

    def meet(self, facts: dict[str, Any]) -> None:
        """Say hello, and require that all processes are about to do the same."""
        if self.alone:
            return
        found: list[Any] = [None] * self.size
        self._send(lambda: dist.all_gather_object(found, (_me(), facts), group=self.group))
        self.people = [person for person, _ in found]
        first = found[0][1]
        for rank, (_, other) in enumerate(found):
            for key in sorted({*first, *other}):
                if first.get(key) != other.get(key):
                    raise ValueError(
                        f"{key} is {other.get(key)!r} in process {rank} and {first.get(key)!r} in process 0; "
                        "all processes of a run must be given the same"
                    )

    def copy_weights(self, model: nn.Module) -> None:
        """Give every process the weights (and buffers) of the first one."""
        if self.alone:
            return
        source = dist.get_global_rank(self.group, 0)
        for tensor in model.state_dict().values():
            whole = tensor.contiguous()
            self._send(lambda whole=whole: dist.broadcast(whole, source, group=self.group))
            if whole is not tensor:
                tensor.copy_(whole)

    def exchange(self, *numbers: float) -> list[list[float]]:
        """Return what each process says here, in the order of ranks; raise if one says that it failed."""
        if self.alone:
            return [list(numbers)]
        rows = self._gather([1.0, *numbers])
        if not all(row[0] for row in rows):
            raise ProcessGroupError(self._reason(None))
        return [row[1 : 1 + len(numbers)] for row in rows]

    def any(self, flag: bool) -> bool:
        return any(row[0] for row in self.exchange(flag))

    def first(self, number: float) -> float:
        """Return what the first process says."""
        return self.exchange(number)[0][0]

    def add(self, *numbers: float) -> list[float]:
        """Return the sums over processes, added in the order of ranks and so the same on each to the last bit."""
        rows = self.exchange(*numbers)
        return [sum(column) for column in zip(*rows, strict=True)]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes; one that no process has stays None."""
        if self.alone:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            if parameter.requires_grad:
                kinds[parameter.dtype, parameter.device].append(parameter)
        for same in kinds.values():
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in same]
            has = parts[0].new_tensor([p.grad is not None for p in same])
            flat = torch.cat([*(part.reshape(-1) for part in parts), has])
            self._send(lambda flat=flat: dist.all_reduce(flat, group=self.group))
            *sums, has = flat.split([*(p.numel() for p in same), len(same)])
            for parameter, total, some in zip(same, sums, has.tolist(), strict=True):
                parameter.grad = total.view_as(parameter) if some else None

    def fail(self, error: BaseException) -> None:
        """Tell the others, where they wait for numbers, that this process gives up; never raise for that."""
        if self.alone or self.lost or isinstance(error, ProcessGroupError):
            return
        try:
            self._gather([0.0])
            self._reason(f"{type(error).__name__}: {error}")
        except RuntimeError:
            self.lost = True

    def await_launcher(self, terminated: threading.Event) -> None:
        """After a loss, let torchrun's SIGTERM come while it is caught: later it would cut the error message short."""
        if self.lost and "TORCHELASTIC_RUN_ID" in os.environ:
            terminated.wait(2.0)

    def _gather(self, numbers: Sequence[float]) -> list[list[float]]:
        message = [*numbers, *[0.0] * (NUMBERS + 1 - len(numbers))]
        mine = torch.tensor(message, dtype=torch.float64, device=meeting_place(self.group))
        rows = [torch.empty_like(mine) for _ in range(self.size)]
        self._send(lambda: dist.all_gather(rows, mine, group=self.group))
        return [row.tolist() for row in rows]

    def _reason(self, mine: str | None) -> str:
        """Exchange, once it is known that a process failed, who did and why."""
        found: list[Any] = [None] * self.size
        self._send(lambda: dist.all_gather_object(found, mine, group=self.group))
        failed = [f"process {rank} failed with {why}" for rank, why in enumerate(found) if why is not None]
        return f"{'; '.join(failed)}. This is process {self.rank}; it stops{self._where()} as well"

    def _send(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except RuntimeError as error:
            self.lost = True
            gone = self._gone()
            who = " and ".join(f"process {rank}" for rank in gone) or "another process"
            state = "is gone" if gone else "is gone or did not answer in time"
            raise ProcessGroupError(
                f"{who} of {self.size} {state}; this is process {self.rank}, which stops{self._where()}. "
                "Look at the other one's own error first"
            ) from error

    def _where(self) -> str:
        return "" if self.step is None else f" at step {self.step}"

    def _gone(self) -> list[int]:
        """The ranks whose process on this machine has ended. Its parent needs a moment to notice."""
        if os.name != "posix":
            return []
        here = _me()[0]
        for _ in range(10):
            gone = [r for r, (host, number) in enumerate(self.people) if host == here and not _lives(number)]
            if gone:
                return gone
            time.sleep(0.05)
        return []


def meeting_place(group: dist.ProcessGroup | None) -> torch.device:
    """The device over which a group can send small numbers."""
    nccl = dist.get_backend(group) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


def own_rows(batch: Any, rank: int, size: int) -> tuple[Any, bool]:
    """Return the rows of a batch that are one process's share, and whether there are any."""
    rows = {tensor.shape[0] for tensor in _tensors(batch) if tensor.ndim}
    if len(rows) != 1:
        raise ValueError(
            f"batches gave tensors with {sorted(rows) or 'no'} rows; several processes share a batch by its rows, so "
            "each tensor must have as many"
        )
    n = rows.pop()
    share = slice(rank * n // size, (rank + 1) * n // size)
    return map_tensors(
        lambda tensor: tensor[share] if tensor.ndim else tensor, batch
    ), share.start < share.stop


def map_tensors(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """A batch with each of its tensors replaced: a tensor, or tuples, lists and dicts of them."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {key: map_tensors(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(function, value) for value in batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map_tensors(function, value) for value in batch)
    return batch


def _tensors(batch: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(keep, batch)
    return found


def _me() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # ended, but its parent has not yet asked how
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True
