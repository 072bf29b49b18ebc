"""`check` and `solution`: the two calls that stand in the notebooks."""

from __future__ import annotations

from typing import Any

from .feedback import Feedback, Verified
from .judging import judge
from .progress_file import record
from .registry import find, keys_of_chapter
from .sentences import VERDICTS


def check(key: str, answer: Any = ...) -> Feedback:
    """Check an answer to an exercise, and say what is wrong with it.

    Use it in a stub cell: ``answer = ...`` and ``check('1.2', answer)``.

    Parameters
    ----------
    key : str
        The exercise's key, such as '1.2'.
    answer : any
        A number (or a string as you would type it on the page: '2.5 bits', '5/2'), an option's letter, an
        array, or a function, as the exercise asks. Three dots mean 'not answered yet'.

    Returns
    -------
    Feedback
        Its `verdict` is 'right', 'wrong', 'unanswered' or 'invalid'; shown in a notebook, it is a card.

    Notes
    -----
    Never raises for any key or answer. 'right' and 'wrong' are recorded (see `progress`), nothing else is.

    Examples
    --------
    >>> check("98.1", 2.5).verdict
    'invalid'

    See Also
    --------
    hint : the next hint.
    solution : the same judgement for the book's own solution, which raises and records nothing.
    """
    exercise, sentence = _look_up(key)
    if exercise is None:
        return Feedback("invalid", sentence, key=key if isinstance(key, str) else "?")
    feedback = judge(exercise, answer)
    record(exercise.key, feedback.verdict)
    return feedback


def _look_up(key: Any) -> tuple[Any, str]:
    """The exercise, or the sentence that says why there is none."""
    if not isinstance(key, str):
        return None, "The key of an exercise is a string in quotes, such as '1.2'."
    try:
        exercise = find(key)
        if exercise is not None:
            return exercise, ""
    except Exception as problem:  # a broken definition is our fault; `solution` and the tests show it in full
        return (
            None,
            f"The book's own definition of it is broken ({type(problem).__name__}). Please report it.",
        )
    chapter = keys_of_chapter(key)
    listed = f" This chapter has {', '.join(chapter)}." if chapter else ""
    return None, f"There is no exercise “{key.strip()[:20]}”.{listed}"


def solution(key: str, answer: Any) -> Verified:
    """Verify that the book's own solution passes the exercise's check.

    Use it as the last line of a solution cell: the tests run it.

    Parameters
    ----------
    key : str
        The exercise's key.
    answer : any
        The solution's value or function.

    Returns
    -------
    Verified
        One quiet line.

    Raises
    ------
    AssertionError
        If the key is unknown or the answer is not judged right.

    Notes
    -----
    Records nothing.

    Examples
    --------
    >>> solution("98.1", 2.5)
    Traceback (most recent call last):
    AssertionError: there is no exercise '98.1'

    See Also
    --------
    check : for a learner; never raises.
    """
    exercise = find(key)
    if exercise is None:
        raise AssertionError(f"there is no exercise {key!r}")
    feedback = judge(exercise, answer)
    if feedback.verdict != "right":
        raise AssertionError(
            f"the solution of exercise {key} is judged: {VERDICTS[feedback.verdict][1]}. {feedback.message}"
        )
    return Verified(exercise.key)
