"""The book on paper: in its order, with its formulas and solutions, and with no link that leads nowhere."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup
from pypdf import PdfReader

from tools import book, browser, environment, pdf, print_pages
from tools.print_pages import Entry, Place

ROOT = Path(__file__).resolve().parent.parent
TOC = {
    "root": "book/index",
    "parts": [
        {"caption": "Start here", "chapters": [{"file": "book/how"}]},
        {
            "caption": "The rest",
            "chapters": [
                {"file": "book/one"},
                {"file": "book/api/index", "sections": [{"file": "book/api/a"}, {"file": "book/api/b"}]},
                {"file": "book/last"},
            ],
        },
    ],
}


# The order, the links, the contents


def test_the_pages_stand_in_the_order_of_the_contents_and_the_index_comes_last():
    assert [(place.name, place.depth, place.part) for place in print_pages.places(TOC)] == [
        ("book/index", 0, ""),
        ("book/how", 0, "Start here"),
        ("book/one", 0, "The rest"),
        ("book/api/index", 0, "The rest"),
        ("book/api/a", 1, "The rest"),
        ("book/api/b", 1, "The rest"),
        ("book/last", 0, "The rest"),
        ("genindex", 0, "The rest"),
    ]


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("one.html#top", "#book.one--top"),
        ("#here", "#book.how--here"),
        ("api/a.html", "#book.api.a"),
        ("../genindex.html", "#genindex"),
        ("one.html?highlight=x#%C3%A4", "#book.one--ä"),
        ("https://example.org/one.html#top", "https://example.org/one.html#top"),
        ("mailto:a@example.org", "mailto:a@example.org"),
        ("elsewhere.html", None),
        ("../_sources/book/one.ipynb", None),
        ("../one.html", None),
    ],
)
def test_a_link_leads_inside_the_document_or_outside_the_book_or_nowhere(href, expected):
    names = {place.name for place in print_pages.places(TOC)}
    assert print_pages.target(href, "book/how", names) == expected


def test_the_same_id_on_two_pages_becomes_two_and_what_uses_it_follows():
    html = (
        '<article><p id="a">x</p><label for="a">x</label><p aria-labelledby="a b">x</p>'
        '<svg><path clip-path="url(#a)"></path><use xlink:href="#a"></use><g style="fill: url(#a)"></g></svg></article>'
    )
    page = BeautifulSoup(html, "html.parser").article
    print_pages.rename_ids(page, "book/one")
    assert str(page) == re.sub(r'(["# ])([ab])(?=[")\s])', r"\1book.one--\2", html)


def test_the_contents_have_parts_pages_sections_and_after_them_the_pages_below_a_page():
    pages = [
        (place, Entry(place.name, place.name, (Entry("section", f"{place.name}--s"),) if place.depth else ()))
        for place in print_pages.places(TOC)
    ]

    def shape(entry):
        return (entry.title, [shape(one) for one in entry.below])

    section = ("section", [])
    assert [shape(entry) for entry in print_pages.tree(pages)] == [
        ("book/index", []),
        ("Contents", []),
        ("Start here", [("book/how", [])]),
        (
            "The rest",
            [
                ("book/one", []),
                ("book/api/index", [("book/api/a", [section]), ("book/api/b", [section])]),
                ("book/last", []),
                ("genindex", []),
            ],
        ),
    ]


def test_what_is_folded_stands_open_under_its_name_and_code_without_one():
    soup = BeautifulSoup(
        '<article><details class="hide"><summary><p class="collapsed">Solution of 1.1</p><p class="expanded">Hide</p>'
        "</summary><div>first</div></details>"
        "<details><summary>Show code cell source</summary><div>second</div></details>"
        '<a class="headerlink" href="#x">#</a></article>',
        "html.parser",
    )
    print_pages.settle(soup.article, soup)
    assert str(soup) == (
        '<article><p class="compass-print-fold">Solution of 1.1</p><div>first</div><div>second</div></article>'
    )


def test_an_entry_of_the_index_gets_its_page_and_a_further_place_is_its_page():
    soup = BeautifulSoup(
        '<article><ul><li><a href="#g--t"><strong>t</strong></a>, <a href="#c--u">[1]</a></li></ul></article>',
        "html.parser",
    )
    print_pages.number_index(soup.article, soup)
    assert [number["data-to"] for number in soup.select(".compass-page-number")] == ["g--t", "c--u"]
    assert soup.get_text() == "t, , "


def test_a_quote_in_a_title_does_not_end_the_css_of_its_foot():
    assert print_pages.foot("book/a_b", 'The "loss" \\ <it>') == (
        r'@page p-book-a-b { @bottom-left { content: "The \"loss\" \\ \3c it>" } }' + "\n"
    )


# The cover's link


def test_the_cover_shows_the_link_where_it_waits_for_it_and_a_second_time_changes_nothing():
    cover = '<article><p>a</p><p class="compass-pdf" hidden=""></p></article>'
    once = pdf.link(cover, "../x.pdf", pdf.words(12, 2_340_000))
    assert once == (
        '<article><p>a</p><p class="compass-pdf">'
        '<a href="../x.pdf">The whole book as one PDF (12 pages, 2.3 MB)</a></p></article>'
    )
    assert pdf.link(once, "../x.pdf", pdf.words(12, 2_340_000)) == once
    with pytest.raises(environment.Problem, match="no place for the link"):
        pdf.link("<article></article>", "../x.pdf", "text")


def test_the_cover_of_the_book_has_a_place_for_the_link_and_shows_none_without_a_pdf(site):
    soup = BeautifulSoup((site / "book" / "index.html").read_text(encoding="utf8"), "html.parser")
    waiting = soup.find(class_=pdf.PLACE)
    assert (waiting.find("a") is not None) == pdf.path().is_file()
    assert waiting.has_attr("hidden") != pdf.path().is_file()


def by_itself(function, *arguments):
    """Call it in a thread of its own: Playwright runs once in a thread, and the other tests' browser is in this one."""
    with ThreadPoolExecutor(1) as own:
        return own.submit(function, *arguments).result()


