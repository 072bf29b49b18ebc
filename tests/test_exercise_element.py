"""The cards in a real browser: the same judgement as Python's, hints, progress, keyboard, accessibility."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from exercise_table import ARRAY, BITS, CHOICE, CHOSEN, COUNT, EXERCISES, FUNCTION, PERCENT, TYPED

from lossutils.exercises import judge, temporary
from lossutils.exercises.progress_file import Progress
from lossutils.exercises.registry import Chapter
from lossutils.exercises.rendering import feedback_html, progress_html

ASSETS = Path(__file__).parents[1] / "book" / "assets"


def page_html(body: str) -> str:
    styles = "".join(
        f'<link rel="stylesheet" href="{(ASSETS / name).as_uri()}">'
        for name in ("compass.css", "exercise.css")
    )
    return (
        '<!doctype html><html lang="en" data-theme="light">'
        '<head><meta charset="utf-8"><title>Exercises</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{styles}'
        "<style>body{margin:0;padding:16px;font-family:sans-serif;background:var(--compass-page);"
        "color:var(--compass-ink)}</style>"
        f'<script defer src="{(ASSETS / "exercise.js").as_uri()}"></script></head>'
        f"<body><main><h1>Exercises</h1>{body}</main></body></html>"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pages: open cards with the progress view, that view alone, and cards as a kernel left them."""
    folder = tmp_path_factory.mktemp("cards")
    chapter = Chapter(97, "Trial", "cards.html")
    listed = Progress(
        ((chapter, EXERCISES),), {item.key: "open" for item in EXERCISES}, {item.key: 0 for item in EXERCISES}
    )
    with temporary(*EXERCISES):
        cards = "".join(feedback_html(judge(item, ...)) for item in EXERCISES)
        given = [
            (BITS, 1.7918),
            (CHOICE, "b"),
            (COUNT, "5 <img src=x onerror=alert()>"),
            (FUNCTION, list.clear),
        ]
        judged = "".join(feedback_html(judge(item, answer)) for item, answer in given)
    (folder / "cards.html").write_text(page_html(cards + progress_html(listed)), encoding="utf8")
    (folder / "progress.html").write_text(page_html(progress_html(listed)), encoding="utf8")
    (folder / "judged.html").write_text(page_html(judged), encoding="utf8")
    return folder


@pytest.fixture
def context(chromium) -> Iterator[object]:
    """A fresh browser profile in which only files load, and in which nothing may go wrong unseen."""
    context = chromium.new_context(viewport={"width": 1000, "height": 800})
    refused, problems = [], []

    def gate(route):
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    context.route("**/*", gate)

    def watch(page):
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))

    context.on("page", watch)
    yield context
    context.close()
    assert refused == [] and problems == []


@pytest.fixture
def page(context, folder):
    page = context.new_page()
    page.goto((folder / "cards.html").as_uri())
    return page


def card(page, exercise):
    return page.locator(f'compass-exercise[key="{exercise.key}"]')


def status(page, exercise):
    return card(page, exercise).get_by_role("status")


def remembered(page) -> dict:
    return json.loads(page.evaluate("localStorage.getItem('compass-progress')"))["exercises"]


@pytest.mark.parametrize("exercise", [BITS, COUNT, PERCENT], ids=lambda item: item.key)
def test_a_typed_answer_gets_on_the_page_what_python_says(page, exercise):
    box = card(page, exercise).get_by_role("textbox")
    rows = [row for row in TYPED if row[0] is exercise]
    assert len(rows) >= 7
    for _, typed, verdict, message in rows:
        box.fill(typed)
        box.press("Enter")
        feedback = judge(exercise, typed)
        assert feedback.verdict == verdict and feedback.message == message
        assert status(page, exercise).text_content() == feedback.line, typed
        assert status(page, exercise).get_attribute("data-verdict") == verdict


def test_numbers_at_the_edges_of_every_zone_are_judged_alike(page):
    box = card(page, BITS).get_by_role("textbox")
    for zone in (BITS.right_target, *BITS.wrong_targets):
        for distance in (zone.width, zone.near):
            for factor in (-1.000001, -1.0, -0.999999, 0.999999, 1.0, 1.000001):
                typed = repr(zone.value + factor * distance)
                box.fill(typed)
                box.press("Enter")
                assert status(page, BITS).text_content() == judge(BITS, typed).line, typed


