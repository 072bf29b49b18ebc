"""The book's Sphinx extension for the page "How this book is verified": its tables are counted when the book is built.

    ```{compass-verified} notebooks
    ```

shows what is in each chapter's notebook and how long its last run took; with `varying` the cells whose output is not
compared, why, and what they assert instead; with `tests` the modules of the test suite. Nothing of it is typed, so
nothing of it can be out of date: `tools/book.py` counts what is read here among the book's sources.
"""

from __future__ import annotations

import ast
import html
import re
import runpy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from IPython.core.inputtransformer2 import TransformerManager
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

from lossutils.exercises.registry import all_exercises
from tools import refresh, suite

NOT_COMPARED = "nbval-ignore-output"
HIDDEN = "remove-cell"  # a reader of the page never sees such a cell, so it counts for nothing
NOT_TIMED = "not timed"
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
SOFT = "\N{SOFT HYPHEN}"  # where a head may be broken, so that the table fits the column of a laptop
COLUMNS = {
    "Code cells": "cells",
    f"Com{SOFT}pared": "compared",
    "May vary": "may_vary",
    f"Asser{SOFT}tions": "assertions",
    "Figures": "figures",
    f"Explor{SOFT}ables": "explorables",
    f"Exer{SOFT}cises": "exercises",
}


@dataclass(frozen=True)
class Varying:
    """A cell whose output is not compared: where it stands, why, and the cell that asserts what it claims."""

    cell: str
    section: str
    reason: str
    asserted_in: str
    assertions: tuple[str, ...]


@dataclass(frozen=True)
class Chapter:
    """A notebook in numbers."""

    name: str
    title: str
    cells: int
    compared: int
    assertions: int
    figures: int
    explorables: int
    exercises: int
    run: dict[str, Any] | None
    varying: tuple[Varying, ...]

    @property
    def may_vary(self) -> int:
        return len(self.varying)


def chapters(root: Path) -> list[Chapter]:
    """All chapters of the book, in order."""
    exercises = Counter(exercise.chapter for exercise in all_exercises())
    found = []
    for path in notebooks(root):
        number = int(path.stem[:2])
        told = may_vary_file(root, number)
        reasons = runpy.run_path(str(told))["MAY_VARY"] if told.exists() else {}
        found.append(chapter(path.stem, refresh.read(path), reasons, exercises[number]))
    return found


def notebooks(root: Path) -> list[Path]:
    return sorted((root / "book").glob("[0-9][0-9]_*.ipynb"))


def may_vary_file(root: Path, number: int) -> Path:
    """Where the tests name the cells of a chapter whose output may vary."""
    return root / suite.FOLDER / "chapters" / f"chapter{number:02d}.py"


def chapter(name: str, notebook: Any, reasons: dict[str, str], exercises: int) -> Chapter:
    """The numbers of one notebook; cells that the page leaves out are left out here."""
    seen = [cell for cell in notebook.cells if HIDDEN not in _tags(cell)]
    code = [cell for cell in seen if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    headings = [title for cell in seen if cell.cell_type == "markdown" for title in _headings(cell)]
    return Chapter(
        name=name,
        title=headings[0].split(":")[0] if headings else name,
        cells=len(code),
        compared=sum(
            NOT_COMPARED not in _tags(cell) and any(map(_is_compared, cell.outputs)) for cell in code
        ),
        assertions=sum(len(assertions(cell.source)) for cell in code),
        figures=sum(map(_is_figure, outputs)),
        explorables=sum(
            len(re.findall(r"<compass-explorable\b", output.get("data", {}).get("text/html", "")))
            for output in outputs
        ),
        exercises=exercises,
        run=refresh.last_run(notebook),
        varying=tuple(_varying(seen, reasons)),
    )


def assertions(source: str) -> tuple[str, ...]:
    """The assert statements of a cell as they are written, from the margin."""
    python = TransformerManager().transform_cell(source)  # a line of IPython's own (%, !) is no Python
    found = (node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Assert))
    in_order = sorted(found, key=lambda node: node.lineno)
    return tuple(dedent(ast.get_source_segment(python, node, padded=True)) for node in in_order)


