"""Chapter 6, Healthy curves: its three explorables, six figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from ..explore import Explorable, HLine, Line, Lines, Marker, Readout, Slider
from ..labs import Choice, Lab, Number, Run
from ..plotting import COLOURS, DOTTED, INK, MARKERS, PAGE_COLOURS, direct_label

__all__ = [
    "batch_noise",
    "cliff",
    "decay",
    "gap",
    "healthy",
    "scrubber",
    "settings_lab",
    "smoothing",
    "walk",
    "which_points",
]

MUTED = PAGE_COLOURS["muted"]
BATCHES = (1, 10, 100, 600)


def _levels(ax: Axes, levels: Mapping[str, float], *, x: float = 0.99, ha: str = "right") -> None:
    """Horizontal lines with their names at the share `x` of the width; the last one is the floor."""
    for place, (name, level) in enumerate(levels.items()):
        is_floor = place == len(levels) - 1
        ax.axhline(
            level, color=INK if is_floor else MUTED, linewidth=1, linestyle=DOTTED if is_floor else "--"
        )
        text = {"xytext": (0, -3 if is_floor else 3), "va": "top" if is_floor else "bottom"}
        ax.annotate(
            name,
            (x, level),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha=ha,
            **text,
        )


def _plain_log(ax: Axes, axis: str, ticks: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers."""
    ax.set(**{f"{axis}scale": "log"})
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_locator(FixedLocator(ticks))
    which.set_major_formatter(StrMethodFormatter("{x:g}"))
    which.set_minor_locator(NullLocator())


def healthy(
    losses: Sequence[float], looks: np.ndarray, exact: np.ndarray, levels: Mapping[str, float]
) -> None:
    """The batch losses of one run, the exact loss of several (runs, looks), and the lines of the theory."""
    _, ax = plt.subplots(figsize=(4.4, 3.6))
    ax.plot(np.arange(len(losses)) + 1, losses, ".", color=COLOURS[5], markersize=2, alpha=0.6)
    for run in exact:
        ax.plot(looks + 1, run, color=COLOURS[0], linewidth=1.4)
    _levels(ax, levels, x=0.02, ha="left")
    ax.annotate("dots: batches", (1.1, 2.75), color=COLOURS[5])
    ax.annotate("lines: exact,\nthree seeds", (1.1, 2.27), color=COLOURS[0])
    _plain_log(ax, "x", BATCHES)
    ax.set(xlabel="batch (logarithmic)", ylabel="loss (nats/token)", ylim=(1.3, 4.1), xlim=(0.95, 640))
    plt.show()


def walk(looks: np.ndarray, distances: Mapping[str, np.ndarray]) -> None:
    """How far the predictions of each run are from those of simple predictors and from the truth."""
    _, ax = plt.subplots(figsize=(4.4, 3.4))
    styles = ("-", "--", ":")
    for which, (name, runs) in enumerate(distances.items()):
        for run in runs:
            ax.plot(looks + 1, run, color=COLOURS[which], linestyle=styles[which], linewidth=1.4)
        x, y, ha = {0: (1.1, 0.06, "left"), 1: (1.1, 0.65, "left"), 2: (1.1, 3.2, "left")}[which]
        ax.annotate(name.replace(" ", "\n", 2).replace("\n", " ", 1), (x, y), color=COLOURS[which], ha=ha)
    _plain_log(ax, "x", BATCHES)
    _plain_log(ax, "y", (0.03, 0.1, 0.3, 1, 3))
    ax.set(xlabel="batch (logarithmic)", ylabel="distance (nats/token)", ylim=(0.02, 8), xlim=(0.95, 640))
    plt.show()