def test_a_chosen_option_gets_on_the_page_what_python_says(page):
    check = card(page, CHOICE).get_by_role("button", name="Check")
    check.click()
    assert status(page, CHOICE).text_content() == judge(CHOICE, "").line
    for label, verdict, message in CHOSEN:
        card(page, CHOICE).get_by_role("radio").nth("abcd".index(label)).check()
        check.click()
        feedback = judge(CHOICE, label)
        assert (feedback.verdict, feedback.message) == (verdict, message)
        assert status(page, CHOICE).text_content() == feedback.line


def test_the_whole_card_works_by_keyboard_and_the_focus_stays(page):
    page.evaluate("window.seen = 0; document.addEventListener('keydown', () => window.seen++)")
    box = card(page, BITS).get_by_label("Your answer in bits")
    box.focus()
    page.keyboard.type("1.792")
    page.keyboard.press("Enter")
    assert status(page, BITS).text_content() == judge(BITS, "1.792").line
    assert box.evaluate("element => element === document.activeElement") and box.input_value() == "1.792"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    hint = card(page, BITS).get_by_role("button", name="Hint")
    assert hint.evaluate("element => element === document.activeElement")
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert card(page, BITS).get_by_role("listitem").all_text_contents() == list(BITS.hints[:2])
    radio = card(page, CHOICE).get_by_role("radio").first
    radio.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert status(page, CHOICE).text_content() == judge(CHOICE, "b").line
    assert page.evaluate("window.seen") == 0  # JupyterLab never hears of these keys


def test_hints_are_revealed_one_at_a_time_and_the_focus_is_kept_at_the_end(page):
    button = card(page, BITS).locator("button.compass-button:not(.compass-button-main)")
    words = []
    for shown in range(len(BITS.hints) + 1):
        assert card(page, BITS).get_by_role("listitem").all_text_contents() == list(BITS.hints[:shown])
        words.append(button.text_content())
        button.click(force=True)
    assert words == ["Hint (1 of 3)", "Next hint (2 of 3)", "Next hint (3 of 3)", "All 3 hints shown"]
    assert button.evaluate("element => element === document.activeElement")
    assert card(page, FUNCTION).get_by_role("listitem").count() == 0


def test_answers_hints_and_progress_are_there_after_a_reload_and_on_another_page(page, context, folder):
    box = card(page, BITS).get_by_role("textbox")
    for typed in ("7", "2,585", "1.792", "nonsense"):
        box.fill(typed)
        box.press("Enter")
    card(page, BITS).get_by_role("button", name="Hint").click()
    card(page, CHOICE).get_by_role("radio").first.check()
    card(page, CHOICE).get_by_role("button", name="Check").click()
    card(page, FUNCTION).get_by_role("checkbox").check()
    assert remembered(page)["97.1"] == {"state": "done", "tries": 3, "answer": "1.792", "hints": 1}
    page.reload()
    assert box.input_value() == "1.792"
    assert status(page, BITS).text_content() == judge(BITS, "1.792").line
    assert card(page, BITS).get_by_role("listitem").all_text_contents() == [BITS.hints[0]]
    assert card(page, BITS).locator(".compass-badge").text_content() == "✓ done"
    assert card(page, CHOICE).get_by_role("radio").first.is_checked()
    assert status(page, CHOICE).text_content() == judge(CHOICE, "a").line
    assert card(page, FUNCTION).get_by_role("checkbox").is_checked()
    other = context.new_page()
    other.goto((folder / "progress.html").as_uri())
    rows = other.locator("compass-progress li").all_text_contents()
    assert rows[0] == f"97.1 {BITS.title}✓ done" and rows[3] == f"97.4 {CHOICE.title}✗ attempted"
    assert rows[1].endswith("○ open") and rows[5].endswith("✓ done")
    assert other.locator("compass-progress details").get_attribute("open") is not None
    assert other.locator(".compass-progress-count").text_content() == "2 of 6 done, 1 attempted"
    assert other.get_by_role("progressbar", name="Chapter 97 · Trial").evaluate(
        "bar => [bar.value, bar.max]"
    ) == [2, 6]
    meter = other.get_by_role("progressbar", name="2 of 6 exercises done")
    assert (meter.evaluate("bar => bar.value"), meter.evaluate("bar => bar.max")) == (2, 6)
    box.fill("2.5")  # an answer here shows there at once
    card(page, COUNT).get_by_role("textbox").fill("50304")
    card(page, COUNT).get_by_role("button", name="Check").click()
    other.get_by_role("progressbar", name="3 of 6 exercises done").wait_for()
    with other.expect_navigation():
        other.get_by_role("listitem").get_by_role("link", name=f"97.4 {CHOICE.title}").click()
    assert other.url.endswith("cards.html#check-97-4")
    assert other.locator("#check-97-4").get_attribute("key") == "97.4"


