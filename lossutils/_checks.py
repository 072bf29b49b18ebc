"""Argument checks that the numerical modules share: one rule, one wording, both backends.

Every message names the argument, says the rule and shows the value that broke it.  ``ValueError`` is for
shapes and values, ``TypeError`` for kinds and dtypes.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Mapping

import numpy as np
import torch

TORCH_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
NUMPY_FLOATS = (np.float64, np.float32, np.float16)

# How far from one the sum of a distribution may be.  The low-precision rows allow for what rounding alone
# does to a softmax over 100 000 classes; the float64 row lets through float32 probabilities that were
# widened.
SUM_TOLERANCE = {"float64": 1e-6, "float32": 1e-5, "float16": 5e-3, "bfloat16": 1e-2}


def is_torch(x) -> bool:
    return isinstance(x, torch.Tensor)


def dtype_name(x) -> str:
    return str(x.dtype).replace("torch.", "")


def as_float(name: str, x):
    """Return ``x`` as a floating tensor (if it is one) or a floating NumPy array; integers become float64."""
    if is_torch(x):
        if x.dtype not in TORCH_FLOATS:
            raise TypeError(
                f"{name} must be a float64, float32, float16 or bfloat16 tensor, got dtype {dtype_name(x)}: "
                f"convert it with {name}.float()"
            )
        return x
    _reject_nested_tensors(name, x)
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise TypeError(
            f"{name} must be a tensor, an array or nested numbers, got {type(x).__name__}"
        ) from error
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.type not in NUMPY_FLOATS:
        raise TypeError(
            f"{name} must hold float64, float32, float16 or integer numbers, got dtype {array.dtype}"
        )
    return array


def as_integer(name: str, x):
    """Return ``x`` as an int64 tensor or NumPy array; floats and booleans are refused."""
    if is_torch(x):
        if x.dtype.is_floating_point or x.dtype.is_complex or x.dtype == torch.bool:
            raise TypeError(f"{name} must hold integers, got dtype {dtype_name(x)}")
        return x.long()
    _reject_nested_tensors(name, x)
    array = np.asarray(x)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}")
    return array.astype(np.int64)


def _reject_nested_tensors(name: str, x) -> None:
    if isinstance(x, (list, tuple)) and any(is_torch(item) for item in x):
        raise TypeError(f"{name} must be one tensor, got a {type(x).__name__} of tensors: stack them first")


def same_kind(**arguments) -> None:
    """Require all arguments to be tensors on one device, or none of them to be a tensor."""
    tensors = {name: x for name, x in arguments.items() if is_torch(x)}
    if not tensors:
        return
    first = next(iter(tensors))
    for name, x in arguments.items():
        if not is_torch(x):
            raise TypeError(f"{name} must be a torch tensor as {first} is, got {type(x).__name__}")
        if x.device != tensors[first].device:
            raise ValueError(
                f"{name} is on {x.device} but {first} is on {tensors[first].device}: use one device"
            )


def one_axis(name: str, axis, ndim: int) -> int:
    """Return ``axis`` as an index in [0, ndim)."""
    if isinstance(axis, bool) or not isinstance(axis, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {axis!r}")
    if not -ndim <= axis < ndim:
        raise ValueError(f"{name} must be in [-{ndim}, {ndim}) for an input of {ndim} dimensions, got {axis}")
    return int(axis) % ndim


def axes(name: str, axis, ndim: int) -> tuple[int, ...]:
    """Return ``axis`` (None for all, an integer or several) as distinct indices in [0, ndim)."""
    if axis is None:
        return tuple(range(ndim))
    several = tuple(axis) if isinstance(axis, Iterable) else (axis,)
    found = tuple(one_axis(name, a, ndim) for a in several)
    if len(set(found)) != len(found):
        raise ValueError(f"{name} must name each axis once, got {axis!r}")
    return found


def choice(name: str, value, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def real(name: str, value, low: float = -math.inf, high: float = math.inf) -> float:
    """Return ``value`` as a finite float in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and low <= value <= high):
        bounds = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")
    return float(value)


def count(name: str, value, least: int = 1) -> int:
    """Return ``value`` as an int of at least ``least``; floats and booleans are refused."""
    try:
        if isinstance(value, bool):  # Python takes True for 1
            raise TypeError
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if whole < least:
        raise ValueError(f"{name} must be at least {least}, got {whole}")
    return whole


def may_read(x, validate: bool | None) -> bool:
    """Whether a check may look at values: on an accelerator that waits for the device, so only if asked."""
    if validate is None:
        return not is_torch(x) or x.device.type == "cpu"
    return bool(validate)


def probabilities(name: str, p) -> None:
    """Require every entry to be in [0, 1], give or take the dtype's tolerance above one."""
    values = p.detach() if is_torch(p) else p
    tolerance = SUM_TOLERANCE[dtype_name(p)]
    bad = ~((values >= 0) & (values <= 1 + tolerance))
    if bad.any():
        raise ValueError(f"{name} must lie in [0, 1], got {values[bad].reshape(-1)[0].item()!r}")


def distribution(name: str, p, axis: int) -> None:
    """Require non-negative entries whose sum along ``axis`` is one within the dtype's tolerance."""
    if p.shape[axis] == 0:
        raise ValueError(f"{name} must have at least one class along axis {axis}, got shape {tuple(p.shape)}")
    if 0 in p.shape:
        return
    values = p.detach() if is_torch(p) else p
    low = values.min().item()
    if low < 0:
        raise ValueError(f"{name} must be non-negative, got {low!r}")
    if is_torch(values):
        # float32 sums in torch cascade, so their error is far below the tolerance; half precision widens.
        wide = torch.float64 if values.dtype == torch.float64 else torch.float32
        total = values.sum(axis, dtype=wide)
        off = (total - 1).abs()
    else:
        total = values.sum(axis, dtype=np.float64)
        off = np.abs(total - 1)
    tolerance = SUM_TOLERANCE[dtype_name(p)]
    bad = ~(off <= tolerance)  # written so that NaN counts as bad
    if bad.any():
        worst = total[bad].reshape(-1)[0].item()
        raise ValueError(
            f"{name} must sum to one along axis {axis} within {tolerance:g}, got a sum of {worst!r}"
        )


__all__: list[str] = []


def word_ids(text: str, known: Mapping[str, int]) -> np.ndarray:
    """The ids (T,) int64 of words separated by white space, each of which must be known."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    words = text.split()
    for t, word in enumerate(words):
        if word not in known:
            raise ValueError(f"text has {word!r} at position {t}, which is not one of the world's words")
    return np.array([known[word] for word in words], dtype=np.int64)