# A small book, from its sources to its paper and again

SMALL = {
    "title": "A small book",
    "author": "Nobody in particular",
    "copyright": "2026",
    "only_build_toc_files": True,
    "exclude_patterns": [".venv", "_build"],
    "sphinx": {
        "config": {
            "language": "en",
            "html_static_path": ["assets"],
            "html_css_files": [["print.css", {"media": "print"}]],
        }
    },
}


@pytest.mark.site
def test_a_rebuild_keeps_the_pdf_while_nothing_changes_and_drops_it_with_its_link_when_something_does(
    tmp_path, capsys
):
    if environment.python() != Path(sys.executable):
        pytest.skip("needs the environment that the commands made")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nchapters:\n  - file: one\n", encoding="utf-8"
    )
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv", target_is_directory=True)
    shutil.copytree(ROOT / "book" / "assets", tmp_path / "assets")
    (tmp_path / "book").mkdir()
    cover, one = tmp_path / "index.md", tmp_path / "book" / "note.txt"
    cover.write_text(
        f'# A small book\n\nFor a test\n\n<p class="{pdf.PLACE}" hidden></p>\n', encoding="utf-8"
    )
    (tmp_path / "one.md").write_text(
        "# One\n\n## A section\n\nBack to the [cover](index.md).\n", encoding="utf-8"
    )
    one.write_text("a source", encoding="utf-8")
    built = book.html(tmp_path) / "index.html"

    book.build(tmp_path)
    assert not pdf.is_current(tmp_path)
    assert pdf.NAME not in built.read_text(encoding="utf8")
    assert by_itself(pdf.main, tmp_path) == 0
    assert pdf.is_current(tmp_path)
    content = pdf.path(tmp_path).read_bytes()
    pages = len(PdfReader(io.BytesIO(content)).pages)
    link = BeautifulSoup(built.read_text(encoding="utf8"), "html.parser").find(class_=pdf.PLACE).a
    assert (link["href"], link.get_text()) == (pdf.NAME, pdf.words(pages, len(content)))
    left = {path.name for path in (tmp_path / "_build").iterdir()}
    assert not [name for name in left if name.startswith("print-")]

    stood = pdf.path(tmp_path).stat().st_mtime_ns
    book.build(tmp_path)
    assert by_itself(pdf.main, tmp_path) == 0
    assert pdf.path(tmp_path).stat().st_mtime_ns == stood

    pdf.path(tmp_path).unlink()  # by hand
    assert by_itself(pdf.main, tmp_path) == 0
    assert pdf.path(tmp_path).read_bytes() == content, "the same pages give the same bytes"

    one.write_text("a changed source", encoding="utf-8")
    assert not pdf.is_current(tmp_path)
    book.build(tmp_path)
    assert not pdf.path(tmp_path).exists()
    assert pdf.NAME not in built.read_text(encoding="utf8")


