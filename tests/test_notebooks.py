"""Rules that every stored notebook keeps, and the proof that a wrong number in one turns the suite red.

What the cells compute is checked elsewhere: `make test` runs each notebook with nbval and compares every
output.
"""

from __future__ import annotations

import ast
import copy
import os
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import chapters
import nbformat
import pytest
from nbformat import v4

from tools import refresh

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
NOTEBOOKS = sorted(path for path in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)

TAGS = {
    "remove-cell",
    "hide-input",
    "hide-output",
    "hide-cell",
    "full-width",
    "raises-exception",
    "nbval-ignore-output",
}

# Cells whose output differs between processors, so that it is not compared: notebook -> {cell id: reason}.
# Each asserts the band that it claims, in the cell itself or in the next one.
MAY_VARY = {f"{name}.ipynb": chapter.MAY_VARY for name, chapter in chapters.ALL.items()}

LONGEST_CELL = 25
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MACHINE = {
    "an absolute path": re.compile(
        r"(?<![\w.:/~])/(?:home|root|Users|tmp|usr|opt|var|work|mnt|private|builds)/|\b[A-Z]:\\"
    ),
    "a home path": re.compile(r"(?<![\w.])~/"),
    "an address in memory": re.compile(r"\b0x[0-9a-fA-F]{6,}"),
}
TIMING = re.compile(
    r"\bWall time\b|\bCPU times\b|\bit/s\b|\b\d+(?:\.\d+)? ?(?:ms|µs|us|ns)\b|\b\d+:\d\d<\d+:\d\d"
)
SEEDING = re.compile(
    r"^(?:np|numpy|torch|random|(?:np|numpy)\.random|torch\.(?:cuda|random|mps))\.(?:manual_)?seed(?:_all)?$"
)
BYPASS = re.compile(r"#\s*(?:NBVAL_|PYTEST_VALIDATE)")


def code_cells(nb) -> list:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def tree(cell) -> ast.Module:
    """The cell's Python; IPython's own lines (%, !) are no Python and say nothing that a rule is about."""
    lines = ["pass" if line.lstrip()[:1] in ("%", "!") else line for line in cell.source.splitlines()]
    return ast.parse("\n".join(lines))


def has_assert(cell) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(tree(cell)))


def imports(cell) -> bool:
    return any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree(cell).body)


def texts(output) -> Iterator[tuple[str, str]]:
    """The parts of an output that a reader sees as text: (kind, text)."""
    if output.output_type == "stream":
        yield "text", output.text
    elif output.output_type == "error":
        yield "text", output.evalue
        yield "traceback", "\n".join(output.traceback)
    else:
        for mime, value in output.data.items():
            if mime.startswith("text/"):
                yield ("text" if mime == "text/plain" else "markup"), value


def problems(nb, may_vary: dict[str, str]) -> list[str]:
    """Every breach of a rule in one notebook, as a sentence that names the cell."""
    found = []
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernelspec is not python3")
    if "widgets" in nb.metadata:
        found.append("widget state is stored in the notebook")
    repeated = [
        name for name, times in Counter(cell.get("id") for cell in nb.cells).items() if times > 1 or not name
    ]
    found += [f"the cell id {name!r} is missing or not unique" for name in repeated]
    cells = code_cells(nb)
    for number, cell in enumerate(cells, start=1):
        after = cells[number] if number < len(cells) else None
        found += [
            f"cell {number} ({cell.get('id')}): {what}"
            for what in cell_problems(cell, number, after, may_vary)
        ]
    importing = [
        n
        for n, cell in enumerate(cells, 1)
        if any(isinstance(x, ast.Import | ast.ImportFrom) for x in tree(cell).body)
    ]
    if len(importing) > 1:
        found.append(f"imports are spread over the code cells {importing}, not kept in one")
    stale = set(may_vary) - {cell.get("id") for cell in cells if "nbval-ignore-output" in tags(cell)}
    found += [
        f"MAY_VARY names the cell {name!r}, which has no tag nbval-ignore-output" for name in sorted(stale)
    ]
    return found


