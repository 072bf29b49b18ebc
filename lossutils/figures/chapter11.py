"""Chapter 11, DPO: its three explorables, five figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..explore import Explorable, HLine, Line, Lines, Marker, Readout, Slider
from ..labs import Choice, Lab, Number, Run
from ..plotting import COLOURS, DOTTED, INK, MARKERS, PAGE_COLOURS, direct_label

__all__ = [
    "betas",
    "displacement",
    "margins",
    "moved",
    "pair_loss",
    "parts",
    "preference_lab",
    "three_answers",
    "two_roads",
]

DASHES = ("-", "--", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 2)))
MUTED = PAGE_COLOURS["muted"]

# The triangle of three probabilities, drawn with two of them: the third is what is missing to the diagonal.
SIMPLEX = {
    "x_label": "probability of the chosen answer",
    "y_label": "probability of the rejected one",
    "x_range": (0, 1.02),
    "y_range": (0, 1.02),
    "height": 340,
}
EDGE = Line("edge_y", "third answer: 0", x="edge_x", color="muted", dash="dotted")


def pair_loss(compute: Callable[..., Mapping]) -> Explorable:
    """One pair: ``compute(margin, beta)`` gives ``loss`` and ``pull`` over ``x``, and both at the margin."""
    return Explorable(
        "pair-loss",
        sliders=[
            Slider("margin", low=-20, high=60, steps=41, start=0, symbol="m", format=".0f", unit="nats"),
            Slider.choices("beta", options=[0.03, 0.1, 0.3, 1.0], start=0.1, symbol="β", label="scale"),
        ],
        compute=compute,
        view=Lines(
            [Line("loss", "loss"), Line("pull", "pull")],
            markers=[Marker("margin", "loss_here", color=1), Marker("margin", "pull_here", color=2)],
            rules=[HLine(float(np.log(2)), "ln 2")],
            x_label="margin m",
            x_unit="nats",
            y_label="loss (nats), and pull from 0 to 1",
            x_range=(-20, 60),
            y_range=(0, 3),
        ),
        readouts=[
            Readout("loss_here", "loss", unit="nats", color=1),
            Readout("pull_here", "pull σ(−βm)", color=2),
            Readout("right", "probability that the label is right"),
            Readout("factor", "odds of chosen to rejected, × since the start", format=".3g"),
        ],
        digits=4,
        caption="The DPO loss of one pair over its margin, and how hard it still pulls.",
        description=(
            "A curve of the loss that falls from above 1 on the left through ln 2 at margin 0 towards 0, and a curve "
            "of the pull that falls from near 1 through one half to 0. A larger beta makes both steeper."
        ),
    )


def three_answers(compute: Callable[..., Mapping], losses: Sequence[str]) -> Explorable:
    """A path in the triangle; ``compute(loss, beta)`` gives ``path_x, path_y``, the ray and the numbers at its end."""
    return Explorable(
        "three-answers",
        sliders=[
            Slider.choices("loss", options=losses, start=losses[0], label="the loss and the labels"),
            Slider.choices("beta", options=[0.05, 0.1, 0.2, 0.5, 1.0], start=0.5, symbol="β", label="scale"),
        ],
        compute=compute,
        view=Lines(
            [
                Line("path_y", "", x="path_x", color=1, dash="solid", points=True),
                Line("ray_y", "", x="ray_x", color="muted", dash="dashed"),
                EDGE,
            ],
            markers=[
                Marker("refuse", "comply", color=1, guides=False),
                Marker("start_x", "start_y", "start", guides=False),
            ],
            **SIMPLEX,
        ),
        readouts=[
            Readout("margin", "margin meter", unit="nats", digits=2, color=1),
            Readout("stop", "it would stop at", unit="nats", digits=2),
            Readout("refuse", "π(refuse)", digits=4),
            Readout("comply", "π(comply)", format=".2g"),
            Readout("ask", "π(ask back)", digits=4),
        ],
        digits=4,
        caption=(
            "Three answers, one pair: refuse is preferred to comply. The path starts at the forum's habits and shows "
            "10,000 units of training time. On the dashed ray all policies have the same margin."
        ),
        description=(
            "A right-angled triangle. The path begins high on the left, where comply is likely, and runs down and to "
            "the right. With plain DPO it ends on the horizontal axis, where comply has no probability left. With IPO "
            "or with wrong labels and a large beta it stops before."
        ),
    )


def displacement(compute: Callable[..., Mapping]) -> Explorable:
    """Shared features; ``compute(alike, nll)`` gives the path, the probabilities at its end, and the highest."""
    return Explorable(
        "displacement",
        sliders=[
            Slider(
                "alike", low=0.0, high=0.95, steps=20, start=0.9, format=".2f", label="how alike the pair is"
            ),
            Slider.choices(
                "nll",
                options=[0.0, 0.003, 0.01, 0.05],
                start=0.0,
                symbol="v",
                label="weight of −log π(chosen)",
            ),
        ],
        compute=compute,
        view=Lines(
            [Line("path_y", "", x="path_x", color=1, dash="solid", points=True), EDGE],
            markers=[
                Marker("refuse", "comply", color=1, guides=False),
                Marker("start_x", "start_y", "start", guides=False),
            ],
            **SIMPLEX,
        ),
        readouts=[
            Readout("margin", "margin meter", unit="nats", digits=1, color=1),
            Readout("refuse", "π(chosen)", digits=3),
            Readout("highest", "highest on the way", digits=3),
            Readout("ask", "π(third answer)", digits=3),
        ],
        digits=4,
        caption=(
            "DPO with β = 0.1 where answers share features. The margin grows all the way; what becomes of the chosen "
            "answer depends on how much it shares with the rejected one."
        ),
        description=(
            "The same triangle. With unlike answers the path runs to the right corner, where the chosen answer has all "
            "the probability. With answers that are alike it bends back to the corner at zero, where the third answer "
            "has it all. A little weight on the likelihood of the chosen answer leads it to the right again."
        ),
    )


def two_roads(sizes: Sequence[int], dpo: np.ndarray, reward: np.ndarray) -> None:
    """KL from the best policy over the number of preferences, by both roads; rows are seeds."""
    _, ax = plt.subplots(figsize=(4.4, 3.6))
    for row in reward:
        ax.plot(
            sizes, row, marker="o", markersize=9, linestyle="none", markerfacecolor="none", color=COLOURS[0]
        )
    for row in dpo:
        ax.plot(sizes, row, marker="x", markersize=5, linestyle="none", color=COLOURS[1])
    middle = np.median(dpo, axis=0)
    ax.plot(sizes, middle, color=MUTED, linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="preferences", ylabel="KL from the best policy (nats)")
    names = {"rings: reward, then its best policy": 0.13, "crosses: DPO": 0.04}
    for which, (name, height) in enumerate(names.items()):
        ax.annotate(name, (0.02, height), xycoords="axes fraction", color=COLOURS[which])
    plt.show()


def margins(times: np.ndarray, curves: Mapping[str, np.ndarray], stops: Mapping[str, float]) -> None:
    """Margin over training time, one line a loss, with the level at which it stops; from the highest to the lowest."""
    _, ax = plt.subplots(figsize=(4.4, 4.0))
    for which, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[which]
        ax.plot(times, curve, color=colour, linestyle=DASHES[which])
        above = 8 if which < 3 else -8
        direct_label(ax, times[-1], curve[-1], name, colour=colour, offset=(0, above), ha="right")
        if np.isfinite(stops[name]):
            ax.axhline(stops[name], color=colour, linewidth=0.9, linestyle=DOTTED)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="training time (step size × steps)",
        ylabel="margin (nats)",
        ylim=(0.08, 200),
    )
    plt.show()


def moved(panels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Change of log-probability, chosen over rejected, one dot a pair; a panel a model."""
    _, axes = plt.subplots(len(panels), 1, figsize=(4.4, 2.8 * len(panels)), sharex=True, sharey=True)
    for ax, (name, (chosen, rejected)) in zip(axes, panels.items(), strict=True):
        scatter_moved(ax, chosen, rejected)
        ax.annotate(name, (0, 1.04), xycoords="axes fraction", va="bottom")
        ax.set(ylabel="chosen, Δ log π (nats)")
    axes[-1].set(xlabel="rejected, Δ log π (nats)")
    axes[0].annotate("margin 0", (0.05, 0.05), xycoords="axes fraction", color=MUTED)
    plt.show()