def _varying(cells: Sequence[Any], reasons: dict[str, str]) -> Iterator[Varying]:
    section = ""
    for place, cell in enumerate(cells):
        section = (_headings(cell) or [section])[-1] if cell.cell_type == "markdown" else section
        if cell.cell_type != "code" or NOT_COMPARED not in _tags(cell):
            continue
        after = [other for other in cells[place:] if other.cell_type == "code"][:2]
        asserting = next((other for other in after if assertions(other.source)), cell)
        reason = reasons.get(cell.id, "no reason is given")  # tests/test_notebooks.py turns red
        yield Varying(cell.id, section, reason, asserting.id, assertions(asserting.source))


def _tags(cell: Any) -> Sequence[str]:
    return cell.metadata.get("tags", ())


def _headings(cell: Any) -> list[str]:
    return HEADING.findall(re.sub(r"(?ms)^```.*?^```", "", cell.source))


def _is_figure(output: Any) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def _is_compared(output: Any) -> bool:
    """Whether there is more to compare than a drawing, whose coordinates may differ in their last digit."""
    return not _is_figure(output)


def machine(run: dict[str, Any]) -> str:
    """A machine in words."""
    cores = f"{run['cores']} core{'' if run['cores'] == 1 else 's'}"
    return f"{run['processor']}, {cores}, Python {run['python']}, PyTorch {run['torch']}"


def machines(found: Sequence[Chapter]) -> list[str]:
    """The different machines of the runs, in the order of the chapters."""
    return list(dict.fromkeys(machine(one.run) for one in found if one.run))


def rows(found: Sequence[Chapter]) -> list[list[str]]:
    """The table of notebooks without its head: a row for each chapter, and the total.

    Where the runs were made on more than one machine, a letter beside the seconds says which.
    """
    letters = {name: f" ({chr(ord('A') + place)})" for place, name in enumerate(machines(found))}
    if len(letters) == 1:
        letters = dict.fromkeys(letters, "")
    table = []
    for one in found:
        seconds = f"{one.run['seconds']:.1f}{letters[machine(one.run)]}" if one.run else NOT_TIMED
        table.append([one.title, *(f"{getattr(one, name):,}" for name in COLUMNS.values()), seconds])
    totals = [f"{sum(getattr(one, name) for one in found):,}" for name in COLUMNS.values()]
    timed = all(one.run for one in found)
    seconds = f"{sum(one.run['seconds'] for one in found):,.1f}" if timed else NOT_TIMED
    return [*table, ["All", *totals, seconds]]


