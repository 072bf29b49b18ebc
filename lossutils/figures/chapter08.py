"""Chapter 8, The wrong loss: its three explorables, four figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..explore import Explorable, HLine, Line, Lines, Marker, Readout, Slider, VLine
from ..labs import Choice, Lab, Number, Run
from ..plotting import COLOURS, DOTTED, INK, MARKERS, direct_label

__all__ = [
    "class_weight",
    "loss_lab",
    "pull",
    "recovered",
    "recovery",
    "reliability",
    "taught",
    "which_probability",
]

DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)))


def which_probability(compute: Callable[..., Mapping], losses: Sequence[str]) -> Explorable:
    """Mean loss over the report q; ``compute(p, loss)`` gives ``mean`` over ``x``, and its ``lowest`` at ``best``."""
    return Explorable(
        "which-probability",
        sliders=[
            Slider(
                "p", low=0.04, high=0.96, steps=24, start=0.72, symbol="p", format=".2f", label="the truth"
            ),
            Slider.choices("loss", options=losses, start=losses[0], label="the loss"),
        ],
        compute=compute,
        view=Lines(
            [Line("mean", "mean loss")],
            markers=[Marker("best", "lowest", "lowest")],
            rules=[VLine("p", "truth", color=2)],
            x_label="probability q that the model reports",
            y_label="mean loss",
            x_range=(0, 1),
            y_range=(0, 2.2),
        ),
        readouts=[
            Readout("p", "the truth p", digits=2, color=2),
            Readout("best", "the loss is lowest at q"),
            Readout("off", "off by"),
        ],
        digits=4,
        caption="The mean loss of a report q where the truth is p. A proper loss has its lowest point at the truth.",
        description=(
            "A curve of the mean loss over the reported probability. For the log, Brier and spherical loss its lowest "
            "point lies on the vertical line at the truth. For the absolute error it is at 0 or 1, for the focal loss "
            "nearer to one half, for the hinge at 0.269 or 0.731."
        ),
    )


def pull(compute: Callable[..., Mapping]) -> Explorable:
    """The gradient at the target; ``compute(margin, classes)`` gives five curves over ``x`` and the values there."""
    names = {
        "ce": "cross-entropy",
        "brier": "Brier",
        "spherical": "spherical",
        "mae": "absolute error",
        "focal": "focal",
    }
    lines = [Line(key, name) for key, name in names.items()]
    return Explorable(
        "pull",
        sliders=[
            Slider(
                "margin", low=-4, high=14, steps=37, start=5, format=".1f", label="lead of the wrong word"
            ),
            Slider.choices("classes", options=[2, 20, 1000], start=2, symbol="C", label="words"),
        ],
        compute=compute,
        view=Lines(
            lines,
            markers=[Marker("margin", "ce_here", color=1), Marker("margin", "brier_here", color=2)],
            x_label="lead of the wrong word",
            x_unit="nats",
            y_label="pull on the right word's logit",
            x_range=(-4, 14),
            y_range=(0, 1.25),
        ),
        readouts=[
            Readout(f"{key}_here", name, format=".2g", color=number)
            for number, (key, name) in enumerate(names.items(), 1)
        ],
        digits=3,
        caption="How hard each loss pulls the right word up when one wrong word leads. The others are level with it.",
        description=(
            "Five curves over the lead of the wrong word. Cross-entropy rises to 1 and stays there, and so does focal. "
            "Brier, spherical and absolute error rise, have a hump, and fall to zero as the wrong word's lead grows."
        ),
    )


def class_weight(compute: Callable[..., Mapping]) -> Explorable:
    """Class weights; ``compute(p, weight)`` gives ``curve`` over ``x``, ``learned``, ``restored`` and ``even``."""
    return Explorable(
        "class-weight",
        sliders=[
            Slider(
                "p", low=0.005, high=0.5, steps=100, start=0.065, symbol="p", format=".3f", label="the truth"
            ),
            Slider.choices(
                "weight", options=[1, 2, 5, 14, 50, 200], start=14, symbol="w", label="weight of yes"
            ),
        ],
        compute=compute,
        view=Lines(
            [Line("curve", "learned"), Line("x", "truth")],
            markers=[Marker("p", "learned")],
            rules=[HLine(0.5, "one half")],
            x_label="true probability p",
            y_label="probability that is learned",
            x_range=(0, 0.5),
            y_range=(0, 1),
        ),
        readouts=[
            Readout("learned", "the model learns to say", color=1),
            Readout("restored", "divided by the weight again"),
            Readout("even", "it says one half where the truth is"),
        ],
        digits=4,
        caption="What a class weight does to a probability. The correction takes it back exactly.",
        description=(
            "The learned probability as a curve over the true one. With weight 1 it is the diagonal; with larger "
            "weights it rises steeply near zero and lies far above."
        ),
    )


def recovered(truth: np.ndarray, reports: Mapping[str, np.ndarray]) -> None:
    """For each loss the report at which it is lowest, over the truth."""
    _, ax = plt.subplots(figsize=(5.2, 4.2))
    places = {0: (0.5, (8, -12)), 1: (0.52, (0, 8)), 2: (0.26, (-2, 13)), 3: (0.6, (0, 9))}
    for which, (name, report) in enumerate(reports.items()):
        ax.plot(truth, report, color=COLOURS[which], linestyle=DASHES[which])
        x, offset = places[which]
        at = int(np.argmin(np.abs(truth - x)))
        ha = "left" if which < 2 else "center"
        direct_label(ax, truth[at], report[at], name, colour=COLOURS[which], offset=offset, ha=ha)
    ax.set(
        xlabel="true probability p",
        ylabel="report q with the lowest mean loss",
        xlim=(0, 1.0),
        ylim=(-0.03, 1.12),
    )
    plt.show()


def recovery(panels: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Accuracy while training, a panel an optimiser; the rows of each array are seeds."""
    _, axes = plt.subplots(len(panels), 1, figsize=(4.4, 5.6), sharex=True)
    for ax, (title, runs) in zip(axes, panels.items(), strict=True):
        for which, accuracy in enumerate(runs.values()):
            for run in accuracy:
                ax.plot(run, color=COLOURS[which], linestyle=DASHES[which], linewidth=1.1, alpha=0.8)
        height = 2.0
        ends = {name: float(accuracy[:, -1].mean()) for name, accuracy in runs.items()}
        for name in sorted(ends, key=lambda name: -ends[name]):  # from the top, none on another
            height = min(ends[name], height - 0.17)
            which = list(runs).index(name)
            direct_label(ax, runs[name].shape[1] - 1, height, name, colour=COLOURS[which], offset=(6, 0))
        ax.set(ylim=(-0.06, 1.06), yticks=(0, 0.5, 1), ylabel="share right")
        ax.annotate(title, (0, 1.04), xycoords="axes fraction", va="bottom")
    axes[-1].set(xlabel="step")
    plt.show()


