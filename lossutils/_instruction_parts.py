"""Parts of the instruction world: its words and operations, the noisy walk of its stories, small helpers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from . import _checks
from .information import entropy

PAD = -100  # fills rows after their end: what cross_entropy ignores

OPERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "copy": lambda operands: operands,
    "reverse": lambda operands: operands[:, ::-1],
    "sort": lambda operands: np.sort(operands, axis=1),  # ids are in alphabetical order, X last
    "rotate": lambda operands: np.roll(operands, -1, axis=1),
}


@dataclass(frozen=True)
class Habits:
    """How the people of a forum respond to a question: five probabilities that sum to one.

    Attributes
    ----------
    comply : float
        Do what was asked, correctly.
    wrong : float
        Do one of the other operations.
    question : float
        Ask a question of one's own.
    ramble : float
        Say a stretch of a story.
    refuse : float
        Say ``cannot``.

    Examples
    --------
    >>> Habits(comply=0.9, refuse=0.1).refuse
    0.1
    """

    comply: float
    wrong: float = 0.0
    question: float = 0.0
    ramble: float = 0.0
    refuse: float = 0.0

    def __post_init__(self) -> None:
        total = sum(_checks.real(name, value, 0.0, 1.0) for name, value in vars(self).items())
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the habits must sum to one, got {total!r} from {self}")


@dataclass(frozen=True)
class Walk:
    """A noisy walk around an alphabet of n letters: how stories and rambles go.

    The next letter is the one next in the alphabet with probability `succession`, else any other, the same again
    included. After each letter it ends with probability `stop`, after the letter number `longest` always.
    """

    n: int
    succession: float
    stop: float
    longest: int
    stop_id: int

    def sample(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """Walks with their full stop, (rows, longest + 1), filled with PAD."""
        lengths = np.minimum(rng.geometric(self.stop, rows), self.longest)[:, None]
        shape = (rows, self.longest)
        others = rng.choice([0, *range(2, self.n)], shape)
        moves = np.where(rng.random(shape) < self.succession, 1, others)
        moves[:, 0] = rng.integers(self.n, size=rows)
        walk = pad(np.cumsum(moves, axis=1) % self.n, self.longest + 1)
        place = np.arange(self.longest + 1)
        return np.where(place < lengths, walk, np.where(place == lengths, self.stop_id, PAD))

    def log_factors(self, tokens: np.ndarray) -> np.ndarray:
        """Log-probability (N, T) of each token given the one before it."""
        place = np.arange(tokens.shape[1])
        letter = (tokens >= 0) & (tokens < self.n) & (place < self.longest)
        before = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
        goes_on = np.pad(letter, ((0, 0), (1, 0)))[:, :-1]  # there was a letter before
        next_one = (tokens - before) % self.n == 1
        stray = (1 - self.succession) / (self.n - 1)
        step = np.where(next_one, self.succession, stray) * (1 - self.stop)
        end = np.where(place < self.longest, self.stop, 1.0)
        p = np.where(letter & (place == 0), 1 / self.n, 0.0)
        p = np.where(letter & goes_on, step, p)
        p = np.where((tokens == self.stop_id) & goes_on, end, p)
        return log_of(np.where(tokens == PAD, 1.0, p))

    @property
    def mean_letters(self) -> float:
        return float(self._lengths() @ np.arange(1, self.longest + 1))

    @property
    def entropy(self) -> float:
        """In nats a walk. Its length and its moves are independent."""
        others = self.n - 1
        move = entropy(np.r_[self.succession, np.full(others, (1 - self.succession) / others)])
        return float(entropy(self._lengths()) + np.log(self.n) + (self.mean_letters - 1) * move)

    def _lengths(self) -> np.ndarray:
        n = np.arange(1, self.longest + 1)
        return (1 - self.stop) ** (n - 1) * np.where(n < self.longest, self.stop, 1.0)


def fixed_factors(tokens: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Log-probability (N, T) of each token where only one thing can be said."""
    good = tokens == PAD
    n = min(tokens.shape[1], expected.shape[1])
    good[:, :n] |= tokens[:, :n] == expected[:, :n]
    return log_of(good.astype(float))


def log_of(p) -> np.ndarray:
    """The logarithm, −inf at zero without a warning. Of probabilities that are known, never of a model's."""
    with np.errstate(divide="ignore"):
        return np.log(p)


def minus_p_log_p(p: np.ndarray) -> np.ndarray:
    return -p * np.log(np.where(p > 0, p, 1.0))


def pad(rows: np.ndarray, width: int) -> np.ndarray:
    """Fill rows up to a width, if they are narrower."""
    missing = max(0, width - rows.shape[-1])
    return np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, missing)], constant_values=PAD)
