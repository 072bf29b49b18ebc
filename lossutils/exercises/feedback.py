"""What `check` hands back: a verdict, the misconception's name, one sentence, and how they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from .definition import Exercise
from .sentences import VERDICTS


@dataclass(frozen=True)
class Feedback:
    """The judgement of one answer.

    Attributes
    ----------
    verdict : {'right', 'wrong', 'unanswered', 'invalid'}
        'invalid' is an answer that could not be judged: not a number, a function that raised.
    message : str
        What the learner is told.
    misconception : str
        Its name where one was recognised, else ''.
    key : str
        The exercise's key as it was asked for.
    typed : str
        The answer as it would be typed on the page, else ''.

    Examples
    --------
    >>> Feedback("wrong", "These are nats.", "log base", "1.2").line
    '✗ Not yet. These are nats.'
    """

    verdict: str
    message: str
    misconception: str = ""
    key: str = ""
    typed: str = ""
    exercise: Exercise | None = field(default=None, repr=False, compare=False)

    @property
    def line(self) -> str:
        """Symbol, words and message: the very line that the page shows."""
        symbol, words = VERDICTS[self.verdict]
        return f"{symbol} {words}. {self.message}"

    @property
    def notes(self) -> tuple[tuple[int, str], ...]:
        """What is said of single parts of the answer: (number, sentence). Empty but for an audit."""
        judged = self.exercise is not None and self.verdict in ("right", "wrong")
        return self.exercise.notes(self.typed) if judged else ()

    def __repr__(self) -> str:
        title = f" · {self.exercise.title}" if self.exercise else ""
        listed = "".join(f"\n{line}" for line in self.exercise.listed()) if self.exercise else ""
        notes = "".join(f"\n({number}) {text}" for number, text in self.notes)
        return f"Exercise {self.key}{title}{listed}\n{self.line}{notes}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        from .rendering import feedback_html  # rendering knows Feedback, so it is imported when first needed

        return {"text/plain": repr(self), "text/html": feedback_html(self)}


@dataclass(frozen=True)
class Verified:
    """What `solution` hands back: the book's own solution passed the exercise's check."""

    key: str

    def __repr__(self) -> str:
        return f"The book's own solution of {self.key} passes its check. (This says nothing about yours.)"
