"""Chapter 9, The gap: its three explorables, four figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from ..explore import Explorable, Line, Lines, Marker, Readout, Slider, VLine
from ..labs import Lab, Number, Run
from ..plotting import COLOURS, DOTTED, INK, MARKERS, PAGE_COLOURS, direct_label

__all__ = [
    "alignment_lab",
    "by_answer",
    "by_kind",
    "calibration",
    "demonstrations",
    "everything",
    "plane",
    "price",
]

MUTED = PAGE_COLOURS["muted"]
MEASURES = {"right answers": "good", "unsafe answers": "unsafe", "utility": "utility"}


def price(compute: Callable[..., Mapping]) -> Explorable:
    """What right answers must cost; ``compute(good, share)`` gives a ``curve`` over ``x`` and the values there."""
    return Explorable(
        "price-of-right-answers",
        sliders=[
            Slider(
                "good",
                low=0.02,
                high=0.99,
                steps=98,
                start=0.75,
                format=".2f",
                label="the model answers rightly",
                symbol="g",
            ),
            Slider.choices("share", options=[0.05, 0.2, 0.5], start=0.2, label="forum's share of documents"),
        ],
        compute=compute,
        view=Lines(
            [Line("curve", "least rise")],
            markers=[Marker("good", "rise", "")],
            rules=[VLine("forum", "the forum", color=2)],
            x_label="probability of the right answer",
            y_label="rise of the loss",
            y_unit="nats/token",
            x_range=(0, 1),
            y_range=(0, 0.16),
        ),
        readouts=[
            Readout("answer", "least price", unit="nats/answer"),
            Readout("rise", "on the whole corpus", unit="nats/token", digits=4),
            Readout("perplexity", "perplexity rises by", format=".1%"),
        ],
        digits=4,
        caption="The least rise of the loss that goes with a share of right answers. It is zero where the forum is.",
        description=(
            "A curve that falls to zero at 0.139, the forum's own share of right answers, and rises slowly to the "
            "right of it: 0.016 nats per token at 0.75, and steeply only close to 1."
        ),
    )


def plane(compute: Callable[..., Mapping], stages: Sequence[str], start: str) -> Explorable:
    """Usefulness against loss; ``compute(stage, measure)`` gives all points, the stage's, and the bound."""
    return Explorable(
        "loss-usefulness-plane",
        sliders=[
            Slider.choices("stage", options=list(stages), start=start, label="checkpoint"),
            Slider.choices("measure", options=MEASURES, start="good", label="upwards"),
        ],
        compute=compute,
        view=Lines(
            [
                Line("all_y", "all checkpoints", x="all_x", color="muted", points="only"),
                Line("y", "this one, five seeds", x="x", color=2, points="only"),
                Line("bound_y", "no model left of this", x="bound_x", color=3, dash="dashed"),
            ],
            markers=[Marker("mean_x", "mean_y", "mean", color="ink")],
            rules=[VLine(0.0, "the floor")],
            x_label="loss above the floor",
            x_unit="nats/token",
            y_label="share of answers, or utility",
            x_range=(-0.005, 0.2),
            y_range=(-0.1, 1.0),
            height=340,
        ),
        readouts=[
            Readout("loss", "loss", unit="nats/token", color=2),
            Readout("help", "help"),
            Readout("refusal", "refusal"),
            Readout("unsafe", "unsafe"),
            Readout("utility", "utility"),
        ],
        digits=4,
        caption="Checkpoints of five seeds: loss to the right, usefulness upwards. Readouts: mean ± one deviation.",
        description=(
            "Points in a plane. Pretraining moves them to the left, towards the floor, and hardly upwards; "
            "fine-tuning moves them far upwards and a little to the right. A dashed curve at the left edge is the "
            "least loss that goes with each share of right answers."
        ),
    )


