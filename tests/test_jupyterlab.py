"""A reader's JupyterLab, from end to end: figures, a lab and exercises, run and moved in a real browser.

One server, one kernel and one page serve all tests here. The notebook is made below from the figures of
chapter 1; the same cells, run in this process, say what the page must show.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from lab_server import ERRORS, Notebook, Server, opened, serving
from nbformat import v4
from playwright.sync_api import Locator, Page, expect

from lossutils.exercises import all_exercises
from lossutils.exercises.sentences import STUB

SETUP = """\
import numpy as np
import torch
from lossutils import (
    cross_entropy, distribution_cross_entropy, entropy, kl_divergence, log_softmax, nats_to_bits, surprisal
)
from lossutils.figures import chapter01 as figures
from lossutils.models import WindowModel, generate
from lossutils.training import train
from lossutils.worlds import known_world
world = known_world()
train_ids = world.sample(20_000, np.random.default_rng(1))
test_ids = world.sample(2_000, np.random.default_rng(2))
"""
SURPRISE = """\
def cost(q):
    nats = surprisal(q)
    return {"nats": nats, "bits": nats_to_bits(nats), "odds": 1 / q}

surprise = figures.surprise(cost)
surprise
"""
FORECAST = """\
def what_a_day_costs(p, q):
    weather, belief = np.array([p, 1 - p]), np.array([q, 1 - q])
    return {
        "H": entropy(weather), "KL": kl_divergence(weather, belief),
        "CE": distribution_cross_entropy(weather, belief),
        "rain": surprisal(q), "dry": surprisal(1 - q),
    }

forecast = figures.forecast(what_a_day_costs)
forecast
"""
NEXT_WORD = """\
next_word = figures.next_word(world, "the lonely king never loves the crown .")
next_word
"""
LAB = """\
def train_predictor(progress, context, width, tokens, steps, seed):
    model = WindowModel(world.vocab_size, context, width=width, seed=seed)
    history = train(
        model, cross_entropy, train_ids[: int(tokens)], steps=steps, learning_rate=1e-2, seed=seed,
        progress=progress,
    )
    with torch.no_grad():
        logits = model(torch.as_tensor(test_ids))
        loss = cross_entropy(logits, torch.as_tensor(test_ids)).item()
    kl = world.kl(test_ids, log_softmax(logits.double()).numpy()).mean()
    return history, loss, kl, world.decode(generate(model, 4, np.random.default_rng(seed)))

