"""Chapter 7, Sick curves: its three explorables, five figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from .. import labs
from ..curves import Run, smooth
from ..explore import Explorable, HLine, Line, Lines, Readout, Slider
from ..labs import Lab, Text
from ..plotting import COLOURS, DOTTED, INK, MARKERS, PAGE_COLOURS, direct_label, plot_diagnosis

__all__ = [
    "blind",
    "hits",
    "learning_rates",
    "next_test",
    "panels",
    "plateaus",
    "spikes",
    "your_log",
]

MUTED = PAGE_COLOURS["muted"]
POINTS = 100  # of a curve on the page


def panels(runs: Mapping[str, Run], *, columns: int = 2) -> None:
    """Small multiples: training thin and smoothed, validation dashed, ln V and the floor; each its own axis."""
    rows = -(-len(runs) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.4, 0.3 + 1.45 * rows), squeeze=False)
    for ax, (name, run) in zip(axes.flat, runs.items(), strict=False):
        _panel(ax, run, small=columns > 2)
        ax.annotate(
            name,
            (0.97, 0.97),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=9,
            bbox={"boxstyle": "square,pad=0.15", "facecolor": PAGE_COLOURS["page"], "edgecolor": "none"},
        )
    for ax in axes.flat[len(runs) :]:
        ax.set_axis_off()
    figure.supxlabel("step", fontsize=10)
    figure.supylabel("loss (nats/token)", fontsize=10)
    plt.show()


def _panel(ax: Axes, run: Run, *, small: bool) -> None:
    seen = np.isfinite(run.train)
    steps, losses = run.steps[seen], run.train[seen]
    ax.plot(steps, losses, color=COLOURS[0], linewidth=0.6, alpha=0.45, linestyle="-")
    ax.plot(steps, smooth(steps, losses, span=0.05 * steps[-1]), color=COLOURS[0], linewidth=1.3)
    if run.validation is not None:
        size = 2 if small else 3
        ax.plot(run.validation_steps, run.validation, "--s", color=COLOURS[1], markersize=size, linewidth=1)
    low, high = 0.0, max(losses.max(), np.log(run.vocab_size or 2))
    if run.validation is not None:
        high = max(high, run.validation.max())
    if high > 5 * np.log(run.vocab_size):
        low = 1.0
        ax.set(yscale="log")
        ax.yaxis.set_major_locator(FixedLocator([1, 3, 10, 30, 100, 300]))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
    ax.axhline(np.log(run.vocab_size), color=MUTED, linewidth=0.9, linestyle=(0, (6, 3)))
    if run.floor:
        ax.axhline(run.floor, color=INK, linewidth=1, linestyle=DOTTED)
    ax.set(ylim=(low, high * (3.5 if low else 1.3)), xlim=(0, 1.02 * run.steps[-1]))
    ax.set_xticks([0, int(run.steps[-1] + 1) // 2, int(run.steps[-1] + 1)])
    ax.tick_params(labelsize=8)


def plateaus(runs: Sequence[Run], stuck: Run) -> None:
    """Losses as a share of ln V: several runs that leave a plateau, and one that never will."""
    _, ax = plt.subplots(figsize=(4.4, 3.2))
    for run in runs:
        share = smooth(run.steps, run.train, span=15) / np.log(run.vocab_size)
        ax.plot(run.steps, share, color=COLOURS[0], linewidth=1, linestyle="-", alpha=0.8)
    share = smooth(stuck.steps, stuck.train, span=15) / np.log(stuck.vocab_size)
    ax.plot(stuck.steps, share, color=COLOURS[1], linewidth=2, linestyle="--")
    direct_label(ax, stuck.steps[-1], share[-1], "stuck", colour=COLOURS[1])
    ax.annotate(f"{len(runs)} runs on a\nproduct of signs", (10, 0.3), color=COLOURS[0])
    ax.set(xlabel="step", ylabel="loss as a share of ln V", ylim=(0, 1.15), xlim=(0, 505))
    plt.show()


def spikes(batches: Sequence[int], peaks: np.ndarray, recovery: np.ndarray, lasting: np.ndarray) -> None:
    """Height, duration and lasting harm (batches, seeds) of a spike, by the number of bad batches."""
    _, axes = plt.subplots(3, 1, figsize=(4.4, 4.6), sharex=True)
    names = ("highest loss\n(nats/token)", "steps until\nit is back", "harm at the\nend (nats)")
    for which, (ax, values, name) in enumerate(zip(axes, (peaks, recovery, lasting), names, strict=True)):
        ax.plot(batches, values.mean(axis=1), color=COLOURS[which], linestyle=("-", "--", "-.")[which])
        for seed in values.T:
            ax.plot(batches, seed, MARKERS[which], color=COLOURS[which], markersize=4, alpha=0.7)
        ax.set(ylabel=name, xscale="log", ylim=(min(0.0, 1.2 * values.min()), 1.15 * values.max()))
        ax.xaxis.set_major_locator(FixedLocator(list(batches)))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_minor_locator(NullLocator())
    axes[-1].set(xlabel="batches of random words, from step 150 on")
    plt.show()


def hits(rates: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> None:
    """Share of runs that were named rightly, with its interval: for each log, by patient."""
    names = list(next(iter(rates.values())))
    _, ax = plt.subplots(figsize=(4.4, 5.2))
    apart = 0.64 / len(rates)
    for which, (log, table) in enumerate(rates.items()):
        y = np.arange(len(names))[::-1] + apart * ((len(rates) - 1) / 2 - which)
        rate, low, high = np.array([table[name] for name in names]).T
        ax.hlines(y, low, high, color=COLOURS[which], linewidth=1.5)
        ax.plot(rate, y, MARKERS[which], color=COLOURS[which], markersize=5, label=log)
        ax.annotate(
            f"{'●■◆'[which]} {log}",
            (0.02, 0.05 * (len(rates) - which) - 0.03),
            xycoords="axes fraction",
            color=COLOURS[which],
        )
    ax.axvline(0.95, color=MUTED, linewidth=1, linestyle="--")
    ax.set_yticks(np.arange(len(names))[::-1], names, fontsize=9)
    ax.set(
        xlabel="share of runs named rightly",
        xlim=(min(0.5, ax.get_xlim()[0]), 1.02),
        ylim=(-0.6, len(names) - 0.4),
    )
    plt.show()


def _thin(values: np.ndarray, unit: float) -> np.ndarray:
    """Block means, as a share of `unit`: about POINTS numbers."""
    values = np.asarray(values, dtype=float) / unit
    return np.array([block.mean() for block in np.array_split(values, POINTS)])


def on_page(run: Run, *, steps: int | None = None) -> dict[str, np.ndarray | float]:
    """A run as the explorables draw it: steps as a share of `steps` (its own), losses as a share of ln V."""
    unit, last = np.log(run.vocab_size), steps or len(run)
    train = np.full(last, np.nan)  # a run that broke off leaves a gap
    train[: len(run)] = run.train
    found = {
        "x": 100 * _thin(np.arange(last), last),
        "train": _thin(train, unit),
        "vx": np.full(11, np.nan),
        "validation": np.full(11, np.nan),
        "floor": -1.0 if run.floor is None else run.floor / unit,
    }
    if run.validation is not None:
        found |= {"vx": 100 * run.validation_steps / last, "validation": run.validation / unit}
    return found


CURVES = dict(
    x_label="share of the run",
    x_unit="%",
    y_label="loss, as a share of ln V",
    x_range=(0, 100),
    y_range=(0, 3.6),
    height=320,
)
RULES = [HLine(1.0, "ln V"), HLine("floor", "floor", color="ink", dash="dotted")]


def blind(compute: Callable[..., Mapping], *, patients: Sequence[int], guesses: Sequence[str]) -> Explorable:
    """Twelve curves without names; ``compute(patient, guess)`` gives the curve and what the guess is told."""
    return Explorable(
        "blind-diagnosis",
        sliders=[
            Slider.choices("patient", options=list(patients), label="patient"),
            Slider.choices("guess", options=list(guesses), label="your diagnosis"),
        ],
        compute=compute,
        view=Lines(
            [
                Line("train", "training", color=1, dash="solid"),
                Line("validation", "validation", x="vx", color=2, dash="dashed", points=True),
            ],
            rules=RULES,
            **CURVES,
        ),
        readouts=[
            Readout("first", "first loss", "nats", digits=2),
            Readout("peak", "highest", "nats", digits=2),
            Readout("end", "last tenth", "nats"),
            Readout("validation_end", "validation, at the end", "nats"),
            Readout("told", "your diagnosis"),
        ],
        digits=3,
        caption="Choose a patient, choose a diagnosis, read what it is told. What lies above the picture is in the "
        "readout.",
        description=(
            "Twelve training curves, one at a time, with their validation losses, the line ln V and the floor where it "
            "is known. The second slider names a diagnosis, and a sentence below says whether it fits."
        ),
    )


def next_test(
    compute: Callable[..., Mapping], *, patients: Sequence[str], tests: Sequence[str]
) -> Explorable:
    """A patient and a test; ``compute(patient, test)`` gives what is seen then, and what the detector says of it."""
    return Explorable(
        "next-test",
        sliders=[
            Slider.choices("patient", options=list(patients), label="patient"),
            Slider.choices("test", options=list(tests), label="test"),
        ],
        compute=compute,
        view=Lines(
            [
                Line("train", "training", color=1, dash="solid"),
                Line("validation", "validation", x="vx", color=2, dash="dashed", points=True),
                Line("second", "rerun", color=3, dash="dashdot"),
            ],
            rules=[
                HLine("start", "ln V"),
                HLine("floor", "floor", color="ink", dash="dotted"),
            ],
            **CURVES,
        ),
        readouts=[
            Readout("end", "ends at", "nats", color=1),
            Readout("other", "validation, or the rerun, ends at"),
            Readout("says", "the detector, from what is on the table"),
            Readout("cannot", "it can't tell"),
            Readout("truth", "what was done"),
        ],
        digits=3,
        caption="One patient, eight tests. Everything was really run; the detector sees what you see. The last "
        "stop tells.",
        description=(
            "A training curve. Each stop of the second slider adds something: the line ln V, the validation loss, the "
            "floor, the curve of a rerun with another learning rate or a wider model. Readouts say what the detector "
            "makes of it."
        ),
    )


def learning_rates(
    compute: Callable[..., Mapping], *, rates: Sequence[float], clips: Sequence[str]
) -> Explorable:
    """Three seeds at one learning rate; ``compute(rate, clip)`` gives their curves and the verdicts."""
    return Explorable(
        "learning-rate-cliff",
        sliders=[
            Slider.choices(
                "rate", options={f"{rate:g}": rate for rate in rates}, start=rates[1], label="learning rate"
            ),
            Slider.choices("clip", options=list(clips), label="gradient"),
        ],
        compute=compute,
        view=Lines(
            [
                Line("one", "seed 1", color=1, dash="solid"),
                Line("two", "seed 2", color=2, dash="dashed"),
                Line("three", "seed 3", color=3, dash="dashdot"),
            ],
            rules=[HLine("ln_v", "ln V"), HLine("floor", "floor", color="ink", dash="dotted")],
            x_label="step",
            y_label="training loss",
            y_unit="nats/token",
            y_scale="log",
            y_range=(1.2, 1000),
            height=330,
        ),
        readouts=[
            Readout("peak", "highest loss of the three", "nats/token", digits=1),
            Readout("best", "last tenth, best seed", "nats/token", digits=2),
            Readout("worst", "worst seed", "nats/token", digits=2),
            Readout("says", "the detector"),
        ],
        digits=3,
        caption="The same small transformer, three seeds, at eight learning rates. The axis of losses is logarithmic.",
        description=(
            "Three training curves that start at 3.8 nats per token. At small learning rates they fall together "
            "towards the floor. From about 0.1 on they end high, and at 1 and above they climb far over their "
            "start."
        ),
    )


def your_log(run: Callable, *, start: str, picture: Callable | None = None) -> Lab:
    """Read and diagnose a log: ``run(progress, path, pasted, vocabulary, floor)`` gives a run and its diagnosis."""

    def draw(figure: Figure, runs: Sequence[labs.Run]) -> None:
        plot_diagnosis(*runs[-1].result, ax=figure.subplots())

    return Lab(
        "your-own-log",
        "Your own log",
        controls=[
            Text("path", start, label="a file, or a folder of TensorBoard events"),
            Text("pasted", "", label="or a log, pasted: CSV, JSON lines or JSON", rows=5),
            Text("vocabulary", "256", label="vocabulary size, if known"),
            Text("floor", "", label="floor in nats/token, if known"),
        ],
        run=run,
        draw=draw,
        summary=lambda result: {
            "says": ", ".join(result[1].kinds),
            "evidence": result[1].findings[0].evidence,
            "next": result[1].findings[0].advice,
        },
        picture=picture,
        caption="A log with what the detector found in it: on the page the book's example, live yours.",
        description=(
            "A training curve that falls from 5.5 to far below its validation curve, which turns and rises; a "
            "band over the rise says overfitting."
        ),
    )
