"""Judge an answer: right, a misconception by name, a generic slip, or why it cannot be judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import sentences
from .audit import Audit, judge_audit
from .calling import Call, call_on_copies, is_empty_function, shown_value
from .definition import Exercise, arrays_close, option_index
from .feedback import Feedback
from .reading import Reading, describe, is_unfilled, read_value, to_array

FACTOR_WORDS = {
    1 / np.log(2): " That is bits where nats are wanted.",
    np.log(2): " That is nats where bits are wanted.",
    100.0: " That is percent where a fraction is wanted.",
    0.01: " That is a fraction where percent is wanted.",
}


def judge(exercise: Exercise, answer: Any) -> Feedback:
    """Judge one answer; nothing is recorded and nothing is looked up.

    Use it in tests of a definition. A learner's notebook calls `check`.

    Parameters
    ----------
    exercise : Exercise
        The definition.
    answer : any
        A number, something that holds one number, or a string as typed on the page; an option's letter or
        text; an array; a function. Three dots mean 'not answered yet'.

    Returns
    -------
    Feedback
        For every object whatsoever: an answer that breaks the judge is 'invalid'.

    Examples
    --------
    >>> from lossutils.exercises import Misconception
    >>> sixth = Exercise(
    ...     key="99.1", title="One face of a die", answer=np.log2(6), unit="bits", hints=["−log2 of 1/6."],
    ...     wrong=[Misconception("log base", np.log(6), "These are nats."),
    ...            Misconception("sign", -np.log2(6), "A surprise is never negative."),
    ...            Misconception("no logarithm", 1 / 6, "This is the probability itself.")],
    ... )
    >>> judge(sixth, "2,585 bits").verdict
    'right'
    >>> judge(sixth, np.log(6)).message
    'These are nats.'
    >>> judge(sixth, [1, 2]).verdict
    'invalid'

    See Also
    --------
    lossutils.exercises.check : finds the exercise by its key and records the verdict.
    """
    try:
        if is_unfilled(answer):
            verdict, message, name = "unanswered", sentences.STUB, ""
        else:
            verdict, message, name = _JUDGES[exercise.kind](exercise, answer)
    except Exception as problem:  # the learner must never see our traceback, whatever object came in
        verdict, name = "invalid", ""
        message = f"This answer could not be judged ({type(problem).__name__}): {exercise_wants(exercise)}"
    return Feedback(verdict, message, name, exercise.key, typed_form(exercise, answer), exercise)


def exercise_wants(exercise: Exercise) -> str:
    """One sentence on the type that an exercise asks for."""
    return {
        "number": "one number is wanted.",
        "choice": "the letter of an option is wanted.",
        "array": "an array of numbers is wanted.",
        "function": "a function is wanted.",
        "audit": "a dict of findings is wanted.",
    }[exercise.kind]


def typed_form(exercise: Exercise, answer: Any) -> str:
    """How the answer would be given on the page: a number, a short string, an option's letter; else ''."""
    if exercise.kind == "choice":
        index = option_index(exercise, answer)
        return "" if index is None else exercise.letter(index)
    if isinstance(exercise, Audit):
        try:
            return exercise.typed(answer)
        except Exception:  # whatever object came in
            return ""
    if exercise.kind != "number":
        return ""
    if isinstance(answer, str):
        return answer[:40]
    if isinstance(answer, (int, float, np.integer, np.floating)) and not isinstance(answer, bool):
        try:
            return f"{float(answer):.10g}"
        except OverflowError:
            return ""
    return ""


