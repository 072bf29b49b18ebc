"""The book's Sphinx extension for its words: where a chapter first uses a term of the glossary, it links there.

The same place goes into the index. The chapters' own text stays plain: nobody has to mark a first use by hand, and
none is forgotten when a chapter is rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

GLOSSARY = "book/glossary.md"
CHAPTERS = re.compile(r"book/\d\d_")
# Where a link would disturb: it is one already, or it is a name and no prose.
NO_PLACE = (
    nodes.title,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
    nodes.reference,
    nodes.raw,
    nodes.caption,
)
NO_PLACE += (nodes.citation_reference, addnodes.pending_xref, addnodes.index, nodes.Admonition)


def glossary_terms(source: str) -> list[str]:
    """The terms of a MyST glossary: lines at the margin that an indented line follows."""
    return re.findall(r"^(\w[^\n]*)\n[ \t]+\S", source, re.MULTILINE)


def finder(terms: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the terms as a word, also in the plural; the longest where several fit.

    "a bit" is the adverb as often as the unit, so it is left alone.
    """
    longest_first = sorted(terms, key=lambda term: (-len(term), term))
    names = "|".join(
        (r"(?<!\ba )" if term == "bit" else "") + re.escape(term).replace(r"\ ", r"\s+").replace("'", "['’]")
        for term in longest_first
    )
    return re.compile(rf"(?<![\w-])(?P<term>{names})(?P<plural>e?s)?(?![\w-])", re.IGNORECASE)


def first_uses(
    text: str, pattern: re.Pattern[str], terms: dict[str, str], seen: set[str]
) -> list[tuple[str, str]]:
    """A text in pieces (words, term): the term is "" but where one is used that was not seen before.

    `terms` leads from a term in lower case to the glossary's own spelling; `seen` is added to.
    """
    pieces: list[tuple[str, str]] = []
    end = 0
    for match in pattern.finditer(text):
        term = terms[" ".join(match["term"].replace("’", "'").lower().split())]
        if term in seen:
            continue
        seen.add(term)
        pieces += [(text[end : match.start()], ""), (match[0], term)]
        end = match.end()
    pieces.append((text[end:], ""))
    return [piece for piece in pieces if piece[0]]


class LinkFirstUses(SphinxTransform):
    """Before the domains look at a chapter: first uses become references to the glossary, and index entries."""

    default_priority = 800

    def apply(self, **kwargs) -> None:
        if not CHAPTERS.match(self.env.docname):
            return
        self.env.note_dependency(GLOSSARY)
        source = (Path(self.app.srcdir) / GLOSSARY).read_text(encoding="utf-8")
        terms = {term.lower(): term for term in glossary_terms(source)}
        pattern, seen = finder(terms.values()), set()
        for paragraph in list(self.document.findall(nodes.paragraph)):
            for text in list(paragraph.findall(nodes.Text)):
                if not _inside(text, NO_PLACE):
                    self._link(text, first_uses(str(text), pattern, terms, seen))

    def _link(self, text: nodes.Text, pieces: list[tuple[str, str]]) -> None:
        if not any(term for _, term in pieces):
            return
        found: list[nodes.Node] = []
        for words, term in pieces:
            if not term:
                found.append(nodes.Text(words))
                continue
            place = f"first-use-{nodes.make_id(term)}"
            target = nodes.target("", "", ids=[place])
            self.document.note_explicit_target(target)
            entry = addnodes.index(entries=[("single", term, place, "", None)])
            link = addnodes.pending_xref(
                "", refdomain="std", reftype="term", reftarget=term, refexplicit=True, refdoc=self.env.docname
            )
            link += nodes.inline(words, words, classes=["compass-term"])
            found += [entry, target, link]
        text.parent.replace(text, found)


def _inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False


def setup(app) -> dict:
    app.add_transform(LinkFirstUses)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
