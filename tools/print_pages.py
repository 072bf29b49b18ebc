"""All pages of the built book as one HTML document, in the order of its contents, for a printer.

One document, so that a link from one page to another is a link inside it, every font is embedded once, and a page
number can be asked for. What only works on a screen gives way to what can be read on paper.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from bs4 import BeautifulSoup, Tag

INDEX = "genindex"
CONTENTS = "contents"  # the anchor of the list of contents
SCRIPTS = ("explorable.js",)  # the figures draw themselves; nothing else of the page is alive on paper
ALIVE = "On the web page this figure is alive: there it has a slider for every value shown here, and answers each move."
NUMBERED = "compass-page-number"  # the class of what waits for a page number; data-to names the anchor

# Attributes that name ids: one of this page, or several.
_ONE_ID, _IDS = ("for", "list"), ("aria-labelledby", "aria-describedby", "aria-controls", "headers")


@dataclass(frozen=True)
class Entry:
    """A line of the contents: a part, a page or a section, and what stands below it."""

    title: str
    anchor: str
    below: tuple[Entry, ...] = ()

    def all(self) -> Iterator[Entry]:
        yield self
        for entry in self.below:
            yield from entry.all()


@dataclass(frozen=True)
class Place:
    """A page of the book in its order: its name, how deep it lies in its part, and that part."""

    name: str
    depth: int
    part: str = ""


@dataclass(frozen=True)
class Book:
    """The document for the printer, and its contents."""

    html: str
    contents: tuple[Entry, ...]
    subtitle: str


def places(toc: Mapping, *, index: bool = True) -> list[Place]:
    """The pages in the order of _toc.yml; the index, which Sphinx makes and no list names, comes last."""

    def below(chapters: Iterable[Mapping], depth: int, part: str) -> Iterator[Place]:
        for chapter in chapters:
            yield Place(chapter["file"], depth, part)
            yield from below(chapter.get("sections", ()), depth + 1, part)

    found = [Place(toc["root"], 0)]
    for part in toc.get("parts", ()):
        found += below(part["chapters"], 0, part["caption"])
    found += below(toc.get("chapters", ()), 0, "")
    return [*found, Place(INDEX, 0, found[-1].part)] if index else found


def anchor(name: str, fragment: str = "") -> str:
    """The id, in the one document, of a page or of a place on it."""
    page = name.replace("/", ".")
    return f"{page}--{fragment}" if fragment else page


def target(href: str, name: str, names: Iterable[str]) -> str | None:
    """Where a link of the page `name` leads in the one document; None when it leads to no page of the book.

    An address with a scheme (https:, mailto:) is left as it is.
    """
    if urlsplit(href).scheme:
        return href
    url, fragment = urldefrag(href)
    there = name
    if url:
        there = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(url.split("?")[0])))
        if not there.endswith(".html"):
            return None
        there = there.removesuffix(".html")
    return f"#{anchor(there, unquote(fragment))}" if there in names else None


def rename_ids(page: Tag, name: str) -> None:
    """Give every id of a page the page's name, and follow it wherever the page itself uses it."""
    for element in page.find_all(True):
        for key in list(element.attrs):
            value = element[key]
            if key == "id" or key in _ONE_ID:
                element[key] = anchor(name, value)
            elif key in _IDS:
                ids = value if isinstance(value, list) else value.split()
                element[key] = " ".join(anchor(name, one) for one in ids)
            elif key == "xlink:href" and value.startswith("#"):
                element[key] = "#" + anchor(name, value[1:])
            elif isinstance(value, str) and "url(#" in value:
                element[key] = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{anchor(name, m[1])})", value)


def beside(site: str, name: str, address: str) -> str:
    """The address of a file that the page `name` names, as seen from beside the folder of the site."""
    return posixpath.normpath(posixpath.join(site, posixpath.dirname(name), address))


def follow_links(page: Tag, name: str, names: Iterable[str], site: str = "html") -> None:
    """Turn links between pages into links inside the document; what leads nowhere on paper becomes plain text."""
    for link in page.find_all("a", href=True):
        there = target(link["href"], name, names)
        if there is None:
            link.unwrap()
        else:
            link["href"] = there
    for picture in page.find_all("img", src=True):
        if not urlsplit(picture["src"]).scheme:
            picture["src"] = beside(site, name, picture["src"])


# What only a screen can do


