"""The book's Sphinx extension for what a page says of itself where it is linked: in a search engine, in a message.

Every page gets a title and a description, under the names that social cards read. A picture and a page's own address
must be absolute there, so these come only when it is known where the book will be: `make book SITE=https://example.org/compass`
says it, through an environment variable. No page asks another server for anything, with the address or without.
"""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup

from lossutils.figures import cover
from tools.book import SITE, site_address

CARD, CARD_SIZE = "_static/card.png", (1200, 630)
CARD_ALT = (
    "The Compass of Training. Loss functions for language models. Beside it the curve of the surprise, which falls "
    "from 4.605 nats at a probability of 0.01 to 0.105 at 0.9."
)
UNWRITTEN = {  # the pages that Sphinx makes from no text of ours
    "genindex": (
        "Index",
        "Each term, where it is explained and where each chapter first uses it; each name of the library.",
    ),
    "py-modindex": (
        "Modules of the library",
        "Each module of the library, lossutils, with a link to its reference.",
    ),
    "search": ("Search", "Search the chapters, the glossary and the reference of the library."),
}
LONGEST = 200  # characters of a description; what is longer gets cut by whoever shows it


def description(body: str) -> str:
    """The first sentences of a page: its first paragraph that is longer than a line, cut at a word."""
    paragraphs = (
        " ".join(BeautifulSoup(found, "html.parser").get_text().split())
        for found in re.findall(r"<p\b[^>]*>(.*?)</p>", body, re.DOTALL)
    )
    words = next((text for text in paragraphs if len(text) > 60), "")
    if len(words) <= LONGEST:
        return words
    return words[: words.rindex(" ", 0, LONGEST)].rstrip(" ,;:.") + "…"


def tags(*, title: str, text: str, book: str, kind: str, site: str = "", page: str = "") -> str:
    """The elements for a page's head; those that need an absolute address only with a `site`."""
    named = [
        ("name", "description", text),
        ("property", "og:title", title),
        ("property", "og:description", text),
        ("property", "og:type", kind),
        ("property", "og:site_name", book),
        ("name", "twitter:card", "summary_large_image" if site else "summary"),
    ]
    if site:
        width, height = CARD_SIZE
        named += [
            ("property", "og:url", f"{site}/{page}"),
            ("property", "og:image", f"{site}/{CARD}"),
            ("property", "og:image:width", str(width)),
            ("property", "og:image:height", str(height)),
            ("property", "og:image:alt", CARD_ALT),
        ]
    return "\n".join(
        f'<meta {key}="{name}" content="{escape(value)}"/>' for key, name, value in named if value
    )


def describe(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Put the tags of a page into what its template is given."""
    title, text = UNWRITTEN.get(pagename, (context.get("title", ""), description(context.get("body", ""))))
    head = tags(
        title=BeautifulSoup(title, "html.parser").get_text(),
        text=text,
        book=app.config.html_title,
        kind="website" if pagename == app.config.root_doc else "article",
        site=app.config.html_baseurl.rstrip("/"),
        page=app.builder.get_target_uri(pagename),
    )
    context["metatags"] = context.get("metatags", "") + "\n" + head


def name_site(app, config) -> None:
    """With an address, Sphinx itself names each page's own one (rel=canonical)."""
    if site := os.environ.get(SITE):
        config.html_baseurl = site_address(site) + "/"


def front_door(title: str, first: str, head: str) -> str:
    """The page at the site's own address, which people share most: it leads to the cover, and has the cover's card."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/><title>{escape(title)}</title>\n'
        f'<meta http-equiv="refresh" content="0; url={first}"/>\n{head}\n</head>\n'
        f'<body><p><a href="{first}">{escape(title)}</a></p></body></html>\n'
    )


def finish(app, exception) -> None:
    """Draw the card and write the front door, where there is an address that leads to them."""
    if exception or app.builder.name != "html" or not app.config.html_baseurl:
        return
    folder, (width, height) = Path(app.outdir), CARD_SIZE
    figure = cover.card(
        app.config.html_title, "Loss functions for language models", width=width, height=height
    )
    figure.savefig(folder / CARD, metadata={"Software": None})
    first = app.builder.get_target_uri(app.config.root_doc)
    if first == "index.html":
        return
    soup = BeautifulSoup((folder / first).read_text(encoding="utf8"), "html.parser")
    found = soup.head.select(
        "meta[name=description], meta[property^=og], meta[name^=twitter], link[rel=canonical]"
    )
    head = "\n".join(map(str, found))
    (folder / "index.html").write_text(front_door(app.config.html_title, first, head), encoding="utf8")


def setup(app) -> dict:
    app.connect("config-inited", name_site)
    app.connect("html-page-context", describe)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
