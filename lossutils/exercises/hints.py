"""`hint`: one more hint at each call, remembered for the session."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from .checking import _look_up

_levels: dict[str, int] = {}


@dataclass(frozen=True)
class Hint:
    """One hint. `level` of `count` is 0 where there is none to give."""

    key: str
    text: str
    level: int = 0
    count: int = 0

    def __repr__(self) -> str:
        if not self.level:
            return self.text
        last = " (the last one: the solution is folded below)" if self.level == self.count else ""
        return f"Hint {self.level} of {self.count} for exercise {self.key}{last}\n{self.text}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        lines = "<br>".join(escape(line) for line in repr(self).split("\n"))
        return {"text/plain": repr(self), "text/html": f'<div class="compass-hint">{lines}</div>'}


def hint(key: str, *, level: int | None = None) -> Hint:
    """Give the next hint of an exercise.

    Use it when you are stuck: each call gives one more, up to the last, which stays.

    Parameters
    ----------
    key : str
        The exercise's key, such as '1.2'.
    level : int, optional
        A particular hint, from 1; it does not change which one comes next.

    Returns
    -------
    Hint
        Shown as one or two lines. An unknown key gets a sentence, not an error.

    Examples
    --------
    >>> hint("98.1")
    There is no exercise “98.1”.

    See Also
    --------
    check : checks an answer.
    """
    exercise, sentence = _look_up(key)
    if exercise is None:
        return Hint(str(key), sentence)
    count = len(exercise.hints)
    if level is None:
        level = _levels[exercise.key] = min(_levels.get(exercise.key, 0) + 1, count)
    elif not isinstance(level, int) or isinstance(level, bool) or not 1 <= level <= count:
        return Hint(exercise.key, f"Exercise {exercise.key} has hints 1 to {count}.")
    return Hint(exercise.key, exercise.hints[level - 1], level, count)
