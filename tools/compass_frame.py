"""The book's Sphinx extension for its index: it stands last in the contents, and says where each link leads.

Sphinx makes the index (genindex) outside the order of reading, and names the places of an entry [1], [2]. Here it is
the last page of the contents, the arrows at the foot of a page lead to it and back, and a place is named by its chapter
or its module; tools/templates/genindex.html sets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sphinx import addnodes
from sphinx.transforms import SphinxTransform

INDEX, TITLE = "genindex", "Index"
GLOSSARY = "book/glossary"
REFERENCE = "book/reference/"
# Sphinx's words for what a name of the library is: "loss() (in module a.b)", "C (class in a.b)", "m() (a.b.C method)".
_PLACE = re.compile(
    r"\((?:(?:class )?in (?:module )?([\w.]+)|([\w.]+) (?:static |class )?(?:method|property|attribute))\)"
)


@dataclass(frozen=True)
class Link:
    """One place that an entry leads to."""

    href: str
    text: str
    title: str = ""


@dataclass(frozen=True)
class Entry:
    """One line of the index."""

    name: str
    links: list[Link] = field(default_factory=list)
    code: bool = False


def where(words: str) -> str:
    """The module or the class in Sphinx's words for what a name is; the words themselves where they are others."""
    match = _PLACE.fullmatch(words.strip())
    return (match[1] or match[2]) if match else words.strip("() ")


def entries(sphinx_index: Iterable, titles: Mapping[str, str]) -> list[tuple[str, list[Entry]]]:
    """The index by letters, from what Sphinx gives to its own page and the titles of all pages."""
    letters = []
    for letter, group in sphinx_index:
        made = []
        for name, (targets, parts, _) in group:
            split = re.fullmatch(r"(.*?) (\([^()]*\))", name)
            plain, words = split.groups() if split and _is_code(targets) else (name, "")
            links = _links(targets, titles, words)
            for part, part_targets in parts:
                links += _links(part_targets, titles, part)
            code = _is_code(targets) or any(_is_code(part_targets) for _, part_targets in parts)
            made.append(Entry(plain, links, code))
        letters.append((letter, made))
    return letters


def _is_code(targets: Iterable[tuple[str | None, str]]) -> bool:
    return any(href.startswith(REFERENCE) for _, href in targets)


def _links(targets: Iterable[tuple[str | None, str]], titles: Mapping[str, str], words: str) -> list[Link]:
    """A library name by its module, the glossary first, then chapters by number and the word before the colon."""
    made = []
    for _, href in targets:
        page = href.partition(".html")[0]
        title = titles.get(page, "")
        if words:
            made.append(Link(href, where(words)))
        elif page == GLOSSARY:
            made.insert(0, Link(href, "glossary"))
        else:
            made.append(Link(href, title.partition(":")[0].replace(". ", "\N{NO-BREAK SPACE}", 1), title))
    return made


class ListTheIndex(SphinxTransform):
    """After sphinx-external-toc has put the contents into the first page: the index becomes their last line."""

    default_priority = 110

    def apply(self, **kwargs: Any) -> None:
        if self.env.docname == self.config.root_doc:
            *_, last = self.document.findall(addnodes.toctree)
            last["entries"].append((TITLE, INDEX))


def last_page(app) -> str:
    """The page that ends the contents, before the index."""
    relations = app.env.collect_relations()
    return next(page for page, (_, _, after) in relations.items() if after is None)


def complete(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Give the index its entries, and its neighbour a way to it."""
    if pagename == INDEX:
        titles = {page: title.astext() for page, title in app.env.titles.items()}
        before = last_page(app)
        context["title"] = TITLE  # for the head of a printed page
        context["compass_index"] = entries(context["genindexentries"], titles)
        context["prev"] = {"link": app.builder.get_relative_uri(INDEX, before), "title": titles[before]}
    elif doctree is not None and not context.get("next") and pagename == last_page(app):
        context["next"] = {"link": app.builder.get_relative_uri(pagename, INDEX), "title": TITLE}


def setup(app) -> dict:
    app.add_transform(ListTheIndex)
    app.connect("html-page-context", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