def demonstrations(compute: Callable[..., Mapping], counts: Sequence[int]) -> Explorable:
    """What n demonstrations buy; ``compute(n)`` gives mean, lowest and highest of three shares over ``x``."""
    names = {"help": "help", "refusal": "refusal", "unsafe": "unsafe"}
    return Explorable(
        "how-many-demonstrations",
        sliders=[Slider.choices("n", options=list(counts), start=counts[0], label="demonstrations")],
        compute=compute,
        view=Lines(
            [Line(key, name, points=True, band=(f"{key}_low", f"{key}_high")) for key, name in names.items()],
            markers=[Marker("n", "help_here", color=1), Marker("n", "unsafe_here", color=3)],
            x_label="demonstrations",
            y_label="mean probability",
            x_scale="log",
            x_range=(28, 1200),
            y_range=(0, 1),
        ),
        readouts=[
            Readout("help_here", "help", color=1),
            Readout("refusal_here", "refusal", color=2),
            Readout("unsafe_here", "unsafe", color=3),
            Readout("utility", "utility"),
            Readout("rise", "loss above the base", unit="nats/token"),
        ],
        digits=4,
        caption="What 32 to 1,024 demonstrations buy, and what they cost. Means of five seeds; bands are the extremes.",
        description=(
            "Three curves over the number of demonstrations. Help rises from below 0.3 to above 0.9, refusal from "
            "below one half to nearly 1, unsafe compliance falls to nearly 0."
        ),
    )


def by_kind(floors: Mapping[str, float], stages: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Loss of each kind of document, a dot a seed, with the exact floor of each kind."""
    kinds = list(floors)
    _, ax = plt.subplots(figsize=(4.8, 2.8))
    for row, kind in enumerate(kinds):
        ax.plot([floors[kind]], [row], "|", color=INK, markersize=30, markeredgewidth=1.6)
        for which, (name, losses) in enumerate(stages.items()):
            y = np.full(len(losses[kind]), row + (0.13, -0.13, -0.3)[which])
            ax.plot(losses[kind], y, MARKERS[which], color=COLOURS[which], markersize=4.5, alpha=0.85)
            if kind == "forum":
                end = float(np.mean(losses[kind]))
                direct_label(ax, end, y[0], name, colour=COLOURS[which], offset=(0, 12), ha="center")
    direct_label(
        ax,
        floors["narrative"],
        kinds.index("narrative"),
        "exact floor",
        colour=INK,
        offset=(-8, 0),
        ha="right",
    )
    ax.set(yticks=range(len(kinds)), yticklabels=kinds, ylim=(-0.6, len(kinds) - 0.3))
    ax.set(xlabel="loss (nats/token)")
    ax.grid(axis="y", visible=False)
    plt.show()


def by_answer(nats: Mapping[str, tuple[float, float, float]]) -> None:
    """Mean surprise of each sort of forum answer: (the world's own, before, after)."""
    _, ax = plt.subplots(figsize=(4.8, 3.4))
    for row, (_name, (floor, before, after)) in enumerate(nats.items()):
        colour = COLOURS[1] if after > before else COLOURS[2]
        ax.annotate(
            "",
            (after, row),
            (before, row),
            arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.4},
        )
        ax.plot([before], [row], "o", color=COLOURS[0], markersize=5)
        ax.plot([floor], [row], "|", color=INK, markersize=14)
    last = len(nats) - 1
    floor, before, after = list(nats.values())[last]
    above = {"va": "bottom", "textcoords": "offset points"}
    ax.annotate("before", (before, last), xytext=(0, 8), color=COLOURS[0], ha="right", **above)
    ax.annotate("after", (after, last), xytext=(0, 8), color=COLOURS[1], ha="center", **above)
    ax.set(yticks=range(len(nats)), yticklabels=list(nats), ylim=(-0.6, last + 0.8))
    ax.set(xlabel="surprise of the whole answer (nats)", xlim=(0, 1.06 * max(map(max, nats.values()))))
    ax.grid(axis="y", visible=False)
    plt.show()


LABELS = {  # where the name of a group stands: its offset in points, and how it is aligned
    "pretraining": ((-4, 16), "center"),
    "SFT": ((24, -2), "left"),
    "DPO": ((12, 8), "left"),
    "SFT from nothing": ((0, 14), "center"),
    "plain DPO": ((0, -32), "center"),
}


def everything(
    groups: Mapping[str, Sequence[Sequence[tuple[float, float]]]], bound: tuple[np.ndarray, np.ndarray]
) -> None:
    """Loss above the floor (log) and right answers: for each group its checkpoints, each a point a seed."""
    _, ax = plt.subplots(figsize=(4.8, 3.7))
    _bound(ax, *bound, level=0.92, ha="right")
    for which, (name, checkpoints) in enumerate(groups.items()):
        means = np.array([np.mean(points, axis=0) for points in checkpoints])
        ax.plot(*means.T, color=COLOURS[which], linewidth=1.2, linestyle="-")
        for points in checkpoints[name == "SFT" :]:  # SFT begins at a point of pretraining
            ax.plot(
                *np.array(points).T,
                MARKERS[which],
                color=COLOURS[which],
                markersize=4,
                alpha=0.8,
                linestyle="none",
            )
        at = means[{"pretraining": 0, "SFT": 1}.get(name, -1)]
        offset, ha = LABELS[name]
        direct_label(ax, *at, name, colour=COLOURS[which], offset=offset, ha=ha)
    ax.set(xscale="log", xlim=(0.004, 6), ylim=(-0.04, 1.08))
    ax.xaxis.set_major_locator(FixedLocator([0.01, 0.03, 0.1, 0.3, 1, 3]))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel="loss above the floor (nats/token)", ylabel="probability of the right answer")
    plt.show()


