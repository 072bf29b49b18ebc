"""Chapter 4, Perplexity: its two explorables, four figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from ..explore import Explorable, Line, Lines, Marker, Readout, Slider
from ..labs import Choice, Lab, Number, Run
from ..plotting import COLOURS, DOTTED, INK, MARKERS, direct_label

__all__ = ["by_position", "counting", "distances", "equal_perplexity", "staircase", "step_lab", "temperature"]

VOCABULARIES = (10, 46, 1000, 50257)


def equal_perplexity(distributions: Mapping[str, np.ndarray]) -> None:
    """One panel a distribution: its probabilities, the likeliest first."""
    figure, axes = plt.subplots(len(distributions), sharex=True, figsize=(4.4, 4.0))
    for which, (ax, (name, p)) in enumerate(zip(axes, distributions.items(), strict=True)):
        ax.bar(np.arange(1, p.size + 1), p, 0.8, color=COLOURS[which])
        ax.text(0.98, 0.82, name, transform=ax.transAxes, ha="right", va="top", color=COLOURS[which])
        ax.set(ylim=(0, 0.65), yticks=(0, 0.3, 0.6))
        ax.grid(axis="x", visible=False)
    axes[-1].set(xlabel="word, from the likeliest to the rarest", xlim=(0.3, 46.7))
    figure.supylabel("probability", fontsize=11)
    plt.show()


def temperature(compute: Callable[..., Mapping]) -> Explorable:
    """A Zipf distribution, flattened; ``compute(T, V)`` gives both curves over x, and both values at T."""
    return Explorable(
        "temperature",
        sliders=[
            Slider("T", low=0.5, high=4, steps=31, start=2, scale="log", format=".2f", label="temperature"),
            Slider.choices(
                "V", options=VOCABULARIES, start=1000, symbol="V", label="vocabulary", unit="words"
            ),
        ],
        compute=compute,
        view=Lines(
            [
                Line("own_curve", "expects", color=1),
                Line("text_curve", "gets", color=2, dash="dashed"),
            ],
            markers=[Marker("T", "own", color=1, guides=False), Marker("T", "text", color=2)],
            x_label="temperature T",
            y_label="perplexity",
            x_scale="log",
            y_scale="log",
            x_range=(0.5, 4),
            y_range=(1, 100_000),
        ),
        readouts=[
            Readout("own", "perplexity that it expects", digits=2, color=1),
            Readout("text", "perplexity that it gets on the text", digits=2, color=2),
            Readout("top", "probability of its likeliest word"),
        ],
        digits=4,
        caption="A model expects and a text answers. The two perplexities agree at temperature 1, where the "
        "second is lowest.",
        description=(
            "Two curves over the temperature. The perplexity of the model's own distribution rises from near 1 "
            "to the "
            "size of the vocabulary. The one on the text falls to its lowest point at temperature 1, where it "
            "meets the "
            "first, and rises slowly after."
        ),
    )


def staircase(steps: np.ndarray, floor: float) -> None:
    """The exact perplexity by order (entry n: sees n - 1 words), as a stair, with the perplexity of the language."""
    _, ax = plt.subplots()
    orders = np.arange(steps.size)
    ax.step(orders, steps, where="mid", color=COLOURS[0])
    ax.plot(orders, steps, MARKERS[0], color=COLOURS[0], markersize=4)
    names = {0: "knows nothing", 1: "how often each word comes", 2: "sees one word"}
    for n, name in names.items():
        direct_label(ax, n, steps[n], f"{name}: {steps[n]:.1f}", colour=COLOURS[0], offset=(9, 6))
    _perplexity_axis(ax, floor)
    ax.set(xlabel="order n: sees n − 1 words", xlim=(-0.5, orders[-1] + 0.5), xticks=orders)
    plt.show()


def _perplexity_axis(ax: plt.Axes, floor: float, *, top: float = 60) -> None:
    """A logarithmic axis of perplexity with plain numbers, and the floor."""
    ax.axhline(floor, color=INK, linewidth=1.2, linestyle=DOTTED)
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "top"}
    ax.annotate(f"the language: {floor:.2f}", (0.98, floor), xytext=(0, -4), color=INK, **place)
    ax.set(yscale="log", ylim=(3, top), ylabel="perplexity")
    ax.yaxis.set_major_locator(FixedLocator([1, 2, 3, 4, 5, 10, 20, 50]))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_locator(NullLocator())


def counting(compute: Callable[..., Mapping], *, orders: Sequence[int], sizes: Sequence[int]) -> Explorable:
    """N-grams of every order from texts of several sizes; ``compute(order, size)`` gives curves and their values."""
    return Explorable(
        "counting",
        sliders=[
            Slider.choices("order", options=list(orders), start=5, label="order", symbol="n"),
            Slider.choices(
                "size",
                options={f"{size:,}": size for size in sizes},
                start=20_000,
                label="training text",
                unit="words",
            ),
        ],
        compute=compute,
        view=Lines(
            [
                Line("step_curve", "exact", color="muted", dash="dotted", points=True),
                Line("training_curve", "training", color=2, dash="dashed", points=True),
                Line("held_out_curve", "held out", color=1, dash="solid", points=True),
            ],
            markers=[Marker("order", "held_out", color=1)],
            x_label="order n",
            y_label="perplexity",
            y_scale="log",
            x_range=(1, max(orders)),
            y_range=(1, 40),
            height=320,
        ),
        readouts=[
            Readout("held_out", "perplexity on held-out text", digits=2, color=1),
            Readout("training", "on its training text", digits=2, color=2),
            Readout("step", "of the best model of this order", digits=2, color="muted"),
            Readout("unseen", "excess loss: out of sight", "nats/token"),
            Readout("unlearned", "and not learned", "nats/token"),
        ],
        caption="Witten–Bell n-grams against the exact staircase. A higher order sees more and has fewer "
        "examples of each thing it sees.",
        description=(
            "Three curves over the order, from 1 to 8. The exact one falls from 29 to 4.3. The training curve "
            "falls below "
            "it, the more the shorter the text, down to 1. The held-out curve falls and then rises again; its "
            "lowest point "
            "lies at a higher order the longer the text."
        ),
    )


def by_position(floor: np.ndarray, excess: np.ndarray, rate: float) -> None:
    """Above, the floor of each position of a window and a network's loss; below, the excess of each seed."""
    _, (above, below) = plt.subplots(2, sharex=True, figsize=(4.4, 4.4), height_ratios=(3, 2))
    place = np.arange(1, floor.size + 1)
    above.plot(place, floor + excess.mean(axis=0), MARKERS[0], color=COLOURS[0], markersize=3.5)
    above.plot(place, floor, color=INK, linewidth=1.2)
    above.axhline(rate, color=INK, linewidth=1.2, linestyle=DOTTED)
    direct_label(above, 1, floor[0], "the first word: unigram", colour=INK, offset=(9, 0))
    above.annotate(
        "line: floor, dots: network", (0.98, 0.55), xycoords="axes fraction", ha="right", color=COLOURS[0]
    )
    above.annotate(
        "H", (floor.size, rate), xytext=(4, 0), textcoords="offset points", va="center", annotation_clip=False
    )
    above.set(ylabel="loss (nats/token)", ylim=(1.2, 3.6))
    for seed in excess:
        below.plot(place, 1000 * seed, color=COLOURS[1], linewidth=1, linestyle="-", alpha=0.7)
    below.set(xlabel="position in the window", ylabel="excess (nats/1000)", ylim=(0, None))
    plt.show()