def cell_problems(cell, number: int, after, may_vary: dict[str, str]) -> Iterator[str]:
    source = cell.source
    if not source.strip():
        yield "is empty"
    if cell.execution_count != number:
        yield f"the execution count is {cell.execution_count}, not {number}"
    if len(source.splitlines()) > LONGEST_CELL:
        yield f"has {len(source.splitlines())} lines, more than {LONGEST_CELL}"
    if unknown := tags(cell) - TAGS:
        yield f"has tags that are not allowed: {sorted(unknown)}"
    if BYPASS.search(source):
        yield "a comment in it would switch off the comparison"
    if "hide-cell" in tags(cell) and not re.match(r"# Solution of \d+\.\d+\n", source):
        # JupyterLab shows the first line of a folded cell
        yield "is folded, and its first line is not '# Solution of N.M'"
    if "nbval-ignore-output" in tags(cell):
        if cell.get("id") not in may_vary:
            yield "its output is not compared, and MAY_VARY does not name it"
        if not has_assert(cell) and not (after is not None and has_assert(after)):
            yield "its output is not compared, and neither it nor the next cell asserts anything"
    for node in ast.walk(tree(cell)):
        if isinstance(node, ast.Call) and SEEDING.match(ast.unparse(node.func)):
            yield f"seeds a global generator: {ast.unparse(node)}"
    for what, pattern in MACHINE.items():
        if pattern.search(source):
            yield f"holds {what}"
    yield from output_problems(cell)


def output_problems(cell) -> Iterator[str]:
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            yield f"wrote to stderr: {output.text[:80]!r}"
        if output.output_type == "error" and "raises-exception" not in tags(cell):
            yield f"failed with {output.ename} and is not tagged raises-exception"
        if output.output_type == "execute_result" and output.execution_count != cell.execution_count:
            yield "its result carries another execution count"
        for kind, text in texts(output):
            for what, pattern in MACHINE.items():
                if hit := pattern.search(text):
                    yield f"its output holds {what}: {text[hit.start() : hit.start() + 40]!r}"
            if kind == "text" and "nbval-ignore-output" not in tags(cell) and (hit := TIMING.search(text)):
                yield f"its output holds a timing: {hit[0]!r}"
    kinds = {mime for output in cell.outputs for mime in output.get("data", {})}
    if WIDGET_VIEW in kinds:
        yield "stores a widget view, which is dead on the page"
    if any(mime.startswith("image/") for mime in kinds):
        for key, value in figure(cell).items():
            if not value or not str(value).strip():
                yield f"draws a figure without its {key}"
    if "raises-exception" in tags(cell) and not any(output.output_type == "error" for output in cell.outputs):
        yield "is tagged raises-exception and raised nothing"


def figure(cell) -> dict[str, str | None]:
    mystnb = cell.metadata.get("mystnb", {})
    about = mystnb.get("figure", {})
    return {
        "caption": about.get("caption"),
        "name": about.get("name"),
        "alternative text": mystnb.get("image", {}).get("alt"),
    }


def test_the_book_has_notebooks():
    assert NOTEBOOKS, f"no notebook in {BOOK}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_notebook_keeps_the_rules(path):
    assert problems(refresh.read(path), MAY_VARY.get(path.name, {})) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_notebook_is_stored_in_normal_form(path):
    assert refresh.to_bytes(refresh.normalise(refresh.read(path))) == path.read_bytes(), "run: make refresh"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_every_notebook_has_the_seconds_of_its_run_and_the_machine_it_was_made_on(path):
    run = refresh.last_run(refresh.read(path))
    assert run is not None, "run: make refresh"
    assert set(run) == {"seconds", "processor", "cores", "python", "torch"}
    assert 0 < run["seconds"] < 1000 and run["cores"] >= 1
    assert run["processor"].strip() and platform.node() not in run["processor"].split()
    assert all(re.match(r"\d+\.\d+", run[name]) for name in ("python", "torch"))


def test_captions_and_figure_names_are_unique_in_the_whole_book():
    figures = [
        figure(cell)
        for path in NOTEBOOKS
        for cell in code_cells(refresh.read(path))
        if any(mime.startswith("image/") for output in cell.outputs for mime in output.get("data", {}))
    ]
    for key in ("caption", "name"):
        values = [about[key] for about in figures if about[key]]
        assert [value for value, times in Counter(values).items() if times > 1] == []


def test_cells_that_may_vary_belong_to_notebooks_that_exist_and_have_a_reason():
    assert set(MAY_VARY) <= {path.name for path in NOTEBOOKS}
    assert all(len(reason.split()) >= 3 for cells in MAY_VARY.values() for reason in cells.values())


# The rules themselves are tested on a notebook that keeps them all and on copies that break one each.


def printed(text: str):
    return v4.new_output("stream", text=text)


