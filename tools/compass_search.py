"""A Sphinx extension: the search shows, under each hit, the words around it, from a file and from a server alike.

Sphinx's search fetches each page that it found, to show some words of it. A page that was opened as a file may fetch
nothing, so there the words are missing and the console fills with errors. A script may be loaded from a file: so each
page's words are written as a script, and `book/assets/search_words.js` loads those of the hits that come into view.
Without markup they are also a fraction of the page that Sphinx would have fetched.
"""

from __future__ import annotations

import json
from pathlib import Path

from bs4 import BeautifulSoup, NavigableString, Tag

FOLDER = "words"  # in _static
SCRIPT = "search_words.js"
UNREAD = "script, style, svg, nav, .headerlink, .prev-next-footer"


def words(html: str) -> list[tuple[str, str]]:
    """A page's words in pieces, in reading order: the id of the element with which a piece begins, and its text."""
    article = BeautifulSoup(html, "html.parser").find("article")
    if article is None:
        return []
    for unread in article.select(UNREAD):
        unread.decompose()
    pieces: list[tuple[str, list[str]]] = [("", [])]
    for node in article.descendants:
        if isinstance(node, Tag) and node.get("id"):
            pieces.append((node["id"], []))
        elif type(node) is NavigableString:  # and no comment
            pieces[-1][1].append(node)
        elif isinstance(node, Tag) and node.name in (
            "p",
            "li",
            "pre",
            "td",
            "th",
            "dt",
            "dd",
            "h2",
            "h3",
            "h4",
        ):
            pieces[-1][1].append(" ")  # two blocks are two words
    return [(name, " ".join("".join(texts).split())) for name, texts in pieces]


def write_words(app, exception) -> None:
    """Write the words of each page of a successful HTML build as a script beside the site's other scripts."""
    if exception or app.builder.name != "html":
        return
    site = Path(app.outdir)
    for name in sorted(app.env.found_docs):
        page = site / f"{name}.html"
        target = site / "_static" / FOLDER / f"{name}.js"
        target.parent.mkdir(parents=True, exist_ok=True)
        said = json.dumps(words(page.read_text(encoding="utf8")), ensure_ascii=False, separators=(",", ":"))
        target.write_text(f"compassWords({json.dumps(name)},{said});\n", encoding="utf8")


def add_script(app, pagename, templatename, context, doctree) -> None:
    """The search page, and no other, loads the script that shows the words."""
    if pagename == "search":
        app.add_js_file(SCRIPT, defer="defer")


def setup(app) -> dict:
    app.connect("html-page-context", add_script)
    app.connect("build-finished", write_words)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