def _note(soup: BeautifulSoup, text: str) -> Tag:
    note = soup.new_tag("p", attrs={"class": "compass-print-note"})
    note.string = text
    return note


def settle(page: Tag, soup: BeautifulSoup) -> None:
    """Open what is folded, take away what is clicked, and write an exercise as it stands on paper."""
    for useless in page.select(".headerlink, .compass-pdf, .toctree-wrapper, .genindex-jumpbox, button"):
        useless.decompose()
    for fold in page.find_all("details"):
        unfold(fold, soup)
    for card in page.find_all("compass-exercise"):
        card.replace_with(exercise_on_paper(card, soup))
    for progress in page.find_all("compass-progress"):
        progress.replace_with(
            _note(soup, "On the web page the list of all exercises stands here, with your progress.")
        )
    for figure in page.find_all("compass-explorable"):
        figure.insert_after(_note(soup, ALIVE))


def unfold(fold: Tag, soup: BeautifulSoup) -> None:
    """What is folded away, in its place; under its name, unless that is only an invitation to look at code."""
    summary = fold.find("summary").extract()
    name = _words(summary.find(class_="collapsed") or summary)
    if not name.startswith("Show "):
        caption = soup.new_tag("p", attrs={"class": "compass-print-fold"})
        caption.string = name
        fold.insert_before(caption)
    fold.unwrap()


def exercise_on_paper(card: Tag, soup: BeautifulSoup) -> Tag:
    """The card's title and options, and what the reader is to write."""
    data = json.loads(card.script.string)
    plain = card.select_one(".compass-exercise-plain").extract()
    plain.attrs = {"class": "compass-card compass-print-card"}
    plain.find_all("p")[-1].decompose()  # it says that nothing has been answered yet
    for paragraph in plain.find_all("p"):
        paragraph.attrs = {}
    unit = "percent" if data.get("unit") == "%" else data.get("unit")
    words = {
        "number": f"Your answer in {unit}:" if unit else "Your answer:",
        "choice": "Your answer:",
        "audit": "Your findings, each a number and a letter:",
    }.get(data["kind"])
    if words:
        line = soup.new_tag("p", attrs={"class": "compass-print-answer"})
        line.string = words
        plain.append(line)
    else:
        what = "an array" if data["kind"] == "array" else "a function"
        plain.append(_note(soup, f"This one needs Python: the answer is {what}, and check judges it."))
    return plain


# The contents and the index


def sections(page: Tag) -> tuple[Entry, ...]:
    """The sections of a page, one level deep."""
    found = []
    for heading in page.find_all("h2"):
        owner = heading if heading.get("id") else heading.find_parent("section")
        if owner is not None and owner.get("id"):
            found.append(Entry(_words(heading), owner["id"]))
    return tuple(found)


def _words(heading: Tag) -> str:
    return " ".join(heading.get_text().split())


def tree(pages: Iterable[tuple[Place, Entry]]) -> tuple[Entry, ...]:
    """The contents: the cover, the list of contents, then part by part, a page's own pages after its sections."""
    top: list[tuple[str, list]] = []
    for place, entry in pages:
        if not top or place.part != top[-1][0] or not place.part:
            top.append((place.part, []))
        siblings = top[-1][1]
        for _ in range(place.depth):
            siblings = siblings[-1][1]
        siblings.append((entry, []))

    def built(node: tuple[Entry, list]) -> Entry:
        entry, pages_below = node
        return Entry(entry.title, entry.anchor, (*entry.below, *map(built, pages_below)))

    made: list[Entry] = []
    for part, nodes in top:
        entries = tuple(map(built, nodes))
        made += [Entry(part, entries[0].anchor, entries)] if part else entries
    return (made[0], Entry("Contents", CONTENTS), *made[1:])


def contents_html(entries: Iterable[Entry]) -> str:
    """The list of contents, with a place for each page number."""

    def lines(entries: Iterable[Entry]) -> str:
        items = "".join(
            f'<li><a href="#{escape(e.anchor)}"><span class="compass-contents-title">{escape(e.title)}</span>'
            f'<span class="{NUMBERED}" data-to="{escape(e.anchor)}"></span></a>{lines(e.below)}</li>'
            for e in entries
        )
        return f"<ul>{items}</ul>" if items else ""

    return f'<article class="bd-article compass-contents" id="{CONTENTS}"><h1>Contents</h1>{lines(entries)}</article>'


