"""An audit: how findings are read and scored, and the same judgement on the page."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from test_exercise_element import page_html

from lossutils.exercises import Audit, Claim, Misconception, judge, temporary
from lossutils.exercises.progress_file import Progress
from lossutils.exercises.registry import Chapter
from lossutils.exercises.rendering import exercise_data, feedback_html, progress_html

CHARGES = {"unit": "a wrong unit", "leak": "a leak & more", "proxy": "the proxy", "clip": "a cap"}
CLAIMS = [
    Claim(1, "One nat is 1.44 bits.", "SOUND1."),
    Claim(2, "ln 8 is 3 bits.", "UNIT: it is 2.08 nats.", "unit", look="LOOK2."),
    Claim(4, "Below the floor <b>for long</b>.", "LEAK.", ("leak", "clip"), look="LOOK4."),
    Claim(12, "The reward rose.", "PROXY.", "proxy", look="LOOK12."),
    Claim(13, "It starts at ln 2.", "SOUND13."),
]
WRONG = [
    Misconception("everybody", {1: "a", 2: "a", 4: "a", 12: "a", 13: "a"}, "EVERYBODY."),
    Misconception("the odd ones", {1: "d", 13: "d"}, "ODD."),
    Misconception("sums only", {2: "d"}, "SUMS."),
]


def audit(**changes) -> Audit:
    given = {
        "key": "97.7",
        "title": "Five lines",
        "claims": CLAIMS,
        "charges": CHARGES,
        "wrong": WRONG,
        "hints": ["Check the units.", "And the judge."],
        "praise": "PRAISE.",
        "otherwise": "OTHERWISE.",
    }
    return Audit(**given | changes)


FIVE = audit()

# findings, points of 6, (exact, other, false, missed), verdict, what follows the score
SCORED = [
    ("2a 4b 12c", 6, (3, 0, 0, 0), "right", "PRAISE."),
    ("2a 4d 12c", 6, (3, 0, 0, 0), "right", "PRAISE."),
    ("2a 4b 12a", 5, (2, 1, 0, 0), "right", "PRAISE."),
    ("2a 4b", 4, (2, 0, 0, 1), "wrong", "OTHERWISE."),
    ("1a 2a 4b 12c", 4, (3, 0, 1, 0), "wrong", "OTHERWISE."),
    ("2b 4a 12b", 3, (0, 3, 0, 0), "wrong", "OTHERWISE."),
    ("2a", 2, (1, 0, 0, 2), "wrong", "SUMS."),
    ("1a 13b", -4, (0, 0, 2, 3), "wrong", "ODD."),
    ("1a 2a 4a 12a 13a", 0, (1, 2, 2, 0), "wrong", "EVERYBODY."),
]


@pytest.mark.parametrize(("findings", "points", "counts", "verdict", "more"), SCORED)
def test_findings_are_counted_and_false_ones_cost_points(findings, points, counts, verdict, more):
    score = FIVE.score(findings)
    assert (score.points, score.best, tuple(score[2:])) == (points, 6, counts)
    feedback = judge(FIVE, findings)
    assert feedback.verdict == verdict
    exact, other, false, missed = counts
    assert feedback.message == (
        f"{points} of 6 points: {exact} found with the right charge, {other} for another reason, "
        f"{false} accused wrongly, {missed} not found. {more}"
    ).replace("-", "−")


def test_no_findings_but_the_right_ones_reach_full_points():
    full = []
    for letters in itertools.product(["", *"abcd"], repeat=len(CLAIMS)):
        findings = {claim.number: letter for claim, letter in zip(CLAIMS, letters, strict=True) if letter}
        if FIVE.score(findings).points >= 6:
            full.append(findings)
    assert full == [{2: "a", 4: "b", 12: "c"}, {2: "a", 4: "d", 12: "c"}]
    assert FIVE.answer == full[0]


@pytest.mark.parametrize(
    "findings",
    [
        {4: "b", 2: "a"},
        {"4": "B", " 2 ": "a"},
        {2: "unit", 4: "a leak & more"},
        {2: "a", 4: "leak", 12: None, 13: ...},
        "2a 4b",
        "4b,2a",
        " 2: a; 4 = b ",
        "2A\n4b",
        "2a4b",
    ],
)
def test_findings_may_be_written_in_many_ways(findings):
    assert FIVE.read(findings) == {2: "a", 4: "b"}
    assert FIVE.typed(findings) == "2a 4b"
    assert judge(FIVE, findings).typed == "2a 4b"


class Odd:
    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("findings", "part"),
    [
        (["2a"], "a list came instead"),
        (7, "came instead"),
        (None, "None came instead"),
        ("two: a", "“two: a” came instead"),
        ("2ab", "“2ab” came instead"),
        ({3: "a"}, "There is no statement 3"),
        ("99a", "There is no statement 99"),
        ({2: "z"}, "“z” is none of the charges. Give a letter from a to d."),
        ({2: 5}, "“5” is none of the charges"),
        ({Odd(): "a"}, "could not be judged"),
    ],
)
def test_what_are_no_findings_gets_a_sentence_and_never_an_error(findings, part):
    feedback = judge(FIVE, findings)
    assert feedback.verdict == "invalid" and part in feedback.message
    assert feedback.notes == () and feedback.typed == ""


@pytest.mark.parametrize("findings", [..., {}, "", "  ", {2: None}, {2: ...}])
def test_no_accusation_is_an_open_exercise(findings):
    assert judge(FIVE, findings).verdict == "unanswered"


def test_each_accusation_is_answered_and_what_was_missed_is_not_told():
    feedback = judge(FIVE, {1: "a", 2: "a", 4: "c"})
    assert feedback.notes == (
        (1, "This one stands. SOUND1."),
        (2, "UNIT: it is 2.08 nats."),
        (4, "Something is wrong here, but not this. LOOK4."),
    )
    text = repr(feedback) + feedback_html(feedback).split("<script")[0]
    assert "PROXY" not in text and "LOOK12" not in text and "SOUND13" not in text
    assert "(4) Something is wrong here, but not this. LOOK4." in repr(feedback)


def test_an_open_card_lists_statements_and_charges_and_gives_nothing_away():
    text = repr(judge(FIVE, ...))
    for claim in CLAIMS:
        assert f"({claim.number}) {claim.text}" in text
        assert claim.because not in text
    assert "b) a leak & more" in text
    visible = feedback_html(judge(FIVE, ...)).split("<script")[0]
    assert "&lt;b&gt;for long&lt;/b&gt;" in visible and "LEAK" not in visible


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"claims": [*CLAIMS, Claim(4, "Again.", "No.")]}, "each must be used once"),
        ({"claims": [Claim(n, "A.", "B.", "unit", look="C.") for n in range(1, 28)]}, "25 at most"),
        ({"claims": CLAIMS[1:4]}, "statements that stand"),
        ({"claims": [CLAIMS[0], CLAIMS[4]]}, "statements that stand"),
        ({"charges": {"unit": "a unit", "leak": "a leak"}}, "does not list: ['clip', 'proxy']"),
        ({"charges": {"unit": "a unit"}}, "from 2 to"),
        ({"wrong": WRONG[:2]}, "three Misconceptions"),
        ({"wrong": [*WRONG, Misconception("again", {2: "c"}, "Again.")]}, "cannot be told from"),
        ({"wrong": [*WRONG, Misconception("right", {2: "a", 4: "b", 12: "b"}, "R.")]}, "cannot be told from"),
        ({"wrong": [*WRONG, Misconception("none", {}, "Nothing.")]}, "must be findings"),
        ({"options": ["one", "two"]}, "no options"),
    ],
)
def test_a_definition_that_could_mislead_is_refused(changes, part):
    with pytest.raises(ValueError) as caught:
        audit(**changes)
    assert part in str(caught.value)


@pytest.mark.parametrize("number", [0, 100, 1.5, True, "1"])
def test_a_statement_has_a_number_from_1_to_99(number):
    with pytest.raises(ValueError, match="from 1 to 99"):
        Claim(number, "A.", "B.")


def test_a_mistaken_statement_must_say_where_to_look():
    with pytest.raises(ValueError, match="look of statement 3"):
        Claim(3, "A.", "B.", "unit")


def test_the_page_gets_the_letters_and_not_the_names_of_the_charges():
    data = exercise_data(FIVE)
    assert data["kind"] == "audit" and data["pass"] == 5
    assert [item["label"] for item in data["charges"]] == list("abcd")
    assert [claim["charges"] for claim in data["claims"]] == [[], ["a"], ["b", "d"], ["c"], []]


# The same in a browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    listed = Progress(((Chapter(97, "Trial", "audit.html"), (FIVE,)),), {"97.7": "open"}, {"97.7": 0})
    with temporary(FIVE):
        card = feedback_html(judge(FIVE, ...))
        given = feedback_html(judge(FIVE, {2: "b", 13: "a"}))
    (folder / "audit.html").write_text(page_html(card + progress_html(listed)), encoding="utf8")
    (folder / "given.html").write_text(page_html(given), encoding="utf8")
    return folder


@pytest.fixture
def page(chromium, folder) -> Iterator[object]:
    context = chromium.new_context(viewport={"width": 1000, "height": 900})
    page, problems = context.new_page(), []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((folder / "audit.html").as_uri())
    yield page
    context.close()
    assert problems == []


def accuse(page, findings: str) -> None:
    found = FIVE.read(findings)
    for claim in CLAIMS:
        page.get_by_label(f"({claim.number}) {claim.text}").select_option(found.get(claim.number, ""))
    page.get_by_role("button", name="Check").click()


def said(page) -> tuple:
    notes = page.locator(".compass-notes li").all_text_contents()
    return page.locator("compass-exercise").get_by_role("status").text_content(), notes


@pytest.mark.parametrize("findings", [row[0] for row in SCORED])
def test_findings_get_on_the_page_what_python_says(page, findings):
    accuse(page, findings)
    feedback = judge(FIVE, findings)
    assert said(page) == (feedback.line, [f"({number}) {text}" for number, text in feedback.notes])


def test_every_single_and_double_finding_is_judged_alike(page):
    numbers = [claim.number for claim in CLAIMS]
    single = [f"{number}{letter}" for number in numbers for letter in "abcd"]
    double = [f"{a}b {b}c" for a, b in itertools.combinations(numbers, 2)]
    for findings in (*single, *double):
        accuse(page, findings)
        feedback = judge(FIVE, findings)
        assert said(page) == (feedback.line, [f"({n}) {text}" for n, text in feedback.notes]), findings


def test_without_an_accusation_the_page_asks_for_one_and_remembers_nothing(page):
    page.get_by_role("button", name="Check").click()
    assert said(page) == (judge(FIVE, {}).line, [])
    assert page.evaluate("localStorage.getItem('compass-progress')") is None


def test_findings_are_there_after_a_reload_and_gone_when_forgotten(page):
    accuse(page, "2a 4b 12c")
    kept = json.loads(page.evaluate("localStorage.getItem('compass-progress')"))["exercises"]["97.7"]
    assert kept == {"state": "done", "tries": 1, "answer": "2a 4b 12c", "hints": 0}
    page.reload()
    assert said(page)[0] == judge(FIVE, "2a 4b 12c").line and len(said(page)[1]) == 3
    assert page.get_by_label("(12) The reward rose.").input_value() == "c"
    page.get_by_role("button", name="Forget my progress").click()
    page.get_by_role("button", name="Yes, forget it").click()
    assert said(page) == ("", []) and page.get_by_label("(12) The reward rose.").input_value() == ""


def test_findings_from_a_kernel_are_shown_as_they_were_given(page, folder):
    page.goto((folder / "given.html").as_uri())
    feedback = judge(FIVE, {2: "b", 13: "a"})
    assert said(page) == (feedback.line, [f"({number}) {text}" for number, text in feedback.notes])
    assert page.get_by_label("(13) It starts at ln 2.").input_value() == "a"


def test_the_card_works_by_keyboard(page):
    page.get_by_label("(2) ln 8 is 3 bits.").focus()
    page.keyboard.press("ArrowDown")
    assert page.get_by_label("(2) ln 8 is 3 bits.").input_value() == "a"
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert said(page)[0] == judge(FIVE, "2a").line


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1000])
def test_axe_finds_nothing_serious_and_nothing_overflows(page, theme, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    accuse(page, "1a 2a 4c")
    found = Axe().run(page, options={"preload": False}).response["violations"]
    bad = [
        (item["id"], item["nodes"][0]["html"]) for item in found if item["impact"] in ("serious", "critical")
    ]
    assert bad == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "[...document.querySelectorAll('compass-exercise *:not(option)')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []
