"""The book's Sphinx extension for explorables outside notebooks: a page that is no notebook has no cell to make one.

    ```{compass-explorable} lossutils.figures.cover.loss_and_use
    :data: experiments/alignment_seeds.json
    ```

calls that function when the page is built, with what the JSON file beside the page holds (without `data`: with
nothing), and puts the figure there. The page shows no code.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from lossutils.explore import Explorable


def function(dotted: str) -> Callable[..., Explorable]:
    """The function that a name like ``package.module.function`` means.

    Raises
    ------
    ValueError
        When there is no such module, or nothing that can be called by that name in it.
    """
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{dotted}: there is no such function ({error})") from error
    if not callable(found):
        raise ValueError(f"{dotted}: is no function")
    return found


class CompassExplorable(SphinxDirective):
    """One explorable, made when the page is read."""

    required_arguments = 1
    option_spec = {"data": directives.path}  # noqa: RUF012 (docutils reads it as a class attribute)

    def run(self) -> list[nodes.Node]:
        try:
            make = function(self.arguments[0])
            figure = make(*self._data())
        except (ValueError, KeyError, OSError) as error:
            raise self.error(f"compass-explorable: {error}") from error
        if not isinstance(figure, Explorable):
            raise self.error(
                f"compass-explorable: {self.arguments[0]} gave {figure!r}, which is no Explorable"
            )
        return [nodes.raw("", figure.to_html(), format="html")]

    def _data(self) -> list:
        if "data" not in self.options:
            return []
        relative, path = self.env.relfn2path(self.options["data"])
        self.env.note_dependency(relative)
        return [json.loads(Path(path).read_text(encoding="utf-8"))]


def setup(app) -> dict:
    app.add_directive("compass-explorable", CompassExplorable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
