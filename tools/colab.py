"""The first code cell of every chapter: in Colab, which opens a notebook alone, it fetches the book and its library.

Anywhere else the cell does nothing, and the page leaves it out. It holds the address of the book's repository, which
`make book REPO=…` writes into it; until then it says, in Colab, what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nbformat import v4

from tools import refresh

CELL_ID = "colab"
TAG = "remove-cell"  # the page does not show it
SOURCE = """\
# Only for Colab, which has PyTorch but not this book: fetches the book and its library.
repository, branch = "{repository}", "{branch}"
if "google.colab" in str(get_ipython()):
    assert repository, "the line above must name the repository"
    there = "/content/compass"
    !test -d {{there}} || git clone -q --depth 1 -b {{branch}} {{repository}} {{there}}
    %pip install --quiet "{{there}}[coding]"
    %cd -q {{there}}/book"""


def source(repository: str = "", branch: str = "main") -> str:
    """The cell's code for one repository."""
    return SOURCE.format(repository=repository, branch=branch)


def with_cell(notebook, repository: str = "", branch: str = "main"):
    """The notebook with the cell before its first other code cell, as a new object in normal form."""
    nb = refresh.normalise(notebook)
    nb.cells = [cell for cell in nb.cells if cell.id != CELL_ID]
    place = next((n for n, cell in enumerate(nb.cells) if cell.cell_type == "code"), len(nb.cells))
    cell = v4.new_code_cell(source(repository, branch), id=CELL_ID, metadata={"tags": [TAG]})
    nb.cells.insert(place, cell)
    return refresh.normalise(nb)


def name_repository(notebooks: Iterable[Path], repository: str, branch: str) -> list[Path]:
    """Write the address into the notebooks' cells; the notebooks that did not name it before."""
    changed = []
    for path in notebooks:
        after = refresh.to_bytes(with_cell(refresh.read(path), repository, branch))
        if after != path.read_bytes():
            refresh.replace(path, after)
            changed.append(path)
    return changed


def main(argv: list[str]) -> int:
    """Name the repository argv[0], at the branch argv[1], in the notebooks argv[2:]."""
    if changed := name_repository(map(Path, argv[2:]), *argv[:2]):
        print(f"{len(changed)} notebooks now name {argv[0]} ({argv[1]}) for Colab: commit them.")
    return 0
