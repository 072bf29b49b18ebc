"""The cover: its explorable, and the card that stands for the book where a page is shared.

The cover has no cells, so what its figures show is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..explore import Explorable, Line, Lines, Marker, Readout, Slider, VLine
from ..information import surprisal
from ..perplexity import perplexity
from ..plotting import COLOURS, INK, PAGE_COLOURS, style

__all__ = ["card", "loss_and_use"]

BASE_STEPS = 1600  # of text, before the first demonstration


def loss_and_use(runs: Mapping) -> Explorable:
    """Chapter 9 in one slider: text lowers the loss, then demonstrations raise it a little and help a lot.

    ``runs`` are chapter 9's stored measurements (book/experiments/alignment_seeds.json).
    """
    seeds = runs["seeds"]
    text = {
        row["steps"]: [s["pretraining"][n] for s in seeds] for n, row in enumerate(seeds[0]["pretraining"])
    }
    text[BASE_STEPS] = [seed["base"] for seed in seeds]
    stages = {f"{steps:,} steps of text": _points(text[steps]) for steps in sorted(text)}
    few, base = len(stages), sorted(text).index(BASE_STEPS)
    for n, row in enumerate(seeds[0]["demonstrations"]):
        name = f"{BASE_STEPS:,} + {row['n']:,} demonstrations"
        stages[name] = _points([seed["demonstrations"][n] for seed in seeds])
    every = np.stack(list(stages.values()))
    x, _, y = every.mean(axis=2).T
    shown = [base, *range(few, len(stages))]

    def at(stage: str) -> dict:
        above, loss, right = stages[stage].mean(axis=1)
        return {
            "seeds_x": every[:, 0].ravel(),
            "seeds_y": every[:, 2].ravel(),
            "text_x": x[:few][::-1],  # the other way round: the name stands at the free end
            "text_y": y[:few][::-1],
            "shown_x": x[shown],
            "shown_y": y[shown],
            "above": above,
            "loss": loss,
            "sides": perplexity(loss, 1),
            "help": right,
        }

    return Explorable(
        "loss-and-use",
        sliders=Slider.choices("stage", options=list(stages), label="learned from"),
        compute=at,
        view=Lines(
            [
                Line("seeds_y", x="seeds_x", color="muted", points="only"),
                Line("text_y", "text", x="text_x", color=1, points=True),
                Line("shown_y", "demonstrations", x="shown_x", color=2, dash="solid", points=True),
            ],
            markers=[Marker("above", "help", color="ink")],
            rules=[VLine(0.0, "the floor")],
            x_label="loss above the floor",
            x_unit="nats/token",
            y_label="right answers",
            x_range=(-0.004, 0.17),
            y_range=(0, 1.0),
            height=230,
        ),
        readouts=[
            Readout("loss", "loss", "nats/token"),
            Readout("sides", "perplexity", digits=2),
            Readout("help", "right answers", format=".0%"),
        ],
        digits=4,
        caption=(
            "More text takes the loss down, and hardly teaches the model to answer. Demonstrations of good answers "
            "take the loss up a little, and it answers, also what was in no demonstration. Grey dots: five seeds."
        ),
        description=(
            "A path in a plane, loss to the right and right answers upwards. With text it runs to the left, along the "
            "bottom. With demonstrations it climbs from 5 % right answers to 92 %, while the loss rises by a tenth of "
            "a nat per token."
        ),
    )


def _points(rows: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Loss above the floor, loss and help of each row."""
    return np.array([[row["loss"] - row["floor"], row["loss"], row["help"]] for row in rows]).T


def card(title: str, subtitle: str, *, width: int, height: int) -> Figure:
    """A picture of that many pixels: the title, and the curve of the surprise with two points to read."""
    q = np.geomspace(0.004, 1, 400)
    with style():
        size = (width / 100, height / 100)
        figure = Figure(figsize=size, dpi=100, facecolor=PAGE_COLOURS["page"], layout="none")
        figure.text(
            0.06, 0.6, title.replace(" of ", " of\n"), fontsize=46, fontweight="bold", va="center", color=INK
        )
        figure.text(0.06, 0.33, subtitle, fontsize=23, va="center", color=PAGE_COLOURS["muted"])
        ax = figure.add_axes((0.62, 0.2, 0.32, 0.62))
        ax.plot(q, surprisal(q), color=COLOURS[0], linewidth=4)
        for probability, place in ((0.01, (16, -2)), (0.9, (20, 52))):
            cost = float(surprisal(probability))
            ax.plot([probability], [cost], "o", color=COLOURS[1], markersize=13, clip_on=False, zorder=3)
            ha = "left" if probability < 0.5 else "right"
            ax.annotate(
                f"{cost:.3f} nats", (probability, cost), place, textcoords="offset points", fontsize=20, ha=ha
            )
        ax.set(xlim=(0, 1.02), ylim=(0, 5.4), xticks=[0, 0.5, 1], yticks=[])
        ax.tick_params(labelsize=18)
        ax.set_xlabel("probability of the word that came", fontsize=18)
    return figure
