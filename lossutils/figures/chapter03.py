"""Chapter 3, Averages and masks: its three explorables, two figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt

from ..explore import Bar, Explorable, HLine, Line, Lines, Marker, Readout, Slider, StackedBars
from ..labs import Choice, Lab, Number
from ..plotting import COLOURS, direct_label, draw_training_runs, floor_line
from ..training import History

__all__ = ["accumulation_lab", "drift", "paint_a_mask", "smoothing", "two_means", "two_rules"]

LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
VOCABULARIES = (46, 1000, 50257, 128256)


def paint_a_mask(compute: Callable[..., Mapping], masks: Sequence[str]) -> Explorable:
    """Padding and what is counted; ``compute(padding, counted)`` gives words, the bars' parts and the mean's."""
    return Explorable(
        "paint-a-mask",
        sliders=[
            Slider.choices("counted", options=masks, label="what is counted"),
            Slider(
                "padding", low=0, high=8, steps=9, start=6, format=".0f", label="padding", unit="positions"
            ),
        ],
        compute=compute,
        view=StackedBars(
            "words",
            [
                Bar("counted_loss", "counted", color=1, fill="solid"),
                Bar("other_loss", "left out", color="muted", fill="hatched"),
            ],
            orientation="vertical",
            value_label="loss",
            unit="nats",
            value_range=(0, 3.2),
            digits=2,
        ),
        readouts=[
            Readout("numerator", "numerator: the sum", "nats"),
            Readout("denominator", "denominator: the count", "tokens", digits=0),
            Readout("mean", "the loss", "nats/token"),
        ],
        caption="One row of a batch. The same model, the same losses, and five honest-looking means.",
        description=(
            "Bars for the losses of eight words and of the padding after them. The bars that are counted are filled, "
            "the others hatched. Padding costs little, so counting it lowers the mean."
        ),
    )


def two_means(compute: Callable[..., Mapping]) -> Explorable:
    """Two sequences with losses 6 and 2; ``compute(a, b)`` gives both averages, the curve over a, and the ratio."""
    return Explorable(
        "two-means",
        sliders=[
            Slider.choices("a", options=LENGTHS, start=10, label="length of A (6 nats/token)", unit="tokens"),
            Slider.choices(
                "b", options=LENGTHS, start=1000, label="length of B (2 nats/token)", unit="tokens"
            ),
        ],
        compute=compute,
        view=Lines(
            [Line("curve", "token mean")],
            markers=[Marker("a", "token_mean")],
            rules=[HLine("mean_of_means", "mean of means", color=2)],
            x_label="length of A",
            x_unit="tokens",
            y_label="average loss",
            y_unit="nats/token",
            x_scale="log",
            x_range=(1, 1000),
            y_range=(1.8, 6.2),
        ),
        readouts=[
            Readout("token_mean", "token mean", "nats/token", color=1),
            Readout("mean_of_means", "mean of means", "nats/token", color=2),
            Readout(
                "ratio", "in the mean of means, a token of A counts as much as", "tokens of B", format=",.3g"
            ),
        ],
        caption="Two sequences, two averages. They agree when the lengths do, and only then.",
        description=(
            "The token mean as a curve over the length of A, between 2 and 6 nats per token, and the mean of means as "
            "a level line at 4. They cross where A is as long as B."
        ),
    )


def smoothing(compute: Callable[..., Mapping]) -> Explorable:
    """Label smoothing; ``compute(epsilon, vocabulary)`` gives both curves over x = q, and the minimum's place."""
    return Explorable(
        "label-smoothing",
        sliders=[
            Slider(
                "epsilon", low=0, high=0.3, steps=31, start=0.1, symbol="ε", format=".2f", label="smoothing"
            ),
            Slider.choices(
                "vocabulary", options=VOCABULARIES, start=50257, symbol="V", label="vocabulary", unit="tokens"
            ),
        ],
        compute=compute,
        view=Lines(
            [Line("smoothed", "smoothed"), Line("nll", "NLL")],
            markers=[Marker("best", "minimum")],
            x_label="probability q of the right token",
            y_label="loss",
            y_unit="nats",
            x_range=(0, 1),
            y_range=(0, 5),
        ),
        readouts=[
            Readout("best", "smoothed loss is lowest at q"),
            Readout("minimum", "its lowest value", "nats"),
            Readout("fake", "exp of that"),
            Readout("nll_there", "the true NLL there", "nats"),
        ],
        digits=4,
        caption="With ε above 0 the smoothed loss cannot reach zero, and it punishes more certainty than 1 − ε + ε/V.",
        description=(
            "Two curves over q. The negative log-likelihood falls to 0 at q = 1. The smoothed loss lies above it for "
            "large q, has its lowest point a little left of 1 and rises again."
        ),
    )


def two_rules(histories: Mapping[str, Sequence[History]], floor: float) -> None:
    """Training curves by averaging rule, one thin line a seed, each in the units of its own rule."""
    _, ax = plt.subplots()
    for which, (rule, runs) in enumerate(histories.items()):
        for history in runs:
            steps, loss = history.smoothed(20)
            ax.plot(steps, loss, color=COLOURS[which], linewidth=1.1, linestyle=("-", "--")[which], alpha=0.8)
        edge, place, away = (min, 2, (0, -18)) if which == 0 else (max, 5, (10, 18))
        level = edge(
            history.smoothed(20)[1][place] for history in runs
        )  # below the one bundle, above the other
        direct_label(ax, steps[place], level, rule, colour=COLOURS[which], offset=away, ha="center")
    floor_line(ax, floor)
    ax.set(xlabel="step", ylabel="reported loss (nats/token)", ylim=(floor - 0.2, 3.2))
    plt.show()


def drift(levels: Mapping[float, np.ndarray]) -> None:
    """The mean log-sum-exp over the steps, for each z-loss factor (rows of an array: seeds)."""
    _, ax = plt.subplots()
    for which, (factor, runs) in enumerate(levels.items()):
        for run in runs:
            ax.plot(run, color=COLOURS[which], linewidth=1.1, linestyle=("-", "--", "-.")[which])
        away = (12, -13, 22)[which]  # above, below, and above a line that still falls
        at = int(0.7 * runs.shape[1])
        level = runs[:, at].mean()
        direct_label(
            ax, at, level, f"factor {factor:g}", colour=COLOURS[which], offset=(0, away), ha="center"
        )
    ax.set(xlabel="step", ylabel="mean log-sum-exp (nats)", ylim=(-1, 31))
    plt.show()


def accumulation_lab(run: Callable, picture: Callable, *, floor: float) -> Lab:
    """Accumulate: ``run(progress, rows, shortest, longest, rule, steps, seed)`` gives (history, loss, cos)."""
    return Lab(
        "accumulate-a-batch",
        "Accumulate your own batch",
        controls=[
            Choice("rule", ["token mean", "mean of means"], label="averaging rule"),
            Number("rows", 1, 16, 8, label="micro-batches, of one row"),
            Number("shortest", 1, 64, 2, label="shortest row, in tokens"),
            Number("longest", 1, 64, 64, label="longest row, in tokens"),
            Number("steps", 50, 2_000, 300, label="training steps"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=lambda figure, runs: draw_training_runs(figure, runs, floor=floor),
        summary=lambda result: {"test loss": result[1], "cosine": result[2]},
        picture=picture,
        caption="The reported loss of one run at the start settings. In a live kernel each run of yours is added.",
        description="A training curve that falls from 3.8 nats per token towards a dotted line, the floor at 1.445.",
    )
