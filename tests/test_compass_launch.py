"""Launch buttons are there when the book's repository is named, point into it, and else are not there at all."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from nbformat import v4, write

from tools import book, compass_launch, tasks

ADDRESS = "https://github.com/someone/a-book"
CONFIG = """
project, copyright, author = "A book", "2026", "me"
extensions = ["myst_nb", "tools.compass_launch"]
html_theme = "sphinx_book_theme"
html_theme_options = {"use_download_button": True, "repository_url": ""}
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
"""
PAGE = f"# How to\n\n:::{{only}} {compass_launch.TAG}\nTell us: `{compass_launch.PLACEHOLDER}/issues`\n:::\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book of one notebook and one page, built without a repository and with one: address -> its folder."""
    source = tmp_path_factory.mktemp("source")
    (source / "conf.py").write_text(CONFIG, encoding="utf-8")
    (source / "index.md").write_text(PAGE + "\n```{toctree}\nbook/01_a\n```\n", encoding="utf-8")
    (source / "book").mkdir()
    write(v4.new_notebook(cells=[v4.new_markdown_cell("# A chapter")]), source / "book" / "01_a.ipynb")
    made = {}
    for number, address in enumerate(("", ADDRESS)):
        target = source.parent / f"{source.name}-{number}"
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(book.ROOT), *sys.path]),
            "PYTHONWARNINGS": "ignore",
        }
        environ |= {compass_launch.REPOSITORY: address, compass_launch.BRANCH: "v1"}
        command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(source), str(target)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made[address] = target
    return made


def addresses(page: Path) -> list[str]:
    soup = BeautifulSoup(page.read_text(encoding="utf8"), "html.parser")
    links = [link["href"] for link in soup.find_all("a", href=True)]
    return [link for link in links if re.search("binder|colab|github", link)]


def test_without_a_repository_a_chapter_offers_its_download_and_nothing_elsewhere(built):
    page = built[""] / "book" / "01_a.html"
    assert addresses(page) == []
    soup = BeautifulSoup(page.read_text(encoding="utf8"), "html.parser")
    download = soup.select_one("a.btn-download-source-button")["href"]
    assert download.endswith(".ipynb")
    assert (page.parent / download).resolve().is_file()
    assert compass_launch.PLACEHOLDER not in (built[""] / "index.html").read_text(encoding="utf8")


def test_with_a_repository_a_chapter_opens_in_binder_and_colab_at_its_own_notebook(built):
    found = addresses(built[ADDRESS] / "book" / "01_a.html")
    binder = next(link for link in found if "mybinder.org" in link)
    assert binder == "https://mybinder.org/v2/gh/someone/a-book/v1?urlpath=lab/tree/book/01_a.ipynb"
    colab = next(link for link in found if "colab" in link)
    assert colab == "https://colab.research.google.com/github/someone/a-book/blob/v1/book/01_a.ipynb"
    others = [link for link in found if link not in (binder, colab)]
    assert others and all(link.startswith(ADDRESS) for link in others)


def test_with_a_repository_a_page_names_it_and_not_the_placeholder(built):
    text = (built[ADDRESS] / "index.html").read_text(encoding="utf8")
    assert f"{ADDRESS}/issues" in text
    assert compass_launch.PLACEHOLDER not in text


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS + "/", ADDRESS + ".git", f"  {ADDRESS} "])
def test_an_address_is_taken_in_its_usual_spellings(address):
    assert compass_launch.repository(address) == ADDRESS


@pytest.mark.parametrize(
    "address",
    [
        "someone/a-book",
        "http://github.com/a/b",
        "https://github.com/a",
        f"{ADDRESS}/tree/main",
        "https://elsewhere.org/a/b",
    ],
)
def test_another_address_is_refused_with_one_line(address, capsys):
    assert tasks.main(["book", "--repository", address]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert address in said[0]


def test_a_branch_that_cannot_be_is_refused(capsys):
    assert tasks.main(["book", "--repository", ADDRESS, "--branch", "a b"]) == 2
    assert "BRANCH=a b" in capsys.readouterr().err


def test_the_built_book_is_current_with_buttons_and_without(tmp_path):
    (tmp_path / "_toc.yml").write_text("a", encoding="utf-8")
    book.html(tmp_path).mkdir(parents=True)
    (book.html(tmp_path) / "index.html").touch()
    for repository in ("", ADDRESS):
        marker = book._marker(book.fingerprint(tmp_path), repository, "main")
        (tmp_path / "_build" / book.MARKER).write_text(marker, encoding="ascii")
        assert book.is_current(tmp_path)
    (tmp_path / "_toc.yml").write_text("b", encoding="utf-8")
    assert not book.is_current(tmp_path)


def test_the_placeholder_stands_only_where_a_repository_is_known():
    for page in (book.ROOT / "book").rglob("*.md"):
        outside = re.sub(r"(?s):::\{only\} repository\n.*?\n:::", "", page.read_text(encoding="utf-8"))
        assert compass_launch.PLACEHOLDER not in outside, page
