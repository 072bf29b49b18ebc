"""How near an answer must be: '3 decimals', '4 digits', '1%', 'exact' or a plain number."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

EXACT_WIDTH = 1e-6  # wide enough for a whole number that went through float arithmetic


@dataclass(frozen=True)
class Tolerance:
    """A distance allowed around a value, and the words for it. Made by `read_tolerance`."""

    words: str
    absolute: float = 0.0
    relative: float = 0.0
    digits: int = 0

    def width(self, value):
        """The largest distance from `value` that still counts as equal (a float, or one for each element)."""
        size = np.abs(np.asarray(value, dtype=float))
        with np.errstate(divide="ignore", invalid="ignore"):
            width = self.absolute + self.relative * size
            if self.digits:
                unit = 10.0 ** (np.floor(np.log10(size)) - self.digits + 1)
                width = width + np.where(size > 0, unit, 0.0)
        width = width * (1 + 1e-9)
        return float(width) if width.ndim == 0 else width


def read_tolerance(spec: str | float) -> Tolerance:
    """Read a tolerance as an exercise's author writes it.

    Use it where a definition says how near is near enough. A number of decimals or digits allows one whole
    unit of the last one, so that an answer which was cut off passes as well as one which was rounded.

    Parameters
    ----------
    spec : str or float
        ``'3 decimals'`` (± 0.001), ``'4 digits'`` (one unit of the fourth significant digit), ``'1%'`` (of
        the value), ``'exact'`` (± 1e-6) or a positive number (an absolute distance).

    Returns
    -------
    Tolerance
        With `width(value)` and `words`.

    Raises
    ------
    ValueError
        If `spec` is none of these, or is not positive.

    Examples
    --------
    >>> read_tolerance("3 decimals").words
    '3 decimals'
    >>> round(read_tolerance("1%").width(200.0), 6)
    2.0

    See Also
    --------
    lossutils.exercises.Exercise : takes the same words in `tolerance`.
    """
    if isinstance(spec, str):
        text = spec.strip().lower()
        if text == "exact":
            return Tolerance("the exact value", absolute=EXACT_WIDTH)
        if match := re.fullmatch(r"([1-9]|1[0-2]) decimals?", text):
            count = int(match[1])
            return Tolerance(f"{count} decimal{'s' * (count > 1)}", absolute=10.0**-count)
        if match := re.fullmatch(r"([1-9]|1[0-2]) digits?", text):
            count = int(match[1])
            return Tolerance(f"{count} significant digit{'s' * (count > 1)}", digits=count)
        if (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text)) and float(match[1]) > 0:
            return Tolerance(f"a precision of {match[1]} %", relative=float(match[1]) / 100)
    elif isinstance(spec, (int, float)) and not isinstance(spec, bool) and 0 < spec < float("inf"):
        return Tolerance(f"a precision of {spec:g}", absolute=float(spec))
    raise ValueError(
        f"tolerance: got {spec!r}; it must be '3 decimals', '4 digits', '1%', 'exact' or a positive number"
    )
