"""Chapter 1, Surprise: its four explorables, four figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib import pyplot as plt

from ..explore import Bar, Bars, Explorable, HeatMap, Line, Lines, Marker, Readout, Slider, StackedBars
from ..information import kl_divergence, surprisal
from ..labs import Lab, Number
from ..plotting import COLOURS, DOTTED, INK, MARKERS, direct_label, draw_training_runs, floor_line
from ..training import History
from ..worlds import KnownWorld

__all__ = [
    "addresses",
    "asymmetry",
    "curves",
    "floor_scatter",
    "forecast",
    "left_over",
    "next_word",
    "predictor_lab",
    "surprise",
]

SHOWN_WORDS = 8


def surprise(compute: Callable[..., Mapping]) -> Explorable:
    """One slider, the probability of the word that came; ``compute(q)`` gives ``nats``, ``bits`` and ``odds``."""
    grid = np.geomspace(0.001, 1, 120)
    return Explorable(
        "surprise",
        sliders=Slider(
            "q",
            low=0.001,
            high=1,
            steps=91,
            start=0.9,
            scale="log",
            label="probability of the word that came",
            symbol="q",
        ),
        compute=lambda q: {"x": grid, "curve": surprisal(grid), **compute(q)},
        view=Lines(
            [Line("curve", label="−log q")],
            markers=[Marker("q", "nats")],
            x_label="probability q of the word that came",
            y_label="surprise",
            y_unit="nats",
            x_range=(0, 1),
            y_range=(0, 7),
        ),
        readouts=[
            Readout("nats", "surprise", "nats"),
            Readout("bits", "the same", "bits"),
            Readout("odds", "as rare as one in", digits=1),
        ],
        caption="What a prediction costs. Halve q, anywhere on the curve, and the cost rises by one bit.",
        description="The curve −log q falls from 6.9 nats at q = 0.001 to 0 at q = 1, steeply at first.",
    )


def next_word(world: KnownWorld, sentence: str) -> Explorable:
    """One stop a word of ``sentence``: the exact probabilities of the next word, the one that came marked."""
    ids, words = world.encode(sentence), sentence.split()
    exact = world.next_token_probs(ids, start="sentence")

    def at(position: int) -> dict:
        p, came = exact[position], int(ids[position])
        likely = [int(i) for i in np.argsort(-p, kind="stable") if i != came]
        shown = sorted([came, *likely[: SHOWN_WORDS - 1]], key=lambda i: (-p[i], i))
        shown = [i for i in shown if p[i] > 0]
        return {
            "words": [world.vocabulary[i] for i in shown],
            "probabilities": p[shown],
            "came": shown.index(came),
            "cost": surprisal(p[came]),
            "so_far": " ".join(words[:position]) or "(nothing yet)",
        }

    return Explorable(
        "next-word",
        sliders=Slider.choices(
            "position",
            options={f"{n + 1}. {word}": n for n, word in enumerate(words)},
            label="the word that comes",
        ),
        compute=at,
        view=Bars(
            "words",
            ["probabilities"],
            highlight="came",
            orientation="horizontal",
            value_label="exact probability",
            value_range=(0, 1),
        ),
        readouts=[
            Readout("so_far", "read so far"),
            Readout("cost", "surprise of the word that came", "nats"),
        ],
        caption="The exact probabilities of the next word. The word that came is marked.",
        description="A bar chart of the likeliest next words, for each position of the sentence.",
    )


def forecast(compute: Callable[..., Mapping]) -> Explorable:
    """World and belief about rain; ``compute(p, q)`` gives H, KL, CE and the costs ``rain`` and ``dry``."""
    chance = {"low": 0.02, "high": 0.98, "steps": 25, "format": ".2f"}
    return Explorable(
        "forecast",
        sliders=[
            Slider("p", start=0.7, symbol="p", label="how often it rains", **chance),
            Slider("q", start=0.5, symbol="q", label="what you forecast", **chance),
        ],
        compute=compute,
        view=StackedBars(
            ["a day"],
            [Bar("H", "entropy H(p)"), Bar("KL", "divergence KL(p‖q)")],
            total="CE",
            total_label="H(p, q)",
            unit="nats",
            value_range=(0, 4),
        ),
        readouts=[
            Readout("CE", "cross-entropy, a day", "nats"),
            Readout("H", "of it, entropy", "nats"),
            Readout("KL", "of it, divergence", "nats"),
            Readout("rain", "a rainy day costs", "nats"),
            Readout("dry", "a dry day costs", "nats"),
        ],
        caption="What a day costs: the world's part and yours. With p fixed, only q = p makes your part vanish.",
        description="A bar made of the entropy of p and the divergence of q from p. It is shortest when q equals p.",
    )


def asymmetry(compute: Callable[..., Mapping]) -> Explorable:
    """The divergence over all worlds and beliefs; ``compute(p, q)`` gives ``forward`` and ``reverse``."""
    axis = np.linspace(0.04, 0.96, 24).round(2)
    p, q = (np.stack([v, 1 - v], axis=-1) for v in np.meshgrid(axis, axis, indexing="ij"))
    table = kl_divergence(p, q)
    stops = {"low": 0.04, "high": 0.96, "steps": 24, "format": ".2f"}
    return Explorable(
        "asymmetry",
        sliders=[
            Slider("p", start=0.48, symbol="p", label="what happens", **stops),
            Slider("q", start=0.92, symbol="q", label="what is believed", **stops),
        ],
        compute=lambda p, q: {"z": table, "x": axis, "y": axis, **compute(p, q)},
        view=HeatMap(
            "z",
            x_label="belief q",
            y_label="world p",
            z_label="KL(p‖q)",
            z_unit="nats",
            cursor=("q", "p"),
        ),
        readouts=[
            Readout("forward", "KL(p‖q)", "nats"),
            Readout("reverse", "with the roles swapped, KL(q‖p)", "nats"),
        ],
        digits=4,
        caption="The divergence of a belief q from a world p: zero on the diagonal, and not its own mirror image.",
        description=(
            "A heat map that is lowest along the diagonal p = q and highest in the two corners where a nearly sure "
            "belief meets the opposite world."
        ),
    )


def floor_scatter(losses: Mapping[int, np.ndarray], floor: float) -> None:
    """One row of dots for each text length: the perfect predictor's losses around the floor."""
    _, ax = plt.subplots()
    for row, loss in enumerate(losses.values()):
        height = row + np.linspace(-0.25, 0.25, loss.size)
        ax.plot(loss, height, MARKERS[row], markersize=3.5, alpha=0.75, color=COLOURS[row])
    ax.axvline(floor, color=INK, linewidth=1.2, linestyle=DOTTED)
    ax.annotate("H", (floor, len(losses) - 0.5), ha="center", va="bottom", annotation_clip=False)
    ax.set(yticks=range(len(losses)), yticklabels=[f"{n:,} tokens" for n in losses])
    ax.set(ylim=(-0.5, len(losses) - 0.55), xlabel="loss of the perfect predictor (nats/token)")
    ax.grid(axis="y", visible=False)
    plt.show()


