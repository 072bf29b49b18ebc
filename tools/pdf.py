"""The whole book as one PDF: the built pages, printed by Chromium, with an outline, page numbers and inner links.

`make pdf` runs this in the book's environment. tools/print_pages.py and book/assets/print.css say what the paper shows.
Here it is printed, and what a printer does not know is added: the numbers of the pages in the contents and the index,
the outline, the names. The PDF lies in the folder of the built pages, and their cover links to it; so a rebuild of the
pages, which begins by removing them, removes both.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Error, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import BooleanObject, DictionaryObject, Fit, NameObject, TextStringObject

from tools import book, browser
from tools.environment import ROOT, Problem, step
from tools.print_pages import NUMBERED, Book, Entry, Place, gather, places

NAME = "compass-of-training.pdf"
PLACE = "compass-pdf"  # the class of the paragraph on the cover that waits for the link
OLDEST = 131  # the first Chromium that writes what print.css says into a page's margin
WIDTH = 635  # A4 without its margins, in pixels: figures draw themselves as wide as they are printed
PRINT_MILLISECONDS = 600_000
PASSES = 3

# What is wider than the paper is made smaller, as a whole: a formula or a table has no line to break.
FIT = """() => { for (const box of document.querySelectorAll('article div.math, article table')) {
    const room = box.parentElement.clientWidth, needed = Math.max(box.scrollWidth, box.getBoundingClientRect().width);
    if (room && needed > room + 1) box.style.zoom = room / needed; } }"""
READY = """() => document.fonts.ready.then(() =>
    document.querySelectorAll('compass-explorable:not([data-ready])').length === 0)"""
FILL = """([selector, numbers]) => { for (const place of document.querySelectorAll(selector))
    place.textContent = numbers[place.dataset.to] ?? ''; }"""


def path(root: Path = ROOT) -> Path:
    """Where the PDF lies."""
    return book.html(root) / NAME


def is_current(root: Path = ROOT) -> bool:
    """Whether the PDF of the present pages is there, and the cover links to it."""
    cover = book.html(root) / f"{_toc(root)['root']}.html"
    return book.is_current(root) and path(root).is_file() and NAME in cover.read_text(encoding="utf8")


def _toc(root: Path) -> Mapping:
    return yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))


# Printing


def print_book(document: Path, program: Path) -> bytes:
    """Print the document until the page numbers that it shows are those that it has.

    Raises
    ------
    Problem
        When the browser is too old, or the document does not load whole.
    """
    flags = browser.flags()
    problems: list[str] = []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=str(program), args=flags, chromium_sandbox="--no-sandbox" not in flags
        )
        version = running.version
        if int(version.split(".")[0]) < OLDEST:
            raise Problem(
                f"{program} is version {version}, and the PDF needs Chromium, Chrome or Edge {OLDEST} or newer. "
                "Name another: CHROMIUM=/path/to/it make pdf."
            )
        context = running.new_context(
            viewport={"width": WIDTH, "height": 900}, color_scheme="light", offline=True
        )
        page = context.new_page()
        page.set_default_timeout(PRINT_MILLISECONDS)
        page.emulate_media(media="print")
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(f"{request.url} could not be read"))
        page.goto(document.as_uri())
        page.wait_for_function(READY)
        page.evaluate(FIT)
        if problems:
            raise Problem("\n".join(["The pages could not be printed.", *problems[:5]]))
        shown: dict[str, int] = {}
        for _ in range(PASSES):
            printed = page.pdf(prefer_css_page_size=True, print_background=True)
            found = page_numbers(PdfReader(io.BytesIO(printed)))
            if found == shown:
                return printed
            shown = found
            page.evaluate(FILL, [f".{NUMBERED}", shown])
        raise Problem("The page numbers did not settle: the contents grow with the numbers that they show.")


def destinations(reader: PdfReader) -> dict[str, tuple[int, float]]:
    """The page, counted from 0, and the height of every place that some link leads to."""
    pages = {page.indirect_reference.idnum: number for number, page in enumerate(reader.pages)}
    return {
        name.removeprefix("/"): (pages[place.raw_get("/Page").idnum], float(place.top or 0))
        for name, place in reader.named_destinations.items()
    }


def page_numbers(reader: PdfReader) -> dict[str, int]:
    """The page of each place as a reader counts: the cover is page 1."""
    return {name: page + 1 for name, (page, _) in destinations(reader).items()}


# What the printer does not know


def finish(printed: bytes, contents: Iterable[Entry], about: Mapping[str, str], language: str) -> bytes:
    """Give a printed book its outline, its title and its language, and take out when it was made.

    Parameters
    ----------
    printed : bytes
        The PDF, with a named destination for every anchor of the contents.
    contents : iterable of Entry
        What the outline says.
    about : mapping
        The document's information: /Title, /Author and so on.
    language : str
        The language of the text, for a screen reader.
    """
    writer = PdfWriter(clone_from=io.BytesIO(printed))
    where = destinations(PdfReader(io.BytesIO(printed)))

    def add(entries: Iterable[Entry], parent, depth: int) -> None:
        for entry in entries:
            page, top = where[entry.anchor]
            item = writer.add_outline_item(
                title=entry.title,
                page_number=page,
                parent=parent,
                is_open=depth < 1,
                fit=Fit.xyz(left=0, top=top),
            )
            add(entry.below, item, depth + 1)

    add(contents, None, 0)
    writer.metadata = None
    writer.add_metadata(dict(about))
    root = writer.root_object
    root[NameObject("/Lang")] = TextStringObject(language)
    root[NameObject("/PageMode")] = NameObject("/UseOutlines")
    root[NameObject("/ViewerPreferences")] = DictionaryObject(
        {NameObject("/DisplayDocTitle"): BooleanObject(True)}
    )
    writer.compress_identical_objects()  # a hatched pattern is stored once, not once a bar
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()


# The cover's link


def words(pages: int, size: int) -> str:
    """What the link says.

    Examples
    --------
    >>> words(480, 7_432_100)
    'The whole book as one PDF (480 pages, 7.4 MB)'
    """
    return f"The whole book as one PDF ({pages} pages, {max(size / 1e6, 0.1):.1f} MB)"


def link(cover: str, address: str, text: str) -> str:
    """The cover's HTML with the link in the paragraph that waits for it. Doing it twice changes nothing."""
    soup = BeautifulSoup(cover, "html.parser")
    paragraph = soup.find(class_=PLACE)
    if paragraph is None:
        raise Problem(f'The cover has no place for the link: <p class="{PLACE}" hidden></p>.')
    paragraph.attrs.pop("hidden", None)
    paragraph.clear()
    paragraph.append(anchor := soup.new_tag("a", href=address))
    anchor.string = text
    return str(soup)


