"""First uses of the glossary's terms become links, once a chapter, in prose only."""

from __future__ import annotations

import re

import pytest
from bs4 import BeautifulSoup

from tools import book
from tools.compass_terms import finder, first_uses, glossary_terms

GLOSSARY = (book.ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
CHAPTERS = sorted(path.stem for path in (book.ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
TERMS = {
    term.lower(): term
    for term in ("logit", "bit", "entropy", "cross-entropy", "Gibbs' inequality", "token mean")
}


def uses(text: str, seen: set[str] | None = None) -> list[tuple[str, str]]:
    pieces = first_uses(text, finder(TERMS.values()), TERMS, set() if seen is None else seen)
    return [(words, term) for words, term in pieces if term]


def test_the_glossary_gives_its_terms_and_not_its_definitions():
    terms = glossary_terms(GLOSSARY)
    assert {"perplexity", "Brier score", "Gibbs' inequality"} <= set(terms)
    assert all(len(term) < 50 and not term.endswith(".") for term in terms)
    assert len(terms) == len(set(terms))


def test_a_term_is_found_once_in_any_case_and_in_the_plural():
    assert uses("Logits here, and each logit there.") == [("Logits", "logit")]


def test_the_longest_term_wins_and_a_part_of_a_word_is_none():
    assert uses("The cross-entropy of habits") == [("cross-entropy", "cross-entropy")]


def test_a_line_break_or_a_typographic_apostrophe_does_not_hide_a_term():
    assert uses("a token\nmean by Gibbs’ inequality") == [
        ("token\nmean", "token mean"),
        ("Gibbs’ inequality", "Gibbs' inequality"),
    ]


def test_the_adverb_is_not_the_unit():
    assert uses("a bit later, two bits") == [("bits", "bit")]


def test_nothing_of_the_text_is_lost():
    text = "Entropy, logits; entropy."
    pieces = first_uses(text, finder(TERMS.values()), TERMS, set())
    assert "".join(words for words, _ in pieces) == text


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_links_each_term_once_to_a_place_that_exists(chapter, site):
    page = BeautifulSoup((site / "book" / f"{chapter}.html").read_text(encoding="utf8"), "html.parser")
    glossary = BeautifulSoup((site / "book" / "glossary.html").read_text(encoding="utf8"), "html.parser")
    links = [word.find_parent("a")["href"] for word in page.select(".compass-term")]
    assert len(links) >= 5
    assert len(links) == len(set(links))
    for link in links:
        file, _, place = link.partition("#")
        assert file == "glossary.html" and glossary.find(id=place), link
    assert not page.select("h1 .compass-term, h2 .compass-term, h3 .compass-term, pre .compass-term")


def test_the_index_leads_to_the_glossary_and_to_first_uses(site):
    index = BeautifulSoup((site / "genindex.html").read_text(encoding="utf8"), "html.parser")
    listed = [link["href"] for link in index.select("ul.compass-index a")]
    assert any(re.fullmatch(r"book/glossary\.html#term-perplexity", link) for link in listed)
    for chapter in CHAPTERS:
        assert any(link.startswith(f"book/{chapter}.html#first-use-") for link in listed), chapter


def test_the_glossary_leads_to_the_index(site):
    page = BeautifulSoup((site / "book" / "glossary.html").read_text(encoding="utf8"), "html.parser")
    assert page.select_one('article a[href="../genindex.html"]')