def scrubber(
    compute: Callable[..., Mapping], *, steps: Sequence[int], levels: Mapping[str, float]
) -> Explorable:
    """One run, stop by stop; ``compute(step)`` gives the curve so far, its end, and what the model knows there."""
    *above, floor = levels.items()
    stops = [int(step) for step in steps]
    on_the_shelf = min(stops, key=lambda step: abs(step - 100))
    return Explorable(
        "curve-scrubber",
        sliders=Slider.choices("step", options=stops, start=on_the_shelf, label="updates made"),
        compute=compute,
        view=Lines(
            [
                Line("batch_loss", color=6, points="only"),
                Line("exact", "exact", color=1, dash="solid"),
            ],
            x="batch",
            markers=[Marker("here", "loss", color=1, guides=False)],
            rules=[
                *(HLine(value, name) for name, value in above),
                HLine(floor[1], floor[0], color="ink", dash="dotted"),
            ],
            x_label="batch",
            y_label="loss",
            y_unit="nats/token",
            x_scale="log",
            x_range=(1, float(steps[-1]) + 1),
            y_range=(1.3, 4.1),
            height=330,
        ),
        readouts=[
            Readout("tokens", "tokens read so far", format=",.0f"),
            Readout("loss", "exact loss", "nats/token", color=1),
            Readout("left", "above the floor", "nats/token"),
            Readout("unigram", "its distance from word frequencies", "nats/token"),
            Readout("bigram", "from the best one-word model", "nats/token"),
            Readout("writes", "it writes"),
        ],
        digits=4,
        caption="One run with the lines that were drawn before it began. Dots are single batches. Drag, and read "
        "what the network writes.",
        description=(
            "A loss curve that starts at 3.84 nats per token, the blind guess, passes the line of word frequencies at "
            "3.37 without a pause, slows down a little above the line of the one-word model at 1.95, and falls on "
            "towards the floor of an excerpt at 1.54."
        ),
    )


def batch_noise(sizes: Sequence[int], spreads: Mapping[str, np.ndarray]) -> None:
    """The standard deviation of a batch's loss against its size, with the line 1/√B through the first point."""
    _, ax = plt.subplots(figsize=(4.4, 3.2))
    for which, (name, runs) in enumerate(spreads.items()):
        colour = COLOURS[which]
        for run in runs:
            ax.plot(sizes, run, MARKERS[which], color=colour, markersize=4, alpha=0.7)
        level = runs[:, 0].mean()
        ax.plot(sizes, level / np.sqrt(sizes), color=colour, linewidth=1, linestyle="--" if which else "-")
        away, ha = ((-6, -9), "right") if which else ((7, 7), "left")
        direct_label(ax, sizes[1], level / np.sqrt(sizes[1]), name, colour=colour, offset=away, ha=ha)
    _plain_log(ax, "x", sizes)
    _plain_log(ax, "y", (0.003, 0.01, 0.03, 0.1))
    ax.set(xlabel="excerpts in the batch, B", ylabel="standard deviation (nats)", ylim=(0.002, 0.25))
    ax.set(xlim=(0.85, 85))
    plt.show()


def smoothing(
    compute: Callable[..., Mapping], *, methods: Sequence[str], widths: Sequence[int]
) -> Explorable:
    """A noisy fall, smoothed; ``compute(method, width)`` gives curves over x, ``lag``, ``noise`` and ``newest``."""
    return Explorable(
        "smoothing",
        sliders=[
            Slider.choices("method", options=list(methods), label="method"),
            Slider.choices(
                "width", options=list(widths), start=widths[2], label="width", symbol="w", unit="steps"
            ),
        ],
        compute=compute,
        view=Lines(
            [
                Line("raw", "batches", x="raw_x", color=6, points="only"),
                Line("truth", "exact", color="ink", dash="dotted"),
                Line("smoothed", "smoothed", color=2, dash="solid"),
            ],
            x_label="step",
            y_label="loss",
            y_unit="nats/token",
            y_range=(1.0, 4.1),
            height=320,
        ),
        readouts=[
            Readout("lag", "lag", "steps", digits=1),
            Readout("noise", "noise left, of a batch's", format=".0%"),
            Readout("newest", "at the newest step", format=".0%"),
            Readout("worst", "largest error here", "nats/token", digits=2),
        ],
        digits=4,
        caption="The first 150 steps of the run, smoothed as if it had just got there. Dotted: the truth. "
        "Dots: every fourth batch.",
        description=(
            "Noisy losses that fall from 3.8 to 2.0 nats per token, their exact expectation, and a smoothed curve. "
            "Means over the past stay above the truth while it falls; the exponential mean from zero begins near zero; "
            "the local line follows the truth."
        ),
    )


