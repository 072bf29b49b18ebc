"""Every decimal number in a chapter's prose stands in that chapter's outputs or code, or has a source named here.

Prose drifts where nothing tests it. A number is looked up by its digits: "0.105" in a sentence must be what some number
of the outputs or the code rounds to at three decimals.
"""

import re
from pathlib import Path

import chapters
import nbformat
import pytest

BOOK = Path(__file__).parent.parent / "book"
CHAPTERS = sorted(BOOK.glob("[0-9][0-9]_*.ipynb"))
NUMBER = re.compile(r"(?<![\w.])(\d[\d,\u202f]*\.\d+)(?![\w.]*\d)")

EXERCISE_HEADING = re.compile(r"^#+ \d+\.\d+ .*$", re.MULTILINE)


def numbers(text):
    return [match[1].replace(",", "") for match in NUMBER.finditer(text)]


def prose(notebook):
    return "\n".join(
        EXERCISE_HEADING.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown"
    )


def evidence(notebook):
    """All numbers of the chapter's code and text outputs."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts.append(cell.source.replace("_", ""))
            for output in cell.outputs:
                texts.append(output.get("text", ""))
                texts.append(output.get("data", {}).get("text/plain", ""))
    return [float(found) for found in re.findall(r"\d+\.?\d*(?:e-?\d+)?", "\n".join(texts))]


def unsupported(notebook, sourced):
    known = evidence(notebook)
    missing = []
    for number in numbers(prose(notebook)):
        decimals = len(number.split(".")[1])
        if number not in sourced and not any(f"{value:.{decimals}f}" == number for value in known):
            missing.append(number)
    return missing


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_decimal_number_in_the_prose_was_computed_or_has_a_source(path):
    notebook = nbformat.read(path, as_version=4)
    assert unsupported(notebook, chapters.ALL[path.stem].SOURCED) == []


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_number_that_claims_a_source_is_still_in_the_prose(path):
    said = set(numbers(prose(nbformat.read(path, as_version=4))))
    assert set(chapters.ALL[path.stem].SOURCED) <= said


def test_a_number_that_drifted_is_found():
    notebook = nbformat.read(CHAPTERS[0], as_version=4)
    cell = next(cell for cell in notebook.cells if "0.105" in cell.source and cell.cell_type == "markdown")
    cell.source = cell.source.replace("0.105", "0.106")
    assert unsupported(notebook, chapters.ALL["01_surprise"].SOURCED) == ["0.106"]