def _bound(ax: Axes, x: np.ndarray, y: np.ndarray, *, level: float, ha: str) -> None:
    """The least loss for each share of right answers, named where that is `level`."""
    shown = y > y[x.argmin()]  # the branch on which a model is better than the forum
    x, y = x[shown], y[shown]
    ax.plot(x, y, color=INK, linestyle=DOTTED, linewidth=1.4)
    at = int(np.argmin(np.abs(y - level)))
    side = -1 if ha == "right" else 1
    direct_label(ax, x[at], y[at], "least loss", colour=INK, offset=(8 * side, -4 * side), ha=ha)


def calibration(errors: Mapping[str, Sequence[float]]) -> None:
    """Expected calibration error of next tokens, a row a stage and a dot a seed."""
    _, ax = plt.subplots(figsize=(4.8, 2.3))
    for row, values in enumerate(errors.values()):
        ax.plot(values, np.full(len(values), row), MARKERS[row], color=COLOURS[row], markersize=5, alpha=0.8)
    ax.set(yticks=range(len(errors)), yticklabels=list(errors), ylim=(len(errors) - 0.5, -0.5))
    ax.set(xlabel="expected calibration error of the next token", xlim=(0, None))
    ax.grid(axis="y", visible=False)
    plt.show()


def alignment_lab(run: Callable, picture: Callable, bound: tuple[np.ndarray, np.ndarray]) -> Lab:
    """Fine-tune with settings of your own; ``run`` gives the evaluations (before, after) and an answer."""

    def draw(figure: Figure, runs: Sequence[Run]) -> None:
        ax = figure.subplots()
        _bound(ax, *bound, level=0.55, ha="left")
        for place, made in enumerate(runs):
            points = [(row["loss"] - row["floor"], row["good"]) for row in made.result[:2]]
            colour = COLOURS[(made.number - 1) % len(COLOURS)]
            newest = place == len(runs) - 1
            ax.plot(*np.transpose(points), color=colour, linewidth=2.2 if newest else 1.2)
            ax.plot(*points[1], MARKERS[(made.number - 1) % len(MARKERS)], color=colour, markersize=6)
            if place == 0:
                ax.plot(*points[0], "o", color=INK, markersize=5)
                direct_label(ax, *points[0], "base", colour=INK, offset=(9, 2))
            name = f"run {made.number}" if len(runs) > 1 else "after SFT"
            direct_label(ax, *points[1], name, colour=colour, offset=(0, 12), ha="center")
        right = max(0.2, *(made.result[1]["loss"] - made.result[1]["floor"] for made in runs))
        ax.set(xlim=(0, 1.12 * right), ylim=(0, 1.05))
        ax.set(xlabel="loss above the floor (nats/token)", ylabel="right answers")

    return Lab(
        "align-it-your-way",
        "Align it your way",
        controls=[
            Number("demonstrations", 8, 1024, 192, label="demonstrations"),
            Number("epochs", 1, 32, 4, label="epochs"),
            Number("corpus_weight", 0.0, 8.0, 0.5, label="weight of the corpus"),
            Number("learning_rate", 1e-4, 1e-2, 1e-3, label="learning rate", scale="log"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=draw,
        summary=lambda result: {
            "loss": result[1]["loss"],
            "right": result[1]["good"],
            "unsafe": result[1]["unsafe"],
            "utility": result[1]["utility"],
            "it says": result[2],
        },
        picture=picture,
        caption="The base and the model that SFT made of it at the start settings. Live, your runs are added.",
        description=(
            "A point near the lower left, the base, and a line from it to a point far above it and somewhat to the "
            "right. A dotted curve on the left shows the least loss for each share of right answers."
        ),
    )