class Verified(SphinxDirective):
    """`compass-verified`: one of the three tables."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        wanted = directives.choice(self.arguments[0], ("notebooks", "varying", "tests"))
        root = Path(self.env.srcdir)
        if wanted == "tests":
            return self._tests(root)
        for path in notebooks(root):
            for source in (path, may_vary_file(root, int(path.stem[:2]))):
                self.env.note_dependency(source.relative_to(root).as_posix())
        return self._notebooks(chapters(root)) if wanted == "notebooks" else self._varying(chapters(root))

    def _notebooks(self, found: list[Chapter]) -> list[nodes.Node]:
        *body, total = rows(found)
        links = [self._link(one) for one in found] + [nodes.strong("", total[0])]
        numbers = [[nodes.Text(cell) for cell in row[1:]] for row in body]
        numbers.append([nodes.strong("", cell) for cell in total[1:]])
        head = ["Chapter", *COLUMNS, "Seconds"]
        shown = [_table(head, [[link, *row] for link, row in zip(links, numbers, strict=True)], named=True)]
        names = machines(found)
        if len(names) == 1:
            shown.append(nodes.paragraph("", f"All the seconds are those of one machine: {names[0]}."))
        elif names:
            listed = [
                nodes.paragraph("", f"({chr(ord('A') + place)}) {name}") for place, name in enumerate(names)
            ]
            shown.append(nodes.bullet_list("", *(nodes.list_item("", line) for line in listed)))
        return shown

    def _link(self, one: Chapter) -> nodes.Node:
        link = addnodes.pending_xref(
            "", refdomain="std", reftype="doc", reftarget=f"/book/{one.name}", refexplicit=True
        )
        link["refdoc"], link["refwarn"] = self.env.docname, True
        link += nodes.inline(one.title, one.title)
        return link

    def _varying(self, found: list[Chapter]) -> list[nodes.Node]:
        shown: list[nodes.Node] = []
        for one in found:
            if one.varying:
                cells = f"{one.may_vary} cell{'' if one.may_vary == 1 else 's'}"
                listed = {cell.cell for cell in one.varying}
                items = (nodes.list_item("", *self._about(cell, listed)) for cell in one.varying)
                shown += _fold(f"{one.title}: {cells}", nodes.bullet_list("", *items))
        return shown

    def _about(self, cell: Varying, listed: set[str]) -> Iterator[nodes.Node]:
        section, messages = self.state.inline_text(cell.section, self.lineno)
        words = nodes.paragraph("", "", nodes.literal("", cell.cell), nodes.Text(" ("))
        words += [nodes.emphasis("", "", *section), nodes.Text(f"): {cell.reason}.")]
        yield words
        yield from messages
        if cell.asserted_in != cell.cell:
            words += [nodes.Text(" The assertion is in the next cell, "), nodes.literal("", cell.asserted_in)]
            words += nodes.Text("." if cell.asserted_in in listed else ":")
        if cell.asserted_in == cell.cell or cell.asserted_in not in listed:
            code = "\n".join(cell.assertions)
            yield nodes.literal_block(code, code, language="python")

    def _tests(self, root: Path) -> list[nodes.Node]:
        found = suite.modules(root)
        for one in found:
            self.env.note_dependency(f"{suite.FOLDER}/{one.name}.py")
        table = []
        for one in found:
            about, messages = self.state.inline_text(one.about, self.lineno)
            said = [
                nodes.paragraph("", "", nodes.literal("", one.name)),
                nodes.paragraph("", "", *about),
                *messages,
            ]
            table.append([said, nodes.Text(f"{one.functions:,}")])
        title = f"{len(found)} modules with {sum(one.functions for one in found):,} test functions"
        return _fold(title, _table(["Module", f"Func{SOFT}tions"], table))


def _fold(title: str, *content: nodes.Node) -> list[nodes.Node]:
    """Content under a title that unfolds it; where there are no folds, as on paper, the content alone."""
    start = f'<details class="compass-fold"><summary>{html.escape(title)}</summary>'
    return [nodes.raw("", start, format="html"), *content, nodes.raw("", "</details>", format="html")]


def _table(head: list[str], body: list[list], *, named: bool = False) -> nodes.table:
    """A table whose columns are numbers but the first; if `named`, that one is the heading of each row.

    A cell is a node of a line of text, or a list of nodes that are blocks.
    """

    def row(cells: Sequence[nodes.Node | list[nodes.Node]]) -> nodes.row:
        blocks = (cell if isinstance(cell, list) else [nodes.paragraph("", "", cell)] for cell in cells)
        first, *numbers = [nodes.entry("", *block) for block in blocks]
        for entry in numbers:
            entry["classes"].append("text-right")
        return nodes.row("", first, *numbers)

    columns = [nodes.colspec(colwidth=1, stub=named and not place) for place in range(len(head))]
    group = nodes.tgroup("", *columns, cols=len(head))
    group += nodes.thead("", row([nodes.Text(name) for name in head]))
    group += nodes.tbody("", *map(row, body))
    return nodes.table("", group, classes=["compass-numbers"])


def setup(app) -> dict:
    app.add_directive("compass-verified", Verified)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