def test_an_unanswered_or_unreadable_answer_is_not_remembered(page):
    box = card(page, BITS).get_by_role("textbox")
    for typed in ("", "two", "1/0", "2.585 nats"):
        box.fill(typed)
        box.press("Enter")
        assert status(page, BITS).text_content()
    assert page.evaluate("localStorage.getItem('compass-progress')") is None


def test_progress_is_forgotten_only_after_a_second_press(page):
    box = card(page, BITS).get_by_role("textbox")
    box.fill("2.585")
    box.press("Enter")
    view = page.locator("compass-progress")
    view.get_by_role("button", name="Forget my progress").click()
    view.get_by_role("button", name="No, keep it").click()
    assert remembered(page)["97.1"]["state"] == "done"
    view.get_by_role("button", name="Forget my progress").click()
    view.get_by_role("button", name="Yes, forget it").click()
    assert remembered(page) == {}
    assert view.get_by_role("status").text_content() == "Forgotten."
    assert view.get_by_role("progressbar", name="0 of 6 exercises done").evaluate("bar => bar.value") == 0
    assert box.input_value() == "" and status(page, BITS).text_content() == ""
    assert view.get_by_role("button", name="Forget my progress").evaluate("e => e === document.activeElement")


def answer(page, exercise, typed):
    card(page, exercise).get_by_role("textbox").fill(typed)
    card(page, exercise).get_by_role("button", name="Check").click()


def advice(page):
    return page.locator(".compass-progress-next").text_content()


def test_the_view_says_what_comes_next_as_python_does(page):
    keys = [item.key for item in EXERCISES]

    def as_python_says(*done):
        states = {key: "done" if key in done else "open" for key in keys}
        return Progress(((Chapter(97), EXERCISES),), states, dict.fromkeys(keys, 0)).advice

    assert advice(page) == as_python_says()
    answer(page, COUNT, "50304")
    assert advice(page) == as_python_says(COUNT.key)
    everything = {key: {"state": "done", "tries": 1} for key in keys}
    page.evaluate(
        "text => localStorage.setItem('compass-progress', text)",
        json.dumps({"version": 1, "exercises": everything}),
    )
    page.reload()
    assert advice(page) == as_python_says(*keys) == "All exercises are done."


def saved(page) -> str:
    with page.expect_download() as download:
        page.locator("compass-progress").get_by_role("button", name="Save to a file").press("Enter")
    assert download.value.suggested_filename == "compass-progress.json"
    return download.value.path().read_text(encoding="utf8")


def load(page, name, text):
    with page.expect_file_chooser() as chooser:
        page.locator("compass-progress").get_by_role("button", name="Load a file").press("Enter")
    chooser.value.set_files({"name": name, "mimeType": "application/json", "buffer": text.encode()})
    return page.locator("compass-progress").get_by_role("status")


def test_a_saved_record_comes_back_whole_after_it_was_forgotten(page):
    answer(page, BITS, "2.585")
    answer(page, COUNT, "7")
    card(page, BITS).get_by_role("button", name="Hint").click()
    before, text = remembered(page), saved(page)
    view = page.locator("compass-progress")
    assert (
        view.get_by_role("status").text_content()
        == "Saved as compass-progress.json: 1 of 6 done, 1 attempted."
    )
    view.get_by_role("button", name="Forget my progress").click()
    view.get_by_role("button", name="Yes, forget it").click()
    assert remembered(page) == {}
    said = load(page, "mine.json", text)
    said.get_by_text("mine.json: 1 done, 1 attempted. Add this").wait_for()
    assert remembered(page) == {}  # not before it was agreed to
    assert view.get_by_role("button", name="No, leave it").evaluate("e => e === document.activeElement")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert said.text_content() == "Added. Now 1 of 6 done, 1 attempted."
    assert remembered(page) == before
    assert view.get_by_role("button", name="Load a file").evaluate("e => e === document.activeElement")
    page.reload()
    assert card(page, BITS).get_by_role("textbox").input_value() == "2.585"


