"""The cover's figure says what chapter 9's stored runs say, and tells its two stories."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from lossutils import surprisal
from lossutils.figures.cover import card, loss_and_use
from tools import book


@pytest.fixture(scope="module")
def figure():
    stored = book.ROOT / "book" / "experiments" / "alignment_seeds.json"
    return loss_and_use(json.loads(stored.read_text(encoding="utf-8")))


def test_text_lowers_the_loss_and_hardly_helps(figure):
    stops = [stop for stop in figure.stops["stage"] if stop.endswith("of text")]
    losses = [figure.at(stage=stop)["loss"] for stop in stops]
    right = [figure.at(stage=stop)["help"] for stop in stops]
    assert len(stops) == 3 and losses == sorted(losses, reverse=True)
    assert max(right) < 0.1


def test_demonstrations_help_step_by_step_and_cost_less_than_an_eighth_of_the_loss(figure):
    stops = [stop for stop in figure.stops["stage"] if stop.endswith("demonstrations")]
    base = figure.at(stage="1,600 steps of text")
    right = [figure.at(stage=stop)["help"] for stop in stops]
    assert len(stops) == 6 and right == sorted(right) and right[-1] > 0.9
    assert all(1 < figure.at(stage=stop)["loss"] / base["loss"] < 1.125 for stop in stops)


def test_the_two_paths_part_where_the_demonstrations_begin(figure):
    shown = figure.at(stage="1,600 steps of text")
    assert (shown["shown_x"][0], shown["shown_y"][0]) == (shown["above"], shown["help"])
    assert shown["above"] in shown["text_x"] and (np.diff(shown["text_x"]) > 0).all()


def test_every_point_of_every_seed_is_inside_the_axes(figure):
    at = figure.at()
    low, high = figure.view.x_range
    assert low < at["seeds_x"].min() and at["seeds_x"].max() < high
    assert at["seeds_y"].min() > 0 and at["seeds_y"].max() < 1
    assert at["seeds_x"].size == 5 * len(figure.stops["stage"])


def test_the_description_says_where_the_path_ends(figure):
    base, last = (
        figure.at(stage=stop)["help"] for stop in ("1,600 steps of text", "1,600 + 1,024 demonstrations")
    )
    assert f"from {100 * base:.0f} % right answers to {100 * last:.0f} %" in figure.description


def test_the_card_is_the_same_picture_every_time():
    figure = card("A book of it", "words", width=600, height=315)
    pictures = [io.BytesIO(), io.BytesIO()]
    figure.savefig(pictures[0], metadata={"Software": None})
    card("A book of it", "words", width=600, height=315).savefig(pictures[1], metadata={"Software": None})
    assert pictures[0].getvalue() == pictures[1].getvalue()
    assert {text.get_text() for text in figure.axes[0].texts} == {"4.605 nats", "0.105 nats"}


def test_the_numbers_in_the_covers_words_are_what_the_library_says():
    words = (book.ROOT / "book" / "index.md").read_text(encoding="utf-8")
    first, second = (f"{surprisal(probability):.3f}" for probability in (0.9, 0.01))
    assert f"a probability of 0.9 for the word that came costs {first} nats, and one of 0.01" in words
    assert f"costs {second}." in words