def cliff(rates: Sequence[float], ends: Mapping[str, np.ndarray], levels: Mapping[str, float]) -> None:
    """The exact loss at the end of runs (rates, seeds) against their learning rate, with and without warm-up."""
    _, ax = plt.subplots(figsize=(4.4, 3.4))
    for which, (name, runs) in enumerate(ends.items()):
        shift = (0.94, 1.06)[which]  # side by side
        x = np.asarray(rates) * shift
        ax.plot(x, runs.mean(axis=1), color=COLOURS[which], linestyle=("-", "--")[which], linewidth=1.4)
        for seed in runs.T:
            ax.plot(x, seed, MARKERS[which], color=COLOURS[which], markersize=4, alpha=0.7)
        ax.annotate(
            name, (0.03, 0.9 - 0.08 * which), xycoords="axes fraction", color=COLOURS[which], ha="left"
        )
    _levels(ax, levels, x=0.62)
    _plain_log(ax, "x", rates)
    ax.set(xlabel="peak learning rate", ylabel="exact loss at the end (nats/token)", ylim=(1.3, None))
    ax.tick_params(axis="x", labelsize=9)
    plt.show()


def decay(steps: np.ndarray, excess: Mapping[str, np.ndarray]) -> None:
    """The exact excess over the best model of its kind, for several schedules, one thin line a seed."""
    _, ax = plt.subplots(figsize=(4.4, 3.4))
    for which, (name, runs) in enumerate(excess.items()):
        colour = COLOURS[which]
        for run in runs:
            ax.plot(steps, run, color=colour, linewidth=0.8, linestyle="-", alpha=0.45)
        mean = np.exp(np.log(runs).mean(axis=0))
        ax.plot(
            steps, mean, color=colour, linestyle=("-", "--", ":")[which], marker=MARKERS[which], markersize=3
        )
        direct_label(ax, steps[-1], mean[-1], name, colour=colour)
    _plain_log(ax, "y", (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1))
    ax.set(xlabel="step", ylabel="exact excess (nats/token)", xlim=(0, steps[-1] * 1.42))
    ax.set_xticks(np.arange(0, steps[-1] + 1, 100))
    plt.show()


def gap(sizes: Sequence[int], losses: Mapping[str, np.ndarray], floor: float) -> None:
    """Training and validation loss (sizes, seeds) at the end, by the length of the training text."""
    _, ax = plt.subplots(figsize=(4.4, 3.4))
    for which, (name, runs) in enumerate(losses.items()):
        style = dict(color=COLOURS[which], linestyle=("-", "--", "-.")[which])
        ax.plot(sizes, runs.mean(axis=1), linewidth=1.4, **style)
        for seed in runs.T:
            ax.plot(sizes, seed, MARKERS[which], color=COLOURS[which], markersize=4, alpha=0.7)
        place, away = {0: (0, (9, -10)), 1: (0, (9, 8)), 2: (2, (-12, -11))}[which]
        direct_label(ax, sizes[place], runs[place].mean(), name, colour=COLOURS[which], offset=away)
    ax.axhline(floor, color=INK, linewidth=1, linestyle=DOTTED)
    _plain_log(ax, "x", sizes)
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    ax.set(xlabel="tokens of training text (logarithmic)", ylabel="loss (nats/token)", ylim=(0.6, None))
    plt.show()


