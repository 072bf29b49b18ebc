"""The built pages in a real browser, as a reader meets them: offline, by mouse and keyboard, light and dark, phone."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import chapters
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont
from playwright.sync_api import expect

from lossutils.exercises import all_exercises, judge
from tools import book, compass_math

PAGES = sorted(
    path.relative_to(book.html()).as_posix()
    for path in book.html().rglob("*.html")
    if "_static" not in path.parts
    and path.parent.name + path.name != "htmlindex.html"  # that one only redirects
)


@pytest.fixture(scope="module")
def pages(site):
    assert "book/index.html" in PAGES
    return PAGES


class Reader:
    """A page in a fresh browser profile that may read files and nothing else, and what went wrong on it."""

    def __init__(self, chromium, *, width=1200, theme="light"):
        self.context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        self.context.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
        )
        self.page = self.context.new_page()
        self.requests, self.problems = [], []
        self.page.route("**/*", self._only_files)
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.problems.append(m.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))

    def _only_files(self, route):
        self.requests.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    def open(self, path: Path, fragment=""):
        self.page.goto(path.as_uri() + fragment)
        self.page.evaluate("() => document.fonts.ready.then(() => true)")
        return self.page


@pytest.fixture
def reader(chromium, site) -> Callable[..., Reader]:
    opened = []

    def start(**options):
        opened.append(Reader(chromium, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_without_a_network_and_has_no_console_message(name, site, reader):
    one = reader()
    one.open(site / name)
    assert [url for url in one.requests if not url.startswith("file:")] == []
    assert one.problems == []


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_has_no_accessibility_finding(name, theme, site, reader):
    page = reader(theme=theme).open(site / name)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in found] == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_not_scroll_sideways_on_a_phone(name, site, reader):
    page = reader(width=375).open(site / name)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide = page.evaluate(
        """() => [...document.querySelectorAll('body *')]
            .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
            .filter(e => !e.closest('pre, table, dialog, div.math, .bd-sidebar'))
            .map(e => e.outerHTML.slice(0, 120)).slice(0, 5)"""
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 375, wide


@pytest.mark.parametrize("name", PAGES)
def test_every_internal_link_resolves(name, site):
    soup = BeautifulSoup((site / name).read_text(encoding="utf8"), "html.parser")
    broken = []
    for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
        for element in soup.find_all(tag, **{attribute: True}):
            url, fragment = urldefrag(element[attribute])
            if urlsplit(url).scheme:
                continue
            target = ((site / name).parent / unquote(url.split("?")[0])).resolve() if url else site / name
            if not target.exists():
                broken.append(element[attribute])
            elif fragment and target.suffix == ".html":
                there = BeautifulSoup(target.read_text(encoding="utf8"), "html.parser")
                if not there.find(id=unquote(fragment)):
                    broken.append(element[attribute])
    assert broken == []


@pytest.mark.parametrize("name", PAGES)
def test_every_picture_has_an_alternative_text(name, site):
    soup = BeautifulSoup((site / name).read_text(encoding="utf8"), "html.parser")
    for image in soup.find_all("img"):
        assert image.has_attr("alt") and not image["alt"].endswith((".svg", ".png")), image
    for figure in soup.select("svg.compass-figure"):
        assert len(figure["aria-label"]) > 40, figure["aria-label"]


@pytest.mark.parametrize("name", PAGES)
def test_a_table_is_a_table_and_a_page_says_once_what_it_is_about(name, site):
    soup = BeautifulSoup((site / name).read_text(encoding="utf8"), "html.parser")
    assert [
        p.get_text()[:80] for p in soup.select("article p") if p.get_text().lstrip().startswith("| ")
    ] == []
    assert len(soup.head.find_all("meta", attrs={"name": "viewport"})) == 1
    [about] = soup.head.find_all("meta", attrs={"name": "description"})
    assert 5 <= len(about["content"]) <= 300
    if name.startswith("book/") and soup.select_one("article p"):
        assert len(about["content"]) >= 40


def test_the_font_of_the_icons_has_every_icon_that_a_page_shows(site, reader):
    with TTFont(site / "_static" / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.woff2") as font:
        held = set(font.getBestCmap())
    shown = set()
    for name in ("book/01_surprise.html", "book/reference/models.html", "search.html"):
        page = reader().open(site / name)
        page.evaluate("localStorage.setItem('sphinx_highlight_terms', 'loss')")
        page.reload()  # with the button that hides what was searched for, which a script makes
        shown |= set(
            page.evaluate(
                """() => [...document.querySelectorAll('*')].flatMap(e => ['::before', '::after']
                    .map(part => getComputedStyle(e, part))
                    .filter(style => style.fontFamily.includes('Font Awesome') && style.fontWeight === '900')
                    .map(style => style.content.replace(/"/g, '').codePointAt(0)))"""
            )
        )
    icons = {code for code in shown if code and code >= 0xE000}
    assert len(icons) > 8
    assert [hex(code) for code in icons - held] == []
    fonts = (site / "_static" / "vendor" / "fontawesome" / "webfonts").glob("*.woff2")
    assert [
        font.name for font in fonts if font.stat().st_size > 10_000
    ] == []  # the brands' is one of its own


# Weight


@pytest.mark.parametrize("name", PAGES)
def test_a_page_weighs_at_most_400_kilobytes_as_a_server_sends_it(name, site, reader):
    one = reader()
    page = one.open(site / name)
    page.evaluate(  # what is loaded late is loaded by reading on
        """async () => { for (let y = 0; y < document.body.scrollHeight; y += 700) {
            scrollTo(0, y); await new Promise(done => setTimeout(done, 10)); } }"""
    )
    page.wait_for_load_state("networkidle")
    files = {unquote(urlsplit(url).path) for url in one.requests}
    weights = {path: transferred(Path(path)) for path in files}
    heaviest = sorted(weights.items(), key=lambda item: -item[1])[:5]
    assert sum(weights.values()) <= 400_000, heaviest


def transferred(path: Path) -> int:
    """A file's bytes on the way: text is sent compressed, a picture or a font is compressed already."""
    raw = path.read_bytes()
    return len(raw) if path.suffix in (".woff2", ".png", ".jpg", ".webp") else len(gzip.compress(raw, 6))


# Mathematics


@pytest.mark.parametrize("name", PAGES)
def test_every_formula_is_mathematics_to_the_browser_and_none_is_left_as_source(name, site, reader):
    soup = BeautifulSoup((site / name).read_text(encoding="utf8"), "html.parser")
    assert all(formula.find("math") for formula in soup.select(".math"))
    for written in soup(["pre", "code", "script", "style"]):
        written.decompose()
    left = re.findall(r"\\[()\[\]]|\\(?:frac|sum|log|begin|mathrm|text)\b|\$[^$\n]+\$", soup.get_text())
    assert left == []
    page = reader().open(site / name)
    page.evaluate("document.querySelectorAll('article details').forEach(d => d.open = true)")
    heights = page.eval_on_selector_all(  # one in a heading stands in the folded contents too
        "math", "all => all.filter(m => m.checkVisibility()).map(m => m.getBoundingClientRect().height)"
    )
    assert len(heights) >= len(soup.select("article math")) / 2
    assert all(height > 5 for height in heights)


def test_the_font_of_the_formulas_has_every_character_that_they_show(site):
    shown = compass_math.characters((site / name).read_text(encoding="utf8") for name in PAGES)
    invisible = {0x200B, 0x2060, 0x2061, 0x2062, 0x2063, 0x2064, 0xFE00, ord(" "), ord("\n"), 0xA0}
    with TTFont(site / "_static" / compass_math.FONT) as font:
        assert [chr(code) for code in sorted(shown - set(font.getBestCmap()) - invisible)] == []
        assert "MATH" in font


def test_a_wide_formula_scrolls_by_itself_and_by_keyboard_on_a_phone(site, reader):
    page = reader(width=375).open(site / "book/reference/models.html")
    wide = next(
        box for box in page.locator("div.math").all() if box.evaluate("b => b.scrollWidth > b.clientWidth")
    )
    wide.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    assert wide.evaluate("box => box.scrollLeft") > 0


# Search: from a file as from a server


def hits(page):
    page.wait_for_function("document.querySelector('.search-summary')?.textContent")
    return page.locator("#search-results li").all()


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("perplexity", "book/glossary.html#term-perplexity"),
        ("label smoothing", "book/03_averages_and_masks.html#label-smoothing"),
        (
            "linear_cross_entropy",
            "book/reference/linear_cross_entropy.html#lossutils.linear_cross_entropy.linear_cross_entropy",
        ),
    ],
)
def test_the_search_finds_shows_the_words_and_leads_to_a_place_that_exists(query, place, site, reader):
    one = reader()
    page = one.open(site / "search.html", f"?q={query.replace(' ', '+')}")
    found = hits(page)
    links = [hit.locator("a").first.get_attribute("href") for hit in found]
    assert place in links
    for link in links:
        url, fragment = urldefrag(link)
        there = BeautifulSoup((site / url).read_text(encoding="utf8"), "html.parser")
        assert not fragment or there.find(id=fragment), link
    told = [hit for hit in found[:8] if not hit.locator("> span").count()]  # a name says what it is instead
    assert told
    for hit in told:
        hit.scroll_into_view_if_needed()
        words = hit.locator("p.context")
        expect(words).to_be_visible()
        assert any(word[:6] in words.inner_text().lower() for word in query.split())
        assert len(words.inner_text()) <= 260
    assert one.problems == []
    assert [url for url in one.requests if not url.startswith("file:")] == []


