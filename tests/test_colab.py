"""The first code cell of the chapters: it names one repository, does its work in Colab, and nothing anywhere else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from fresh import copy_of_the_tree
from nbformat import v4

from tools import book, colab, refresh, tasks

NOTEBOOKS = sorted((book.ROOT / "book").glob("*.ipynb"))
ADDRESS = "https://github.com/someone/a-book"


def first_code_cell(nb):
    return next(cell for cell in nb.cells if cell.cell_type == "code")


def small_notebook():
    return v4.new_notebook(cells=[v4.new_markdown_cell("# A"), v4.new_code_cell("1 + 1")])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_each_chapter_has_the_cell_and_all_name_the_same_repository(path):
    cell, other = (first_code_cell(refresh.read(where)) for where in (path, NOTEBOOKS[0]))
    assert cell.id == colab.CELL_ID
    assert colab.TAG in cell.metadata.tags
    assert cell.source == other.source
    named = re.search(r'repository, branch = "(.*)", "(.*)"', cell.source)
    assert cell.source == colab.source(*named.groups())


def test_the_page_leaves_the_cell_out(site):
    page = (site / "book" / "01_surprise.html").read_text(encoding="utf8")
    assert "google.colab" not in BeautifulSoup(page, "html.parser").get_text()


def test_the_cell_stands_before_the_first_code_and_is_there_once(tmp_path):
    once = colab.with_cell(small_notebook())
    assert [cell.cell_type for cell in once.cells] == ["markdown", "code", "code"]
    assert [cell.get("execution_count") for cell in once.cells] == [None, 1, 2]
    assert refresh.to_bytes(colab.with_cell(once)) == refresh.to_bytes(once)


def test_a_repository_is_written_into_the_cell_and_what_did_not_change_is_not_named(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_bytes(refresh.to_bytes(colab.with_cell(small_notebook())))
    assert colab.name_repository([path], ADDRESS, "v1") == [path]
    assert f'"{ADDRESS}", "v1"' in first_code_cell(refresh.read(path)).source
    assert len(refresh.read(path).cells) == 3
    assert colab.name_repository([path], ADDRESS, "v1") == []


def test_building_with_a_repository_names_it_in_the_chapters(tmp_path, monkeypatch, capfd):
    (tmp_path / "book").mkdir()
    path = tmp_path / "book" / "01_a.ipynb"
    path.write_bytes(refresh.to_bytes(colab.with_cell(small_notebook())))
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(book.ROOT))
    tasks._name_repository(Path(sys.executable), ADDRESS, "main")
    assert ADDRESS in path.read_text(encoding="utf-8")
    assert capfd.readouterr().out == f"1 notebooks now name {ADDRESS} (main) for Colab: commit them.\n"


# The cell at work. Colab's shell is told by its module, so a shell of that name stands in for it.

SHELL = (
    "from IPython.core.interactiveshell import InteractiveShell\n\nclass Shell(InteractiveShell):\n    pass\n"
)
RUN = """\
import sys
from pathlib import Path
from {module} import {shell}
shell = {shell}.instance()
done = shell.run_cell(Path(sys.argv[1]).read_text(encoding="utf-8"))
print("error:", done.error_in_exec)
shell.run_cell("import lossutils, os; print(lossutils.__file__); print(os.getcwd())")
"""


def run_cell(tmp_path: Path, source: str, *, in_colab: bool, python: str = sys.executable) -> str:
    package = tmp_path / "google" / "colab"
    package.mkdir(parents=True)
    (package / "_shell.py").write_text(SHELL, encoding="utf-8")
    module, shell = (
        ("google.colab._shell", "Shell")
        if in_colab
        else ("IPython.core.interactiveshell", "InteractiveShell")
    )
    (tmp_path / "run.py").write_text(RUN.format(module=module, shell=shell), encoding="utf-8")
    (tmp_path / "cell.txt").write_text(source, encoding="utf-8")
    environ = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    # pip builds the library with the setuptools at hand, so no network is needed
    environ |= {"PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [python, "run.py", "cell.txt"], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_outside_colab_the_cell_does_nothing(tmp_path):
    said = run_cell(tmp_path, colab.source("https://nowhere.invalid/x", "main"), in_colab=False)
    assert said.splitlines()[0] == "error: None"
    assert said.splitlines()[-1] == str(tmp_path)


def test_in_colab_a_cell_without_an_address_says_what_to_write(tmp_path):
    said = run_cell(tmp_path, colab.source(), in_colab=True)
    assert "error: the line above must name the repository" in said


@pytest.mark.skipif(os.name == "nt", reason="Colab is Linux: the cell speaks to its shell")
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_in_colab_the_cell_fetches_the_book_and_installs_its_library(tmp_path):
    """For real, but for two places: the repository is a folder, and Colab's folder is one of the test's."""
    repository, there = tmp_path / "repository", tmp_path / "content"
    copy_of_the_tree(repository)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", "-C", str(repository)]
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    # An environment that has what Colab has, this one's packages, and no lossutils of its own
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    here = next(path for path in sys.path if path.endswith("site-packages"))
    own = tmp_path / "env" / "lib" / Path(here).parent.name / "site-packages"
    packages = tmp_path / "packages"
    packages.mkdir()
    for path in Path(here).iterdir():
        if "lossutils" not in path.name:
            (packages / path.name).symlink_to(path)
    (own / "colab.pth").write_text(str(packages), encoding="utf-8")
    there.mkdir()
    source = colab.source(repository.as_uri(), "main").replace("/content", str(there))
    said = run_cell(tmp_path, source, in_colab=True, python=str(python)).splitlines()
    assert "error: None" in said, said
    assert said[-2:] == [str(own / "lossutils" / "__init__.py"), str(there / "compass" / "book")]
