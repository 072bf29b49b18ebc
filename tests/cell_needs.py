"""Which cells of a notebook must run, in their order, for some of its cells to run.

It reads the code and runs none, so a cell may need what this does not see: run what it returns.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Iterator, Sequence

from IPython.core.inputtransformer2 import TransformerManager

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SCOPES = (*FUNCTIONS, *COMPREHENSIONS)
BUILT_IN = set(dir(builtins))


def needed(sources: Sequence[str], wanted: Iterable[int]) -> list[int]:
    """The numbers of the cells to run: the wanted ones and all that bind or change what they use, in order."""
    cells = [_Cell(source) for source in sources]
    modules = set().union(
        *(cell.imports for cell in cells)
    )  # a call of a module's function changes no module
    found: set[int] = set()
    waiting = list(wanted)
    last = max(waiting)
    while waiting:
        at = waiting.pop()
        if at in found:
            continue
        found.add(at)
        for name in cells[at].asks - BUILT_IN:
            before = [k for k in range(at) if name in cells[k].binds]
            if before:
                waiting.append(before[-1])
                changed = range(before[-1] + 1, at) if name not in modules else ()
                waiting += [k for k in changed if name in cells[k].changes]
            else:  # what a function asks for may be bound after it, before the call
                waiting += [k for k in range(at + 1, last) if name in cells[k].binds][:1]
    return sorted(found)


class _Cell:
    """The names that a cell asks for, those that it binds, and those of objects that it changes."""

    def __init__(self, source: str):
        self.asks: set[str] = set()
        self.binds: set[str] = set()
        self.changes: set[str] = set()
        self.imports: set[str] = set()
        for statement in ast.parse(TransformerManager().transform_cell(source)).body:
            self._run(statement)

    def _run(self, node: ast.AST) -> None:
        """Go through a node in the order in which Python runs it."""
        if isinstance(node, ast.Name):
            (self._ask if isinstance(node.ctx, ast.Load) else self.binds.add)(node.id)
            return
        if isinstance(node, SCOPES):
            for name in _free(node):
                self._ask(name)
        else:
            for child in _in_order(node):
                self._run(child)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self.binds.add(node.name)
        elif isinstance(node, ast.alias):
            self.imports.add((node.asname or node.name).split(".")[0])
            self.binds |= self.imports
        elif isinstance(node, (ast.AugAssign, ast.Assign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                self._change(target)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._change(node.value.func)  # a call for its effect, as losses.append(3)

    def _ask(self, name: str) -> None:
        if name not in self.binds:
            self.asks.add(name)

    def _change(self, node: ast.AST) -> None:
        inner = node
        while isinstance(inner, (ast.Attribute, ast.Subscript)):
            inner = inner.value
        if inner is not node and isinstance(inner, ast.Name):
            self.changes.add(inner.id)


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node; what is assigned comes after its value, a loop's body after its variable."""
    children = list(ast.iter_child_nodes(node))
    first = [
        getattr(node, field) for field in ("value", "iter") if isinstance(getattr(node, field, None), ast.AST)
    ]
    yield from first
    yield from (child for child in children if child not in first)


def _free(node: ast.AST) -> set[str]:
    """The names that a function or a comprehension takes from outside."""
    asked: set[str] = set()
    own: set[str] = set()
    waiting = list(ast.iter_child_nodes(node))
    while waiting:
        part = waiting.pop()
        if isinstance(part, SCOPES):
            asked |= _free(part)
            if not isinstance(part, (ast.Lambda, *COMPREHENSIONS)):
                own.add(part.name)
            continue
        if isinstance(part, ast.Name):
            (asked if isinstance(part.ctx, ast.Load) else own).add(part.id)
        elif isinstance(part, ast.arg):
            own.add(part.arg)
        waiting += ast.iter_child_nodes(part)
    return asked - own
