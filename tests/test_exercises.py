"""Exercises in Python: what is recognised, what is never raised, what is remembered."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from exercise_table import (
    ARRAY,
    BITS,
    CHOICE,
    CHOSEN,
    COUNT,
    EXERCISES,
    FUNCTION,
    PERCENT,
    SIXTH,
    TYPED,
    entropy_nats,
)
from hypothesis import given
from hypothesis import strategies as st

from lossutils.exercises import (
    Exercise,
    Feedback,
    Misconception,
    Progress,
    all_exercises,
    check,
    detectors,
    hint,
    judge,
    progress,
    register,
    registry,
    solution,
    temporary,
)
from lossutils.exercises.reading import read_text
from lossutils.exercises.registry import Chapter
from lossutils.exercises.rendering import exercise_data, feedback_html, progress_html

progress_file = importlib.import_module("lossutils.exercises.progress_file")
hints_module = importlib.import_module("lossutils.exercises.hints")
FILE = ".compass-progress.json"


@pytest.fixture(autouse=True)
def book(tmp_path, monkeypatch):
    """A book of one chapter, an empty folder, and a session that has seen nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress_file, "_memory", {})
    monkeypatch.setattr(hints_module, "_levels", {})
    with temporary(*EXERCISES, title="Trial", page="97_trial.html"):
        yield tmp_path


def stored(folder: Path) -> dict:
    return json.loads((folder / FILE).read_text(encoding="utf8"))["exercises"]


# ------------------------------------------------------------------ typed answers


@pytest.mark.parametrize("exercise, typed, verdict, message", TYPED)
def test_a_typed_answer_gets_its_verdict_and_sentence(exercise, typed, verdict, message):
    feedback = check(exercise.key, typed)
    assert (feedback.verdict, feedback.message) == (verdict, message)


@pytest.mark.parametrize("label, verdict, message", CHOSEN)
def test_an_option_is_known_by_letter_and_by_text(label, verdict, message):
    text = CHOICE.options["abcd".index(label)]
    for answer in (label, label.upper(), f" {label}) ", f"({label})", text, text.upper() + "."):
        feedback = check("97.4", answer)
        assert (feedback.verdict, feedback.message) == (verdict, message)


@given(st.text(max_size=30))
def test_reading_any_text_gives_finite_numbers_or_a_problem(text):
    reading = read_text(text, unit="bits")
    assert bool(reading.numbers) != bool(reading.problem)
    assert all(math.isfinite(number) for number in reading.numbers)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_reading_undoes_python_own_repr_of_a_float(number):
    assert read_text(repr(number)).numbers[0] == number
    assert read_text(repr(number).replace(".", ",")).numbers[0] == number


@pytest.mark.parametrize(
    "answer",
    [
        SIXTH,
        2.585,
        np.float32(2.585),
        np.float64(2.585),
        np.array(2.585),
        np.array([2.585]),
        [2.585],
        (2.585,),
        torch.tensor(2.585),
        torch.tensor([[2.585]], requires_grad=True),
        torch.tensor(2.585, dtype=torch.bfloat16).double() * 0 + 2.585,
        Fraction(2585, 1000),
        Decimal("2.585"),
    ],
)
def test_one_number_is_taken_from_any_container(answer):
    assert check("97.1", answer).verdict == "right"


# ------------------------------------------------------------------ nothing is ever raised


class Spiteful:
    """Everything that can be asked of it raises."""

    def __getattr__(self, name):
        raise RuntimeError("no")

    def __float__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")

    __hash__ = None


def endless(*args):
    return endless(*args)


SELF = []
SELF.append(SELF)
BAD_ANSWERS = [
    None,
    True,
    np.bool_(False),
    "hello",
    "",
    "\x00",
    b"2.5",
    1j,
    complex(2.585, 0),
    float("nan"),
    float("inf"),
    10**400,
    np.nan,
    [],
    [1, 2],
    [[1], [2, 3]],
    SELF,
    {},
    {"answer": 1},
    {1, 2},
    object(),
    Spiteful(),
    int,
    math,
    max,
    lambda: 1,
    endless,
    (i for i in range(3)),
    range(3),
    np.zeros((2, 3)),
    np.zeros(0),
    np.array(["x"]),
    np.array([None, 1]),
    np.array(1j),
    torch.zeros(2, 3),
    torch.tensor(1j),
    torch.nn.Linear(2, 2),
    Exception("x"),
    NotImplemented,
]