def test_a_loaded_record_takes_nothing_away_from_what_is_kept(page):
    answer(page, BITS, "2.585")
    answer(page, COUNT, "7")
    kept = remembered(page)["97.1"]
    # As Python writes it: no answers, no hints. And a key that would be more than a key to JavaScript.
    text = (
        '{"version": 1, "exercises": {"97.1": {"state": "attempted", "tries": 5},'
        ' "97.2": {"state": "done", "tries": 2}, "__proto__": {"state": "done", "tries": 1}}}'
    )
    load(page, ".compass-progress.json", text).get_by_text("1 done, 1 attempted").wait_for()
    page.locator("compass-progress").get_by_role("button", name="Yes, add it").click()
    after = remembered(page)
    assert after["97.1"] == kept | {"tries": 5}
    assert (after["97.2"]["state"], after["97.2"]["tries"]) == ("done", 2)
    assert set(after) == {"97.1", "97.2"}


def test_a_record_that_is_not_agreed_to_is_left(page):
    answer(page, BITS, "2.585")
    before = remembered(page)
    text = '{"version": 1, "exercises": {"97.2": {"state": "done", "tries": 2}}}'
    load(page, "other.json", text).get_by_text("1 done, 0 attempted").wait_for()
    page.locator("compass-progress").get_by_role("button", name="No, leave it").click()
    assert remembered(page) == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 1, "exercises": {}}', '{"version": 2, "exercises": {"97.1": {}}}']
)
def test_a_file_that_is_no_record_changes_nothing_and_is_named(page, text):
    answer(page, BITS, "2.585")
    before = remembered(page)
    said = load(page, "holiday.json", text)
    said.get_by_text("holiday.json holds no record of this book’s exercises. Nothing was changed.").wait_for()
    assert remembered(page) == before
    assert page.evaluate("localStorage.getItem('compass-progress-damaged')") is None


DISABLE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no'); }})"
FULL = "Storage.prototype.setItem = function () { throw new DOMException('full'); }"


@pytest.mark.parametrize("script", [DISABLE, FULL], ids=["disabled", "full"])
def test_without_storage_the_page_remembers_until_it_is_closed(context, folder, script):
    context.add_init_script(script)
    page = context.new_page()
    page.goto((folder / "cards.html").as_uri())
    for typed in ("7", "2.585"):
        card(page, BITS).get_by_role("textbox").fill(typed)
        card(page, BITS).get_by_role("button", name="Check").click()
    card(page, COUNT).get_by_role("textbox").fill("50304")
    card(page, COUNT).get_by_role("button", name="Check").click()
    assert page.get_by_role("progressbar", name="2 of 6 exercises done").count() == 1
    assert "until you leave the page" in page.locator("compass-progress").get_by_role("status").text_content()
    page.reload()
    assert page.get_by_role("progressbar", name="0 of 6 exercises done").count() == 1


@pytest.mark.parametrize(
    "text", ["{", "null", '{"version":1,"exercises":{"97.1":{"state":"perfect"}}}', "[]"]
)
def test_damaged_storage_is_set_aside_and_not_lost(page, text):
    page.evaluate("text => localStorage.setItem('compass-progress', text)", text)
    page.reload()
    assert page.evaluate("localStorage.getItem('compass-progress-damaged')") == text
    card(page, BITS).get_by_role("textbox").fill("2.585")
    card(page, BITS).get_by_role("button", name="Check").click()
    assert remembered(page)["97.1"]["state"] == "done"


def test_a_function_or_array_card_says_that_it_needs_python(page):
    for exercise, word in ((FUNCTION, "a function"), (ARRAY, "an array")):
        text = card(page, exercise).inner_text()
        assert f"This one needs Python: the answer is {word}." in text and "replace the three dots" in text
        assert card(page, exercise).get_by_role("textbox").count() == 0