def scatter_moved(ax: Axes, chosen: np.ndarray, rejected: np.ndarray) -> None:
    fell = chosen < 0
    ax.axhline(0, color=INK, linewidth=0.8)
    ax.axline((0, 0), slope=1, color=MUTED, linewidth=0.8, linestyle="--")
    for rows, which in ((~fell, 0), (fell, 1)):
        ax.plot(
            rejected[rows],
            chosen[rows],
            MARKERS[which],
            color=COLOURS[which],
            markersize=3.5,
            alpha=0.6,
            markeredgewidth=0,
        )


def parts(columns: Mapping[str, Mapping[str, Sequence[float]]], before: Mapping[str, float]) -> None:
    """A row a setting, a panel a number; dots are seeds, the dotted line is the reference's mean."""
    rows = list(next(iter(columns.values())))
    _, axes = plt.subplots(len(columns), 1, figsize=(4.4, 2.1 * len(columns)))
    for which, (ax, (title, found)) in enumerate(zip(axes, columns.items(), strict=True)):
        for place, name in enumerate(rows):
            values = found[name]
            ax.plot(
                values,
                np.full(len(values), place),
                MARKERS[which],
                color=COLOURS[which],
                alpha=0.75,
                markersize=5,
            )
        ax.axvline(before[title], color=INK, linewidth=1.1, linestyle=DOTTED)
        ax.set(xlabel=title, ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)), yticklabels=rows)
        ax.grid(axis="y", visible=False)
        ax.locator_params(axis="x", nbins=5)
    plt.show()


