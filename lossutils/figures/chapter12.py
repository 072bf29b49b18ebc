"""Chapter 12, Capstone: its two explorables, the figures of the report and of its correction, and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ..explore import Bar, Bars, Explorable, HLine, Line, Lines, Marker, Readout, Slider
from ..labs import Lab, Number, Run
from ..plotting import COLOURS, INK, MARKERS, direct_label, floor_line

__all__ = ["best_of", "by_heart", "honest_table", "pretraining", "report_lab", "when_to_accuse"]


def when_to_accuse(compute: Callable[..., Mapping]) -> Explorable:
    """What an accusation earns; ``compute(sure, charge)`` gives ``curve`` over ``x``, ``expected`` and ``even``."""
    return Explorable(
        "when-to-accuse",
        sliders=[
            Slider(
                "sure",
                low=0,
                high=1,
                steps=21,
                start=0.6,
                format=".2f",
                label="how sure that it is mistaken",
                symbol="p",
            ),
            Slider(
                "charge",
                low=0,
                high=1,
                steps=11,
                start=0.5,
                format=".1f",
                label="and that the charge is right",
                symbol="c",
            ),
        ],
        compute=compute,
        view=Lines(
            [Line("curve", "accuse")],
            markers=[Marker("sure", "expected", color=1)],
            rules=[HLine(0, "stay silent")],
            x_label="probability p that the statement is mistaken",
            y_label="expected points",
            x_range=(0, 1),
            y_range=(-2.1, 2.1),
        ),
        readouts=[
            Readout("expected", "expected points", digits=2, color=1),
            Readout("even", "accuse from p =", digits=2),
            Readout("advice", "so"),
        ],
        digits=4,
        caption="What an accusation earns on average, by the rules of this audit.",
        description=(
            "A straight line over the probability p that a statement is mistaken, from minus two points at p = 0 up to "
            "between one and two points at p = 1, and the level zero of silence. They cross between one half and two "
            "thirds."
        ),
    )


def honest_table(
    compute: Callable[..., Mapping], *, texts: Sequence[str], rulers: Sequence[str]
) -> Explorable:
    """Models by text and ruler; ``compute(text, ruler)`` gives ``ratios`` to the perfect reader, and the readouts."""
    return Explorable(
        "honest-table",
        sliders=[
            Slider.choices("text", options=texts, start=texts[0], label="scored on"),
            Slider.choices("ruler", options=rulers, start=rulers[0], label="reported as"),
        ],
        compute=compute,
        view=Bars(
            ["Wren 0", "Wren 1", "Parrot", "bytes"],
            [Bar("ratios")],
            highlight="winner",
            value_label="reported number / the perfect reader's",
            rules=[HLine(1)],
            digits=2,
        ),
        readouts=[
            Readout("wren", "Wren 1", color=1),
            Readout("parrot", "Parrot"),
            Readout("bytes", "the byte model"),
            Readout("perfect", "the perfect reader"),
            Readout("best", "lowest"),
            Readout("below", "below the perfect reader"),
        ],
        caption="Four models in multiples of the perfect reader (the line at 1), by the report's choices and others.",
        description=(
            "Four bars and a line at 1. Per token on the archive's test part Parrot and the byte model lie below 1. In "
            "bits per byte on fresh documents all lie above: Wren 1 is lowest and Parrot is highest."
        ),
    )


def pretraining(losses: Sequence[float], law: tuple[float, float], *, floor: float | None = None) -> None:
    """The training loss over the steps and a power law a · s^b drawn on; with the floor where it is given."""
    _, ax = plt.subplots(figsize=(4.4, 3.2))
    steps = np.arange(1, len(losses) + 1)
    block = 10
    means = np.asarray(losses).reshape(-1, block).mean(axis=1)
    ax.plot(steps.reshape(-1, block).mean(axis=1), means, color=COLOURS[0])
    direct_label(ax, 12, means[1], "training loss", colour=COLOURS[0], offset=(16, 8))
    on = np.geomspace(100, 10_000, 50)
    ax.plot(on, law[0] * on ** law[1], color=COLOURS[1], linestyle="--")
    direct_label(ax, 10_000, law[0] * 10_000 ** law[1], "law", colour=COLOURS[1], offset=(5, 0))
    if floor is not None:
        floor_line(ax, floor, x=0.5)
    ax.set(xscale="log", xlabel="step", ylabel="loss (nats/token)", ylim=(0.5, 3.1), xlim=(4, 16_000))
    plt.show()


def by_heart(history) -> None:
    """The loss on the demonstrations, and on the right answers to questions that were held out."""
    _, ax = plt.subplots(figsize=(4.4, 3.2))
    ax.plot(history.losses, color=COLOURS[0])
    ax.plot(
        history.validation_steps,
        history.validation_losses,
        color=COLOURS[1],
        linestyle="--",
        marker=MARKERS[1],
        markersize=4,
    )
    last = len(history.losses)
    direct_label(ax, last, history.losses[-1], "demonstrations", colour=COLOURS[0], offset=(0, 9), ha="right")
    direct_label(
        ax,
        last,
        history.validation_losses[-1],
        "questions held out",
        colour=COLOURS[1],
        offset=(0, 11),
        ha="right",
    )
    ax.set(xlabel="step", ylabel="answers (nats/token)", ylim=(-0.03, 1.25))
    plt.show()


def best_of(ns: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
    """What the best of n earns, a panel a measure."""
    _, axes = plt.subplots(len(curves), 1, figsize=(4.4, 2.2 * len(curves)), sharex=True)
    for which, (ax, (name, values)) in enumerate(zip(np.atleast_1d(axes), curves.items(), strict=True)):
        ax.plot(
            ns,
            values,
            color=COLOURS[which],
            marker=MARKERS[which],
            linestyle=("-", "--")[which],
            markersize=4,
        )
        ax.set(xscale="log", ylabel=name, xticks=ns)
        ax.set_xticks([1, 4, 16, 64], ["1", "4", "16", "64"])
        ax.minorticks_off()
        ax.locator_params(axis="y", nbins=5)
    np.atleast_1d(axes)[-1].set(xlabel="n, the answers to choose from")
    plt.show()


def report_lab(run: Callable, picture: Callable, *, base: tuple[float, float]) -> Lab:
    """Fine-tune with settings of your own; ``run(progress, ...)`` gives rows of (corpus loss, help, refusal)."""

    def draw(figure: Figure, runs: Sequence[Run]) -> None:
        ax = figure.subplots()
        ax.plot(*base, marker="s", color=INK, linestyle="none", markersize=6)
        direct_label(ax, *base, "Wren 1", colour=INK, offset=(6, 8))
        for one in runs:
            losses, helps = np.transpose(one.result)[:2]
            which = (one.number - 1) % len(COLOURS)
            ax.plot(losses, helps, MARKERS[which], color=COLOURS[which], linestyle="none", markersize=6)
            direct_label(
                ax,
                losses.mean(),
                helps.max(),
                f"run {one.number}",
                colour=COLOURS[which],
                offset=(0, 11),
                ha="center",
            )
        ax.set(xlabel="corpus loss (nats/token)", ylabel="help", ylim=(0, 1))
        ax.margins(x=0.25)

    def spread(result, which: int) -> str:
        values = np.transpose(result)[which]
        return f"{values.min():.3f} to {values.max():.3f}"

    return Lab(
        "your-own-row",
        "Write a row that you would sign",
        controls=[
            Number("demonstrations", 16, 512, 96, label="demonstrations"),
            Number("epochs", 1, 20, 4, label="passes over them"),
            Number("corpus_weight", 0.0, 2.0, 0.5, label="weight of the corpus"),
            Number("seeds", 1, 5, 3, label="seeds"),
        ],
        run=run,
        draw=draw,
        summary=lambda result: {
            "corpus loss": spread(result, 0),
            "help": spread(result, 1),
            "refusal": spread(result, 2),
        },
        picture=picture,
        caption="Fine-tuned models at the start settings, a mark a seed, beside the base. Live, yours are added.",
        description="A square for the base at the lower left, and three marks above it and to the right.",
    )
