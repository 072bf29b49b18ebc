"""What the benchmarks share: the line that says where they ran, and tables in Markdown."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

import numpy as np
import torch


def processor() -> str:
    """The processor's name, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def header(*peers: str) -> str:
    """One line: processor, cores, versions (of these distributions too, where they are installed), date."""
    installed = []
    for name in peers:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed.append(f"{name} {metadata.version(name)}, ")
    return (
        f"Measured on {processor()}, {os.cpu_count()} cores, {platform.system()}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, NumPy {np.__version__}, "
        f"{''.join(installed)}on {datetime.date.today().isoformat()}."
    )


def table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table; the first row is the head."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(name: str, parts: list[str | list[list[str]]], folder: Path | None) -> None:
    """Print paragraphs and tables, and keep them as ``name``.md in a folder if one is given."""
    text = "\n\n".join(part if isinstance(part, str) else table(part) for part in parts) + "\n"
    print(text)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.md").write_text(text, encoding="utf8")