def test_a_verdict_from_a_kernel_is_shown_as_it_was_given(context, folder):
    page = context.new_page()
    page.goto((folder / "judged.html").as_uri())
    assert status(page, BITS).text_content() == judge(BITS, 1.7918).line
    assert card(page, BITS).get_by_role("textbox").input_value() == "1.7918"
    assert card(page, CHOICE).get_by_role("radio").nth(1).is_checked()
    assert status(page, FUNCTION).text_content().startswith("! Not judged. Your function returned None")
    assert page.locator("img").count() == 0
    assert page.evaluate("localStorage.getItem('compass-progress')") is None


def test_the_script_may_be_loaded_twice_and_a_card_may_move(page):
    page.add_script_tag(path=str(ASSETS / "exercise.js"))
    box = card(page, BITS).get_by_role("textbox")
    box.fill("2.58")
    page.evaluate("document.querySelector('main').append(document.querySelector('compass-exercise'))")
    assert box.count() == 1 and box.input_value() == "2.58"
    box.press("Enter")
    assert status(page, BITS).text_content() == judge(BITS, "2.58").line


def test_two_cards_of_one_exercise_share_no_id(context, folder, tmp_path):
    (tmp_path / "two.html").write_text(page_html(feedback_html(judge(BITS, ...)) * 2), encoding="utf8")
    page = context.new_page()
    page.goto((tmp_path / "two.html").as_uri())
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert "check-97-1" in ids and len(ids) == len(set(ids))


def test_without_javascript_a_card_is_its_title_and_a_sentence(chromium, folder):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder / "cards.html").as_uri())
    for exercise in EXERCISES:
        lines = card(page, exercise).inner_text().split("\n")
        assert [line for line in lines if line] == repr(judge(exercise, ...)).split("\n")
    assert f"0 of 6 exercises done. Next: 97.1 {BITS.title}" in page.locator("compass-progress").inner_text()
    context.close()


# Without preload: axe would fetch the style sheets, which a page from file:// may not.
AXE = {"preload": False, "rules": {"target-size": {"enabled": True}}}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1000])
def test_axe_finds_nothing_serious_and_nothing_overflows(page, theme, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    for exercise, typed in ((BITS, "2.585"), (COUNT, "50257"), (PERCENT, "1 " + "x" * 60)):
        card(page, exercise).get_by_role("textbox").fill(typed)
        card(page, exercise).get_by_role("button", name="Check").click()
    card(page, BITS).get_by_role("button", name="Hint").click()
    card(page, FUNCTION).get_by_role("button", name="Hint").click()
    page.locator("compass-progress").get_by_role("button", name="Forget my progress").click()
    found = Axe().run(page, options=AXE).response["violations"]
    bad = [item for item in found if item["impact"] in ("serious", "critical")]
    assert [(item["id"], node["html"]) for item in bad for node in item["nodes"]] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        "[...document.querySelectorAll('compass-exercise *, compass-progress *')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth).map(e => e.outerHTML.slice(0, 80))"
    )
    assert outside == []


def test_every_control_is_large_enough_to_touch(page):
    page.set_viewport_size({"width": 375, "height": 800})
    small = page.evaluate(
        "[...document.querySelectorAll('.compass-card button, input[type=text], .compass-option')]"
        ".map(e => [e.textContent, e.getBoundingClientRect().height]).filter(([, h]) => h && h < 24)"
    )
    assert small == []
    assert card(page, CHOICE).locator(".compass-option").first.bounding_box()["height"] >= 24


def test_a_verdict_has_a_symbol_and_a_word_beside_its_colour(page):
    colours = {}
    for typed in ("2.585", "7"):
        card(page, BITS).get_by_role("textbox").fill(typed)
        card(page, BITS).get_by_role("button", name="Check").click()
        strong = status(page, BITS).locator("strong")
        colours[strong.text_content()] = strong.evaluate("e => getComputedStyle(e).color")
    assert list(colours) == ["✓ Right.", "✗ Not yet."] and len(set(colours.values())) == 2


def test_titles_with_markup_are_shown_as_text(page):
    assert COUNT.title in card(page, COUNT).inner_text()
    assert html.escape(COUNT.title) in card(page, COUNT).inner_html()
