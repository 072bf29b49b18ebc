"""The index names the places that it leads to, and the arrows lead through the whole book to it."""

from __future__ import annotations

import posixpath

import pytest
import yaml
from bs4 import BeautifulSoup

from tools import book
from tools.compass_frame import Entry, Link, entries, where

TITLES = {
    "book/glossary": "Glossary",
    "book/01_a": "1. Surprise: what number?",
    "book/02_b": "2. Logits",
    "book/reference/m": "M",
}


def index_of(*lines):
    """Sphinx's form of an index with one letter: (name, places, {part: places})."""
    group = [
        (name, ([("", place) for place in places], list(parts.items()), None))
        for name, places, parts in lines
    ]
    return [("A", group)]


def test_a_term_leads_to_the_glossary_first_and_then_to_chapters_by_name():
    places = ["book/01_a.html#x", "book/glossary.html#term-a", "book/02_b.html#y"]
    [(letter, [entry])] = entries(index_of(("a term", places, {})), TITLES)
    assert letter == "A"
    assert entry == Entry(
        "a term",
        [
            Link("book/glossary.html#term-a", "glossary"),
            Link("book/01_a.html#x", "1\N{NO-BREAK SPACE}Surprise", "1. Surprise: what number?"),
            Link("book/02_b.html#y", "2\N{NO-BREAK SPACE}Logits", "2. Logits"),
        ],
    )


def test_a_name_of_the_library_leads_to_its_reference_by_its_module():
    [(_, [entry])] = entries(index_of(("f() (in module a.b)", ["book/reference/m.html#a.b.f"], {})), TITLES)
    assert entry == Entry("f()", [Link("book/reference/m.html#a.b.f", "a.b")], code=True)


def test_one_name_in_two_modules_is_one_line_with_both():
    parts = {
        "(a.B method)": [("", "book/reference/m.html#a.B.f")],
        "(in module c)": [("", "book/reference/m.html#c.f")],
    }
    [(_, [entry])] = entries(index_of(("f()", [], parts)), TITLES)
    assert entry.code and entry.name == "f()"
    assert [link.text for link in entry.links] == ["a.B", "c"]


def test_brackets_in_a_term_are_a_part_of_it():
    [(_, [entry])] = entries(index_of(("smoothing (of counts)", ["book/glossary.html#t"], {})), TITLES)
    assert (entry.name, entry.code) == ("smoothing (of counts)", False)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("(in module lossutils.text)", "lossutils.text"),
        ("(class in lossutils.explore)", "lossutils.explore"),
        ("(lossutils.clinic.Patient method)", "lossutils.clinic.Patient"),
        ("(lossutils.clinic.Patient class method)", "lossutils.clinic.Patient"),
        ("(lossutils.explore.Slider static method)", "lossutils.explore.Slider"),
        ("(lossutils.windows.Window attribute)", "lossutils.windows.Window"),
        ("(lossutils.exercises.Progress property)", "lossutils.exercises.Progress"),
        ("module", "module"),
    ],
)
def test_sphinxs_words_for_a_name_become_its_place(words, place):
    assert where(words) == place


# The built book


def soup(page) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf8"), "html.parser")


def heading(page) -> str:
    title = soup(page).select_one("article h1")
    for link in title.select(".headerlink"):
        link.decompose()
    return " ".join(title.get_text().split())


def in_contents() -> list[str]:
    """All pages of the table of contents, in order."""

    def walk(items):
        for item in items:
            yield item["file"]
            yield from walk(item.get("sections", []))

    contents = yaml.safe_load((book.ROOT / "_toc.yml").read_text(encoding="utf8"))
    return [
        contents["root"],
        *(page for part in contents["parts"] for page in walk(part["chapters"])),
        "genindex",
    ]


def test_the_arrows_lead_from_the_cover_through_every_page_to_the_index_and_back(site):
    way = in_contents()
    for number, name in enumerate(way):
        page = soup(site / f"{name}.html")
        for arrow, neighbour in ((".left-prev", number - 1), (".right-next", number + 1)):
            link = page.select_one(f".prev-next-area {arrow}")
            if not 0 <= neighbour < len(way):
                assert link is None, name
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link["href"]))
            assert target == f"{way[neighbour]}.html", name
            assert link.select_one(".prev-next-title").get_text(strip=True) == heading(site / target), name


def test_the_index_is_the_last_line_of_the_contents_in_the_sidebar_and_on_the_cover(site):
    for name in ("book/index", "book/09_the_gap", "genindex"):
        last = soup(site / f"{name}.html").select("#pst-primary-sidebar nav a")[-1]
        assert last.get_text(strip=True) == "Index", name
    assert soup(site / "book/index.html").select(".toctree-wrapper a")[-1]["href"] == "../genindex.html"


def test_every_link_of_the_index_has_a_name_of_its_own(site):
    lines = soup(site / "genindex.html").select("ul.compass-index li")
    assert len(lines) > 300
    for line in lines:
        links = line.find_all("a")
        assert links, line
        assert all(len(link.get_text(strip=True)) > 1 and "[" not in link.get_text() for link in links), line


def test_the_letters_of_the_index_lead_to_their_entries(site):
    page = soup(site / "genindex.html")
    letters = [link["href"].removeprefix("#") for link in page.select(".compass-letters a")]
    assert letters == [head["id"] for head in page.select("article h2")]
    assert len(letters) > 15


def test_the_index_stands_in_two_columns_on_a_laptop_and_in_one_on_a_phone(site, chromium):
    columns = """() => new Set([...document.querySelectorAll('ul.compass-index')[0].children]
        .map(line => Math.round(line.getBoundingClientRect().left))).size"""
    for width, expected in ((1200, 2), (375, 1)):
        page = chromium.new_page(viewport={"width": width, "height": 800})
        page.goto((site / "genindex.html").as_uri())
        assert page.evaluate(columns) == expected
        page.close()