def test_a_search_without_a_hit_says_so(site, reader):
    one = reader()
    page = one.open(site / "search.html", "?q=zyzzyva")
    assert hits(page) == []
    assert page.locator(".search-summary").get_attribute("role") == "status"
    assert "did not match" in page.locator(".search-summary").inner_text()
    assert one.problems == []


@pytest.mark.parametrize("way", ["keys", "button", "field"])
def test_the_search_is_reached_by_keyboard(way, site, reader):
    one = reader()
    page = one.open(site / ("search.html" if way == "field" else "book/01_surprise.html"))
    if way == "keys":
        page.keyboard.press("ControlOrMeta+k")
    elif way == "button":
        page.get_by_role("button", name="Search").first.focus()
        page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.name === 'q'")
    page.keyboard.type("perplexity")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=perplexity*")
    assert hits(page)
    assert one.problems == []


def test_the_search_dialog_closes_with_escape_and_gives_the_focus_back(site, reader):
    page = reader().open(site / "book/01_surprise.html")
    button = page.get_by_role("button", name="Search").first
    button.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Search").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="Search").wait_for(state="hidden")
    page.wait_for_timeout(100)
    assert button.evaluate("button => button === document.activeElement")


# Explorables: each readout is what the library says, given what the sliders show

READOUTS = {
    name: readouts
    for page in (*chapters.ALL.values(), chapters.cover)
    for name, readouts in page.READOUTS.items()
}


