"""Fixtures and settings of the tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import matplotlib
import pytest

from tools import book, browser

# The same examples on every run: a red run is red for everybody. To search further:
# HYPOTHESIS_PROFILE=explore.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.register_profile("explore", max_examples=2000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# In this process only: as an environment variable it would reach the notebooks' kernels, which draw inline.
matplotlib.use("agg")


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the built pages, which must be those of the present sources."""
    if not book.is_current():
        pytest.fail(
            "The built book is missing or older than its sources: run `make book` (or `python3 tools book`)."
        )
    return book.html()


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A running browser of the Chromium family, as a Playwright Browser."""
    from playwright.sync_api import sync_playwright

    try:
        program = browser.find_or_fetch(Path(sys.executable))
    except browser.Problem as problem:
        pytest.fail(str(problem))
    flags = browser.flags()
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=str(program), args=flags, chromium_sandbox="--no-sandbox" not in flags
        )
        yield running
        running.close()