def sound_notebook():
    picture = v4.new_output(
        "display_data", {"image/png": "aGk=", "text/plain": "<Figure size 640x480 with 1 Axes>"}
    )
    slow, failure = printed("3 ms\n"), v4.new_output("error", ename="E", evalue="", traceback=[])
    about = {"figure": {"caption": "A line.", "name": "fig-line"}, "image": {"alt": "A line that rises."}}
    cells = [
        v4.new_markdown_cell("# Title"),
        v4.new_code_cell("import math\n\nimport numpy as np"),
        v4.new_code_cell("print(round(math.log(2), 3))", outputs=[printed("0.693\n")]),
        v4.new_code_cell("plot()", outputs=[picture], metadata={"mystnb": about}),
        v4.new_code_cell(
            "train()",
            metadata={"tags": ["nbval-ignore-output"]},
            outputs=[slow],
        ),
        v4.new_code_cell("assert 0 < 1"),
        v4.new_code_cell(
            "1 / 0",
            metadata={"tags": ["raises-exception"]},
            outputs=[failure],
        ),
    ]
    for number, cell in enumerate(cells[1:], start=1):
        cell.execution_count = number
        cell.id = f"cell-{number}"
    return v4.new_notebook(cells=cells, metadata={"kernelspec": refresh.KERNELSPEC})


SOUND_MAY_VARY = {"cell-4": "training differs between processors"}


def add(output_type: str, **content) -> Callable:
    """A breach: one more output in the cell that prints."""
    return lambda nb: nb.cells[2].outputs.append(v4.new_output(output_type, **content))


def source(text: str, cell: int = 2) -> Callable:
    return lambda nb: nb.cells[cell].update(source=text)


def tagged(cell: int, *names: str) -> Callable:
    return lambda nb: nb.cells[cell].metadata.update(tags=list(names))


def prints(text: str) -> Callable:
    return lambda nb: nb.cells[2].outputs[0].update(text=text)


BREACHES: dict[str, tuple[Callable, str]] = {
    "no count": (lambda nb: nb.cells[2].update(execution_count=None), "execution count is None"),
    "counts out of order": (lambda nb: nb.cells[2].update(execution_count=7), "execution count is 7"),
    "another kernel": (lambda nb: nb.metadata.kernelspec.update(name="mine"), "kernelspec"),
    "widget state": (lambda nb: nb.metadata.update(widgets={}), "widget state"),
    "widget view": (add("display_data", data={WIDGET_VIEW: {}}), "widget view"),
    "same id twice": (lambda nb: nb.cells[2].update(id="cell-1"), "not unique"),
    "stderr": (add("stream", name="stderr", text="oh"), "stderr"),
    "an error": (add("error", ename="KeyError", evalue="", traceback=[]), "KeyError"),
    "an error that did not come": (lambda nb: nb.cells[6].update(outputs=[]), "raised nothing"),
    "unknown tag": (tagged(2, "nbval-skip"), "not allowed"),
    "a comment that switches off": (source("# NBVAL_IGNORE_OUTPUT\n1"), "switch off"),
    "may vary, not listed": (tagged(5, "nbval-ignore-output"), "does not name it"),
    "may vary, no assert": (source("1 < 2", cell=5), "asserts anything"),
    "listed, not tagged": (tagged(4), "MAY_VARY names"),
    "no caption": (lambda nb: nb.cells[3].metadata.mystnb.figure.pop("caption"), "without its caption"),
    "no name": (lambda nb: nb.cells[3].metadata.mystnb.figure.pop("name"), "without its name"),
    "no alternative text": (
        lambda nb: nb.cells[3].metadata.mystnb.image.update(alt=" "),
        "its alternative text",
    ),
    "too long": (source("x = 1\n" * 26), "26 lines"),
    "empty": (source("\n"), "is empty"),
    "imports in two cells": (source("from math import log"), "imports are spread"),
    "numpy seeded": (source("np.random.seed(0)"), "seeds a global generator"),
    "torch seeded": (source("g = torch.manual_seed(0)"), "seeds a global generator"),
    "path in a cell": (source("open('/home/me/x')"), "an absolute path"),
    "path in an output": (prints("/tmp/ipykernel_1/2.py"), "an absolute path"),
    "path in a traceback": (
        lambda nb: nb.cells[6].outputs[0].update(traceback=["File ~/x.py"]),
        "a home path",
    ),
    "address": (prints("<object at 0x7f12ab34cd56>"), "an address in memory"),
    "timing": (prints("done in 12.5 ms"), "a timing"),
}


