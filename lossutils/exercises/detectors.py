"""Misconceptions that turn up in every chapter, ready to be named in a definition.

Each takes the right answer (a number, an array, or, for a function exercise, the oracle function) and
returns a `Misconception`. An exercise chooses the ones that fit it; where one would coincide with the right
answer (the flipped sign of 0), the exercise's constructor refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .definition import Misconception
from .reading import to_array

LN2 = float(np.log(2.0))


def _mapped(answer: Any, change: Callable[[np.ndarray], Any]) -> Any:
    """`change` applied to an answer, or to the results of an oracle function."""
    if callable(answer):
        return lambda *arguments: change(to_array(answer(*arguments)))
    return change(to_array(answer))


def nats_for_bits(answer: Any) -> Misconception:
    """The answer in nats where bits are asked for: smaller by the factor ln 2.

    Examples
    --------
    >>> round(float(nats_for_bits(1.0).value), 4)
    0.6931
    """
    message = "This is the natural logarithm: nats, not bits. You are off by the factor 1.4427."
    return Misconception("nats for bits", _mapped(answer, lambda x: x * LN2), message)


def bits_for_nats(answer: Any) -> Misconception:
    """The answer in bits where nats are asked for: larger by the factor 1 / ln 2.

    Examples
    --------
    >>> round(float(bits_for_nats(1.0).value), 4)
    1.4427
    """
    message = "This is the logarithm to base 2: bits, not nats. You are off by the factor 1.4427."
    return Misconception("bits for nats", _mapped(answer, lambda x: x / LN2), message)


def sign_flipped(answer: Any) -> Misconception:
    """The right size with the wrong sign.

    Examples
    --------
    >>> float(sign_flipped(2.5).value)
    -2.5
    """
    message = "The size is right and the sign is wrong. Where did the minus in −log p go?"
    return Misconception("sign flipped", _mapped(answer, lambda x: -x), message)


def probability_for_log(answer: Any, *, unit: str = "nats") -> Misconception:
    """The probability itself where its −log is asked for: exp(−answer), or 2^(−answer) for `unit='bits'`.

    Examples
    --------
    >>> float(probability_for_log(2.0, unit="bits").value)
    0.25
    """
    if unit not in ("nats", "bits"):
        raise ValueError(f"unit: got {unit!r}; it must be 'nats' or 'bits'")
    scale = LN2 if unit == "bits" else 1.0
    message = "This is a probability. The question asks for its surprise: −log of it."
    return Misconception("probability for log", _mapped(answer, lambda x: np.exp(-x * scale)), message)


def percent_for_fraction(answer: Any) -> Misconception:
    """A hundred times the answer: percent where a fraction between 0 and 1 is asked for.

    Examples
    --------
    >>> float(percent_for_fraction(0.25).value)
    25.0
    """
    message = "This is in percent. The question asks for a fraction of one: divide by 100."
    return Misconception("percent for fraction", _mapped(answer, lambda x: 100 * x), message)


def fraction_for_percent(answer: Any) -> Misconception:
    """A hundredth of the answer: a fraction where percent is asked for.

    Examples
    --------
    >>> float(fraction_for_percent(25).value)
    0.25
    """
    message = "This is a fraction of one. The question asks for percent: multiply by 100."
    return Misconception("fraction for percent", _mapped(answer, lambda x: x / 100), message)


def sum_for_mean(answer: Any, n: int) -> Misconception:
    """`n` times the answer: the sum where the mean over `n` is asked for.

    Examples
    --------
    >>> float(sum_for_mean(2.5, 4).value)
    10.0
    """
    message = f"This is the sum. The question asks for the mean: divide by the count, {n}."
    return Misconception("sum for mean", _mapped(answer, lambda x: x * n), message)


def mean_for_sum(answer: Any, n: int) -> Misconception:
    """The answer divided by `n`: the mean where the sum over `n` is asked for.

    Examples
    --------
    >>> float(mean_for_sum(10.0, 4).value)
    2.5
    """
    message = f"This is the mean. The question asks for the sum over all {n}."
    return Misconception("mean for sum", _mapped(answer, lambda x: x / n), message)
