"""A stranger's first minutes: a clean clone builds with the README's command; errors are one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from fresh import ROOT, clean_environ, copy_of_the_tree, roomy_folder, run

from tools import book, browser, environment, tasks

GIT = ["git", "-c", "user.name=A Reader", "-c", "user.email=reader@example.org", "-c", "commit.gpgsign=false"]


@pytest.fixture
def clone() -> Iterator[Path]:
    """A fresh git checkout in a folder whose name has a blank."""
    with roomy_folder() as folder:
        target = copy_of_the_tree(folder / "a reader's copy")
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as cloned"]):
            assert run([*GIT, *command], target).returncode == 0
        yield target


@pytest.mark.slow
def test_a_clean_clone_builds_with_the_readmes_command_and_a_second_call_installs_nothing(clone):
    readme = (clone / "README.md").read_text(encoding="utf-8")
    assert "\nmake book\n" in readme
    first = run(["make", "book"], clone, timeout=1500, PYTHON=sys._base_executable)
    assert first.returncode == 0, first.stdout + first.stderr
    index = book.html(clone) / "index.html"
    assert index.is_file()
    assert index.as_uri() in first.stdout and "make serve" in first.stdout
    assert (clone / ".venv" / environment.LOG).stat().st_size > 0
    assert run([*GIT, "status", "--porcelain"], clone).stdout == "", (
        "the commands leave nothing that git would pick up"
    )
    pip = run([str(environment.python(clone)), "-m", "pip", "check"], clone)
    assert pip.returncode == 0, pip.stdout
    linked = "import lossutils, sys; print(lossutils.__file__)"
    where = run([str(environment.python(clone)), "-c", linked], clone / "book")
    assert Path(where.stdout.strip()).is_relative_to(clone), where.stderr

    site_packages = index_of_packages(clone)
    start = time.perf_counter()
    second = run(["make", "book"], clone, PYTHON=sys._base_executable)
    assert second.returncode == 0
    assert time.perf_counter() - start < 10
    assert "install" not in second.stdout
    assert index_of_packages(clone) == site_packages


def index_of_packages(clone: Path) -> dict[str, int]:
    """Every installed package's own record with the time that it was written."""
    return {str(path): path.stat().st_mtime_ns for path in (clone / ".venv").rglob("*.dist-info/RECORD")}