@pytest.mark.parametrize("key", [item.key for item in EXERCISES])
@pytest.mark.parametrize("answer", BAD_ANSWERS, ids=lambda value: type(value).__name__)
def test_a_bad_answer_gets_one_kind_sentence_and_never_an_error(key, answer):
    feedback = check(key, answer)
    assert feedback.verdict in ("invalid", "wrong", "unanswered")
    assert feedback.message.strip().endswith((".", "?", "!", ")"))
    assert "Traceback" not in feedback.message and "\n" not in feedback.message
    bundle = feedback._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"} and all(
        isinstance(text, str) for text in bundle.values()
    )


@pytest.mark.parametrize(
    "answer, part",
    [
        (None, "None came instead"),
        (True, "a truth value"),
        (1j, "a complex number came"),
        ([1, 2], "a list with 2 of them"),
        (np.zeros((2, 3)), "an array with 6 of them"),
        (torch.zeros(2), "a tensor with 2 of them"),
        (math.log, "Call it"),
        (float("nan"), "finite number"),
        (10**400, "finite number"),
        ({"a": 1}, "a dict came"),
    ],
)
def test_the_sentence_for_a_wrong_type_says_what_came(answer, part):
    feedback = check("97.1", answer)
    assert feedback.verdict == "invalid" and part in feedback.message


@pytest.mark.parametrize(
    "key", ["9.9", "97.99", "", "one", None, 1.2, 97, ..., ["97.1"], "97.1; drop", "<b>"]
)
def test_an_unknown_key_gets_a_sentence(key):
    for found in (check(key, 2.5), hint(key)):
        html = found._repr_mimebundle_()["text/html"]
        assert "<b>" not in html
    assert check(key, 2.5).verdict == "invalid"
    assert not Path(FILE).exists()


def test_an_unknown_key_names_those_of_its_chapter():
    assert "97.1, 97.2, 97.3, 97.4, 97.5, 97.6" in check("97.7", 1).message


@pytest.mark.parametrize("key", [item.key for item in EXERCISES])
@pytest.mark.parametrize("answer", [..., [...], (1, ...), np.array([..., 1], dtype=object)])
def test_an_unfilled_stub_is_open_and_leaves_no_trace(key, answer, book):
    feedback = check(key, answer)
    assert feedback.verdict == "unanswered" and "three dots" in feedback.message
    assert list(book.iterdir()) == []


def test_a_broken_definition_module_gives_the_learner_a_sentence_and_the_author_the_error(monkeypatch):
    def broken(number):
        raise ImportError("a typing error of the author's")

    monkeypatch.setattr(registry, "load_chapter", broken)
    assert "broken (ImportError)" in check("96.1", 1).message
    with pytest.raises(ImportError):
        solution("96.1", 1)


# ------------------------------------------------------------------ numbers, choices, arrays


@pytest.mark.parametrize(
    "exercise, answer, name",
    [
        (BITS, math.log(6), "log base"),
        (BITS, -SIXTH, "sign"),
        (BITS, 1 / 6, "no logarithm"),
        (BITS, 2.58, "rounding"),
        (BITS, 40, ""),
        (COUNT, 50257, "unpadded"),
        (PERCENT, 0.125, "fraction for percent"),
        (CHOICE, "a", "reverse"),
        (ARRAY, [1 / 3, 1 / 3, 1 / 3], "uniform"),
        (ARRAY, [4.0, 2.0, 2.0], "constant factor"),
        (ARRAY, [-0.5, -0.25, -0.25], "sign flipped"),
        (ARRAY, [[0.5, 0.25, 0.25]], "wrong shape"),
        (ARRAY, [0.5, 0.25, float("nan")], "not finite"),
        (ARRAY, [0.5, 0.25, float("inf")], "not finite"),
        (ARRAY, [0.5, 0.25, 0.2502], "rounding"),
        (ARRAY, [0.25, 0.5, 0.25], ""),
    ],
)
def test_a_wrong_answer_is_recognised_by_name(exercise, answer, name):
    feedback = judge(exercise, answer)
    assert (feedback.verdict, feedback.misconception) == ("wrong", name)


