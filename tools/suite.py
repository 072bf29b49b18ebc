"""The test suite in facts: what each of its modules is about, and how many test functions it has.

The page "How this book is verified" shows them. Only the standard library: the fingerprint of the built book asks here
too, and it is taken before anything is installed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

FOLDER = "tests"


@dataclass(frozen=True)
class Module:
    """One module of the suite."""

    name: str
    about: str
    functions: int


def modules(root: Path) -> list[Module]:
    """The modules of the suite in the order of their names."""
    return [read(path) for path in sorted((root / FOLDER).glob("test_*.py"))]


def read(path: Path) -> Module:
    """One module; what it is about is the first line of its docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    first, *_ = (ast.get_docstring(tree) or "").splitlines() or [""]
    return Module(path.stem, first, count(tree))


def count(tree: ast.Module | ast.ClassDef) -> int:
    """How many test functions pytest would collect. One that runs over many cases is one."""
    found = 0
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found += node.name.startswith("test")
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            found += count(node)
    return found
