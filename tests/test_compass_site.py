"""What a page says of itself where it is linked: always title and words, absolute addresses only of a named site."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest
from bs4 import BeautifulSoup

from tools import book, compass_site, tasks

SITE = "https://example.org/compass"
CONFIG = """
project, copyright, author, html_title = "A book", "2026", "me", "A book"
extensions = ["myst_parser", "tools.compass_site"]
html_theme = "sphinx_book_theme"
root_doc = "book/index"
"""
COVER = "# A & B\n\n*Short.*\n\nThis paragraph is what a reader is told of the page, since it is longer than a line.\n"
NEED_A_SITE = ("og:url", "og:image", "og:image:width", "og:image:height", "og:image:alt")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book of two pages, built for no site and for one: address -> its folder."""
    source = tmp_path_factory.mktemp("source")
    (source / "book").mkdir()
    (source / "conf.py").write_text(CONFIG, encoding="utf-8")
    (source / "book" / "index.md").write_text(COVER + "\n```{toctree}\nsecond\n```\n", encoding="utf-8")
    (source / "book" / "second.md").write_text("# Second: *why?*\n\nNo.\n", encoding="utf-8")
    made = {}
    for site in ("", SITE):
        target = source.parent / f"{source.name}-{len(made)}"
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(book.ROOT), *sys.path]),
            "PYTHONWARNINGS": "ignore",
            book.SITE: site,
        }
        command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(source), str(target)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made[site] = target
    return made


def head(page: Path) -> dict[str, str]:
    """The named metas of a page, and its canonical address."""
    soup = BeautifulSoup(page.read_text(encoding="utf8"), "html.parser")
    found = {
        meta.get("property") or meta.get("name"): meta["content"] for meta in soup.select("meta[content]")
    }
    canonical = soup.select_one("link[rel=canonical]")
    return found | ({"canonical": canonical["href"]} if canonical else {})


def test_for_no_site_a_page_names_itself_and_no_address(built):
    found = head(built[""] / "book" / "index.html")
    assert found["og:title"] == "A & B"
    assert found["og:description"] == found["description"] == COVER.splitlines()[-1]
    assert (found["og:type"], found["og:site_name"], found["twitter:card"]) == (
        "website",
        "A book",
        "summary",
    )
    assert not set(found) & {*NEED_A_SITE, "canonical"}
    assert not (built[""] / compass_site.CARD).exists()


def test_for_a_site_a_page_has_its_own_address_and_a_picture_with_words(built):
    found = head(built[SITE] / "book" / "second.html")
    assert found["canonical"] == found["og:url"] == f"{SITE}/book/second.html"
    assert found["og:title"] == "Second: why?" and found["og:type"] == "article"
    assert found["og:image"] == f"{SITE}/{compass_site.CARD}"
    assert found["og:image:alt"] == compass_site.CARD_ALT
    assert found["twitter:card"] == "summary_large_image"
    assert "og:description" not in found  # this page has no paragraph that says anything
    assert head(built[SITE] / "genindex.html")["og:title"] == "Index"


def test_the_card_has_the_size_that_the_pages_say(built):
    picture = matplotlib.image.imread(built[SITE] / compass_site.CARD)
    assert picture.shape[:2] == compass_site.CARD_SIZE[::-1]
    found = head(built[SITE] / "book" / "index.html")
    assert (int(found["og:image:width"]), int(found["og:image:height"])) == compass_site.CARD_SIZE
    ink = (picture[..., :3] < 0.5).any(axis=2)
    assert 0.01 < ink.mean() < 0.3  # something is drawn, and the edges are free
    assert not ink[:20].any() and not ink[-20:].any() and not ink[:, :20].any() and not ink[:, -20:].any()


def test_the_sites_own_address_leads_to_the_cover_and_has_its_card(built):
    door = built[SITE] / "index.html"
    soup = BeautifulSoup(door.read_text(encoding="utf8"), "html.parser")
    assert soup.select_one("meta[http-equiv=refresh]")["content"] == "0; url=book/index.html"
    assert soup.body.a["href"] == "book/index.html"
    found, cover = head(door), head(built[SITE] / "book" / "index.html")
    wanted = {"og:title", "og:description", "canonical", "twitter:card", *NEED_A_SITE}
    assert {key: found[key] for key in wanted} == {key: cover[key] for key in wanted}


@pytest.mark.parametrize(
    "address",
    [
        SITE,
        f"{SITE}/",
        f"  {SITE} ",
        "http://localhost:8000",
        "https://someone.github.io/a-book/",
        "https://a.org",
    ],
)
def test_an_address_is_taken_without_its_last_slash(address):
    assert book.site_address(address) == address.strip().rstrip("/")


@pytest.mark.parametrize(
    "address",
    [
        "example.org",
        "ftp://example.org",
        f"{SITE}/book/index.html",
        f"{SITE}?a=b",
        f"{SITE}#x",
        'https://a.org/"><b>',
    ],
)
def test_another_address_is_refused_with_one_line(address, capsys):
    assert tasks.main(["book", "--site", address]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert f"SITE={address}" in said[0]


def test_a_long_description_is_cut_at_a_word():
    words = "word " * 100
    found = compass_site.description(f"<p>Short.</p><p class='a'>{words}</p>")
    assert found.endswith("word…") and len(found) <= compass_site.LONGEST + 1
    assert compass_site.description("<p>Short.</p>") == ""


def test_the_built_book_is_current_for_a_site_too_and_is_built_anew_when_the_site_changes(tmp_path):
    (tmp_path / "_toc.yml").write_text("a", encoding="utf-8")
    book.html(tmp_path).mkdir(parents=True)
    (book.html(tmp_path) / "index.html").touch()
    made_from = book.fingerprint(tmp_path)
    markers = {
        book._marker(made_from, repository, "main", site) for repository in ("", "r") for site in ("", SITE)
    }
    assert len(markers) == 4
    for marker in markers:
        (tmp_path / "_build" / book.MARKER).write_text(marker, encoding="ascii")
        assert book.is_current(tmp_path)


def test_each_page_of_the_book_has_a_title_and_words_of_its_own(site):
    pages = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.relative_to(site).parts]
    found = {page: head(page) for page in pages if page != site / "index.html"}
    titles = [names["og:title"] for names in found.values()]
    assert len(set(titles)) == len(titles) > 40
    for page, names in found.items():
        assert 40 < len(names["og:description"]) <= compass_site.LONGEST + 1, page
        assert names["description"] == names["og:description"], page
        assert all(
            value.startswith("https://") for key, value in names.items() if key in ("canonical", *NEED_A_SITE)
        )