@pytest.mark.parametrize(
    "answer",
    [
        [0.5, 0.25, 0.25],
        np.array([0.5, 0.25, 0.25], dtype=np.float32),
        torch.tensor([0.5, 0.25, 0.25], requires_grad=True),
        (Fraction(1, 2), 0.25, np.float64(0.25)),
    ],
)
def test_an_array_may_come_in_any_container(answer):
    assert judge(ARRAY, answer).verdict == "right"


# ------------------------------------------------------------------ functions


def no_return(p):
    entropy_nats(p)


def divides(p):
    return 1 / 0


def mutates(p):
    p.sort()
    return entropy_nats(p)


def mutates_wrongly(p):
    p[0] = 0.0
    return 7.0


BUFFER = np.zeros(())


def one_buffer(p):
    BUFFER[...] = entropy_nats(p)
    return BUFFER


def stub(p):
    """Your code here."""
    ...


def stub_pass(p):
    pass


def stub_return(p):
    return ...


def stub_raise(p):
    raise NotImplementedError


def leaves(p):
    sys.exit(1)


@pytest.mark.parametrize(
    "function, verdict, name",
    [
        (entropy_nats, "right", ""),
        (lambda p: torch.tensor(entropy_nats(p), dtype=torch.float32, requires_grad=True), "right", ""),
        (lambda p: np.float32(entropy_nats(p)), "right", ""),
        (one_buffer, "right", ""),
        (lambda p: entropy_nats(p) / math.log(2), "wrong", "bits for nats"),
        (lambda p: math.log(len(p)), "wrong", "largest"),
        (lambda p: 3 * entropy_nats(p), "wrong", "constant factor"),
        (lambda p: math.log(2) * entropy_nats(p), "wrong", "constant factor"),
        (lambda p: -entropy_nats(p), "wrong", "sign flipped"),
        (lambda p: [entropy_nats(p)], "wrong", "wrong shape"),
        (lambda p: np.asarray(p), "wrong", "wrong shape"),
        (lambda p: float("nan"), "wrong", "not finite"),
        (lambda p: float("inf"), "wrong", "not finite"),
        (lambda p: 1.0005 * entropy_nats(p), "wrong", "rounding"),
        (lambda p: 1.0, "wrong", ""),
        (lambda p: 0.0, "wrong", ""),
        (mutates, "wrong", "mutated its input"),
        (mutates_wrongly, "wrong", "mutated its input"),
        (no_return, "invalid", "forgot return"),
        (divides, "invalid", "raises"),
        (leaves, "invalid", "raises"),
        (lambda: 1, "invalid", "raises"),
        (lambda p, q: 1, "invalid", "raises"),
        (endless, "invalid", "endless recursion"),
        (lambda p: "0.69", "invalid", "wrong type"),
        (lambda p: {"entropy": 1}, "invalid", "wrong type"),
        (lambda p: 1j, "invalid", "wrong type"),
        (lambda p: [[1], [1, 2]], "invalid", "wrong type"),
        (lambda p: (x for x in p), "invalid", "wrong type"),
        (lambda p: Spiteful(), "invalid", ""),
        (stub, "unanswered", ""),
        (stub_pass, "unanswered", ""),
        (stub_return, "unanswered", ""),
        (stub_raise, "unanswered", ""),
        (entropy_nats([0.5, 0.5]), "invalid", ""),
    ],
)
def test_a_function_is_called_and_its_failure_is_named(function, verdict, name):
    feedback = judge(FUNCTION, function)
    assert (feedback.verdict, feedback.misconception) == (verdict, name), feedback.message


@pytest.mark.parametrize(
    "function, part",
    [
        (no_return, "return"),
        (divides, "ZeroDivisionError (division by zero) on the input ([0.5, 0.5])"),
        (mutates, "changes its own input ([0.7, 0.2, 0.1, 0])"),
        (lambda p: math.log(2) * entropy_nats(p), "0.6931 times the right one. That is nats where bits"),
        (
            lambda p: [entropy_nats(p)],
            "the shape (1,) on the input ([0.5, 0.5]); the shape () of a single number",
        ),
        (lambda p: 1.0, "on the input ([0.5, 0.5]) it gives 1; 0.693147 is right"),
        (lambda p: "x", "a string came"),
    ],
)
def test_the_sentence_for_a_function_shows_the_input_that_fails(function, part):
    assert part in judge(FUNCTION, function).message