def curves(histories: Mapping[int, History], floor: float) -> None:
    """The training curve of each window, named at its end, with the floor."""
    _, ax = plt.subplots()
    for colour, marker, (context, history) in zip(COLOURS, MARKERS, histories.items(), strict=False):
        steps, loss = history.smoothed(20)
        ax.plot(steps, loss, color=colour, marker=marker, markersize=3)
        below = -4 if context == max(histories) else 3  # the two lowest curves end close together
        direct_label(ax, steps[-1], loss[-1], f"k = {context}", colour=colour, offset=(6, below))
    floor_line(ax, floor)
    ax.set(xlabel="step", ylabel="training loss (nats/token)", ylim=(floor - 0.25, 3.2))
    plt.show()


def left_over(points: Mapping[tuple[int, int], tuple[float, float, float]]) -> None:
    """For each (window, seed): exact KL, what loss − floor exceeds it by, and the standard error of that."""
    _, ax = plt.subplots()
    ax.axhline(0, color="#57606a", linewidth=1)
    windows = sorted({window for window, _ in points})
    for (window, seed), (kl, rest, error) in points.items():
        which = windows.index(window)
        x = kl + 0.006 * (seed - 1)  # side by side: the seeds of a window have nearly the same KL
        ax.errorbar(
            x, rest, 2 * error, marker=MARKERS[which], color=COLOURS[which], linestyle="none", elinewidth=1
        )
    top = max(abs(rest) + 2 * error for _, rest, error in points.values())
    for which, window in enumerate(windows):
        mean = np.mean([kl for (w, _), (kl, _, _) in points.items() if w == window])
        height = (1.15 + 0.2 * (which % 2)) * top  # two heights, for groups that stand close together
        direct_label(ax, mean, height, f"k = {window}", colour=COLOURS[which], offset=(0, 0), ha="center")
    ax.set(xlabel="exact KL from the truth (nats/token)", ylabel="left over (nats/token)")
    ax.set(xlim=(0, 0.52), ylim=(-1.5 * top, 1.5 * top))
    plt.show()


def addresses(sentence: str, rows: Mapping[int, np.ndarray]) -> None:
    """Two bars a word: the divergence of two networks (keys: their windows) just before that word."""
    words = sentence.split()
    place = np.arange(len(words))
    _, ax = plt.subplots(figsize=(4.4, 4.2))
    longest = max(values.max() for values in rows.values())
    where = int(np.argmax(next(iter(rows.values()))))
    for n, (context, values) in enumerate(rows.items()):
        y = place + 0.4 * n - 0.2
        ax.barh(y, values, 0.4, color=COLOURS[n], hatch="////" * n, edgecolor="#ffffff", linewidth=0)
        direct_label(ax, values[where], y[where], f"sees {context}", colour=COLOURS[n])
    ax.set(yticks=place, yticklabels=words, ylim=(len(words) - 0.5, -0.5), xlim=(0, 1.2 * longest))
    ax.set(xlabel="divergence in predicting the word (nats)")
    ax.grid(axis="y", visible=False)
    plt.show()


def predictor_lab(run: Callable, picture: Callable, *, floor: float) -> Lab:
    """Train a `WindowModel`: ``run(progress, context, width, tokens, steps, seed)`` gives (history, loss, KL, text)."""
    return Lab(
        "train-a-predictor",
        "Train your own predictor",
        controls=[
            Number("context", 1, 12, 4, label="window k, in words"),
            Number("width", 4, 512, 128, label="hidden units"),
            Number("tokens", 300, 200_000, 200_000, label="words of training text", scale="log"),
            Number("steps", 50, 2_000, 400, label="training steps"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=lambda figure, runs: draw_training_runs(figure, runs, floor=floor),
        summary=lambda result: {"test loss": result[1], "exact KL": result[2], "it says": result[3]},
        picture=picture,
        caption="Training losses: on the page one run at the start settings, in a live kernel your own runs.",
        description="A training curve that falls from 3.8 nats per token towards a dotted line, the floor at 1.445.",
    )
