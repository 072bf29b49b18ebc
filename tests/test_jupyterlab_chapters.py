"""Every chapter in a reader's JupyterLab: its figures are moved by key, and say what the library says.

Of each chapter only the cells run that its figures need. The whole notebooks run in `make test` without a browser;
what a slider's view, its kernel and the page make of each other shows here alone.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import chapters
import nbformat
import pytest
from bs4 import BeautifulSoup
from cell_needs import needed
from lab_server import PATIENCE, Server, opened, serving
from playwright.sync_api import expect

BOOK = Path(__file__).resolve().parent.parent / "book"
RUN_SECONDS = 240  # the most that the needed cells of a chapter may take, beside other tests


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab over a copy of the chapters, with what they read; their stored outputs stay behind."""
    folder = tmp_path_factory.mktemp("chapters")
    shutil.copytree(BOOK / "experiments", folder / "experiments")
    for name in chapters.ALL:
        notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / f"{name}.ipynb")
    with serving(folder, tmp_path_factory.mktemp("jupyter")) as server:
        yield server


def explorables(notebook: nbformat.NotebookNode) -> dict[int, dict]:
    """The figures with sliders: number of the cell -> what its stored output says of it."""
    found = {}
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            soup = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
            if element := soup.find("compass-explorable"):
                found[number] = json.loads(element.find("script").string)
    return found


def cells_to_run(notebook: nbformat.NotebookNode, wanted: list[int]) -> list[int]:
    code = [number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    sources = [notebook.cells[number].source for number in code]
    return [code[k] for k in needed(sources, [code.index(number) for number in wanted])]


@pytest.mark.parametrize("name", [name for name in chapters.ALL if not name.startswith("01")])
def test_the_figures_of_a_chapter_answer_and_say_what_the_library_says(name, jupyterlab, chromium):
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    figures = explorables(notebook)
    readouts = chapters.ALL[name].READOUTS
    assert {spec["name"] for spec in figures.values()} == set(readouts)
    run = cells_to_run(notebook, list(figures))
    with opened(chromium, jupyterlab, f"{name}.ipynb") as live:
        live.run(run)
        live.expect_run(run[-1], count=len(run), timeout=1000 * RUN_SECONDS)
        for number, spec in figures.items():
            handles = live.output(number).locator(".noUi-handle")
            expect(handles).to_have_count(len(spec["sliders"]))
            at = {slider["name"]: slider["start"] for slider in spec["sliders"]}
            for k, slider in enumerate(spec["sliders"]):
                last = len(slider["stops"]) - 1
                step = 1 if at[slider["name"]] < last else -1
                handles.nth(k).focus()
                live.page.keyboard.press("ArrowRight" if step == 1 else "ArrowLeft")
                at[slider["name"]] += step
                texts = {s["name"]: s["stops"][at[s["name"]]] for s in spec["sliders"]}
                for key, expected in readouts[spec["name"]].items():
                    shown = live.output(number).locator(f'[data-readout="{key}"]')
                    expect(shown, f"{key} at {texts}").to_have_text(expected(**texts))
        assert live.asked - {"data", "blob"} == {"127.0.0.1"}
        assert live.complaints == []


def test_make_lab_opens_the_first_chapter_beside_the_list_of_all(jupyterlab, chromium, tmp_path):
    page = chromium.new_page()
    try:
        with serving(jupyterlab.folder, tmp_path) as server:  # one that has no windows to restore
            page.goto(f"{server.url}?token={server.token}", timeout=3 * PATIENCE)
            heading = page.locator(".jp-Notebook h1").first
            expect(heading).to_contain_text("1. Surprise", timeout=3 * PATIENCE)
            for name in chapters.ALL:
                listed = page.locator(".jp-DirListing").get_by_text(f"{name}.ipynb", exact=True)
                expect(listed).to_be_visible(timeout=PATIENCE)
    finally:
        page.close()