# Some pages of this book, really printed

WANTED = (
    "book/index",
    "book/how_to_use",
    "book/01_surprise",
    "book/notation",
    "book/reference/logspace",
    "book/bibliography",
    "genindex",
)


@pytest.fixture(scope="module")
def printed(site):
    """The paper of six pages of the book, and what it was made from."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf8"))
    order = [Place(place.name, 0, place.part) for place in print_pages.places(toc) if place.name in WANTED]
    program = browser.find_or_fetch(Path(sys.executable))
    content, gathered = by_itself(pdf.make, site, order, settings, program)
    reader = PdfReader(io.BytesIO(content))
    # A formula's letters are characters of their own; in their plain form they can be looked for.
    texts = [unicodedata.normalize("NFKC", page.extract_text()) for page in reader.pages]
    return SimpleNamespace(reader=reader, texts=texts, gathered=gathered, settings=settings, bytes=content)


def entries(printed):
    return [entry for top in printed.gathered.contents for entry in top.all()]


def outline(reader):
    """(depth, title, page) of every line of the outline, the first page being 1."""

    def walk(items, depth):
        for item in items:
            if isinstance(item, list):
                yield from walk(item, depth + 1)
            else:
                yield depth, item.title, reader.get_destination_page_number(item) + 1

    return list(walk(reader.outline, 0))


def test_the_outline_says_what_the_contents_say_and_leads_where_they_send(printed):
    def depths(entries, depth=0):
        for entry in entries:
            yield depth, entry.title
            yield from depths(entry.below, depth + 1)

    found = outline(printed.reader)
    assert [(depth, title) for depth, title, _ in found] == list(depths(printed.gathered.contents))
    numbers = pdf.page_numbers(printed.reader)
    assert [page for *_, page in found] == [numbers[entry.anchor] for entry in entries(printed)]


def test_the_contents_show_the_pages_on_which_the_titles_really_stand(printed):
    numbers = pdf.page_numbers(printed.reader)
    first, end = numbers[print_pages.CONTENTS], numbers["book.how_to_use"]
    shown = " ".join(" ".join(printed.texts[first - 1 : end - 1]).split())
    for entry in entries(printed)[2:]:
        title = " ".join(unicodedata.normalize("NFKC", entry.title).split())
        assert f"{title} {numbers[entry.anchor]}" in shown, entry
        there = " ".join(printed.texts[numbers[entry.anchor] - 1].split()).lower()
        assert title.lower() in there, entry


def test_every_page_but_the_title_has_a_foot_with_its_title_and_number_and_none_is_blank(printed):
    title_of = {
        entry.anchor: entry.title for entry in entries(printed)
    }  # of a part's two, that of its first page
    begins = {
        page: unicodedata.normalize("NFKC", title_of[anchor])
        for anchor, page in pdf.page_numbers(printed.reader).items()
        if anchor == print_pages.CONTENTS or anchor in {name.replace("/", ".") for name in WANTED}
    }
    assert len(begins) == len(WANTED) + 1
    foot = ""
    for number, text in enumerate(printed.texts, 1):
        foot = begins.get(number, foot)
        if number == 1:
            assert " ".join(text.split()).startswith(foot)
        else:
            words = "".join(text.split())
            mark = "".join(f"{number}{foot}".split())  # the foot comes first in the page's text
            assert words.startswith(mark), number
            assert len(words) > len(mark) + 20, f"page {number} is blank"


def test_a_formula_a_figures_start_and_a_solution_can_be_read_as_text(printed):
    whole = "\n".join(printed.texts)
    assert re.search(r"H\s*\(\s*p\s*\)\s*=\s*[−-]", whole)
    assert "0.105 nats" in whole
    pages = [(book.html() / f"{name}.html").read_text(encoding="utf8") for name in WANTED]
    alive = sum(page.count("<compass-explorable") for page in pages)
    assert " ".join(whole.split()).count(print_pages.ALIVE) == alive > 4
    for number in range(1, 9):
        assert f"Solution of 1.{number}" in whole
        assert f"Exercise 1.{number}" in whole
    assert 'solution("1.1"' in whole
    assert "Hide code" not in whole and "Not answered yet" not in whole
    assert "a) It sits on one hump and ignores the other" in whole


def test_no_link_leads_to_a_file_and_each_inner_one_has_a_place(printed):
    places = pdf.destinations(printed.reader)
    inner, outer = [], []
    for page in printed.reader.pages:
        for annotation in page.get("/Annots", ()):
            annotation = annotation.get_object()
            if "/Dest" in annotation:
                inner.append(annotation["/Dest"].removeprefix("/"))
            else:
                outer.append(annotation["/A"]["/URI"])
    assert len(inner) > 50 and set(inner) <= set(places)
    assert outer and {urlsplit(address).scheme for address in outer} <= {"http", "https", "mailto"}
    assert b"file:" not in printed.bytes
    soup = BeautifulSoup(printed.gathered.html, "html.parser")
    ids = {element["id"] for element in soup.find_all(id=True)}
    assert {link["href"][1:] for link in soup.select("a[href^='#']")} <= ids


def test_every_font_is_in_the_file(printed):
    fonts = {}
    for page in printed.reader.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            font = font.get_object()
            for one in font.get("/DescendantFonts", [font]):
                one = one.get_object()
                inside = one["/Subtype"] == "/Type3" or any(
                    name in one["/FontDescriptor"] for name in ("/FontFile", "/FontFile2", "/FontFile3")
                )
                fonts[one.get("/BaseFont", one["/Subtype"])] = inside
    assert len(fonts) > 3
    assert all(fonts.values()), fonts


def test_the_pdf_says_what_it_is_and_in_which_language_and_not_when_it_was_made(printed):
    about = printed.reader.metadata
    assert about.title == printed.settings["title"]
    assert about.author == printed.settings["author"]
    assert about.subject == "Loss functions for language models"
    assert about.creation_date is None and about.modification_date is None
    root = printed.reader.root_object
    assert (root["/Lang"], root["/ViewerPreferences"]["/DisplayDocTitle"]) == ("en", True)
    assert {tuple(round(float(side)) for side in page.mediabox[2:]) for page in printed.reader.pages} == {
        (595, 842)
    }


def test_nothing_runs_off_the_paper(printed, site, chromium):
    document = site.parent / f"width-{os.getpid()}.html"
    document.write_text(printed.gathered.html, encoding="utf8")
    page = chromium.new_page(viewport={"width": pdf.WIDTH, "height": 900})
    try:
        page.emulate_media(media="print")
        page.goto(document.as_uri())
        page.wait_for_function(pdf.READY)
        page.evaluate(pdf.FIT)
        wide = page.evaluate(
            """() => [...document.querySelectorAll('article pre, article table, article svg, math, article img')]
                .filter(e => !e.parentElement.closest('svg') && e.getBoundingClientRect().right > innerWidth + 1)
                .map(e => e.outerHTML.slice(0, 120)).slice(0, 5)"""
        )
    finally:
        page.close()
        document.unlink()
    assert wide == []


# One page, by the browser's own print command


def test_a_dark_page_is_light_and_unfolded_while_it_is_printed(site, chromium):
    page = chromium.new_page(color_scheme="dark")
    try:
        page.goto((site / "book" / "01_surprise.html").as_uri())
        state = """() => [document.documentElement.dataset.theme,
            document.querySelectorAll('article details:not([open])').length]"""
        before = page.evaluate(state)
        assert before[0] == "dark" and before[1] > 5
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(state) == ["light", 0]
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(state) == before
        text = "\n".join(one.extract_text() for one in PdfReader(io.BytesIO(page.pdf())).pages)
        assert text.startswith("1. Surprise")
        assert 'solution("1.1"' in text
        assert "Search" not in text and "Check" not in text
    finally:
        page.close()
