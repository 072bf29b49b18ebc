"""What holds for everything that pytest collects here: tests, doctests and notebooks.

In the root, because pytest gives a notebook in book/ only to the hooks of the folders above it.
"""

from __future__ import annotations

import os

import pytest

# Sums in one order: more threads may change a last digit. Set before anything imports NumPy or PyTorch, and
# inherited by the notebooks' kernels.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONHASHSEED", "0")

# A figure's coordinates may differ in the last digit on another processor. The notebooks assert what the
# figure shows.
NOT_COMPARED = ("image/svg+xml",)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("the book")
    group.addoption("--no-site", action="store_true", help="leave out the tests of the built pages")
    group.addoption("--quick", action="store_true", help="leave out the tests marked slow")


def pytest_collectstart(collector: pytest.Collector) -> None:
    if hasattr(collector, "skip_compare"):  # a notebook of nbval's
        collector.skip_compare += NOT_COMPARED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if {"chromium", "site"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("site")
    unwanted = {mark for mark, option in (("site", "no_site"), ("slow", "quick")) if config.getoption(option)}
    left_out = [any(item.get_closest_marker(mark) for mark in unwanted) for item in items]
    if any(left_out):
        config.hook.pytest_deselected(items=[item for item, out in zip(items, left_out, strict=True) if out])
        items[:] = [item for item, out in zip(items, left_out, strict=True) if not out]


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    if config.getoption("no_site"):
        terminalreporter.write_line("The tests of the built pages were left out (--no-site).")
    if config.getoption("quick"):
        terminalreporter.write_line("The slow tests were left out (--quick).")