def number_index(page: Tag, soup: BeautifulSoup) -> None:
    """Give each entry of the index the number of its page, as an index on paper has it."""
    for link in page.select("li a[href^='#'], dt a[href^='#'], dd a[href^='#']"):
        number = soup.new_tag("span", attrs={"class": NUMBERED, "data-to": link["href"][1:]})
        if re.fullmatch(r"\[\d+\]", link.get_text()):
            link.clear()
        else:
            link.insert_after(", ", again := soup.new_tag("a", href=link["href"]))
            link = again
        link.append(number)


# The document


def title_page(title: str, subtitle: str, author: str, year: str, licence: str) -> str:
    return (
        f'<header class="compass-title-page"><h1>{escape(title)}</h1><p class="compass-subtitle">{escape(subtitle)}</p>'
        f"<p>{escape(author)}</p><p>© {escape(year)}. {escape(licence)}</p></header>"
    )


def gather(site: Path, order: Iterable[Place], settings: Mapping) -> Book:
    """Read the built pages and put them into one document that lies beside the folder of the site.

    Parameters
    ----------
    site : Path
        The folder of the built pages.
    order : iterable of Place
        The pages that are wanted, in their order; the first one is the cover.
    settings : mapping
        What _config.yml says: title, author and copyright.
    """
    order = list(order)
    names = {place.name for place in order}
    articles, pages, feet = [], [], []
    part = subtitle = ""
    styles: list[str] = []
    for place in order:
        soup = BeautifulSoup((site / f"{place.name}.html").read_text(encoding="utf8"), "html.parser")
        styles = styles or _styles(soup, place.name, site.name)
        page = soup.select_one("article")
        settle(page, soup)
        rename_ids(page, place.name)
        follow_links(page, place.name, names, site.name)
        title = _words(page.find("h1"))
        page["id"] = anchor(place.name)
        page["class"] = ["bd-article", "compass-printed"]
        page["style"] = f"page: {foot_name(place.name)}"
        if place == order[0]:
            heading = page.find("h1")
            subtitle = _words(heading.find_next("p").extract())
            front = title_page(title, subtitle, settings["author"], str(settings["copyright"]), LICENCE)
            heading.replace_with(BeautifulSoup(front, "html.parser"))
        elif place.name == INDEX:
            number_index(page, soup)
        if place.part != part:
            part = place.part
            line = soup.new_tag("p", attrs={"class": "compass-part"})
            line.string = part
            page.find("h1").insert_before(line)
        lone = place == order[0] or place.name == INDEX  # the contents name none of its sections
        pages.append((place, Entry(title, page["id"], () if lone else sections(page))))
        if place != order[0]:
            feet.append(foot(place.name, title))
        articles.append(page)
    contents = tree(pages)
    body = [str(articles[0]), contents_html(contents), *map(str, articles[1:])]
    feet.append(foot(CONTENTS, "Contents"))
    head = "".join(
        [
            '<meta charset="utf-8"/>',
            f"<title>{escape(settings['title'])}</title>",
            *(f'<link rel="stylesheet" href="{escape(href)}"/>' for href in styles),
            f"<style>{''.join(feet)}</style>",
            *(f'<script defer src="{site.name}/_static/{name}"></script>' for name in SCRIPTS),
        ]
    )
    html = (
        f'<!DOCTYPE html>\n<html lang="en" data-theme="light" data-mode="light"><head>{head}</head>'
        f'<body class="compass-print">{"".join(body)}</body></html>\n'
    )
    return Book(html, contents, subtitle)


LICENCE = "Text and figures: CC BY 4.0. Program code: BSD 3-Clause."


def _styles(soup: BeautifulSoup, name: str, site: str) -> list[str]:
    return [beside(site, name, link["href"]) for link in soup.head.find_all("link", rel="stylesheet")]


def foot_name(name: str) -> str:
    """A page's name as a name in CSS."""
    return "p-" + re.sub(r"[^a-zA-Z0-9-]", "-", name)


def foot(name: str, title: str) -> str:
    """The CSS of one page's running foot."""
    words = title.replace("\\", r"\\").replace('"', r"\"").replace("<", r"\3c ")
    return f'@page {foot_name(name)} {{ @bottom-left {{ content: "{words}" }} }}\n'