def test_a_learner_function_that_changes_its_input_does_not_spoil_the_cases():
    for _ in range(2):
        judge(FUNCTION, mutates_wrongly)
        assert FUNCTION.cases[0] == ([0.5, 0.5],)
        assert judge(FUNCTION, entropy_nats).verdict == "right"


@pytest.mark.parametrize("change", ["array", "tensor", "dict"])
def test_a_change_of_any_kind_of_input_is_noticed(change):
    def mean(data):
        return float(sum(data["x"]) if isinstance(data, dict) else data.sum())

    def spoil(data):
        result = mean(data)
        if isinstance(data, dict):
            data["y"] = 1
        else:
            data += 1
        return result

    case = {"array": np.arange(3.0), "tensor": torch.arange(3.0), "dict": {"x": [1.0, 2.0]}}[change]
    wrong = [Misconception(str(k), lambda data, k=k: mean(data) + k, "Off.") for k in (1, 2, 3)]
    exercise = Exercise(
        key="97.9", title="Sum", answer=mean, cases=[(case,)], wrong=wrong, hints=["Add."], tolerance=0.1
    )
    assert judge(exercise, mean).verdict == "right"
    assert judge(exercise, spoil).misconception == "mutated its input"


def test_a_keyboard_interrupt_stops_the_learner_function():
    def interrupted(p):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("97.6", interrupted)


# ------------------------------------------------------------------ definitions


def three(*values, message="No."):
    return [Misconception(f"m{i}", value, message) for i, value in enumerate(values)]


def define(**changes):
    fields = {"key": "97.8", "title": "T", "answer": 1.0, "wrong": three(2, 3, 4), "hints": ["h"]}
    return Exercise(**(fields | changes))


@pytest.mark.parametrize(
    "changes, error, part",
    [
        ({"wrong": three(2, 3)}, ValueError, "three Misconceptions"),
        ({"wrong": three(2, 3, 1.0)}, ValueError, "'m2' cannot be told from the right answer"),
        ({"wrong": three(2, 3, 1.0015)}, ValueError, "cannot be told from the right answer"),
        ({"wrong": three(2, 3, 3.001)}, ValueError, "'m2' cannot be told from 'm1'"),
        ({"wrong": [*three(2, 3), Misconception("m0", 4, "x")]}, ValueError, "one name"),
        ({"wrong": three(2, 3, float("nan"))}, ValueError, "finite"),
        ({"answer": float("inf")}, ValueError, "finite"),
        ({"answer": "2.5"}, TypeError, "numbers are needed"),
        ({"hints": []}, ValueError, "hints"),
        ({"hints": "take a log"}, TypeError, "hints"),
        ({"hints": ["$x$"]}, ValueError, "LaTeX"),
        ({"title": ""}, ValueError, "title"),
        ({"praise": "\\log"}, ValueError, "LaTeX"),
        ({"key": "1"}, ValueError, "key"),
        ({"key": "01.2"}, ValueError, "key"),
        ({"key": 1.2}, ValueError, "key"),
        ({"tolerance": "fine"}, ValueError, "tolerance"),
        ({"tolerance": 0}, ValueError, "tolerance"),
        ({"tolerance": True}, ValueError, "tolerance"),
        ({"tolerance": 1e-13, "answer": math.pi}, ValueError, "too fine"),
        ({"answer": 0.0, "wrong": three(1, 2, 3), "tolerance": "1%"}, ValueError, "too fine"),
        ({"options": ["one", "two"], "cases": [(1,)]}, ValueError, "both"),
        ({"options": ["one", "One ", "two"], "answer": "one"}, ValueError, "equal options"),
        ({"options": ["one", "two", "b"], "answer": "one"}, ValueError, "one letter"),
        (
            {"options": ["one", "two", "three", "four"], "answer": "five", "wrong": three("b", "c", "d")},
            ValueError,
            "one of the options",
        ),
        (
            {"options": ["one", "two", "three", "four"], "answer": "a", "wrong": three("b", "c", "c")},
            ValueError,
            "told",
        ),
        (
            {
                "options": ["one", "two", "three", "four", "five"],
                "answer": "a",
                "wrong": three("b", "c", "d"),
            },
            ValueError,
            "every wrong option",
        ),
        ({"cases": [(1,)], "answer": abs, "wrong": three(2, 3, 4)}, TypeError, "functions"),
        ({"cases": [1], "answer": abs}, TypeError, "tuple"),
        (
            {"cases": [(1,)], "answer": abs, "wrong": three(lambda x: 2, lambda x: 3, lambda x: 1 / 0)},
            ValueError,
            "raised",
        ),
        (
            {"cases": [(1,)], "answer": abs, "wrong": three(lambda x: 2, lambda x: 3, lambda x: x)},
            ValueError,
            "cannot be told from the right answer",
        ),
        (
            {"cases": [(1,)], "answer": abs, "wrong": three(lambda x: 2, lambda x: 3, lambda x: 1.00015)},
            ValueError,
            "cannot be told from the right answer",
        ),
        ({"cases": [(1,)], "answer": abs, "unit": "bits"}, ValueError, "unit"),
    ],
)
def test_a_definition_that_could_mislead_is_refused(changes, error, part):
    with pytest.raises(error, match=part):
        define(**changes)


