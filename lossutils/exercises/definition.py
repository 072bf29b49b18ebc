"""What an exercise is: one definition that Python's `check` and the page's card both obey.

A chapter's definitions live in one module, ``lossutils/exercises/chapterNN.py``, which is loaded when a key
of that chapter is first asked for. It ends with one call::

    from lossutils.exercises import Exercise, Misconception, register
    from lossutils.exercises import detectors

    register(
        Exercise(
            key="1.2",
            title="The bits of one token",
            answer=nats_to_bits(surprisal(1 / 6)),
            unit="bits",
            tolerance="3 decimals",
            wrong=[
                detectors.nats_for_bits(answer),
                detectors.sign_flipped(answer),
                Misconception("a factor two", 2 * answer, "You counted the token twice."),
            ],
            hints=["What is the probability?", "Take −log2 of it."],
            praise="Two and a half yes-or-no questions.",
        ),
        ...,
        title="Surprise",
        page="01_surprise.html",
    )

The kind follows from what is given: `options` make a choice, `cases` make a function, an `answer` with a
shape makes an array, and anything else is a number. All text is plain Unicode (−log p, ≈, ln 2): no LaTeX,
no HTML.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .calling import call_on_copies
from .reading import to_array
from .tolerance import Tolerance, read_tolerance

LETTERS = "abcdefgh"
NEAR_WIDTHS = (
    10  # an answer this many tolerances away, yet within NEAR_SHARE of the value, was rounded too early
)
NEAR_SHARE = 0.01


def plain_text(name: str, text: Any, *, empty: bool = False) -> None:
    """Raise unless `text` is a non-empty plain string without LaTeX."""
    if not isinstance(text, str):
        raise TypeError(f"{name}: got {text!r}; it must be a string")
    if not empty and not text.strip():
        raise ValueError(f"{name}: it is empty; it must say something")
    if "$" in text or "\\" in text:
        raise ValueError(f"{name}: got {text!r}; it must be plain Unicode text, without LaTeX ($ or \\)")


@dataclass(frozen=True, eq=False)
class Misconception:
    """A typical wrong answer with a name.

    Parameters
    ----------
    name : str
        A few words: 'log base', 'averaged the perplexities'.
    value : number, str, array or function
        What somebody with this misconception answers: a number, an option (its letter or text), an array,
        or, for a function exercise, the wrong function.
    message : str
        What to tell them, in plain text: what they did, not only that it is wrong.

    Examples
    --------
    >>> Misconception("log base", 1.792, "This is the natural logarithm: nats, not bits.").name
    'log base'
    """

    name: str
    value: Any
    message: str

    def __post_init__(self) -> None:
        plain_text("name", self.name)
        plain_text(f"message of {self.name!r}", self.message)


@dataclass(frozen=True)
class Zone:
    """A number as published: its value, and the distances that count as equal and as near."""

    value: float
    width: float
    near: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Exercise:
    """One exercise: the right answer, typical wrong ones with what to say to them, and hints.

    Parameters
    ----------
    key : str
        'chapter.number', such as '1.2'.
    title : str
        A few words.
    answer : number, str, array, or function
        The right answer; for a choice, its option (letter or text); for a function exercise, the oracle.
        For a number or an array it may be a function without arguments, which is called once.
    wrong : sequence of Misconception
        Three or more, all told apart from the right answer and from each other.
    hints : sequence of str
        One or more, from a nudge to nearly the answer.
    unit : str, optional
        Unit of a number ('bits', 'nats/token', '%').
    tolerance : str or float, optional
        See `read_tolerance`. By default '3 decimals' for a number, '0.01%' for arrays and functions.
    options : sequence of str, optional
        The options of a choice, in the order shown; they get the letters a, b, c, …
    cases : sequence of tuple, optional
        The argument tuples on which a learner's function is called.
    praise : str, optional
        What a right answer is told.
    otherwise : str, optional
        What an unrecognised wrong answer is told, in place of the general sentence.

    Raises
    ------
    ValueError
        For an ill-formed key, text with LaTeX, fewer than three misconceptions, and for a misconception
        that would be accepted as right or that cannot be told from another.
    TypeError
        For an argument of the wrong type.

    Notes
    -----
    Numbers are kept at 10 significant digits, the very values that the page gets, so both judge alike. A
    tolerance too fine for that is a ValueError.

    Examples
    --------
    >>> sixth = Exercise(
    ...     key="99.1", title="One face of a die", answer=np.log2(6), unit="bits",
    ...     wrong=[Misconception("log base", np.log(6), "These are nats."),
    ...            Misconception("sign", -np.log2(6), "A surprise is never negative."),
    ...            Misconception("no logarithm", 1 / 6, "This is the probability itself.")],
    ...     hints=["Take −log2 of 1/6."],
    ... )
    >>> sixth.kind, sixth.chapter
    ('number', 99)

    See Also
    --------
    lossutils.exercises.register : makes exercises known to `check`.
    lossutils.exercises.judge : judges an answer without recording it.
    """

    key: str
    title: str
    answer: Any
    wrong: Sequence[Misconception]
    hints: Sequence[str]
    unit: str = ""
    tolerance: str | float | None = None
    options: Sequence[str] = ()
    cases: Sequence[tuple] = ()
    praise: str = ""
    otherwise: str = ""
    kind: str = field(init=False, default="")
    precision: Tolerance = field(init=False, repr=False, default=None)
    right_target: Any = field(init=False, repr=False, default=None)
    wrong_targets: tuple = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not re.fullmatch(r"[1-9][0-9]?\.[1-9][0-9]?", self.key):
            raise ValueError(f"key: got {self.key!r}; it must be a string 'chapter.number' such as '1.2'")
        plain_text("title", self.title)
        for name in ("unit", "praise", "otherwise"):
            plain_text(name, getattr(self, name), empty=True)
        for name in ("wrong", "hints", "options", "cases"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name}: got a string; it must be a list")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.hints:
            raise ValueError(f"hints: exercise {self.key} has none; give one or more")
        for text in (*self.hints, *self.options):
            plain_text("hints and options", text)
        if len(self.wrong) < 3 or not all(isinstance(item, Misconception) for item in self.wrong):
            raise ValueError(
                f"wrong: exercise {self.key} has {len(self.wrong)}; it needs three Misconceptions or more"
            )
        if len({item.name for item in self.wrong}) < len(self.wrong):
            raise ValueError(
                f"wrong: exercise {self.key} uses one name for two misconceptions; names must differ"
            )
        self._prepare()
        self._require_distinct()

    @property
    def chapter(self) -> int:
        """The chapter's number."""
        return int(self.key.split(".")[0])

    @property
    def number(self) -> tuple[int, int]:
        """(chapter, number), which sorts 1.10 after 1.9."""
        chapter, number = self.key.split(".")
        return int(chapter), int(number)

    def letter(self, index: int) -> str:
        """The letter of one option."""
        return LETTERS[index]

    def listed(self) -> tuple[str, ...]:
        """The options as lines, for viewers that have no form to show."""
        return tuple(f"{self.letter(index)}) {text}" for index, text in enumerate(self.options))

    def notes(self, typed: str) -> tuple[tuple[int, str], ...]:
        """What is said beside the verdict, a line each; only an audit has any."""
        return ()

    def _prepare(self) -> None:
        """Decide the kind and work every target out once."""
        answer = self.answer
        if self.options and self.cases:
            raise ValueError(f"options and cases: exercise {self.key} has both; it can have one of them")
        if self.options:
            kind, convert = "choice", self._option_index
            if not len(set(map(normal_option, self.options))) == len(self.options) <= len(LETTERS):
                raise ValueError(
                    f"options: exercise {self.key} has equal options, or more than {len(LETTERS)}"
                )
            if any(len(normal_option(option)) == 1 for option in self.options):
                raise ValueError(
                    f"options: exercise {self.key} has an option of one letter; it could be taken for a label"
                )
        elif self.cases:
            if not all(isinstance(case, tuple) for case in self.cases):
                raise TypeError(
                    f"cases: exercise {self.key}: each case must be a tuple of arguments, such as (x,)"
                )
            kind, convert = "function", self._outputs
        else:
            if callable(answer):
                answer = answer()
            array = to_array(answer)
            kind, convert = ("array", self._as_arrays) if array.ndim else ("number", self._zone)
        if self.unit and kind != "number":
            raise ValueError(f"unit: exercise {self.key} is a {kind}; only a number has a unit")
        default = "3 decimals" if kind == "number" else "0.01%"
        store = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731 - the dataclass is frozen
        store("kind", kind)
        store("precision", read_tolerance(default if self.tolerance is None else self.tolerance))
        store("right_target", convert(answer, "answer"))
        store("wrong_targets", tuple(convert(item.value, f"value of {item.name!r}") for item in self.wrong))

    def _zone(self, value: Any, name: str) -> Zone:
        exact = float(to_array(value).reshape(()))
        if not np.isfinite(exact):
            raise ValueError(
                f"{name}: exercise {self.key}: got {exact}; a number must be finite (else offer a choice)"
            )
        published, width = ten_digits(exact), self.precision.width(exact)
        if width <= 0 or abs(published - exact) > width / 100:
            raise ValueError(f"tolerance: exercise {self.key}: {width:g} is too fine for {name} = {exact!r}")
        near = min(NEAR_WIDTHS * width, max(width, NEAR_SHARE * abs(exact)))
        return Zone(published, ten_digits(width), ten_digits(near))

    def _as_arrays(self, value: Any, name: str) -> list[np.ndarray]:
        return [to_array(value)]

    def _option_index(self, value: Any, name: str) -> int:
        index = option_index(self, value)
        if index is None:
            raise ValueError(
                f"{name}: exercise {self.key}: got {value!r}; it must be one of the options or its letter"
            )
        return index

    def _outputs(self, function: Callable, name: str) -> list[np.ndarray]:
        if not callable(function):
            raise TypeError(
                f"{name}: exercise {self.key}: got {function!r}; a function exercise needs functions"
            )
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            calls = call_on_copies(function, self.cases)
        for call in calls:
            if call.error is not None:
                raise ValueError(f"{name}: exercise {self.key}: it raised {call.error!r} on {call.shown}")
        return [to_array(call.value) for call in calls]

    def _require_distinct(self) -> None:
        """Refuse a definition in which one answer could be told two things."""
        targets = [("the right answer", self.right_target)]
        targets += [
            (f"{item.name!r}", target) for item, target in zip(self.wrong, self.wrong_targets, strict=True)
        ]
        for i, (name_i, one) in enumerate(targets):
            for name_j, other in targets[i + 1 :]:
                if self._same(one, other):
                    raise ValueError(f"wrong: exercise {self.key}: {name_j} cannot be told from {name_i}")
        if self.kind == "choice" and len(self.wrong) != len(self.options) - 1:
            raise ValueError(f"wrong: exercise {self.key}: every wrong option needs its misconception")

    def _same(self, one: Any, other: Any) -> bool:
        if self.kind == "number":
            return abs(one.value - other.value) <= one.width + other.width
        if self.kind == "choice":
            return one == other
        return arrays_close(one, other, self.precision, reach=2.0)


