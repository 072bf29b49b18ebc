"""Each cited work can be found by its DOI, its number at arXiv or an address, and the bibliography page links there."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from pybtex.database import parse_file

import lossutils

BOOK = Path(__file__).parent.parent / "book"
ENTRIES = parse_file(str(BOOK / "references.bib"), bib_format="bibtex").entries
CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")

DOI = re.compile(r"10\.\d{4,9}/\S+")
ARXIV = re.compile(r"(\d\d)(0[1-9]|1[0-2])\.\d{4,5}")  # year, month and a number of that month
OWN_FIELDS = ("arxiv.org", "doi.org")  # what has its own field must not hide in an address


def locators(fields):
    """Where a work can be found, as the links that the bibliography page shows."""
    forms = {"doi": "https://doi.org/{}", "eprint": "https://arxiv.org/abs/{}", "url": "{}"}
    return [form.format(fields[name]) for name, form in forms.items() if name in fields]


def problems(fields):
    """What is wrong with where an entry says that the work can be found."""
    found = []
    if not locators(fields):
        found.append("no doi, eprint or url")
    if "doi" in fields and not DOI.fullmatch(fields["doi"]):
        found.append(f"doi {fields['doi']!r}")
    if "eprint" in fields:
        match = ARXIV.fullmatch(fields["eprint"])
        # published in the year of the preprint or soon after it, never before
        if not match or not 0 <= int(fields["year"]) - (2000 + int(match[1])) <= 2:
            found.append(f"eprint {fields['eprint']!r} of a work of {fields['year']}")
    if "url" in fields:
        parts = urlsplit(fields["url"])
        if (
            parts.scheme not in ("http", "https")
            or "." not in parts.netloc
            or parts.netloc.endswith(OWN_FIELDS)
        ):
            found.append(f"url {fields['url']!r}")
    if "arxiv" in fields.get("note", "").lower():
        found.append(f"note {fields['note']!r} where an eprint belongs")
    return found


def cited():
    """The keys of all citations, and the file of one."""
    where = {}
    for path in [*BOOK.rglob("*.md"), *BOOK.glob("*.ipynb")]:
        if path.suffix == ".md":
            text = path.read_text(encoding="utf8")
        else:
            cells = nbformat.read(path, as_version=4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for keys in CITATION.findall(text):
            where |= {key.strip(): path.name for key in keys.split(",")}
    return where


@pytest.mark.parametrize("key", ENTRIES)
def test_a_reader_can_find_each_work(key):
    assert problems(ENTRIES[key].fields) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"year": "2024"},
        {"year": "2024", "doi": "https://doi.org/10.1000/1"},
        {"year": "2024", "eprint": "2413.00001"},
        {"year": "2021", "eprint": "2203.02155"},
        {"year": "2019", "eprint": "cs/0001"},
        {"year": "2024", "url": "https://arxiv.org/abs/2401.01879"},
        {"year": "2024", "url": "arxiv"},
        {"year": "2024", "eprint": "2401.01879", "note": "arXiv:2401.01879"},
    ],
)
def test_an_entry_whose_place_is_missing_or_malformed_is_noticed(wrong):
    assert len(problems(wrong)) == 1


def test_no_two_works_share_a_place():
    places = [place for entry in ENTRIES.values() for place in locators(entry.fields)]
    assert len(places) == len(set(places))


def test_each_work_is_cited_and_each_citation_has_its_work():
    where = cited()
    assert set(ENTRIES) - set(where) == set()
    assert {key: name for key, name in where.items() if key not in ENTRIES} == {}


def docstrings():
    for info in pkgutil.walk_packages(lossutils.__path__, "lossutils."):
        if info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, thing in inspect.getmembers(module):
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__ == info.name:
                yield f"{info.name}.{name}", " ".join((thing.__doc__ or "").split())


def test_the_library_cites_a_preprint_by_the_author_and_year_of_the_bibliography():
    known = {entry.fields["eprint"]: entry for entry in ENTRIES.values() if "eprint" in entry.fields}
    wrong, seen = [], 0
    for name, text in docstrings():
        for match in re.finditer(r"arXiv:\s*(\S*\d)", text):
            assert ARXIV.fullmatch(match[1]), (name, match[1])
            if match[1] in known:
                entry, before = known[match[1]], text[max(0, match.start() - 300) : match.start()]
                year = re.findall(r"\((\d{4})\)", before)[-1]
                surname = str(entry.persons["author"][0].rich_last_names[-1])
                seen += 1
                if year != entry.fields["year"] or surname not in before:
                    wrong.append((name, match[1], year, f"{surname} {entry.fields['year']}"))
    assert seen > 20
    assert wrong == []


def test_the_page_links_each_work(site):
    page = BeautifulSoup((site / "book" / "bibliography.html").read_text(encoding="utf8"), "html.parser")
    shown = [entry.find_all("a", class_="external") for entry in page.select("div.citation")]
    assert len(shown) == len(ENTRIES)
    links = {link["href"] for entry in shown for link in entry}
    assert {place for entry in ENTRIES.values() for place in locators(entry.fields)} == links
    assert all(shown)