def test_every_zone_of_a_number_is_apart_from_the_others():
    define(answer=1.0, wrong=three(1.003, 2, 3))  # just far enough
    with pytest.raises(ValueError):
        define(answer=1.0, wrong=three(1.0019, 2, 3))


@pytest.mark.parametrize(
    "made, value",
    [
        (detectors.nats_for_bits(2.0), 2 * 0.6931471805599453),
        (detectors.bits_for_nats(2.0), 2 * 1.4426950408889634),
        (detectors.sign_flipped(2.0), -2.0),
        (detectors.probability_for_log(2.0), 0.1353352832366127),
        (detectors.probability_for_log(2.0, unit="bits"), 0.25),
        (detectors.percent_for_fraction(0.25), 25.0),
        (detectors.fraction_for_percent(25.0), 0.25),
        (detectors.sum_for_mean(2.0, 5), 10.0),
        (detectors.mean_for_sum(10.0, 5), 2.0),
    ],
)
def test_a_detector_computes_the_wrong_answer_it_names(made, value):
    assert float(made.value) == pytest.approx(value, rel=1e-15)


def test_a_detector_works_for_arrays_and_for_functions():
    assert detectors.sign_flipped([1.0, -2.0]).value.tolist() == [-1.0, 2.0]
    assert detectors.bits_for_nats(entropy_nats).value([0.5, 0.5]) == pytest.approx(1.0)


def test_a_detector_that_collides_with_the_answer_is_refused():
    with pytest.raises(ValueError, match="sign flipped"):
        define(answer=0.0, wrong=[detectors.sign_flipped(0.0), *three(1, 2)])


# ------------------------------------------------------------------ registry, solutions, hints


def test_exercises_are_sorted_by_number_and_not_as_text():
    with temporary(define(key="98.10"), define(key="98.9"), define(key="98.1")):
        keys = [item.key for item in all_exercises() if item.chapter == 98]
    assert keys == ["98.1", "98.9", "98.10"]


def test_a_temporary_registration_leaves_nothing_behind():
    with temporary(define(key="98.1")):
        assert check("98.1", ...).verdict == "unanswered"
    assert check("98.1", ...).verdict == "invalid"
    assert check("97.1", ...).verdict == "unanswered"


@pytest.mark.parametrize("keys", [[], ["97.1", "98.1"], ["98.1", "98.1"]])
def test_register_takes_one_chapter_with_different_keys(keys):
    with temporary(), pytest.raises(ValueError):
        register(*[define(key=key) for key in keys])


def test_register_takes_exercises_only():
    with pytest.raises(TypeError):
        register("97.1")


def test_a_chapter_module_is_found_by_its_key(monkeypatch, tmp_path):
    package = importlib.import_module("lossutils.exercises")
    (tmp_path / "chapter95.py").write_text(
        "from lossutils.exercises import Exercise, Misconception, register\n"
        "register(Exercise(key='95.1', title='T', answer=1, hints=['h'],\n"
        "    wrong=[Misconception(str(k), k, 'No.') for k in (2, 3, 4)]), title='Lazy')\n"
    )
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    try:
        for _ in range(2):  # again after `temporary` has forgotten it
            with temporary():
                assert check("95.1", 1).verdict == "right"
                assert "Chapter 95 · Lazy" in repr(progress())
    finally:
        sys.modules.pop("lossutils.exercises.chapter95", None)