def ten_digits(value: float) -> float:
    """`value` at 10 significant digits: the same bytes on every machine."""
    return float(f"{value:.10g}") + 0.0  # + 0.0 turns −0.0 into 0.0


def normal_option(text: str) -> str:
    """An option as it is compared: without case, spaces at the ends, doubled spaces and a full stop."""
    return " ".join(text.split()).casefold().rstrip(".) ").lstrip("( ")


def option_index(exercise: Exercise, answer: Any) -> int | None:
    """The option that `answer` (its letter or its text) means, or None."""
    if not isinstance(answer, str):
        return None
    text = normal_option(answer)
    if len(text) == 1:
        index = LETTERS.find(text)
        return index if 0 <= index < len(exercise.options) else None
    matches = [i for i, option in enumerate(exercise.options) if normal_option(option) == text]
    return matches[0] if matches else None


def arrays_close(got: list, wanted: list, precision: Tolerance, *, reach: float = 1.0) -> bool:
    """Whether shapes agree, and values within the tolerance around `wanted`; inf and nan must agree too."""
    for one, other in zip(got, wanted, strict=True):
        if one.shape != other.shape:
            return False
        finite = np.isfinite(other)
        if not np.array_equal(one[~finite], other[~finite], equal_nan=True):
            return False
        width = np.maximum(precision.width(other[finite]), 1e-9)
        if not np.all(np.abs(one[finite] - other[finite]) <= reach * width):
            return False
    return True