def which_points(
    compute: Callable[..., Mapping], *, small: Sequence[int], large: Sequence[int], floor: float
) -> Explorable:
    """Fit E + A·N^−α to a choice of sizes; ``compute(small, large)`` gives points, the curve and the estimates."""
    return Explorable(
        "which-points",
        sliders=[
            Slider.choices("small", options=list(small), label="leave out the smallest"),
            Slider.choices("large", options=list(large), start=large[-1], label="leave out the largest"),
        ],
        compute=compute,
        view=Lines(
            [
                Line("losses", x="n", color=6, points="only"),
                Line("inside", x="grid", color=2, dash="solid"),
                Line("outside", "the law", x="grid", color=2, dash="dashed"),
            ],
            rules=[
                HLine(floor, "the true floor", color="ink", dash="dotted"),
                HLine("E", "fitted E", color=2),
            ],
            x_label="parameters N",
            y_label="loss",
            y_unit="nats/word",
            x_scale="log",
            x_range=(1000, 1_000_000),
            y_range=(3.9, 5.1),
            height=330,
        ),
        readouts=[
            Readout("points", "sizes fitted", digits=0),
            Readout("E", "fitted E", "nats/word", color=2),
            Readout("error", "its standard error", "nats/word"),
            Readout("miss", "E minus the true floor", "nats/word"),
            Readout("alpha", "exponent α", digits=2),
            Readout("residual", "typical residual", "nats/word", digits=4),
        ],
        digits=5,
        caption="A law with an irreducible term, fitted to the sizes under its solid part; dashed, it is extrapolated. "
        "The floor is known here.",
        description=(
            "Losses of models of eleven sizes that fall towards a known floor at 4.4 nats per word, a fitted curve "
            "that runs through the chosen points, and its fitted floor, which lies below the true one, the "
            "further the fewer large sizes are used."
        ),
    )


def settings_lab(run: Callable, picture: Callable, *, levels: Mapping[str, float]) -> Lab:
    """Train with your settings: ``run(progress, learning_rate, batch, steps, schedule, width, tokens, seed)``."""

    def draw(figure: Figure, runs: Sequence[Run]) -> None:
        ax = figure.subplots()
        for place, done in enumerate(runs):
            newest = place == len(runs) - 1
            history = done.result[0]
            colour = COLOURS[(done.number - 1) % len(COLOURS)]
            steps, losses = history.smoothed(max(1, len(history.losses) // 40))
            ax.plot(
                steps + 1, losses, color=colour, linewidth=2.2 if newest else 1.2, alpha=1 if newest else 0.7
            )
            direct_label(
                ax,
                steps[-1] + 1,
                losses[-1],
                f"run {done.number}",
                colour=colour,
                offset=(5, 8 * (not newest)),
            )
        _levels(ax, levels, x=0.7)
        ax.set(xlabel="batch", ylabel="training loss (nats/token)", ylim=(1.3, 4.2))

    return Lab(
        "your-own-settings",
        "Your own settings, with the lines",
        controls=[
            Number("learning_rate", 1e-4, 1.0, 3e-3, label="peak learning rate", scale="log"),
            Number("batch", 1, 64, 16, label="excerpts in a batch"),
            Number("steps", 50, 2_000, 300, label="training steps"),
            Choice("schedule", ["warm-up and cosine", "constant"], label="schedule"),
            Choice("width", [8, 16, 32, 64], 32, label="width of the network"),
            Number("tokens", 500, 200_000, 200_000, label="words of training text", scale="log"),
            Number("seed", 0, 99, 1, label="seed"),
        ],
        run=run,
        draw=draw,
        summary=lambda result: {
            "exact loss": result[1],
            "above the floor": result[2],
            "it writes": result[3],
        },
        picture=picture,
        caption="Training losses with the lines of the theory: on the page one of this chapter, live yours.",
        description=(
            "A training curve that falls from 3.8 nats per token past the line of word frequencies, rests a "
            "little above the line of the one-word model, and goes on towards the dotted floor at 1.54."
        ),
    )