lab = figures.predictor_lab(
    train_predictor, lambda: train_predictor(None, 2, 16, 3_000, 30, 0), floor=world.entropy_rate
)
lab
"""
CELLS = {
    "setup": SETUP,
    "style": "from lossutils.plotting import use_book_style\nuse_book_style()",
    "surprise": SURPRISE,
    "forecast": FORECAST,
    "next_word": NEXT_WORD,
    "lab": LAB,
    "tools": "from lossutils.exercises import check, hint",
    "wrong": 'check("1.1", surprisal(np.mean([0.04, 0.5, 0.8])))',
    "open": 'check("1.2", ...)',
    "choice": 'check("1.4", ...)',
    "hint": 'hint("1.1")',
}
ORACLES = ("setup", "surprise", "forecast", "next_word", "lab")  # the cells that this process runs too


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A JupyterLab over a folder with the one notebook."""
    work = tmp_path_factory.mktemp("reader")
    cells = [v4.new_markdown_cell("# A chapter in small"), *map(v4.new_code_cell, CELLS.values())]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), work / "small.ipynb")
    with serving(work, tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@dataclass
class Reading:
    """The opened notebook, and what this process computes from the same cells."""

    notebook: Notebook
    folder: Path
    here: dict

    @property
    def page(self) -> Page:
        return self.notebook.page

    def output(self, name: str) -> Locator:
        return self.notebook.output(1 + list(CELLS).index(name))

    def readouts(self, name: str) -> dict[str, str]:
        return self.output(name).evaluate(
            "out => Object.fromEntries([...out.querySelectorAll('[data-readout]')]"
            ".map(e => [e.dataset.readout, e.textContent]))"
        )

    def expect_readouts(self, name: str, **values: float) -> None:
        """The live figure comes to say exactly what Python says for these values."""
        wanted = self.here[name].readout_text(**values)
        assert wanted
        for key, text in wanted.items():
            expect(self.output(name).locator(f'[data-readout="{key}"]')).to_have_text(text)
        assert self.readouts(name) == wanted

    def slider(self, name: str, number: int = 0) -> Locator:
        return self.output(name).locator(".noUi-handle").nth(number)

    def box(self, name: str, number: int = 0) -> Locator:
        return self.output(name).locator("input[type=number]").nth(number)

    def reset(self, name: str) -> None:
        self.output(name).get_by_role("button", name="Reset").click()
        self.expect_readouts(name)


@pytest.fixture(scope="module")
def reading(jupyterlab: Server, chromium) -> Iterator[Reading]:
    """The notebook in JupyterLab, after Run All Cells."""
    here: dict = {}
    for name in ORACLES:
        exec(CELLS[name], here)
    with opened(chromium, jupyterlab, "small.ipynb") as notebook:
        notebook.run_all()
        notebook.expect_run(len(CELLS), count=len(CELLS))
        yield Reading(notebook, jupyterlab.folder, here)


def test_every_cell_runs_in_order_without_an_error_or_a_warning(reading):
    prompts = reading.page.locator(".jp-CodeCell .jp-InputPrompt")
    expect(prompts).to_have_text([f"[{number}]:" for number in range(1, len(CELLS) + 1)])
    expect(reading.page.locator(ERRORS)).to_have_count(0)


@pytest.mark.parametrize("name", ["surprise", "forecast", "next_word"])
def test_a_figure_is_live_and_starts_where_the_page_does(reading, name):
    figure, out = reading.here[name], reading.output(name)
    expect(out.locator("svg[role=img]")).to_be_visible()
    expect(out.locator(".noUi-handle")).to_have_count(len(figure.sliders))
    expect(out.locator("compass-explorable, .ce-start")).to_have_count(0)
    reading.expect_readouts(name)
    for number, slider in enumerate(figure.sliders):
        if not slider.is_choice:
            expect(reading.box(name, number)).to_have_value(f"{slider.start:g}")


def test_an_arrow_key_moves_a_slider_by_one_stop_of_the_page_and_its_readouts(reading):
    stops = reading.here["surprise"].stops["q"]
    at = stops.index(0.9)
    reading.reset("surprise")
    picture = reading.output("surprise").locator("svg").inner_html()
    reading.slider("surprise").focus()
    for key, place in (("ArrowLeft", at - 1), ("ArrowLeft", at - 2), ("ArrowRight", at - 1)):
        reading.page.keyboard.press(key)
        expect(reading.box("surprise")).to_have_value(f"{stops[place]:g}")
        reading.expect_readouts("surprise", q=stops[place])
    assert reading.output("surprise").locator("svg").inner_html() != picture


def test_a_typed_value_between_two_stops_is_computed_as_it_stands_and_kept(reading):
    reading.reset("surprise")
    typed = 0.0123
    assert typed not in reading.here["surprise"].stops["q"]
    reading.box("surprise").fill(str(typed))
    reading.box("surprise").press("Enter")
    reading.expect_readouts("surprise", q=typed)
    assert reading.readouts("surprise")["nats"] == f"{-math.log(typed):.3f} nats"
    expect(reading.box("surprise")).to_have_value(str(typed))
    reading.reset("surprise")
    expect(reading.box("surprise")).to_have_value("0.9")


def test_a_mouse_drag_moves_a_figure_and_shows_the_value_that_it_computes(reading):
    reading.reset("surprise")
    handle = reading.slider("surprise")
    handle.scroll_into_view_if_needed()
    grip, rail = handle.bounding_box(), reading.output("surprise").locator(".noUi-target").bounding_box()
    y, mouse = grip["y"] + grip["height"] / 2, reading.page.mouse
    mouse.move(grip["x"] + grip["width"] / 2, y)
    mouse.down()
    mouse.move(rail["x"] + rail["width"] / 2, y, steps=5)
    expect(reading.box("surprise")).not_to_have_value("0.9")  # while the button is still down
    mouse.up()
    expect(handle).not_to_have_class(re.compile("noUi-active"))
    middle = reading.here["surprise"].stops["q"][44:47]  # of 91
    expect(reading.box("surprise")).to_have_value(re.compile(f"^({'|'.join(f'{q:g}' for q in middle)})$"))
    reading.expect_readouts("surprise", q=float(reading.box("surprise").input_value()))


def test_a_figure_with_two_sliders_follows_both_by_key_and_by_typing(reading):
    stops = reading.here["forecast"].stops
    reading.reset("forecast")
    reading.slider("forecast", 0).focus()
    reading.page.keyboard.press("ArrowRight")
    p = stops["p"][stops["p"].index(0.7) + 1]
    expect(reading.box("forecast", 0)).to_have_value(f"{p:g}")
    reading.expect_readouts("forecast", p=p)
    reading.box("forecast", 1).fill("0.333")
    reading.box("forecast", 1).press("Enter")
    reading.expect_readouts("forecast", p=p, q=0.333)
    assert reading.readouts("forecast")["rain"] == f"{-math.log(0.333):.3f} nats"
    reading.reset("forecast")


def test_a_slider_over_words_names_the_word_where_it_stands(reading):
    reading.slider("next_word").focus()
    reading.page.keyboard.press("ArrowRight")
    expect(reading.output("next_word").locator(".widget-readout")).to_have_text("2. lonely")
    reading.expect_readouts("next_word", position=1)
    assert reading.readouts("next_word")["so_far"] == "the"


# Every state that the lab's progress bar and status line go through, however short.
WATCH = """out => {
  const bar = out.querySelector('.progress-bar'), seen = out.seen = {widths: [], texts: []};
  new MutationObserver(() => {
    seen.widths.push(parseFloat(bar.style.width));
    seen.texts.push(out.innerText);
  }).observe(out, {subtree: true, childList: true, characterData: true, attributes: true});
}"""


def set_steps(reading: Reading, steps: int) -> None:
    """Type the lab's number of training steps where its slider shows it."""
    row = reading.output("lab").locator(".widget-slider", has_text="training steps")
    row.locator(".widget-readout").fill(str(steps))
    row.locator(".widget-readout").press("Enter")
    expect(row.locator(".widget-readout")).to_have_text(str(steps))


def test_a_lab_runs_with_progress_and_keeps_its_row_and_stop_keeps_a_message(reading):
    out = reading.output("lab")
    run, stop = (out.get_by_role("button", name=name, exact=True) for name in ("Run", "Stop"))
    expect(out.locator(".compass-lab")).to_have_count(0)
    expect(stop).to_be_disabled()
    set_steps(reading, 120)
    out.evaluate(WATCH)
    run.click()
    expect(out).to_contain_text("Run 1 is done.")
    expect(run).to_be_enabled()
    seen = out.evaluate("out => out.seen")
    shares = [int(s) for text in seen["texts"] for s in re.findall(r"(\d+)% step \d+ of 120", text)]
    assert shares == sorted(shares) and len(set(shares)) >= 2
    assert any(0 < width < 100 for width in seen["widths"]) and seen["widths"][-1] == 100

    head, row = (out.locator(f"table.compass-lab-runs {part} tr") for part in ("thead", "tbody"))
    expect(row).to_have_count(1)
    names, shown = head.locator("th").all_inner_texts(), row.locator("th, td").all_inner_texts()
    entry = dict(zip(names, shown, strict=True))
    settings = {"context": 4, "width": 128, "tokens": 200_000, "steps": 120, "seed": 0}
    assert shown[:6] == ["1", *map(str, settings.values())]
    _, loss, kl, says = reading.here["train_predictor"](None, **settings)
    assert float(entry["test loss"]) == pytest.approx(loss, rel=2e-3)
    assert float(entry["exact KL"]) == pytest.approx(kl, rel=2e-3) and entry["it says"] == says
    expect(out.locator("svg[role=img]")).to_be_visible()

    set_steps(reading, 2000)
    run.click()
    expect(out).to_contain_text(re.compile(r"[1-9]\d*% step \d+ of 2000"))
    stop.click()
    expect(out).to_contain_text(re.compile(r"Stopped at \d+%\. Nothing was kept of this run\."))
    expect(run).to_be_enabled()
    expect(stop).to_be_disabled()
    set_steps(reading, 50)  # something else happens, and the message stays
    expect(out).to_contain_text(re.compile(r"Stopped at \d+%\. Nothing was kept of this run\."))
    expect(row).to_have_count(1)


def exercise(key: str):
    return next(item for item in all_exercises() if item.key == key)


def test_a_typical_wrong_answer_is_told_which_misconception_it_is(reading):
    slip = next(item for item in exercise("1.1").wrong if item.name == "log of the mean")
    expect(reading.output("wrong")).to_contain_text("Exercise 1.1")
    expect(reading.output("wrong")).to_contain_text(f"✗ Not yet. {slip.message}")


def test_an_unanswered_exercise_says_that_it_is_open(reading):
    expect(reading.output("open")).to_contain_text(f"○ Open. {STUB}")


def test_an_open_choice_shows_the_options_with_their_letters(reading):
    expect(reading.output("choice")).to_contain_text("○ Open.")
    for letter, text in zip("abcd", exercise("1.4").options, strict=True):
        expect(reading.output("choice")).to_contain_text(f"{letter}) {text}")


def test_a_hint_is_given(reading):
    hints = exercise("1.1").hints
    expect(reading.output("hint")).to_contain_text(f"Hint 1 of {len(hints)} for exercise 1.1")
    expect(reading.output("hint")).to_contain_text(hints[0])


def test_progress_lies_beside_the_notebook_and_holds_the_answered_exercise_only(reading):
    stored = json.loads((reading.folder / ".compass-progress.json").read_text(encoding="utf8"))
    assert stored["exercises"] == {"1.1": {"state": "attempted", "tries": 1}}


# The last one: it sees what all the others made the browser do.
def test_the_browser_asked_nobody_but_this_machine_and_reported_no_error(reading):
    assert reading.notebook.asked - {"data", "blob"} == {"127.0.0.1"}
    assert reading.notebook.complaints == []
