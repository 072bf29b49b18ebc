"""A training curve in memory, and smoothing it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _checks
from ._history import History

SERIES = ("learning_rate", "gradient_norm")
EVALUATIONS = 1000  # points at which a long curve is smoothed


@dataclass(frozen=True, eq=False)
class Run:
    """A training curve and what is known about it.

    Use it to hand numbers of your own to :func:`diagnose`; :func:`read_run` makes one from a file.

    Parameters
    ----------
    steps : array_like (N,)
        Strictly increasing.
    train : array_like (N,)
        Training losses, nats/token. NaN and infinity are kept: they are evidence.
    validation_steps, validation : array_like (M,), optional
        Losses on held-out text, at their own steps.
    learning_rate, gradient_norm : array_like (N,), optional
        Beside the training losses; NaN where unknown.
    vocab_size : int, optional
        V: without it nobody knows where a curve should start.
    floor : float, optional
        The lowest expected loss of any model, nats/token.
    pass_steps : float, optional
        Steps of one pass over the training text (an epoch); ``math.inf`` where no example comes twice. In the first
        pass each batch is new to the model, so the training loss is a loss on new text too: what it gains and
        validation does not is no over-fitting.
    name : str
        For reports and pictures.
    notes : tuple of str
        What was done to the numbers on the way here.

    Raises
    ------
    ValueError
        Lengths that differ, no point, steps that do not increase, not one finite training loss, a vocabulary of less
        than 2, a negative floor, a pass of no steps.
    TypeError
        What are no numbers.

    Examples
    --------
    >>> run = Run([0, 1, 2], [3.9, 3.7, 3.4], vocab_size=46)
    >>> len(run), run.train[-1]
    (3, np.float64(3.4))
    """

    steps: np.ndarray
    train: np.ndarray
    validation_steps: np.ndarray | None = None
    validation: np.ndarray | None = None
    learning_rate: np.ndarray | None = None
    gradient_norm: np.ndarray | None = None
    vocab_size: int | None = None
    floor: float | None = None
    name: str = ""
    notes: tuple[str, ...] = ()
    pass_steps: float | None = None

    def __post_init__(self) -> None:
        put = object.__setattr__  # the dataclass is frozen for its users
        steps = increasing("steps", row("steps", self.steps))
        put(self, "steps", steps)
        put(self, "train", row("train", self.train, len(steps), "steps"))
        if not np.isfinite(self.train).any():
            raise ValueError(f"train holds no finite loss among {len(steps)}; there is no curve to read")
        if (self.validation is None) != (self.validation_steps is None):
            raise ValueError("validation and validation_steps must be given together")
        if self.validation is not None:
            when = increasing("validation_steps", row("validation_steps", self.validation_steps))
            put(self, "validation_steps", when)
            put(self, "validation", row("validation", self.validation, len(when), "validation_steps"))
        for name in SERIES:
            if getattr(self, name) is not None:
                put(self, name, row(name, getattr(self, name), len(steps), "steps"))
        if self.vocab_size is not None:
            size = _checks.real("vocab_size", self.vocab_size, 2)
            if size != int(size):
                raise ValueError(f"vocab_size must be a whole number, got {self.vocab_size!r}")
            put(self, "vocab_size", int(size))
        if self.floor is not None:
            put(self, "floor", _checks.real("floor", self.floor, 0.0))
        if self.pass_steps is not None and self.pass_steps != math.inf:
            put(self, "pass_steps", _checks.real("pass_steps", self.pass_steps, 0.0))
            if not self.pass_steps > 0:
                raise ValueError("pass_steps must be above 0, got 0")
        put(self, "notes", tuple(self.notes))

    def __len__(self) -> int:
        return len(self.steps)

    @classmethod
    def from_history(cls, history: History, **known: Any) -> Run:
        """The curve of a `History` of :func:`lossutils.training.train`.

        ``known`` is vocab_size, floor, pass_steps, name.
        """
        if not history.losses:
            raise ValueError("history holds no step; there is no curve to read")
        run = {
            "steps": history.steps,
            "train": history.losses,
            "learning_rate": history.learning_rates or None,
            "gradient_norm": history.gradient_norms or None,
        }
        if history.validation_steps:
            run |= {"validation_steps": history.validation_steps, "validation": history.validation_losses}
        return cls(**run | known)


def smooth(steps: Any, values: Any, *, span: float | None = None) -> np.ndarray:
    r"""Smooth a curve by straight lines, fitted around each step: no lag, no bias at the ends.

    Use it to look at a noisy curve. A running mean lags behind, an exponential one more so, and both bend away from the
    truth at the ends, where one looks first. Here a straight line stays a straight line up to its last point.

    .. math:: \hat y(s) = a_s, \quad (a_s, b_s) = \arg\min_{a, b} \sum_i w_i \, (y_i - a - b (x_i - s))^2, \qquad
              w_i = \bigl(1 - |x_i - s|^3 / h^3\bigr)_+^3

    Parameters
    ----------
    steps : array_like (N,)
        x, strictly increasing, evenly spaced or not.
    values : array_like (N,)
        y; what is not finite is left out of the fits.
    span : float, optional
        2h, in steps. None is a tenth of the whole. Where fewer than 3 finite points lie inside, h grows to the third.

    Returns
    -------
    float64 array (N,)
        One smoothed value a step; NaN everywhere where no value is finite.

    Raises
    ------
    ValueError
        Lengths that differ, steps that do not increase, a span that is not positive.
    TypeError
        What are no numbers.

    Notes
    -----
    This is local linear regression (LOESS of degree 1, without its robust repetition). Beyond 1000 points the line is
    fitted at 1000 evenly spaced steps and interpolated between, which keeps straight lines straight and costs O(1000
    N) at worst. A spike of the curve becomes a bump: it is a smoother, not a filter of outliers.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(50)
    >>> bool(np.allclose(smooth(x, 3 - 0.02 * x), 3 - 0.02 * x))
    True

    References
    ----------
    Cleveland & Devlin (1988), "Locally weighted regression", JASA 83, 596-610. Fan (1992), "Design-adaptive
    nonparametric regression", JASA 87, 998-1004 (why the ends are unbiased).
    """
    x = increasing("steps", row("steps", steps))
    y = row("values", values, len(x), "steps")
    span = 0.1 * (x[-1] - x[0]) if span is None else _checks.real("span", span, 0.0)
    finite = np.isfinite(y)
    if not finite.any():
        return np.full(len(x), math.nan)
    if len(x) > 1 and span == 0:
        raise ValueError("span must be positive, got 0")
    known_x, known_y = x[finite], y[finite]
    centres = x if len(x) <= EVALUATIONS else np.linspace(x[0], x[-1], EVALUATIONS)
    fitted = np.array([line_at(s, known_x, known_y, span / 2) for s in centres])
    return fitted if centres is x else np.interp(x, centres, fitted)


def line_at(s: float, x: np.ndarray, y: np.ndarray, h: float) -> float:
    """The value at s of the straight line that fits best around it."""
    lo, hi = np.searchsorted(x, [s - h, s + h])
    if hi - lo < 4:
        near = np.sort(np.abs(x[max(0, lo - 3) : hi + 3] - s))
        # A little beyond the third point, so that it counts.
        h = max(h, 1.001 * near[min(2, len(near) - 1)])
        lo, hi = np.searchsorted(x, [s - h, s + h])
    d, near_y = x[lo:hi] - s, y[lo:hi]
    weight = (1 - (np.abs(d) / h) ** 3).clip(0) ** 3 if h > 0 else np.ones_like(d)
    total = weight.sum()
    centre, mean = (weight * d).sum() / total, (weight * near_y).sum() / total
    spread = (weight * (d - centre) ** 2).sum()
    if spread == 0:
        return float(mean)
    slope = (weight * (d - centre) * (near_y - mean)).sum() / spread
    return float(mean - slope * centre)


def row(name: str, values: Any, length: int | None = None, other: str = "") -> np.ndarray:
    if _checks.is_torch(values):
        values = values.detach().cpu().numpy()
    array = np.array(_checks.as_float(name, values), dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name} must be one row with at least one number, got shape {array.shape}")
    if length is not None and len(array) != length:
        raise ValueError(f"{name} has {len(array)} numbers and {other} has {length}; they must be as many")
    array.setflags(write=False)
    return array


def increasing(name: str, steps: np.ndarray) -> np.ndarray:
    if not np.isfinite(steps).all():
        raise ValueError(
            f"{name} must be finite, got {steps[~np.isfinite(steps)][0]} at position {np.argmin(np.isfinite(steps))}"
        )
    if (np.diff(steps) <= 0).any():
        at = int(np.argmax(np.diff(steps) <= 0))
        raise ValueError(
            f"{name} must increase, got {steps[at]:g} and then {steps[at + 1]:g} at position {at + 1}; "
            "read_run sorts a file and says what it did with repeated steps"
        )
    return steps