# All of it


def make(site: Path, order: Sequence[Place], settings: Mapping, program: Path) -> tuple[bytes, Book]:
    """The PDF of some pages of a built site.

    Parameters
    ----------
    site : Path
        The folder of the built pages. The document for the printer lies beside it while it is printed.
    order : sequence of Place
        The pages, in their order, the cover first.
    settings : mapping
        What _config.yml says.
    program : Path
        The browser.
    """
    gathered = gather(site, order, settings)
    document = site.parent / f"print-{os.getpid()}.html"
    document.write_text(gathered.html, encoding="utf8")
    try:
        printed = print_book(document, program)
    finally:
        document.unlink()
    about = {"/Title": settings["title"], "/Author": settings["author"], "/Subject": gathered.subtitle}
    return finish(printed, gathered.contents, about, settings["sphinx"]["config"]["language"]), gathered


def main(root: Path = ROOT) -> int:
    """Make the PDF of the built book, and link to it from the cover; nothing where that is done already."""
    if not is_current(root):
        toc = _toc(root)
        settings = yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))
        cover = book.html(root) / f"{toc['root']}.html"
        program = browser.find_or_fetch(Path(sys.executable))
        path(root).unlink(missing_ok=True)
        with step("printing the book"):
            try:
                content, _ = make(book.html(root), places(toc), settings, program)
            except Error as error:
                raise Problem(f"The book could not be printed: {error}") from error
        pages = len(PdfReader(io.BytesIO(content)).pages)
        address = os.path.relpath(path(root), cover.parent).replace(os.sep, "/")
        linked = link(cover.read_text(encoding="utf8"), address, words(pages, len(content)))
        unfinished = path(root).with_suffix(".part")
        unfinished.write_bytes(content)
        unfinished.replace(path(root))  # first the PDF, then the link: it never leads to nothing
        cover.write_text(linked, encoding="utf8")
    print(f"The book as a PDF is at {path(root).as_uri()}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
