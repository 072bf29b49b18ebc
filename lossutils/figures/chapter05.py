"""Chapter 5, May I compare these two numbers?: its two explorables, three figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from ..explore import Explorable, HLine, Line, Lines, Marker, Readout, Slider
from ..labs import Choice, Lab, Run, Text
from ..plotting import COLOURS, DOTTED, INK, MARKERS, direct_label

__all__ = ["along", "by_context", "documents", "own_text_lab", "ruler", "telling_apart", "two_rulers"]

RULERS = ("perplexity per token", "perplexity per word", "perplexity per byte", "bits per byte")
STRIDES = (1, 2, 4, 8, 16, 32, 64)
KILOBYTES = (3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def two_rulers(perplexities: Mapping[str, Sequence[float]], bits: Mapping[str, Sequence[float]]) -> None:
    """One marker a split and tokenizer, the three of a split joined: perplexity left, bits per byte right."""
    _, (left, right) = plt.subplots(1, 2, figsize=(5.6, 3.2))
    names = list(perplexities)
    for ax, table in ((left, perplexities), (right, bits)):
        values = np.array([table[name] for name in names])
        ax.plot(range(len(names)), values, "-", color=INK, linewidth=0.8, alpha=0.45)
        for which, row in enumerate(values):
            ax.plot(
                np.full(row.size, which),
                row,
                MARKERS[which],
                color=COLOURS[which],
                markersize=5.5,
                clip_on=False,
            )
        ax.set_xticks(range(len(names)), [name.replace("-", "\n") for name in names])
        ax.set_xlim(-0.4, len(names) - 0.6)
        ax.grid(axis="x", visible=False)
    left.set(yscale="log", ylim=(2, 200), ylabel="perplexity per token")
    left.yaxis.set_major_locator(FixedLocator([2, 5, 10, 20, 50, 100, 200]))
    left.yaxis.set_minor_locator(NullLocator())
    left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.set(ylim=(0, 2.5), ylabel="bits per byte")
    plt.show()


def by_context(context: np.ndarray, nll: np.ndarray) -> None:
    """The mean loss by how many tokens the model saw, in bins that grow, with a standard error of tokens."""
    edges = np.array([1, 2, 3, 4, 6, 9, 13, 19, 28, 41, 65])
    which = np.digitize(context, edges) - 1
    centres, means, errors = [], [], []
    for k in range(len(edges) - 1):
        some = nll[which == k]
        centres.append(context[which == k].mean())
        means.append(some.mean())
        errors.append(some.std() / np.sqrt(some.size))
    _, ax = plt.subplots()
    ax.errorbar(centres, means, errors, color=COLOURS[0], marker="o", linewidth=1.4)
    ax.axhline(nll.mean(), color=INK, linestyle=DOTTED, linewidth=1.2)
    direct_label(ax, 50, nll.mean(), "mean of all", colour=INK, offset=(0, 10), ha="right")
    ax.set(xscale="log", xlabel="tokens seen in the window, start token included", ylabel="loss (nats/token)")
    ax.xaxis.set_major_locator(FixedLocator([1, 2, 4, 8, 16, 32, 64]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    plt.show()


def documents(n_bytes: np.ndarray, rates: np.ndarray, mean: float, errors: Mapping[str, float]) -> None:
    """One dot a document over its size, the mean of all, and one bar for each idea of the mean's error."""
    _, ax = plt.subplots()
    ax.plot(n_bytes, rates, "o", color=COLOURS[0], markersize=5)
    ax.axhline(mean, color=INK, linestyle=DOTTED, linewidth=1.2)
    for which, (name, error) in enumerate(errors.items(), start=1):
        x = n_bytes.max() * 2.2**which
        ax.errorbar(
            [x], [mean], [1.96 * error], color=COLOURS[which], marker=MARKERS[which], capsize=4, linewidth=1.8
        )
        away = (0, -16) if which == 1 else (0, 24)
        direct_label(ax, x, mean, name, colour=COLOURS[which], offset=away, ha="center")
    ax.set(xscale="log", xlabel="size of the document (bytes)", ylabel="bits per byte")
    ax.set_ylim(0, 1.2 * max(rates.max(), mean))
    ax.set_xlim(n_bytes.min() / 1.5, n_bytes.max() * 12)
    plt.show()