def taught(divergence: Mapping[str, Sequence[float]], asked: Mapping[str, float]) -> None:
    """Exact KL of each loss's networks (one dot a seed) and, where it is finite, that of the loss's own minimiser."""
    _, ax = plt.subplots(figsize=(4.4, 3.4))
    for row, (name, values) in enumerate(divergence.items()):
        ax.plot(values, np.full(len(values), row), MARKERS[row], color=COLOURS[row], alpha=0.8)
        if asked.get(name):
            ax.plot([asked[name]], [row], marker="|", markersize=16, color=INK, linestyle="none")
    first = next(name for name in asked if asked[name])
    direct_label(
        ax, asked[first], list(divergence).index(first), "asked for", colour=INK, offset=(0, 16), ha="center"
    )
    ax.set(yticks=range(len(divergence)), yticklabels=list(divergence), ylim=(len(divergence) - 0.5, -0.5))
    ax.set(xscale="log", xlim=(2e-3, 60), xlabel="exact KL from the truth (nats/token)")
    ax.grid(axis="y", visible=False)
    plt.show()


def reliability(bins: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Share of right words over the confidence they were given; each loss a pair (confidence, share)."""
    _, ax = plt.subplots(figsize=(5.2, 4.2))
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle=DOTTED)
    direct_label(ax, 0.86, 0.86, "as sure as right", colour=INK, offset=(-6, 12), ha="right")
    for which, (name, (confidence, share)) in enumerate(bins.items()):
        ax.plot(
            confidence,
            share,
            color=COLOURS[which],
            marker=MARKERS[which],
            linestyle=DASHES[which],
            markersize=4,
        )
        direct_label(
            ax,
            confidence[-1],
            share[-1],
            name,
            colour=COLOURS[which],
            offset=((36, -34), (-8, 6), (-8, 0))[which],
            ha=("center", "right", "right")[which],
        )
    ax.set(
        xlabel="probability of the likeliest word",
        ylabel="share that came true",
        xlim=(0, 1.03),
        ylim=(0, 1.03),
    )
    plt.show()


def loss_lab(run: Callable, picture: Callable, losses: Sequence[str]) -> Lab:
    """Train with a loss of your choice: ``run(progress, loss, gamma, ...)`` gives (history, KL, accuracy, T, text)."""
    return Lab(
        "choose-a-loss",
        "Choose a loss, see what it teaches",
        controls=[
            Choice("loss", losses, label="loss"),
            Number("gamma", 0.0, 5.0, 2.0, label="γ, for the focal loss"),
            Number("smoothing", 0.0, 0.5, 0.1, label="ε, for label smoothing"),
            Number("context", 1, 8, 4, label="window k, in words"),
            Number("steps", 50, 2_000, 300, label="training steps"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=_divergences,
        summary=lambda result: {
            "exact KL": result[1],
            "accuracy": result[2],
            "temperature": result[3],
            "it says": result[4],
        },
        picture=picture,
        caption="The exact divergence from the truth during a run at the start settings. Live, yours are added.",
        description="A curve of the divergence, log scale, that falls from more than 2 nats per token to below 0.2.",
    )


def _divergences(figure: Figure, runs: Sequence[Run]) -> None:
    ax = figure.subplots()
    for place, run in enumerate(runs):
        history = run.result[0]
        newest = place == len(runs) - 1
        colour = COLOURS[(run.number - 1) % len(COLOURS)]
        ax.plot(
            history.validation_steps,
            history.validation_losses,
            color=colour,
            marker=MARKERS[(run.number - 1) % len(MARKERS)],
            markersize=4,
            linewidth=2.2 if newest else 1.2,
        )
        name = f"run {run.number}" if len(runs) > 1 else run.values["loss"]
        end = history.validation_steps[-1], history.validation_losses[-1]
        direct_label(ax, *end, name, colour=colour, offset=(0, 24), ha="right")
    ax.set(xlabel="step", ylabel="exact KL (nats/token)", yscale="log")
