"""The built pages by keyboard alone: every stop is seen, every fold opens, every kind of exercise is answered."""

import json

import pytest
from test_site import PAGES, cards, reader  # noqa: F401 (a fixture)

from lossutils.exercises import all_exercises, judge

# describeFocus says what has the focus: its place among the page's elements, its text for a message, and how it shows
# that it has it. A ring counts as far as it stands out from what is behind it; 3 : 1 is wanted. The ring of an arrow in
# the contents is drawn around its icon.
DESCRIBE_FOCUS = """window.describeFocus = () => {
    const here = document.activeElement;
    if (here === document.body) return null;
    const box = here.getBoundingClientRect();
    const channel = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const paint = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = colour => {
        paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => 0.2126 * channel(r / 255) + 0.7152 * channel(g / 255) + 0.0722 * channel(b / 255);
    let behind = here.parentElement;
    while (behind && rgba(getComputedStyle(behind).backgroundColor)[3] < 255) behind = behind.parentElement;
    const ground = light(rgba(getComputedStyle(behind || document.documentElement).backgroundColor));
    const ring = element => {
        const style = getComputedStyle(element);
        const shadow = style.boxShadow.match(/(rgba?\\([^)]*\\)) 0px 0px 0px ([\\d.]+)px/);
        const drawn = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 ? style.outlineColor
            : shadow && parseFloat(shadow[2]) >= 2 ? shadow[1] : null;
        if (!drawn || rgba(drawn)[3] < 255) return 0;
        const both = [light(rgba(drawn)), ground].sort((a, b) => b - a);
        return (both[0] + 0.05) / (both[1] + 0.05);
    };
    const arrow = here.querySelector(':scope > .toctree-toggle');
    const seen = (arrow || here).getBoundingClientRect();
    return {
        place: [...document.querySelectorAll('*')].indexOf(here), html: here.outerHTML.slice(0, 100),
        ring: Math.max(ring(here), arrow ? ring(arrow) : 0),
        shown: seen.width > 0 && seen.height > 0 && seen.bottom > 0 && seen.top < innerHeight
            && seen.right > 0 && seen.left < innerWidth,
    };
}"""
# Every element at which Tab must stop, by its place; of a group of radio buttons one, of an empty group the first.
STOPS = """() => {
    const all = [...document.querySelectorAll('*')];
    const groups = new Set();
    return all.filter(e => e.matches('a[href], button, input, select, textarea, summary, [tabindex="0"]'))
        .filter(e => !e.disabled && e.tabIndex >= 0 && e.checkVisibility({ visibilityProperty: true }))
        .filter(e => e.type !== 'radio' || (!groups.has(e.name) && groups.add(e.name)))
        .map(e => all.indexOf(e));
}"""


def walk(page, most):
    """What Tab reaches from the top of a page, until it leaves the page."""
    reached = []
    for _ in range(most + 5):
        page.keyboard.press("Tab")
        here = page.evaluate("describeFocus()")
        if here is None or (reached and here["place"] == reached[0]["place"]):
            return reached
        reached.append(here)
    return reached


def without_ring(stops):
    return [(stop["html"], round(stop["ring"], 2)) for stop in stops if stop["ring"] < 3]


@pytest.mark.parametrize("name", PAGES)
def test_tab_stops_at_every_control_in_the_order_of_the_page_and_each_shows_it(name, site, reader):  # noqa: F811
    page = reader().open(site / name)
    page.evaluate(DESCRIBE_FOCUS)
    page.add_style_tag(content="*, ::before, ::after { transition: none !important }")
    page.evaluate("document.body.tabIndex = -1; document.body.focus()")  # the search page begins in its field
    page.wait_for_timeout(100)
    stops = page.evaluate(STOPS)
    reached = walk(page, len(stops))
    places = [here["place"] for here in reached]
    assert places == sorted(places)
    missed = set(stops) - set(places)
    assert not [page.evaluate(f"document.querySelectorAll('*')[{n}].outerHTML.slice(0, 100)") for n in missed]
    assert [here["html"] for here in reached if not here["shown"]] == []
    assert without_ring(reached) == []
    in_the_dark = page.evaluate(  # after a key, a focus given by script is shown as one given by Tab
        """places => {
            document.documentElement.dataset.theme = 'dark';
            const all = [...document.querySelectorAll('*')];
            return places.map(place => { all[place].focus(); return describeFocus(); });
        }""",
        places,
    )
    assert [stop["place"] for stop in in_the_dark] == places
    assert without_ring(in_the_dark) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_fold_opens_and_closes_by_keyboard(name, site, reader):  # noqa: F811
    page = reader().open(site / name)
    for number, fold in enumerate(page.locator("details").all()):
        summary = fold.locator("> summary")
        if not summary.is_visible():  # inside a fold that is closed
            continue
        before = fold.evaluate("fold => fold.open")
        summary.focus()
        page.keyboard.press("Enter" if number % 2 else "Space")
        assert fold.evaluate("fold => fold.open") is not before, summary.inner_text()
        page.keyboard.press("Enter")
        assert fold.evaluate("fold => fold.open") is before, summary.inner_text()