def test_solution_accepts_what_is_right_and_records_nothing(book):
    said = repr(solution("97.1", math.log2(6)))
    assert said == "The book's own solution of 97.1 passes its check. (This says nothing about yours.)"
    solution("97.4", "b")
    solution("97.6", entropy_nats)
    assert list(book.iterdir()) == []
    assert progress().states["97.1"] == "open"


@pytest.mark.parametrize("key, answer", [("97.1", math.log(6)), ("97.1", ...), ("97.1", None), ("9.9", 1)])
def test_solution_raises_for_anything_else(key, answer):
    with pytest.raises(AssertionError):
        solution(key, answer)


def test_hints_come_one_at_a_time_and_the_last_one_stays():
    texts = [hint("97.1").text for _ in range(5)]
    assert texts == [*BITS.hints, BITS.hints[-1], BITS.hints[-1]]
    assert hint("97.6").level == 1


def test_a_hint_can_be_asked_for_by_level_without_moving_on():
    assert hint("97.1", level=3).text == BITS.hints[2]
    assert hint("97.1").text == BITS.hints[0]
    for level in (0, 4, "1", True):
        assert "has hints 1 to 3" in hint("97.1", level=level).text


# ------------------------------------------------------------------ what is shown


def embedded(html: str) -> dict:
    start = html.index('<script type="application/json">') + len('<script type="application/json">')
    return json.loads(html[start : html.index("</script>", start)])


def test_the_card_is_the_same_on_every_run():
    code = (
        "import sys; sys.path[:0] = ['tests', '.']\n"
        "from exercise_table import EXERCISES\n"
        "from lossutils.exercises import judge\n"
        "print(ascii([judge(item, ...)._repr_mimebundle_() for item in EXERCISES]))"
    )
    root = Path(__file__).parents[1]
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {ascii([judge(item, ...)._repr_mimebundle_() for item in EXERCISES]) + "\n"}


def test_numbers_on_the_page_have_ten_significant_digits_at_most():
    for exercise in (BITS, COUNT, PERCENT):
        data = exercise_data(exercise)
        for value in [*data["right"], *(number for item in data["wrong"] for number in item["zone"])]:
            assert float(f"{value:.10g}") == value


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda item: item.key)
def test_the_answer_of_an_open_exercise_stands_in_no_visible_text(exercise):
    html = feedback_html(judge(exercise, ...))
    visible = html[: html.index("<script")] + repr(judge(exercise, ...))
    for secret in ("2.58", "50304", "50,304", "12.5", "praise", "PRAISE"):
        assert secret not in visible


def test_the_card_escapes_what_an_author_or_a_learner_wrote():
    html = feedback_html(judge(COUNT, "50304 </script><script>alert(1)</script>"))
    assert (
        html.count("<script") == 1
        and html.count("</script>") == 1
        and "alert" not in html.split("<script")[0]
    )
    assert "tokens &amp; types &lt;are&gt; there?" in html
    assert embedded(html)["title"] == COUNT.title
    feedback = judge(COUNT, "5 <img>")
    assert "<img>" not in feedback_html(feedback).split("<script")[0]


def test_python_only_exercises_tell_the_page_no_answer():
    for exercise in (ARRAY, FUNCTION):
        assert set(exercise_data(exercise)) == {"key", "title", "kind", "hints"}


def test_a_verdict_given_in_a_kernel_is_in_the_card_and_an_open_one_is_not():
    assert "given" not in embedded(feedback_html(judge(BITS, ...)))
    given = embedded(feedback_html(judge(BITS, 1.7918)))["given"]
    assert given == {"verdict": "wrong", "message": BITS.wrong[0].message, "typed": "1.7918"}
    assert embedded(feedback_html(judge(CHOICE, CHOICE.options[2])))["given"]["typed"] == "c"


def test_feedback_reads_as_two_lines():
    assert (
        repr(judge(BITS, 2.585))
        == "Exercise 97.1 · One face of a die\n✓ Right. PRAISE: two and a half questions."
    )
    assert repr(Feedback("invalid", "No.", key="9.9")) == "Exercise 9.9\n! Not judged. No."


