"""Call a learner's function on an exercise's cases: fresh copies in, errors and changed inputs reported."""

from __future__ import annotations

import copy
import dis
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .reading import is_tensor

EMPTY_BODY = {"RESUME", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "NOP", "POP_TOP", "CACHE"}
LONGEST_SHOWN = 120


@dataclass(frozen=True)
class Call:
    """What one call did: its value or its error, whether it changed an argument, and how to show the case."""

    value: Any
    error: BaseException | None
    mutated: bool
    shown: str


def call_on_copies(function: Callable, cases: Sequence[tuple]) -> list[Call]:
    """Call `function` once for each case, with copies of the arguments; stop after the first error.

    Use it to run code that you do not know. KeyboardInterrupt passes, so that an endless loop can be
    stopped.

    Parameters
    ----------
    function : callable
        Takes the arguments of a case, in order.
    cases : sequence of tuple
        The cases. They are never handed out themselves.

    Returns
    -------
    list of Call
        As many as there are cases, fewer after an error.

    Examples
    --------
    >>> [call.value for call in call_on_copies(lambda x: 2 * x, [(1,), (4,)])]
    [2, 8]
    """
    calls = []
    for case in cases:
        arguments = tuple(copied(value) for value in case)
        value, error = None, None
        try:
            value = function(*arguments)
        except (Exception, SystemExit) as problem:  # SystemExit: a stray exit() must not close the kernel
            error = problem
        mutated = not all(unchanged(before, after) for before, after in zip(case, arguments, strict=True))
        # The value is copied too: a function may hand out one buffer again and again.
        calls.append(Call(copied(value), error, mutated, shown_case(case)))
        if error is not None:
            break
    return calls


def copied(value: Any) -> Any:
    """An independent copy; tensors keep their need for a gradient and leave their graph."""
    if is_tensor(value):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(copied(item) for item in value)
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    try:
        return copy.deepcopy(value)
    except Exception:
        return value  # a result that cannot be copied (a generator, say) is judged as it is


def unchanged(before: Any, after: Any) -> bool:
    """Whether data still is what it was. Objects other than data (a random generator) may change."""
    if is_tensor(before):
        return before.shape == after.shape and bool(((before == after) | (before != before)).all())
    if isinstance(before, np.ndarray):
        if before.shape != after.shape:
            return False
        return np.array_equal(before, after, equal_nan=before.dtype.kind in "fc")
    if isinstance(before, (list, tuple)):
        return len(before) == len(after) and all(map(unchanged, before, after))
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(unchanged(before[key], after[key]) for key in before)
    if isinstance(before, (int, float, str)):
        return before == after or before != before
    return True


def is_empty_function(function: Any) -> bool:
    """Whether the body is still a stub: only a docstring, `...`, `pass`, or a return of None or `...`."""
    code = getattr(function, "__code__", None)
    if code is None:
        return False
    instructions = list(dis.get_instructions(code))
    if not all(item.opname in EMPTY_BODY for item in instructions):
        return False
    constants = [item.argval for item in instructions if item.opname in ("LOAD_CONST", "RETURN_CONST")]
    return all(value is None or value is Ellipsis for value in constants)


def shown_case(case: tuple) -> str:
    """The arguments as code, on one line, cut where long."""
    return f"({', '.join(map(shown_value, case))})"


def shown_value(value: Any) -> str:
    """A short repr on one line that never raises."""
    try:
        if isinstance(value, (list, tuple)):  # NumPy scalars inside would print as np.float64(…)
            inner = ", ".join(map(shown_value, value))
            text = f"[{inner}]" if isinstance(value, list) else f"({inner})"
        elif isinstance(value, (np.ndarray, np.generic)) or is_tensor(value):
            array = np.asarray(value.detach().cpu().tolist() if is_tensor(value) else value)
            if array.ndim == 0:
                return shown_value(array.item())
            text = np.array2string(array, separator=", ", precision=6, threshold=12)
        elif isinstance(value, float):
            text = f"{value:.6g}"
        elif callable(value):
            text = getattr(value, "__name__", type(value).__name__)
        else:
            text = repr(value)
    except Exception:
        text = f"something of type {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"
