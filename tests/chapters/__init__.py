"""What the tests must know about each chapter: one module a chapter, named like its notebook.

- ``MAY_VARY``: the cells whose output may differ between machines, and why (cell id -> reason);
- ``SOURCED``: the decimal numbers of its prose that no cell computes, and where they come from;
- ``READOUTS``: what each readout of each explorable must say, given what the sliders show (texts in, text out).

The cover is no chapter; ``cover`` has its ``READOUTS``.
"""

import importlib
from pathlib import Path

from . import cover as cover

ALL = {
    path.stem: importlib.import_module(f"chapters.chapter{path.stem[:2]}")
    for path in sorted((Path(__file__).parents[2] / "book").glob("[0-9][0-9]_*.ipynb"))
}
