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

TEXT_STEPS = (400, 1600)  # before the first demonstration


def loss_and_use(runs: Mapping) -> Explorable:
    """Chapter 9 in one slider: text lowers the loss, then demonstrations raise it a little and help a lot.

    ``runs`` are chapter 9's stored measurements (book/experiments/alignment_seeds.json).
    """
    seeds = runs["seeds"]
    early, more_text = seeds[0]["pretraining"]
    if early["steps"] != TEXT_STEPS[0]:
        raise ValueError(f"runs: begin at {early['steps']} steps of text, and the slider at {TEXT_STEPS[0]}")
    stages = {
        f"{TEXT_STEPS[0]:,} steps of text": _points([seed["pretraining"][0] for seed in seeds]),
        f"{TEXT_STEPS[1]:,} steps of text": _points([seed["base"] for seed in seeds]),
    }
    for place, first in enumerate(seeds[0]["demonstrations"]):
        stages[f"then {first['n']:,} demonstrations"] = _points(
            [seed["demonstrations"][place] for seed in seeds]
        )
    all_points = np.stack(list(stages.values()))
    mean_x, _, mean_y = all_points.mean(axis=2).T
    further = _points([seed["pretraining"][1] for seed in seeds]).mean(axis=1)

    def at(stage: str) -> dict:
        above, loss, help_ = stages[stage].mean(axis=1)
        return {
            "seeds_x": all_points[:, 0].ravel(),
            "seeds_y": all_points[:, 2].ravel(),
            "text_x": mean_x[:2],
            "text_y": mean_y[:2],
            "shown_x": mean_x[1:],
            "shown_y": mean_y[1:],
            "above": above,
            "loss": loss,
            "sides": perplexity(loss, 1),
            "help": help_,
        }

    return Explorable(
        "loss-and-use",
        sliders=Slider.choices("stage", options=list(stages), label="what the model has learned from"),
        compute=at,
        view=Lines(
            [
                Line("seeds_y", x="seeds_x", color="muted", points="only"),
                Line("text_y", x="text_x", color=1, points=True),
                Line("shown_y", x="shown_x", color=2, dash="solid", points=True),
            ],
            markers=[
                Marker(further[0], further[2], f"{more_text['steps']:,} steps", color=1, guides=False),
                Marker("above", "help", color="ink"),
            ],
            rules=[VLine(0.0, "the floor")],
            x_label="loss above the floor",
            x_unit="nats/token",
            y_label="right answers",
            x_range=(-0.004, 0.16),
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
            "Text takes the loss down, and hardly teaches the model to help: twice the text does not either. "
            "Demonstrations of good answers take the loss up a little, and the model helps. Small dots: five seeds."
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
        figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor=PAGE_COLOURS["page"])
        figure.text(
            0.06, 0.6, title.replace(" of ", " of\n"), fontsize=46, fontweight="bold", va="center", color=INK
        )
        figure.text(0.06, 0.33, subtitle, fontsize=23, va="center", color=PAGE_COLOURS["muted"])
        ax = figure.add_axes((0.62, 0.2, 0.32, 0.62))
        ax.plot(q, surprisal(q), color=COLOURS[0], linewidth=4)
        for probability, place in ((0.01, (16, -2)), (0.9, (-6, 16))):
            cost = float(surprisal(probability))
            ax.plot([probability], [cost], "o", color=COLOURS[1], markersize=13)
            ha = "left" if probability < 0.5 else "right"
            ax.annotate(
                f"{cost:.3f} nats", (probability, cost), place, textcoords="offset points", fontsize=20, ha=ha
            )
        ax.set(xlim=(0, 1.02), ylim=(0, 5.4), xticks=[0, 0.5, 1], yticks=[])
        ax.tick_params(labelsize=18)
        ax.set_xlabel("probability of the word that came", fontsize=18)
    return figure