# ------------------------------------------------------------------ progress


def test_right_and_wrong_answers_are_recorded_and_nothing_else_is(book):
    for answer in (..., None, "x", 1j, [1, 2]):
        check("97.1", answer)
    assert not (book / FILE).exists()
    check("97.1", 1.0)
    check("97.1", 2.585)
    check("97.1", 1.0)
    check("97.4", "a")
    assert stored(book) == {"97.1": {"state": "done", "tries": 3}, "97.4": {"state": "attempted", "tries": 1}}


def test_progress_shows_a_table():
    check("97.1", 2.585)
    check("97.4", "a")
    check("97.4", "c")
    found = progress()
    lines = repr(found).splitlines()
    assert "Chapter 97 · Trial (1 of 6 done, 1 attempted)" in lines
    cells = [re.split(r"  +", line.strip()) for line in lines]
    assert ["✓ 97.1", "One face of a die", "done, 1 try"] in cells
    assert ["✗ 97.4", "Forward or reverse?", "attempted, 2 tries"] in cells
    assert ["○ 97.6", "Entropy that survives a zero", "open"] in cells
    shown = [line for line in lines if line.startswith(("  ✓ 97", "  ✗ 97", "  ○ 97"))]
    assert len({re.search("done|attempted|open", line).start() for line in shown}) == 1  # one column
    assert lines[-1].endswith("Kept in .compass-progress.json beside the notebook.")
    assert found.done == 1 and found.total >= 6
    html = found._repr_mimebundle_()["text/html"]
    listed = embedded(html)["chapters"][-1]
    assert listed["name"] == "Chapter 97 · Trial" and listed["page"] == "97_trial.html"
    assert [item["key"] for item in listed["exercises"]] == [item.key for item in EXERCISES]
    assert "tokens &amp; types &lt;are&gt; there?" in html


def test_next_is_what_follows_the_last_exercise_done_and_then_what_was_left_out():
    items = tuple(EXERCISES)
    keys = [item.key for item in items]
    chapter = Chapter(97, "Trial")

    def after(*done):
        states = {key: "done" if key in done else "attempted" for key in keys}
        return Progress(((chapter, items),), states, dict.fromkeys(keys, 1))

    assert after().next is items[0]
    assert after(keys[0], keys[2]).next is items[3]
    assert after(keys[-1], keys[0]).next is items[1]
    assert after(*keys).next is None
    assert "All exercises are done." in repr(after(*keys)) and "Next: " not in progress_html(after(*keys))
    assert f"Next: {keys[3]} " in repr(after(keys[2])) and f"Next: {keys[3]} " in progress_html(
        after(keys[2])
    )
    assert "(1 of 6 done, 5 attempted)" in progress_html(after(keys[2]))


def test_a_record_that_the_page_saved_is_read_and_kept(book):
    opened = {"state": "open", "tries": 0, "answer": "", "hints": 2}  # a hint was looked at, nothing answered
    done = {"state": "done", "tries": 3, "answer": "50304", "hints": 0}
    (book / FILE).write_text(
        json.dumps({"version": 1, "exercises": {"97.1": opened, "97.2": done}}), encoding="utf8"
    )
    assert progress().states["97.1"] == "open" and progress().states["97.2"] == "done"
    check("97.1", 1.0)
    assert stored(book) == {"97.1": opened | {"state": "attempted", "tries": 1}, "97.2": done}
    assert not list(book.glob("*damaged*"))


def test_progress_outlives_the_session(monkeypatch):
    check("97.1", 2.585)
    monkeypatch.setattr(progress_file, "_memory", {})
    assert progress().states["97.1"] == "done"
    check("97.1", 0.0)
    assert progress().states["97.1"] == "done"
    assert progress().tries["97.1"] == 2


def test_what_a_later_edition_recorded_is_kept(book):
    entry = {"state": "done", "tries": 2, "note": "é"}
    (book / FILE).write_text(json.dumps({"version": 1, "exercises": {"12.9": entry}}), encoding="utf8")
    check("97.1", 2.585)
    assert stored(book)["12.9"] == entry