def test_the_librarys_wheel_holds_every_file_of_the_library(tmp_path):
    tree = copy_of_the_tree(tmp_path / "tree")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(tree),
    ]
    done = run(build, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("lossutils-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    ours = {path.relative_to(tree).as_posix() for path in (tree / "lossutils").rglob("*") if path.is_file()}
    assert "lossutils/py.typed" in ours
    assert {name for name in packed if ".dist-info/" not in name} == {
        name for name in ours if ".pyc" not in name
    }


# What can go wrong. Each runs the real command in a copy that has no environment yet.


@pytest.fixture
def bare(tmp_path) -> Path:
    """What the commands need before there is an environment."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml", "_toc.yml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def patched(bare: Path, patch: str, task: str = "book", **environ: str) -> subprocess.CompletedProcess:
    """Run `python tools TASK` in a Python that a line of code has changed first."""
    start = "runpy.run_path('tools', run_name='__main__')"
    start = f"import sys, runpy\n{patch}\nsys.argv = ['tools', {task!r}]\n{start}"
    return run([sys.executable, "-c", start], bare, **environ)


def assert_one_line(done: subprocess.CompletedProcess, *expected: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for words in expected:
        assert words in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 8, 10), (3, 10, 99)])
def test_a_python_that_is_too_old_is_told_in_one_line(bare, version):
    done = patched(bare, f"sys.version_info = {(*version, 'final', 0)}")
    assert_one_line(done, "Python 3.11 or newer", f"Python {version[0]}.{version[1]}", "make PYTHON=")
    assert not (bare / ".venv").exists()


@pytest.mark.parametrize("module", ["ensurepip", "venv"])
def test_a_python_without_the_venv_module_is_told_in_one_line(bare, module):
    hide = (
        "import importlib.util as u; real = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == {module!r} else real(name, *rest)"
    )
    assert_one_line(
        patched(bare, hide), f"without the module {module}", "sudo apt-get install python3.", "-venv"
    )


def test_a_full_disk_is_told_in_one_line(bare):
    full = "import shutil, types; shutil.disk_usage = lambda path: types.SimpleNamespace(free=10**8)"
    assert_one_line(patched(bare, full), "not enough room", "0.1 GB are free")


def test_a_folder_that_is_not_the_book_is_told_in_one_line(bare, capsys):
    (bare / "_toc.yml").unlink()
    with pytest.raises(environment.Problem, match=r"no _toc\.yml"):
        book.build(bare)


def test_a_wrong_browser_is_told_in_one_line_before_anything_is_installed(bare):
    done = patched(bare, "", "test", CHROMIUM=str(bare / "no-browser"))
    assert_one_line(done, "is not a program", "sudo apt-get install chromium", "CHROMIUM=/path", "--no-site")
    assert not (bare / ".venv").exists()


def test_no_browser_and_none_to_be_fetched_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    """Playwright really tries to fetch one, from a port of this machine where nobody listens."""
    monkeypatch.setattr(browser, "MAC_APPS", ())
    monkeypatch.setattr(browser, "WINDOWS_APPS", ())
    environ: Mapping[str, str] = clean_environ(
        PATH=str(tmp_path),
        PLAYWRIGHT_BROWSERS_PATH=str(tmp_path / "browsers"),
        PLAYWRIGHT_DOWNLOAD_HOST="http://127.0.0.1:9",
        no_proxy="127.0.0.1",
    )
    with pytest.raises(browser.Problem) as problem:
        browser.find_or_fetch(Path(sys.executable), environ)
    assert str(problem.value) == browser.WHAT_TO_DO
    assert len(browser.WHAT_TO_DO.splitlines()) == 1
    assert len(capsys.readouterr().out.strip().splitlines()) == 1


def test_a_network_that_is_down_is_told_below_pips_last_lines_and_the_next_try_starts_anew(bare):
    down = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "1",
        "COMPASS_TORCH": "default",
        "no_proxy": "127.0.0.1",
    }
    done = patched(bare, "", **down)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "could not be reached. Check the network" in done.stderr.strip().splitlines()[-1]
    assert "making the virtual environment" in done.stdout
    assert not environment.ready(bare)
    assert "making the virtual environment" in patched(bare, "", **down).stdout


SETTINGS = "title: {}\nonly_build_toc_files: true\nexclude_patterns: [.venv, _build]\n"


def test_a_page_with_a_warning_is_not_built_and_a_second_try_does_not_pass(tmp_path, capfd):
    """A Sphinx that remembers the pages would not repeat the warning."""
    if environment.python() != Path(sys.executable):
        pytest.skip("needs the environment that the commands made")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\n", encoding="utf-8")
    (tmp_path / "_config.yml").write_text(SETTINGS.format("A page"), encoding="utf-8")
    (tmp_path / ".venv").symlink_to(environment.ROOT / ".venv", target_is_directory=True)
    (tmp_path / "index.md").write_text("# A page\n\n[nowhere](nowhere.md)\n", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(
            environment.Problem, match=r"(?s)WARNING.*The book was not built; the whole log is "
        ):
            book.build(tmp_path)
        assert not book.is_current(tmp_path)
    (tmp_path / "index.md").write_text("# A page\n\nSound.\n", encoding="utf-8")
    (tmp_path / "_config.yml").write_text(SETTINGS.format("A sound page"), encoding="utf-8")
    book.build(tmp_path)
    assert book.is_current(tmp_path)


def test_the_tests_stop_with_one_line_when_there_is_no_browser(monkeypatch, capsys):
    monkeypatch.setenv("CHROMIUM", "no-such-browser")
    assert tasks.main(["test"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