def _judge_number(exercise: Exercise, answer: Any) -> tuple[str, str, str]:
    said = sentences.number_sentences(exercise.unit, exercise.precision.words, exercise.otherwise)
    reading = read_value(answer, unit=exercise.unit)
    if not isinstance(reading, Reading):
        return "invalid", reading, ""
    if reading.problem:
        verdict = "unanswered" if reading.problem == "empty" else "invalid"
        return verdict, said[reading.problem].replace("{typed}", reading.typed), ""
    right = exercise.right_target
    if any(abs(value - right.value) <= right.width for value in reading.numbers):
        return "right", exercise.praise or sentences.RIGHT, ""
    zones = list(zip(exercise.wrong, exercise.wrong_targets, strict=True))
    for value in reading.numbers:
        for item, zone in zones:
            if abs(value - zone.value) <= zone.width:
                return "wrong", item.message, item.name
    for value in reading.numbers:  # near something: the nearest one, the right answer first
        best, found = np.inf, None
        for item, zone in [(None, right), *zones]:
            distance = abs(value - zone.value)
            if distance <= zone.near and distance < best:
                best, found = distance, (item,)
        if found:
            item = found[0]
            return ("wrong", item.message, item.name) if item else ("wrong", said["near"], sentences.ROUNDING)
    return "wrong", said["otherwise"], ""


def _judge_choice(exercise: Exercise, answer: Any) -> tuple[str, str, str]:
    if isinstance(answer, str) and not answer.strip():
        return "unanswered", sentences.UNCHOSEN, ""
    index = option_index(exercise, answer)
    if index is None:
        letters = ", ".join(exercise.letter(i) for i in range(len(exercise.options)))
        return "invalid", sentences.NO_OPTION.replace("{letters}", letters), ""
    if index == exercise.right_target:
        return "right", exercise.praise or sentences.RIGHT, ""
    item = exercise.wrong[exercise.wrong_targets.index(index)]
    return "wrong", item.message, item.name


def _judge_array(exercise: Exercise, answer: Any) -> tuple[str, str, str]:
    if answer is None or isinstance(answer, str):
        return "invalid", f"The answer is an array of numbers; {describe(answer)} came instead.", ""
    if callable(answer):
        return (
            "invalid",
            "This is a function, not its result. Call it, and check the array that it returns.",
            "",
        )
    try:
        got = to_array(answer)
    except (TypeError, ValueError, OverflowError) as problem:
        return "invalid", f"The answer is an array of numbers, but {problem}.", ""
    return _compare(exercise, [got], where=[""])


def _judge_function(exercise: Exercise, answer: Any) -> tuple[str, str, str]:
    if not callable(answer):
        hint = "Give the function itself, without calling it." if answer is not None else "None is not one."
        return "invalid", f"The answer is a function; {describe(answer)} came instead. {hint}", ""
    if is_empty_function(answer):
        return "unanswered", sentences.STUB, ""
    calls = call_on_copies(answer, exercise.cases)
    failure = _call_failure(calls)
    if failure:
        return failure
    try:
        got = [to_array(call.value) for call in calls]
    except (TypeError, ValueError, OverflowError) as problem:
        return "invalid", f"Your function must return numbers, but {problem}.", "wrong type"
    mutated = next((call for call in calls if call.mutated), None)
    found = _compare(exercise, got, where=[f" on the input {call.shown}" for call in calls])
    if mutated and not any(found[2] == item.name for item in exercise.wrong):
        message = (
            f"Your function changes its own input {mutated.shown}: whoever calls it loses their data. "
            "Work on a copy, and avoid +=, .sort() and out= on an argument."
        )
        return "wrong", message, "mutated its input"
    return found


def _call_failure(calls: list[Call]) -> tuple[str, str, str] | None:
    """The sentence for a function that gave no result to compare."""
    for call in calls:
        if isinstance(call.error, NotImplementedError) or call.value is Ellipsis:
            return "unanswered", sentences.STUB, ""
        if isinstance(call.error, RecursionError):
            message = f"Your function calls itself without end on the input {call.shown}. What stops it?"
            return "invalid", message, "endless recursion"
        if call.error is not None:
            message = f"Your function raised {error_words(call.error)} on the input {call.shown}."
            return "invalid", message, "raises"
        if call.value is None:
            message = (
                f"Your function returned None on the input {call.shown}. Is there a return on every path? "
                "Printing a value does not hand it back."
            )
            return "invalid", message, "forgot return"
    return None