def betas(values: Sequence[float], panels: Mapping[str, np.ndarray]) -> None:
    """A panel a number, over β; rows of each array are seeds."""
    _, axes = plt.subplots(len(panels), 1, figsize=(4.4, 2.0 * len(panels)), sharex=True)
    for which, (ax, (title, found)) in enumerate(zip(axes, panels.items(), strict=True)):
        for row in found:
            ax.plot(values, row, MARKERS[which], color=COLOURS[which], alpha=0.6, markersize=4)
        ax.plot(values, np.mean(found, axis=0), color=COLOURS[which], linewidth=1.4, linestyle=DASHES[which])
        ax.set(xscale="log", xticks=values, xticklabels=[f"{v:g}" for v in values])
        ax.minorticks_off()
        ax.annotate(title, (0, 1.05), xycoords="axes fraction")
    axes[-1].set(xlabel="β")
    plt.show()


def preference_lab(run: Callable, picture: Callable) -> Lab:
    """Train on preferences: ``run(progress, loss, beta, ...)`` gives (moved chosen, moved rejected, row of numbers)."""
    return Lab(
        "train-on-preferences",
        "Train on preferences, watch both answers",
        controls=[
            Choice(
                "loss",
                {"DPO": "sigmoid", "IPO": "ipo", "hinge": "hinge", "robust DPO": "robust"},
                label="loss",
            ),
            Number("beta", 0.01, 3.0, 0.1, label="β", scale="log"),
            Number("smoothing", 0.0, 0.45, 0.0, label="ε that the loss assumes"),
            Number("noise", 0.0, 0.45, 0.0, label="share of labels turned round"),
            Number("nll", 0.0, 1.0, 0.0, label="weight of −log π(chosen)"),
            Number("corpus", 0.0, 1.0, 0.0, label="weight of the corpus"),
            Number("epochs", 1, 8, 4, label="epochs"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=_draw_preferences,
        summary=lambda result: {
            "chosen fell": f"{np.mean(result[0] < 0):.0%}",
            "help": result[2].help,
            "refusal": result[2].refusal,
            "unsafe": result[2].unsafe,
            "KL to reference": result[2].kl,
            "corpus nats/token": result[2].loss,
        },
        picture=picture,
        caption="Plain DPO, as the lab starts: a dot is a pair of answers. Live, your runs are added.",
        description=(
            "Dots over the change of the rejected answer's log-probability, nearly all of them negative. Most lie "
            "above the dashed line of margin zero, many of them below the horizontal line: the chosen answer fell too."
        ),
    )


def _draw_preferences(figure: Figure, runs: Sequence[Run]) -> None:
    last = runs[-2:]  # the newest and the one before it, side by side
    axes = figure.subplots(1, len(last), sharex=True, sharey=True, squeeze=False)[0]
    for ax, run in zip(axes, last, strict=True):
        scatter_moved(ax, *run.result[:2])
        ax.set(xlabel="rejected, Δ log π (nats)")
        ax.annotate(f"run {run.number}", (0, 1.03), xycoords="axes fraction")
    axes[0].set(ylabel="chosen, Δ log π (nats)")