def distances(rows: Mapping[str, Sequence[float]], *, goal: float) -> None:
    """How far above the floor each model is, on a logarithmic axis, one dot a seed."""
    _, ax = plt.subplots(figsize=(4.4, 3.2))
    for height, (name, values) in enumerate(rows.items()):
        colour = COLOURS[0 if len(values) > 1 else 5]
        ax.plot(values, np.full(len(values), -height), MARKERS[height % 2], color=colour, alpha=0.75)
        far = max(values) > 0.3
        edge = min(values) if far else max(values)
        edge = max(edge, goal) if not far else edge  # no text across the dotted line
        offset, ha = ((-8, 0), "right") if far else ((8, 0), "left")
        direct_label(ax, edge, -height, name, colour=colour, offset=offset, ha=ha)
    ax.axvline(goal, color=INK, linewidth=1.2, linestyle=DOTTED)
    ax.set(xscale="log", xlabel="excess over the floor (nats/token)", xlim=(0.003, 4), yticks=[])
    ax.xaxis.set_major_locator(FixedLocator([0.01, 0.1, 1]))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.spines["left"].set_visible(False)
    plt.show()


def step_lab(run: Callable, picture: Callable, *, steps: np.ndarray, floor: float) -> Lab:
    """Fit: ``run(progress, model, order, tokens, steps, seed)`` gives (order, loss, KL, the step it reached)."""

    def draw(figure: Figure, runs: Sequence[Run]) -> None:
        ax = figure.subplots()
        orders = np.arange(steps.size)
        ax.step(orders, np.exp(steps), where="mid", color=COLOURS[5], linewidth=1.2)
        for place, done in enumerate(runs):
            order, loss, *_ = done.result
            colour = COLOURS[(done.number - 1) % 5]
            ax.plot(order, np.exp(loss), MARKERS[(done.number - 1) % len(MARKERS)], color=colour)
            away = (7, 7 if place % 2 == 0 else -7)
            direct_label(ax, order, np.exp(loss), f"run {done.number}", colour=colour, offset=away)
        _perplexity_axis(ax, np.exp(floor))
        ax.set(xlabel="order n: sees n − 1 words", xlim=(-0.5, orders[-1] + 0.5), xticks=orders[::2])

    return Lab(
        "climb-the-staircase",
        "Climb the staircase",
        controls=[
            Choice("model", ["Witten–Bell", "Kneser–Ney", "GPT"], label="model"),
            Number("order", 1, 16, 4, label="order n"),
            Number("tokens", 500, 500_000, 100_000, label="words of training text", scale="log"),
            Number("steps", 100, 6_000, 1_000, label="training steps (GPT only)"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=draw,
        summary=lambda result: {
            "perplexity": float(np.exp(result[1])),
            "exact KL": result[2],
            "as good as the best": result[3],
        },
        picture=picture,
        caption="The exact staircase, and where a model of yours stands: above its step by what it has not learned.",
        description=(
            "A falling stair of exact perplexities by order, from 46 to 4.3, and the point of a Witten–Bell "
            "model of order 4 "
            "a little above its step at 4.99."
        ),
    )
