"""Chapter 2, From logits to loss: its two explorables, three figures and its lab."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..explore import Bar, Bars, Explorable, HLine, Readout, Slider
from ..labs import Choice, Lab, Number, Run
from ..plotting import COLOURS, INK, MARKERS, direct_label

__all__ = ["break_it_lab", "clipped", "correct_digits", "error_map", "four_ways", "push", "sure_and_right"]

MUTED = "#57606a"
DIGITS = {"float64": 15, "float32": 7, "bfloat16": 7}
"""The most correct digits that a cell of the error map can show (a bfloat16 input may have a float32 loss)."""

WAYS = {
    "naive": "softmax, then log",
    "lse": "lse − z_y",
    "shifted": "shift, then lse",
    "careful": "target taken out",
}


def push(compute: Callable[..., Mapping], words: Sequence[str]) -> Explorable:
    """Two logits; ``compute(came, rival)`` gives ``p``, ``gradient``, ``p_came``, ``loss``, ``pull`` and ``push``."""
    logit = {"low": -10, "high": 10, "steps": 21, "format": ".0f"}
    return Explorable(
        "push",
        sliders=[
            Slider("came", start=2.0, label=f"logit of “{words[0]}”, which came", **logit),
            Slider("rival", start=3.0, label=f"logit of “{words[1]}”, its rival", **logit),
        ],
        compute=compute,
        view=Bars(
            list(words),
            [Bar("p", "probability p"), Bar("gradient", "gradient p − y")],
            orientation="horizontal",
            value_range=(-1.25, 1.25),
            digits=2,
            rules=[HLine(0.0, color="ink", dash="solid")],
        ),
        readouts=[
            Readout("loss", "loss", "nats"),
            Readout("p_came", f"probability of “{words[0]}”"),
            Readout("pull", f"gradient at “{words[0]}”"),
            Readout("push", f"gradient at “{words[1]}”"),
        ],
        digits=4,
        caption="Four words, two logits to move; the others stand at 1 and 0. A step against the gradient pulls up the "
        "word that came and pushes down its rivals, in proportion to their probabilities.",
        description="Bars of four probabilities, and beside each the gradient at that logit: negative for the word "
        "that came, and equal to the probability for the others.",
    )


def four_ways(compute: Callable[..., Mapping]) -> Explorable:
    """Offset and target logit; ``compute(offset, z_y)`` gives the truth, four losses and their correct ``digits``."""
    offsets = {f"{n:,}": n for n in (0, *(10**k for k in range(1, 8)))}
    return Explorable(
        "four-ways",
        sliders=[
            Slider.choices("offset", options=offsets, label="offset added to all logits"),
            Slider(
                "z_y",
                low=-5,
                high=24,
                steps=30,
                start=10,
                format=".0f",
                label="logit of the word that came, before the offset",
            ),
        ],
        compute=compute,
        view=Bars(
            list(WAYS.values()),
            [Bar("digits", "correct digits")],
            orientation="horizontal",
            value_label="correct digits",
            value_range=(0, 7.6),
            digits=1,
        ),
        readouts=[
            Readout("truth", "the true loss", "nats", format=".4g"),
            *(Readout(key, label, "nats", format=".4g") for key, label in WAYS.items()),
        ],
        digits=3,
        caption="Correct digits of the loss of three logits in float32, where seven is all that there is.",
        description="Four horizontal bars of correct digits, one for each way to compute the same loss. Only the way "
        "that takes the target out of the sum has about seven digits at every setting.",
    )


def sure_and_right(leads: np.ndarray, curves: Mapping[str, np.ndarray]) -> None:
    """The loss against the lead of the right word: ``curves`` holds F.cross_entropy, lossutils and the truth."""
    _, ax = plt.subplots()
    library, ours, truth = (curves[name] for name in ("F.cross_entropy", "lossutils", "truth"))
    ax.plot(leads, truth, color=INK, linewidth=1, linestyle="-")
    ax.plot(leads[::2], ours[::2], MARKERS[0], color=COLOURS[0], markersize=5.5, fillstyle="none")
    alive = library > 0
    ax.plot(leads[alive], library[alive], MARKERS[1], color=COLOURS[1], markersize=3.2)
    ax.set(yscale="log", ylim=(1e-12, 3), xlabel="lead of the right word (nats)", ylabel="loss (nats)")
    direct_label(ax, leads[-1], ours[-1], "lossutils", colour=COLOURS[0], offset=(-6, -4), ha="right")
    last = int(np.flatnonzero(alive)[-1])
    text = "F.cross_entropy,\nthen exactly 0"
    direct_label(ax, leads[last], library[last], text, colour=COLOURS[1], offset=(4, 15))
    plt.show()


def clipped(gaps: np.ndarray, losses: Sequence[np.ndarray], pulls: Sequence[np.ndarray]) -> None:
    """Loss (above) and pull on the right word (below) against its gap: exact, and with 1e-9 in the logarithm."""
    _, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(4.4, 4.2))
    for n, dash in enumerate(("-", "--")):
        above.plot(gaps, losses[n], color=COLOURS[n], linestyle=dash)
        below.plot(gaps, pulls[n], color=COLOURS[n], linestyle=dash)
    end = int(np.searchsorted(gaps, 46))
    direct_label(above, gaps[end], losses[0][end], "exact", colour=COLOURS[0], offset=(-8, 8), ha="right")
    direct_label(above, gaps[end], losses[1][end], "with 1e-9", colour=COLOURS[1], offset=(0, -10))
    direct_label(below, gaps[end], pulls[0][end], "exact", colour=COLOURS[0], offset=(0, -10))
    direct_label(below, gaps[end], pulls[1][end], "with 1e-9", colour=COLOURS[1], offset=(0, 10))
    above.set(ylabel="loss (nats)")
    below.set(ylabel="pull", ylim=(-0.05, 1.1), xlabel="gap to the top word (nats)")
    plt.show()


def error_map(worst: Mapping[tuple, float | None]) -> None:
    """Correct digits: one table a type. Keys are (type, algorithm, regime); None: there is no such type."""
    types, names, regimes = (list(dict.fromkeys(key[n] for key in worst)) for n in range(3))
    figure, axes = plt.subplots(len(types), 1, figsize=(4.4, 0.35 + len(types) * 0.262 * (len(names) + 1.6)))
    for place, (ax, dtype) in enumerate(zip(axes, types, strict=True)):
        name = str(dtype).removeprefix("torch.")
        table = [[worst[dtype, algorithm, regime] for regime in regimes] for algorithm in names]
        _draw_table(ax, table, DIGITS[name])
        ax.set(yticks=range(len(names)), yticklabels=names, xticks=[])
        ax.tick_params(length=0, labelsize=8.5)
        ax.get_yticklabels()[-1].set_fontweight("bold")
        ax.text(-0.5, -0.62, name, ha="right", va="bottom", fontsize=9.5, fontweight="bold")
        if place == 0:
            ax.xaxis.tick_top()
            ax.set_xticks(
                range(len(regimes)), regimes, rotation=40, ha="left", rotation_mode="anchor", fontsize=8.5
            )
    figure.get_layout_engine().set(hspace=0.03, h_pad=0.03)
    plt.show()


def _draw_table(ax: Axes, table: Sequence[Sequence[float | None]], most: int) -> None:
    """A grid of cells: blue the fuller of digits, orange and framed where none is right."""
    for row, errors in enumerate(table):
        for column, error in enumerate(errors):
            text, digits = _cell(error, most)
            broken = digits == 0
            colour = MUTED if digits is None else COLOURS[1] if broken else COLOURS[0]
            strength = 0.08 if digits is None else 0.3 if broken else 0.04 + 0.42 * digits / most
            box = {"width": 0.94, "height": 0.9, "linewidth": 0}
            corner = (column - 0.47, row - 0.45)
            ax.add_patch(Rectangle(corner, facecolor=colour, alpha=strength, **box))
            if broken:
                frame = box | {"linewidth": 1.1}
                ax.add_patch(Rectangle(corner, facecolor="none", edgecolor=colour, **frame))
            weight = "bold" if broken else "normal"
            ax.text(column, row, text, ha="center", va="center_baseline", fontsize=9, fontweight=weight)
    ax.set(xlim=(-0.5, len(table[0]) - 0.5), ylim=(len(table) - 0.5, -0.5))
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def correct_digits(values: Sequence[float], truth: float, most: float) -> np.ndarray:
    """How many leading decimal digits of each value are right, from 0 (and for what is not finite) to ``most``."""
    error = np.abs(np.array(values, dtype=np.float64) / truth - 1)
    error = np.where(np.isfinite(error), error, 1.0)
    return -np.log10(np.clip(error, 10.0**-most, 1.0)) + 0.0


def _cell(error: float | None, most: int) -> tuple[str, int | None]:
    """What a cell says, and the number of correct digits."""
    if error is None:
        return "–", None
    if math.isnan(error):
        return "NaN", 0
    if math.isinf(error):
        return "∞", 0
    digits = most if error == 0 else max(0, min(most, math.floor(-math.log10(error))))
    return str(digits), digits


def break_it_lab(run: Callable, algorithms: Sequence[str]) -> Lab:
    """Errors on random rows: ``run(progress, algorithm, dtype, offset, spread, words, lead, seed)``, ascending."""
    return Lab(
        "break-the-loss",
        "Find an input that breaks it",
        controls=[
            Choice("algorithm", list(algorithms), "F.cross_entropy", label="how the loss is computed"),
            Choice("dtype", ["float64", "float32", "bfloat16"], "float32", label="type"),
            Number("offset", -1e7, 1e7, 0.0, step=1000.0, label="offset added to all logits"),
            Number("spread", 0.0, 30.0, 2.0, step=0.5, label="standard deviation of the logits"),
            Number("words", 2, 2_000, 100, label="words in the vocabulary"),
            Number("lead", -120.0, 40.0, 12.0, step=0.5, label="lead of the right word, in nats"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=_draw_errors,
        summary=lambda found: {"median error": _percent(np.median(found)), "worst": _percent(found.max())},
        caption="Relative errors of the loss on sixty random rows, the smallest first, at the start settings. In a "
        "live kernel each run of yours is added.",
        description="Sixty relative errors in rising order, most of them between a ten-thousandth and a hundredth: far "
        "above what float32 can reach.",
    )


def _percent(error: float) -> str:
    return "not finite" if np.isinf(error) else f"{error:.1e}"


def _draw_errors(figure: Figure, runs: Sequence[Run]) -> None:
    """One curve a run: the sorted relative errors; not finite stands at the top edge."""
    ax = figure.subplots()
    low, high = 1e-17, 10.0
    for place, run in enumerate(runs):
        errors = np.clip(run.result, low, high)
        which = (run.number - 1) % len(COLOURS)
        newest = place == len(runs) - 1
        share = (np.arange(errors.size) + 0.5) / errors.size
        ax.plot(
            share,
            errors,
            MARKERS[which],
            color=COLOURS[which],
            markersize=3.5 if newest else 2.5,
            alpha=1 if newest else 0.6,
        )
        direct_label(ax, share[-1], errors[-1], f"run {run.number}", colour=COLOURS[which])
    for value, text in ((1.0, "no digit right"), (2.0**-24, "float32"), (2.0**-53, "float64")):
        ax.axhline(value, color=MUTED, linewidth=0.8)
        ax.annotate(
            text,
            (0.01, value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            fontsize=9,
            color=MUTED,
        )
    ax.set(yscale="log", ylim=(low / 2, 2 * high), xlim=(0, 1), xlabel="share of the rows")
    ax.set(ylabel="relative error", xticks=[0, 0.5, 1])
