"""Options of the training loop: what they may be, and what they mean once that is sure."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ._checkpoint_file import CheckpointError
from ._checks import count
from ._history import History

Progress = bool | Callable[[float, str], None] | None
File = str | os.PathLike


def files(checkpoint: File | None, every: int | None, resume: bool | File) -> tuple[Path | None, Path | None]:
    """Return where to write and where to resume from, once it is sure that both can be done."""
    if isinstance(resume, bool):
        if resume and checkpoint is None:
            raise ValueError("resume is True, and checkpoint is None; name the file to go on from")
        source = Path(checkpoint) if resume else None
        if source is not None and not source.exists():
            source = None  # the first time
    else:
        source = Path(resume)
        if not source.exists():
            raise CheckpointError(f"{source} does not exist: resume must be the checkpoint of an earlier run")
    path = source if checkpoint is None else Path(checkpoint)
    if every is not None:
        count("checkpoint_every", every)
        if path is None:
            raise ValueError(f"checkpoint_every is {every}, and checkpoint is None; name the file to write")
    if path is None:
        return None, None
    if not path.parent.is_dir():
        raise ValueError(f"checkpoint is {str(path)!r}; its folder does not exist: make it first")
    if path.is_dir():
        raise ValueError(f"checkpoint is {str(path)!r}; it must be a file, not a folder")
    if path.exists() and (source is None or not path.samefile(source)):
        raise ValueError(
            f"checkpoint is {str(path)!r}, which exists: resume=True goes on from it, or remove it to begin again"
        )
    # Absolute: a change of the working directory during the run must not lead astray.
    return path.absolute(), source


def stopper(stop: Callable[[], bool] | threading.Event | None) -> Callable[[], bool]:
    if stop is None:
        return lambda: False
    if hasattr(stop, "is_set"):
        return stop.is_set
    if callable(stop):
        return stop
    raise TypeError(f"stop must be a function or a threading.Event, got {stop!r}")


@contextlib.contextmanager
def teller(progress: Progress, steps: int, start: int) -> Iterator[Callable[[int, History], None]]:
    """Yield what to call before each step and after the last one."""
    if progress is not True:

        def call(step: int, history: History) -> None:
            if progress and step < steps:
                progress(step / steps, f"step {step} of {steps}")

        yield call
        return
    from tqdm.auto import tqdm

    with tqdm(total=steps, initial=start, unit="step") as bar:

        def advance(step: int, history: History) -> None:
            if history.losses:
                bar.set_postfix_str(f"loss {history.losses[-1]:.3f}", refresh=False)
            bar.update(step - bar.n)

        yield advance


def due(step: int, steps: int, every: int) -> bool:
    return step % every == 0 or step == steps


def name_of(function: Any) -> str:
    return getattr(function, "__qualname__", type(function).__qualname__)


def positive(name: str, value: Any) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {value}; it must be positive and finite")
    return float(value)