def explorables(site):
    """(page, name) of every explorable of the book, from the HTML."""
    for name in PAGES:
        soup = BeautifulSoup((site / name).read_text(encoding="utf8"), "html.parser")
        for element in soup.find_all("compass-explorable"):
            yield name, json.loads(element.find("script").string)["name"]


def test_every_explorable_of_the_book_is_checked_here(site):
    found = list(explorables(site))
    assert {name for _, name in found} == set(READOUTS)
    assert len(found) == len(READOUTS)


def require_readouts(figure, name):
    values = {}
    for slider in figure.locator("input[type=range]").all():
        spec = json.loads(figure.locator("script").text_content())
        stops = next(s["stops"] for s in spec["sliders"] if s["name"] == slider.get_attribute("data-slider"))
        values[slider.get_attribute("data-slider")] = stops[int(slider.input_value())]
    for key, expected in READOUTS[name].items():
        shown = figure.locator(f'[data-readout="{key}"]').text_content()
        assert shown == expected(**values), (key, values)


@pytest.mark.parametrize("name", READOUTS)
def test_an_explorable_follows_mouse_and_keys_and_says_what_the_library_says(name, site, reader):
    page_name = dict((figure, page) for page, figure in explorables(site))[name]
    page = reader().open(site / page_name)
    figure = page.locator(f'compass-explorable[data-name="{name}"]')
    figure.scroll_into_view_if_needed()
    require_readouts(figure, name)
    for slider in figure.locator("input[type=range]").all():
        slider.scroll_into_view_if_needed()
        box = slider.bounding_box()
        at_start, most = slider.input_value(), int(slider.get_attribute("max"))
        share = 0.6 if int(at_start) <= 0.4 * most else 0.2  # elsewhere than where it stands
        page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        dragged = slider.input_value()
        assert dragged != at_start
        page.wait_for_timeout(50)  # more than a frame
        require_readouts(figure, name)
        slider.press("ArrowRight")
        assert int(slider.input_value()) == min(int(dragged) + 1, most)
        page.wait_for_timeout(50)
        require_readouts(figure, name)
        slider.press("End")
        assert slider.input_value() == slider.get_attribute("max")
        page.wait_for_timeout(50)
        require_readouts(figure, name)