def error_words(error: BaseException) -> str:
    """'ValueError (its message)' on one line, and never an error itself."""
    try:
        text = " ".join(str(error).split())[:160]
    except Exception:
        text = ""
    return f"{type(error).__name__} ({text})" if text else type(error).__name__


def _compare(exercise: Exercise, got: list[np.ndarray], *, where: list[str]) -> tuple[str, str, str]:
    """Compare with the right arrays, then the misconceptions', then the slips that anybody can make."""
    wanted, precision = exercise.right_target, exercise.precision
    if arrays_close(got, wanted, precision):
        return "right", exercise.praise or sentences.RIGHT, ""
    for item, target in zip(exercise.wrong, exercise.wrong_targets, strict=True):
        if arrays_close(got, target, precision):
            return "wrong", item.message, item.name
    for one, other, place in zip(got, wanted, where, strict=True):
        if one.shape != other.shape:
            message = f"The result has {shape_words(one)}{place}; {shape_words(other)} is wanted."
            return "wrong", message, "wrong shape"
    for one, other, place in zip(got, wanted, where, strict=True):
        bad = ~np.isfinite(one) & np.isfinite(other)
        if bad.any():
            word = "nan (not a number)" if np.isnan(one[bad]).any() else "infinite"
            message = f"The result is {word}{place}, where a finite value is wanted. Is a log of 0 inside?"
            return "wrong", message, "not finite"
    if arrays_close(got, wanted, precision, reach=10.0):
        return "wrong", sentences.NEAR.replace("{precision}", precision.words), sentences.ROUNDING
    factor = constant_factor(exercise, got)
    if factor is not None:
        if abs(factor + 1) < 1e-3:
            return "wrong", "Every value has the right size and the wrong sign.", "sign flipped"
        words = next((text for known, text in FACTOR_WORDS.items() if abs(factor / known - 1) < 1e-3), "")
        return "wrong", f"Every value is {factor:.4g} times the right one.{words}", "constant factor"
    if exercise.otherwise:
        return "wrong", exercise.otherwise, ""
    if exercise.kind == "array":
        return "wrong", sentences.WRONG_ARRAY, ""
    return "wrong", f"{sentences.WRONG_FUNCTION} {first_difference(exercise, got, where)}", ""


def shape_words(array: np.ndarray) -> str:
    """The shape as a phrase: 'the shape (2, 3)', or 'the shape () of a single number'."""
    return f"the shape {array.shape}" if array.ndim else "the shape () of a single number"


def constant_factor(exercise: Exercise, got: list[np.ndarray]) -> float | None:
    """The factor between all results and the right ones, where two different values or more agree on it."""
    ours = np.concatenate([array.ravel() for array in got])
    right = np.concatenate([array.ravel() for array in exercise.right_target])
    use = np.isfinite(right) & (right != 0)
    if len(np.unique(right[use])) < 2:
        return None
    factor = float(np.median(ours[use] / right[use]))
    if not np.isfinite(factor) or abs(factor) < 1e-9:
        return None
    scaled = [factor * array for array in exercise.right_target]
    return factor if arrays_close(got, scaled, exercise.precision) else None


def first_difference(exercise: Exercise, got: list[np.ndarray], where: list[str]) -> str:
    """One case in numbers: what came and what is wanted."""
    for one, other, place in zip(got, exercise.right_target, where, strict=True):
        if not arrays_close([one], [other], exercise.precision):
            return f"For example{place} it gives {shown_value(one)}; {shown_value(other)} is right."
    return ""


_JUDGES = {
    "number": _judge_number,
    "choice": _judge_choice,
    "array": _judge_array,
    "function": _judge_function,
    "audit": judge_audit,
}
