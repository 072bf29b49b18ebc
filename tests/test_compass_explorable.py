"""An explorable on a page that is no notebook: made when the page is built, and a mistake stops the build."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lossutils.figures import cover
from tools import book
from tools.compass_explorable import function

CONFIG = 'project = "A book"\nextensions = ["myst_parser", "tools.compass_explorable"]\n'


def build(folder: Path, lines: str) -> subprocess.CompletedProcess:
    (folder / "conf.py").write_text(CONFIG, encoding="utf-8")
    (folder / "index.md").write_text(
        f"# A page\n\n```{{compass-explorable}} {lines}\n```\n", encoding="utf-8"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(book.ROOT), *sys.path]),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(folder), str(folder / "out")]
    return subprocess.run(command, env=environ, capture_output=True, text=True)


def test_a_page_gets_the_figure_and_no_code(tmp_path):
    runs = book.ROOT / "book" / "experiments" / "alignment_seeds.json"
    (tmp_path / "runs.json").write_bytes(runs.read_bytes())
    done = build(tmp_path, "lossutils.figures.cover.loss_and_use\n:data: runs.json")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert '<compass-explorable data-name="loss-and-use">' in page
    assert "loss_and_use" not in page


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("lossutils.figures.cover.nothing", "there is no such function"),
        ("lossutils.figures.cover.BASE_STEPS", "is no function"),
        ("os.getcwd", "is no Explorable"),
        ("lossutils.figures.cover.loss_and_use\n:data: nowhere.json", "nowhere.json"),
    ],
)
def test_a_mistake_stops_the_build_and_is_named(tmp_path, lines, said):
    done = build(tmp_path, lines)
    assert done.returncode != 0
    assert said in done.stderr and "index.md:3" in done.stderr


def test_a_function_is_found_by_its_dotted_name():
    assert function("lossutils.figures.cover.loss_and_use") is cover.loss_and_use
    for name in ("loss_and_use", "no_such_package.thing", ""):
        with pytest.raises(ValueError, match="no such function"):
            function(name)