DAMAGED = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b'{"version": 1}',
    b'{"version": 2, "exercises": {}}',
    b'{"version": 1, "exercises": []}',
    b'{"version": 1, "exercises": {"97.1": "done"}}',
    b'{"version": 1, "exercises": {"97.1": {"state": "perfect", "tries": 1}}}',
    b'{"version": 1, "exercises": {"97.1": {"state": ["done"], "tries": 1}}}',
    b'{"version": 1, "exercises": {"97.1": {"state": "done", "tries": "many"}}}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_set_aside_and_not_lost(content, book):
    (book / FILE).write_bytes(content)
    assert progress().states["97.1"] == "open"
    assert check("97.1", 2.585).verdict == "right"
    assert (book / ".compass-progress.damaged-1.json").read_bytes() == content
    assert stored(book) == {"97.1": {"state": "done", "tries": 1}}
    (book / FILE).write_bytes(b"again")
    check("97.1", 2.585)
    assert (book / ".compass-progress.damaged-1.json").read_bytes() == content
    assert (book / ".compass-progress.damaged-2.json").read_bytes() == b"again"


def test_a_damaged_file_is_set_aside_where_hard_links_do_not_exist(book, monkeypatch):
    def no_links(*args):
        raise OSError("no hard links")

    monkeypatch.setattr(os, "link", no_links)
    for number in (1, 2):
        (book / FILE).write_bytes(b"%d" % number)
        progress()
        assert (book / f".compass-progress.damaged-{number}.json").read_bytes() == b"%d" % number


def test_a_write_that_fails_half_way_leaves_the_old_file_whole(book, monkeypatch):
    check("97.1", 2.585)
    before = (book / FILE).read_bytes()

    def no_space(*args):
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, no_space)
            assert check("97.4", "b").verdict == "right"
        assert (book / FILE).read_bytes() == before
        assert [path.name for path in book.iterdir()] == [FILE]  # and no litter
    assert progress().states["97.4"] == "done"  # this session remembers
    check("97.2", 50304)
    assert stored(book)["97.4"]["state"] == "done"  # and writes it when it can


def test_the_file_is_never_seen_half_written(book):
    check("97.1", 2.585)
    writer = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]\n"
        "from lossutils.exercises.progress_file import record\n"
        "for i in range(60): assert record(f'97.{i + 1}', 'right')\n"
    )
    tests = Path(__file__).parent
    process = subprocess.Popen([sys.executable, "-c", writer, str(tests.parent), str(tests)], cwd=book)
    seen = 0
    while process.poll() is None:
        assert stored(book)["97.1"]["state"] == "done"
        seen += 1
    assert process.returncode == 0 and seen > 10
    assert len(stored(book)) == 60


def test_a_folder_that_is_gone_does_not_raise(tmp_path):
    lost = tmp_path / "lost"
    lost.mkdir()
    os.chdir(lost)
    lost.rmdir()
    try:
        assert check("97.1", 2.585).verdict == "right"
        assert progress().states["97.1"] == "done"
        assert "until the kernel stops" in repr(progress())
    finally:
        os.chdir(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_does_not_raise(book):
    book.chmod(0o500)
    try:
        assert check("97.1", 2.585).verdict == "right"
        assert "until the kernel stops" in repr(progress())
    finally:
        book.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that nobody can write to")
def test_a_folder_that_nobody_can_write_does_not_raise(book):
    os.chdir("/proc/self")
    try:
        assert check("97.1", 2.585).verdict == "right"
        assert progress().states["97.1"] == "done"
    finally:
        os.chdir(book)


def test_a_folder_in_the_place_of_the_file_does_not_raise(book):
    (book / FILE).mkdir()
    assert check("97.1", 2.585).verdict == "right"
    assert progress().states["97.1"] == "done"
    assert "until the kernel stops" in repr(progress())
    assert (book / FILE).is_dir()


# ------------------------------------------------------------------ the book's own exercises


def test_every_exercise_of_the_book_stays_open_recognises_its_misconceptions_and_accepts_its_answer():
    own = [item for item in all_exercises() if item.chapter != 97]
    for exercise in own:
        assert judge(exercise, ...).verdict == "unanswered"
        answer = exercise.answer
        if exercise.kind != "function" and callable(answer):
            answer = answer()
        assert judge(exercise, answer).verdict == "right", exercise.key
        for item in exercise.wrong:
            found = judge(exercise, item.value)
            assert (found.verdict, found.misconception) == ("wrong", item.name), (exercise.key, item.name)