def test_a_notebook_that_keeps_the_rules_is_accepted():
    assert problems(sound_notebook(), SOUND_MAY_VARY) == []


def test_a_generator_of_its_own_may_be_seeded():
    nb = sound_notebook()
    nb.cells[2].source = "rng = np.random.default_rng(0)\ng = torch.Generator().manual_seed(0)"
    assert problems(nb, SOUND_MAY_VARY) == []


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_a_rule_is_found(breach):
    nb = copy.deepcopy(sound_notebook())
    spoil, expected = BREACHES[breach]
    spoil(nb)
    found = problems(nb, SOUND_MAY_VARY)
    assert any(expected in sentence for sentence in found), found


# The proof that the comparison bites, on a chapter of the book and in a process of its own.


def first_number(nb) -> tuple[int, int]:
    """Where a number is first printed: the positions of the cell and of its output."""
    for position, cell in enumerate(nb.cells):
        if cell.cell_type == "code" and "nbval-ignore-output" not in tags(cell):
            for place, output in enumerate(cell.outputs):
                if output.output_type == "stream" and re.search(r"\d", output.text):
                    return position, place
                if output.output_type == "execute_result" and re.search(
                    r"\d", output.data.get("text/plain", "")
                ):
                    return position, place
    raise AssertionError("no cell of the notebook prints a number")


def with_one_digit_changed(output):
    """The same output with its last digit changed."""
    changed = copy.deepcopy(output)
    text = changed.text if changed.output_type == "stream" else changed.data["text/plain"]
    last = list(re.finditer(r"\d", text))[-1]
    text = text[: last.start()] + str((int(last[0]) + 1) % 10) + text[last.end() :]
    if changed.output_type == "stream":
        changed.text = text
    else:
        changed.data["text/plain"] = text
    return changed


def run_nbval(folder: Path) -> dict[str, list[bool]]:
    """Run nbval on a folder as `make test` does; for each notebook, whether each of its cells passed."""
    report = folder / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "--nbval-current-env",
        "--nbval-cell-timeout=120",
        "-q",
    ]
    command += ["-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={folder}"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environ["PYTHONPATH"] = str(ROOT)
    command += [f"--junitxml={report}", str(folder)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=600)
    assert report.exists(), done.stdout + done.stderr
    passed: dict[str, list[bool]] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        well = case.find("failure") is None and case.find("error") is None
        passed.setdefault(case.get("classname"), []).append(well)
    assert (done.returncode == 0) == all(all(cells) for cells in passed.values())
    return passed


def test_one_changed_digit_in_a_stored_output_turns_the_suite_red(tmp_path):
    nb = refresh.read(min(NOTEBOOKS))  # chapter 1, whose first number comes early and is compared
    position, place = first_number(nb)
    nb.cells = nb.cells[
        : position + 1
    ]  # nothing after the changed cell is needed, and it would take its time
    spoiled = copy.deepcopy(nb)
    spoiled.cells[position].outputs[place] = with_one_digit_changed(nb.cells[position].outputs[place])
    (tmp_path / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    for name, content in (("as_stored", nb), ("one_digit_off", spoiled)):
        (tmp_path / f"{name}.ipynb").write_bytes(refresh.to_bytes(content))
    passed = run_nbval(tmp_path)
    before = len(code_cells(nb)) - 1
    assert passed == {
        "as_stored.ipynb": [True] * (before + 1),
        "one_digit_off.ipynb": [True] * before + [False],
    }


def test_a_changed_figure_drawing_alone_is_not_compared_but_a_changed_number_beside_it_is(tmp_path):
    draw = "from IPython.display import SVG, display\n\ndisplay(SVG(data='<svg/>'))\nprint(42)"
    drawing = {"image/svg+xml": "<svg>another</svg>", "text/plain": "<IPython.core.display.SVG object>"}
    (tmp_path / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    for name, number in (("drawing", 42), ("number", 43)):
        outputs = [v4.new_output("display_data", drawing), printed(f"{number}\n")]
        nb = v4.new_notebook(cells=[v4.new_code_cell(draw, execution_count=1, outputs=outputs)])
        (tmp_path / f"{name}.ipynb").write_text(nbformat.writes(nb), encoding="utf-8")
    assert run_nbval(tmp_path) == {"drawing.ipynb": [True], "number.ipynb": [False]}
