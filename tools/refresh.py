"""Run notebooks in place and store them in one normal form.

The normal form is what makes a diff readable and a rebuild repeatable: counts 1..n, no widget state, no
timings, no editor settings, one kernel name, no path of this machine, keys in order. `normalise` is pure;
normalising twice changes nothing.

One timing is kept, under the book's own key: the seconds of the run that made the outputs, and the machine that it
ran on. A run that finds the same outputs again leaves them as they are, so that the file does not change.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import os
import platform
import re
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parent.parent
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python"}
# What an author says about a notebook or a cell stays; what an editor or a run notes down goes.
NOTEBOOK_KEYS = {"kernelspec", "language_info", "mystnb", "authors", "title", "compass"}
CELL_NOISE = {
    "ExecuteTime",
    "collapsed",
    "colab",
    "editable",
    "execution",
    "id",
    "jp-MarkdownHeadingCollapsed",
    "jupyter",
    "outputId",
    "pycharm",
    "scrolled",
    "slideshow",
    "trusted",
    "vscode",
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 120


def normalise(notebook: dict[str, Any], root: Path = ROOT) -> dict[str, Any]:
    """The notebook in normal form, as a new object.

    Parameters
    ----------
    notebook
        A version 4 notebook. Its code cells count as run in their order: they are numbered 1..n.
    root
        The folder whose path is cut from tracebacks.
    """
    nb = nbformat.from_dict(copy.deepcopy(dict(notebook)))
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata = nbformat.from_dict({k: v for k, v in nb.metadata.items() if k in NOTEBOOK_KEYS})
    nb.metadata.kernelspec, nb.metadata.language_info = (
        nbformat.from_dict(KERNELSPEC),
        nbformat.from_dict(LANGUAGE),
    )
    count, ids = 0, set()
    for position, cell in enumerate(nb.cells):
        cell.source = _joined(cell.source).rstrip("\n")
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k not in CELL_NOISE})
        if not cell.get("id") or cell.id in ids:
            cell.id = hashlib.sha256(f"{position} {cell.source}".encode()).hexdigest()[:8]
        ids.add(cell.id)
        if cell.cell_type != "code":
            for key in ("outputs", "execution_count"):
                cell.pop(key, None)
            continue
        if {"hide-cell", "remove-cell"} & set(cell.metadata.get("tags", [])):
            cell.metadata.jupyter = {
                "source_hidden": True
            }  # folded in JupyterLab; on the page too, or absent
        # An empty cell is never run: Jupyter gives it no number.
        count += bool(cell.source.strip())
        cell.execution_count = count if cell.source.strip() else None
        cell.outputs = _outputs(cell.outputs, cell.execution_count, root)
    return nb


def _outputs(outputs: list[Any], count: int | None, root: Path) -> list[Any]:
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream":
            output.text = _joined(output.text)
            # Where printing is cut into messages depends on the clock.
            if kept and kept[-1].output_type == "stream" and kept[-1].name == output.name:
                kept[-1].text += output.text
                continue
        elif output.output_type == "error":
            output.traceback = [_without_paths(line, root) for line in output.traceback]
        else:
            output.data.pop(WIDGET_VIEW, None)
            if not output.data:
                continue
            for mime, value in output.data.items():
                if not mime.endswith("json"):
                    output.data[mime] = _joined(value)
            if output.output_type == "execute_result":
                output.execution_count = count
        output.pop("transient", None)
        kept.append(output)
    return kept


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _without_paths(line: str, root: Path) -> str:
    """Cut this machine out of a traceback: our files from the root on, a package's from its name on."""
    spellings = {str(root), root.as_posix()}
    if root.is_relative_to(Path.home()):
        spellings.add(str(Path("~") / root.relative_to(Path.home())))
    for spelling in spellings:
        line = line.replace(spelling + "/", "").replace(spelling + "\\", "")
    # A colour code may stand right before the path, and its last letter must not be taken for part of it.
    start = r"((?:\x1b\[[\d;]*m)?)[^\s\"'()<>\x1b]*[/\\]"
    line = re.sub(start + r"(?:site|dist)-packages[/\\]", r"\1", line)
    return re.sub(start + r"[Ll]ib(?:[/\\]python3\.\d+)?[/\\](?=[\w/\\]+\.py\b)", r"\1", line)


def to_bytes(notebook: dict[str, Any]) -> bytes:
    """The file's bytes, the same on every system: keys in order, indent of one, UTF-8, newline at the end."""
    return (nbformat.writes(notebook, version=4).rstrip("\n") + "\n").encode("utf-8")


def read(path: Path) -> Any:
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def execute(path: Path) -> Any:
    """Run a notebook in its own folder with a fresh kernel; what it holds then.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        When a cell fails that is not tagged raises-exception.
    """
    from nbclient import NotebookClient

    nb = read(path)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        nb,
        kernel_name=KERNELSPEC["name"],
        timeout=CELL_SECONDS,
        record_timing=False,
        extra_arguments=[
            "--log-level=ERROR"
        ],  # a kernel's notes on its own transport are not the reader's business
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute()
    return nb


def machine() -> dict[str, Any]:
    """What the seconds of a run depend on, in the system's own words, and nothing that names whose machine it is."""
    from benchmarks.report import processor

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
    }


def last_run(notebook: Any) -> dict[str, Any] | None:
    """The seconds and the machine of the run that made the stored outputs; None if they are not stored."""
    return notebook.metadata.get("compass", {}).get("run")


def refresh(path: Path) -> str:
    """Run one notebook and store it in normal form; says whether the file changed."""
    start = time.perf_counter()
    nb = execute(path)
    seconds = round(time.perf_counter() - start, 1)
    if last_run(nb) and to_bytes(normalise(nb)) == path.read_bytes():
        return "unchanged"
    nb.metadata.compass = {**nb.metadata.get("compass", {}), "run": {"seconds": seconds, **machine()}}
    replace(path, to_bytes(normalise(nb)))
    return "stored"


def replace(path: Path, content: bytes) -> None:
    """Write a file in one go: an interrupted run leaves the old one."""
    spare = path.with_name(f".{path.name}.new")
    spare.write_bytes(content)
    spare.replace(path)


def main(argv: list[str] | None = None) -> int:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    parser = argparse.ArgumentParser(prog="tools.refresh")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args(argv)
    failed = []
    for path in options.notebooks:
        if options.check:
            normal = to_bytes(normalise(read(path))) == path.read_bytes()
            print(f"{path.name}: {'in normal form' if normal else 'not in normal form, run make refresh'}")
            failed += [] if normal else [path]
            continue
        print(f"{path.name} ...", end=" ", flush=True)
        start = time.perf_counter()
        try:
            print(f"{refresh(path)}, {time.perf_counter() - start:.1f} s", flush=True)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed.append(path)
            print(f"failed; the file is as it was\n{error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