# Exercises: the page and Python say the same


def cards(page):
    return {card.get_attribute("key"): card for card in page.locator("compass-exercise").all()}


def test_every_exercise_has_a_card_in_its_chapter(site, reader):
    shown = set()
    for name in PAGES:
        if (site / name).read_text(encoding="utf8").count("<compass-exercise"):
            shown |= set(cards(reader().open(site / name)))
    assert shown == {exercise.key for exercise in all_exercises()}


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.key)
def test_right_and_typical_wrong_answers_get_on_the_page_what_python_says(exercise, site, reader):
    if exercise.kind not in ("number", "choice"):
        pytest.skip("answered in Python; its card is tested with the others of its kind")
    chapter = next(name for name in PAGES if name.startswith(f"book/{exercise.chapter:02d}_"))
    card = cards(reader().open(site / chapter))[exercise.key]
    answers = [item.value for item in exercise.wrong] + [exercise.answer]
    for answer in answers:
        if exercise.kind == "number":
            typed = f"{float(answer):.10g}"
            card.get_by_role("textbox").fill(typed)
        else:
            typed = answer
            card.get_by_role("radio").nth(list(exercise.options).index(answer)).check()
        card.get_by_role("button", name="Check").click()
        said = judge(exercise, typed)
        assert card.get_by_role("status").text_content() == said.line
        assert said.verdict == ("right" if answer is exercise.answer else "wrong")
        assert answer is exercise.answer or said.misconception


def test_progress_is_kept_in_the_browser_and_shown_on_its_page(site, reader):
    _, second, *others = all_exercises()
    one = reader()
    page = one.open(site / "book/01_surprise.html")
    card = cards(page)["1.1"]
    card.get_by_role("textbox").fill("1.378")
    card.get_by_role("textbox").press("Enter")
    expect(card.get_by_role("status")).to_contain_text("Right")
    page.wait_for_timeout(500)  # the browser hands storage on to the next page's process a moment later
    page = one.open(site / "book/progress.html")
    progress = page.locator("compass-progress")
    assert progress.locator("li").count() == 2 + len(others)
    expect(progress.get_by_role("listitem").first).to_contain_text("done")
    expect(progress.get_by_role("listitem").nth(1)).to_contain_text("open")
    expect(progress.get_by_text("Next: ")).to_have_text(f"Next: {second.key} {second.title}")
    progress.locator("summary").last.press("Enter")  # a chapter's line unfolds by keyboard
    progress.get_by_role("link", name=others[-1].key).press("Enter")
    page.wait_for_url("**/12_*.html#check-*")
    expect(page.locator(f"#{urldefrag(page.url)[1]}")).to_be_in_viewport()
    assert one.problems == []