FIRST = {exercise.kind: exercise for exercise in reversed(all_exercises())}


def answer_by_keyboard(page, exercise, answer):
    """From the card's first control on: nothing but keys."""
    if exercise.kind == "number":
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.type(f"{float(answer):.10g}")
        page.keyboard.press("Enter")
    elif exercise.kind == "choice":
        page.keyboard.press("Space")
        for _ in range(list(exercise.options).index(answer)):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    elif exercise.kind == "audit":
        for claim in exercise.claims:
            if letter := answer.get(claim.number):
                for _ in range(1 + list(exercise.letters.values()).index(letter)):
                    page.keyboard.press("ArrowDown")
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")


@pytest.mark.parametrize("kind", ["number", "choice", "audit"])
def test_an_exercise_of_each_kind_is_answered_by_keyboard(kind, site, reader):  # noqa: F811
    exercise = FIRST[kind]
    chapter = next(name for name in PAGES if name.startswith(f"book/{exercise.chapter:02d}_"))
    page = reader().open(site / chapter)
    card = cards(page)[exercise.key]
    card.locator("input, select").first.focus()
    answer_by_keyboard(page, exercise, exercise.answer)
    assert card.get_by_role("status").first.text_content() == judge(exercise, exercise.answer).line


def test_a_hint_comes_by_keyboard(site, reader):  # noqa: F811
    page = reader().open(site / "book/01_surprise.html")
    card = cards(page)["1.1"]
    card.get_by_role("textbox").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert card.get_by_role("listitem").count() == 1


def test_every_slider_has_a_name_and_says_its_value_with_its_unit(site, reader):  # noqa: F811
    for name in PAGES:
        if "<compass-explorable" not in (site / name).read_text(encoding="utf8"):
            continue
        page = reader().open(site / name)
        for figure in page.locator("compass-explorable").all():
            spec = json.loads(figure.locator("script").text_content())
            for slider in spec["sliders"]:
                control = figure.get_by_role("slider", name=slider["label"], exact=True)
                said = control.get_attribute("aria-valuetext")
                assert said == f"{slider['stops'][slider['start']]} {slider.get('unit', '')}".strip()


@pytest.mark.parametrize("toggle", ["Contents of the book", "Contents of this page"])
def test_on_a_phone_a_panel_opens_keeps_the_focus_and_gives_it_back(toggle, site, reader):  # noqa: F811
    page = reader(width=375).open(site / "book/01_surprise.html")
    button = page.get_by_role("button", name=toggle)
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name=toggle)
    panel.wait_for()
    assert button.get_attribute("aria-expanded") == "true"
    stops = panel.get_by_role("link").count()
    for _ in range(stops + 5):
        page.keyboard.press("Tab")
        # Tab may leave the panel for the browser's own bar, never for the page behind it
        assert page.evaluate(
            "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
        )
    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    page.wait_for_function("document.activeElement.matches('.primary-toggle, .secondary-toggle')")
    assert button.evaluate("button => button === document.activeElement")
    assert button.get_attribute("aria-expanded") == "false"


def test_a_button_of_the_theme_keeps_the_focus_when_it_is_pressed_by_keyboard(site, reader):  # noqa: F811
    page = reader().open(site / "book/01_surprise.html")
    for name, answer in (("Color mode", None), ("Contents of the book", "false")):
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter")
        page.wait_for_timeout(50)
        assert button.evaluate("button => button === document.activeElement")
        assert answer is None or button.get_attribute("aria-expanded") == answer


def test_the_first_tab_stop_leads_past_the_contents(site, reader):  # noqa: F811
    page = reader().open(site / "book/01_surprise.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("!!document.activeElement.closest('main')")


def test_code_is_copied_by_keyboard(site, reader):  # noqa: F811
    one = reader()
    one.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = one.open(site / "book/01_surprise.html")
    cell = page.locator("div.cell_input div.highlight").first
    cell.locator("button.copybtn").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(200)
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.strip() == cell.locator("pre").inner_text().strip()