def ruler(compute: Callable[..., Mapping]) -> Explorable:
    """Three models, one ruler; ``compute(ruler, stride)`` gives a curve over x and a value for each of a, b, c."""
    return Explorable(
        "pick-a-ruler",
        sliders=[
            Slider.choices("ruler", options=RULERS, label="divide by"),
            Slider.choices("stride", options=STRIDES, start=32, label="stride", unit="tokens"),
        ],
        compute=compute,
        view=Lines(
            [Line("a_curve", "bytes"), Line("b_curve", "BPE-512"), Line("c_curve", "BPE-2048")],
            markers=[
                Marker("stride", "a", color=1, guides=False),
                Marker("stride", "b", color=2, guides=False),
                Marker("stride", "c", color=3, guides=False),
            ],
            x_label="stride",
            x_unit="tokens",
            y_label="the number that is reported",
            x_scale="log",
            y_scale="log",
            x_range=(1, 64),
            y_range=(1, 100_000),
        ),
        readouts=[
            Readout("a", "bytes", format=",.3f", color=1),
            Readout("b", "BPE-512", format=",.3f", color=2),
            Readout("c", "BPE-2048", format=",.3f", color=3),
            Readout("ratio", "largest over smallest", format=",.3g"),
        ],
        digits=5,
        caption=(
            "Three GPTs on the same held-out text. Nothing about the models changes here, only what their losses are "
            "divided by, and how far the windows move."
        ),
        description=(
            "Three nearly level curves over the stride. Per token they are far apart, at about 4, 17 and 107. Per "
            "word, per byte, or in bits per byte they lie close together, and their order is turned round."
        ),
    )


def telling_apart(compute: Callable[..., Mapping], pairs: Sequence[str]) -> Explorable:
    """Two models and a size of text; ``compute(pair, size)`` gives both half-widths over x and at the size."""
    return Explorable(
        "telling-apart",
        sliders=[
            Slider.choices("pair", options=pairs, label="which two models"),
            Slider.choices("size", options=KILOBYTES, start=30, label="held-out text", unit="kB"),
        ],
        compute=compute,
        view=Lines(
            [Line("paired_curve", "paired"), Line("unpaired_curve", "unpaired")],
            markers=[
                Marker("n_bytes", "paired", color=1, guides=False),
                Marker("n_bytes", "unpaired", color=2, guides=False),
            ],
            rules=[HLine("difference", "the difference", color="ink")],
            x_label="held-out text",
            x_unit="bytes",
            y_label="half-width of the interval",
            y_unit="bits per byte",
            x_scale="log",
            y_scale="log",
            x_range=(2e3, 1.5e8),
            y_range=(3e-4, 1),
        ),
        readouts=[
            Readout("difference", "the difference", "bits per byte", digits=4),
            Readout("paired", "paired, ±", "bits per byte", digits=4, color=1),
            Readout("unpaired", "unpaired, ±", "bits per byte", digits=4, color=2),
            Readout("verdict", "told apart"),
        ],
        digits=4,
        caption=(
            "Half the width of a 95 % interval for the difference of two models, against the size of the text. Where a "
            "line is below the dashed one, the interval no longer reaches zero."
        ),
        description=(
            "Two falling lines over the size of the text, both with the slope of one over the square root. The paired "
            "one lies far below the unpaired one, so it passes under the level of the difference much earlier."
        ),
    )


def own_text_lab(run: Callable, picture: Callable, models: Sequence[str]) -> Lab:
    """A text of yours: ``run(progress, text, path, model)`` gives (position, bits per byte there, numbers)."""
    return Lab(
        "score-your-own-text",
        "Score your own text",
        controls=[
            Text("text", PARAGRAPH, label="a text", rows=5),
            Text("path", "", label="or the path of a text file"),
            Choice("model", models, label="model"),
        ],
        run=run,
        draw=_draw_text,
        summary=lambda result: result[2],
        picture=picture,
        caption=(
            "Bits per byte along a text that begins with closures and ends with pigeons, in stretches of about 64 "
            "bytes, under the byte model. In a live kernel each text of yours is added."
        ),
        description=(
            "A curve of bits per byte over the position in a paragraph. It rises from 1.5, where the text is about "
            "functions, to 3.5, where it is about a cat and two pigeons, across a dotted line at its mean."
        ),
    )


PARAGRAPH = (
    "A function that is defined inside another function may use the names of the outer one. Such a function is called "
    "a closure. It keeps what it needs alive, even after the outer function has returned. The cat on the windowsill "
    "does not care: it watches two pigeons, quietly furious, and knows nothing about scopes."
)


def _draw_text(figure: Figure, runs: Sequence[Run]) -> None:
    ax = figure.subplots()
    for which, run in enumerate(runs):
        position, rate, numbers = run.result
        newest = which == len(runs) - 1
        colour = COLOURS[(run.number - 1) % len(COLOURS)]
        ax.plot(position, rate, color=colour, linewidth=1.6 if newest else 0.9, alpha=1 if newest else 0.55)
        if newest:
            mean = numbers["bits per byte"]
            ax.axhline(mean, color=INK, linestyle=DOTTED, linewidth=1.2)
            ax.annotate(
                f"{mean:.2f} in all",
                (0.98, mean),
                xycoords=("axes fraction", "data"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="right",
                va="bottom",
                color=INK,
            )
    ax.set(xlabel="position (bytes)", ylabel="bits per byte", ylim=(0, None))


def along(nll: np.ndarray, n_bytes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each stretch of a text ends, in bytes, and its bits per byte: at most 60 stretches of 64 bytes or more."""
    ends = np.cumsum(n_bytes)
    stretch = (ends - 1) // max(64, -(-ends[-1] // 60))
    bits = np.bincount(stretch, nll) / np.log(2)
    length = np.bincount(stretch, n_bytes)
    some = length > 0
    return np.cumsum(length)[some], bits[some] / length[some]