@pytest.mark.parametrize("name", ["book/index.html", "book/how_to_use.html"])
def test_the_view_of_progress_is_linked_where_readers_begin(name, site):
    soup = BeautifulSoup((site / name).read_text(encoding="utf8"), "html.parser")
    assert soup.select_one('article a[href="progress.html"]')


def test_a_keyboard_reaches_the_solution_of_an_exercise(site, reader):
    page = reader().open(site / "book/01_surprise.html")
    fold = page.locator("details", has_text="Solution of 1.1").first
    assert not fold.evaluate("element => element.open")
    fold.locator("summary").focus()
    page.keyboard.press("Enter")
    assert fold.evaluate("element => element.open")
    assert "surprisal" in fold.inner_text()


# The cover


def test_the_cover_says_in_one_screen_what_the_book_is_and_lets_a_figure_be_moved(site, reader):
    page = reader().open(site / "book/index.html")
    for selector in (".compass-cover-words", ".compass-ways", "compass-explorable"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 900, selector
    assert page.locator("article pre").count() == 0


def test_on_a_phone_the_covers_first_screen_has_the_words_and_the_figures_beginning(site, reader):
    page = reader(width=375).open(site / "book/index.html")
    words, figure, ways = (
        page.locator(selector).bounding_box()
        for selector in (".compass-cover-words", "compass-explorable .ce-chart", ".compass-ways")
    )
    assert words["y"] + words["height"] <= figure["y"] < ways["y"]
    assert figure["y"] + 200 < 812


def test_the_covers_three_ways_lead_into_the_book(site):
    soup = BeautifulSoup((site / "book/index.html").read_text(encoding="utf8"), "html.parser")
    links = {link["href"] for link in soup.select(".compass-ways a")}
    assert {"01_surprise.html", "glossary.html", "../genindex.html", "how_to_use.html"} <= links


# The foot of each page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_whose_it_is_what_may_be_done_with_it_and_how_to_cite_it(name, site):
    soup = BeautifulSoup((site / name).read_text(encoding="utf8"), "html.parser")
    foot = soup.select_one(".compass-footer")
    assert "© 2026 The Compass of Training authors" in " ".join(foot.get_text().split())
    places = {unquote(urldefrag(link["href"])[1]) for link in foot.find_all("a")}
    assert places == {"licence-text", "licence-code", "how-to-cite"}
    assert soup.select_one('link[rel="icon"]')


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE-TEXT"])
def test_the_whole_text_of_each_licence_is_in_the_book(name, site):
    page = site / "book/citing_and_licences.html"
    shown = BeautifulSoup(page.read_text(encoding="utf8"), "html.parser").find("article").get_text()
    assert " ".join((book.ROOT / name).read_text(encoding="utf8").split()) in " ".join(shown.split())


def test_the_entry_to_copy_says_what_the_citation_file_says():
    cited = yaml.safe_load((book.ROOT / "CITATION.cff").read_text(encoding="utf8"))
    page = (book.ROOT / "book/citing_and_licences.md").read_text(encoding="utf8")
    entry = re.search(r"@software\{\w+,\n(.*?)\n\}", page, re.DOTALL)[1]
    fields = {
        key: " ".join(value.split())
        for key, value in re.findall(r"(\w+)\s+= \{(.*?)\},\n?", entry, re.DOTALL)
    }
    settings = yaml.safe_load((book.ROOT / "_config.yml").read_text(encoding="utf8"))
    assert fields == {
        "author": "{" + " and ".join(author["name"] for author in cited["authors"]) + "}",
        "title": cited["title"],
        "year": settings["copyright"],
        "version": cited["version"],
        "license": " and ".join(cited["license"]),
    }
