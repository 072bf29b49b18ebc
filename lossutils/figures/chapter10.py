"""Chapter 10, Rewards: its two explorables, four figures and its lab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from ..explore import Explorable, Line, Lines, Marker, Readout, Slider
from ..labs import Lab, Number, Run
from ..plotting import COLOURS, MARKERS, PAGE_COLOURS, direct_label

__all__ = [
    "at_the_top",
    "frontier",
    "kl_estimators",
    "over_optimised",
    "prices",
    "proxy_and_gold",
    "proxy_lab",
]

MUTED = PAGE_COLOURS["muted"]


def _plain_log(ax: Axes, ticks: Sequence[float], text: str = "{x:g}") -> None:
    """A logarithmic x axis with plain numbers."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(StrMethodFormatter(text))
    ax.xaxis.set_minor_locator(NullLocator())


def frontier(
    curve: np.ndarray, best: Mapping[int, tuple[float, float]], trained: Mapping[float, tuple[float, float]]
) -> None:
    """Reward over KL: the exact optimum for all prices (2, points), best of n, and trained policies by β."""
    _, ax = plt.subplots(figsize=(5.2, 3.8))
    ax.plot(*curve, color=COLOURS[0])
    here = int(np.searchsorted(curve[0], 0.5 * curve[0, -1]))
    direct_label(ax, *curve[:, here], "exact optimum", colour=COLOURS[0], offset=(-8, 8), ha="right")
    x, y = np.array(list(best.values())).T
    ax.plot(x, y, color=COLOURS[1], linestyle="--", marker=MARKERS[1], markersize=4)
    for n, (kl, reward) in best.items():
        if n in (8, 64):
            direct_label(ax, kl, reward, f"best of {n}", colour=COLOURS[1], offset=(7, -7))
    for beta, (kl, reward) in trained.items():
        ax.plot([kl], [reward], MARKERS[2], color=COLOURS[2], markersize=7)
        direct_label(ax, kl, reward, f"trained, β = {beta:g}", colour=COLOURS[2], offset=(8, -13))
    ax.set(
        xlabel="KL to the reference (nats/response)", ylabel="expected utility", xlim=(0, 1.35 * curve[0, -1])
    )
    plt.show()


def kl_estimators(compute: Callable[..., Mapping]) -> Explorable:
    """Errors of three estimates; ``compute(distance, samples)`` gives ``k1``, ``k2``, ``k3`` over ``x``, and more."""
    names = ("k1", "k2", "k3")
    return Explorable(
        "kl-estimators",
        sliders=[
            Slider(
                "distance",
                low=0.05,
                high=2,
                steps=40,
                start=0.5,
                format=".2f",
                label="distance of the two means",
            ),
            Slider.choices("samples", options=[10, 100, 1000, 10000], start=100, symbol="N", label="samples"),
        ],
        compute=compute,
        view=Lines(
            [Line(name, name) for name in names],
            markers=[
                Marker("kl", f"{name}_here", color=number, guides=False)
                for number, name in enumerate(names, 1)
            ],
            x_label="true KL",
            x_unit="nats, logarithmic",
            y_label="typical error, as a share of the KL",
            x_scale="log",
            y_scale="log",
            x_range=(0.00125, 2),
            y_range=(0.003, 20),
        ),
        readouts=[
            Readout("kl", "true KL", unit="nats", digits=5),
            Readout("bias", "k2 is off on average by", format="+.2%", color=2),
            *(
                Readout(f"{name}_here", f"typical error of {name}", format=".2g", color=number)
                for number, name in enumerate(names, 1)
            ),
        ],
        digits=4,
        caption=(
            "The typical error (root of the mean square) of three estimates of the KL between two normal distributions "
            "of standard deviation 1, as a share of the KL itself. One is 100 %."
        ),
        description=(
            "Three curves over the true KL, both axes logarithmic. k1's error falls from very large to small as the KL "
            "grows. k2 and k3 are far better for a small KL. k3's curve bends up and crosses that of k1 at about 0.63 "
            "nats; with many samples k2's curve rises with the KL, by its bias."
        ),
    )


def over_optimised(ns: Sequence[int], runs: Mapping[str, np.ndarray]) -> None:
    """What the reward says and what it is worth, over n, one thin line a seed: a panel each (seeds, len(ns))."""
    _, axes = plt.subplots(len(runs), 1, figsize=(5.2, 1.0 + 2.1 * len(runs)), sharex=True)
    for which, (ax, (name, values)) in enumerate(zip(axes, runs.items(), strict=True)):
        for row in values:
            ax.plot(ns, row, color=COLOURS[which], linewidth=1, alpha=0.6, linestyle=("--", "-")[which])
            if which:
                top = int(np.argmax(row))
                ax.plot([ns[top]], [row[top]], MARKERS[which], color=COLOURS[which], markersize=5)
        ax.plot(ns, values.mean(axis=0), color=COLOURS[which], linewidth=2.4, linestyle=("--", "-")[which])
        ax.annotate(name, (0.02, 0.97), xycoords="axes fraction", va="top", color=COLOURS[which])
    _plain_log(axes[-1], ns)
    axes[0].set(ylabel="reward (nats)")
    axes[-1].set(xlabel="n, of which the best is taken (logarithmic)", ylabel="utility")
    plt.show()


def proxy_and_gold(compute: Callable[..., Mapping], betas: Sequence[float], ns: Sequence[int]) -> Explorable:
    """Proxy and gold over KL, for best of n and for the tilted policy; ``compute(n, beta)`` gives both curves."""
    return Explorable(
        "proxy-and-gold",
        sliders=[
            Slider.choices("n", options=list(ns), start=4, symbol="n", label="best of"),
            Slider.choices("beta", options=list(betas), start=1.0, symbol="β", label="price of a nat"),
        ],
        compute=compute,
        view=Lines(
            [
                Line("tilt_proxy", "promised", x="tilt_kl", color=1, dash="dashed"),
                Line("tilt_gold", "true", x="tilt_kl", color=1, dash="solid"),
                Line("best_proxy", "", x="best_kl", color=2, dash="dashed", points=True),
                Line("best_gold", "", x="best_kl", color=2, dash="solid", points=True),
            ],
            markers=[
                Marker("kl_n", "gold_n", "n", color=2, guides=False),
                Marker("kl_beta", "gold_beta", "β", color=1, guides=False),
            ],
            x_label="KL",
            x_unit="nats/response",
            y_label="utility",
        ),
        readouts=[
            Readout("kl_n", "best of n: KL", unit="nats", digits=2, color=2),
            Readout("proxy_n", "the reward promises", digits=2, color=2),
            Readout("gold_n", "it is worth", digits=3, color=2),
            Readout("kl_beta", "price β: KL", unit="nats", digits=2, color=1),
            Readout("proxy_beta", "the reward promises", digits=2, color=1),
            Readout("gold_beta", "it is worth", digits=3, color=1),
        ],
        digits=4,
        caption=(
            "Dashed: what the learned reward promises, in units of utility. Solid: what the answers are worth. Once by "
            "best of n (with dots), once by the exact optimum at a price β. Eighty questions."
        ),
        description=(
            "Two pairs of curves over the KL. The dashed ones, what is promised, rise all the way. The solid ones, "
            "what is true, rise at first, reach a peak at about one nat and then fall, while the promise rises on. "
            "Best of n and the optimum lie close together."
        ),
    )


def at_the_top(panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]) -> None:
    """Mean gold over the share of draws that score higher: a panel a name, curves (share, gold) in it."""
    _, axes = plt.subplots(len(panels), 1, figsize=(5.2, 1.0 + 2.3 * len(panels)), sharex=True)
    used = 0
    for ax, (title, curves) in zip(axes, panels.items(), strict=True):
        ax.axhline(0, color=MUTED, linewidth=0.8)
        for name, (share, gold) in curves.items():
            dots = {"marker": MARKERS[used], "markersize": 4} if len(share) < 30 else {}
            ax.plot(share, gold, color=COLOURS[used], linestyle=("-", "--", "-", "--")[used], **dots)
            direct_label(ax, share[-1], gold[-1], name, colour=COLOURS[used], offset=(6, 0))
            used += 1
        ax.annotate(title, (0, 1.04), xycoords="axes fraction", va="bottom")
        ax.set(ylabel="mean gold")
    _plain_log(axes[-1], (1, 0.1, 0.01, 0.001))
    axes[-1].invert_xaxis()
    axes[-1].set(xlabel="share of draws that score higher\n(logarithmic; the top is on the right)")
    plt.show()


def prices(betas: Sequence[float], rows: Mapping[str, np.ndarray], start: Sequence[float]) -> None:
    """What policies earn over the price β, a dot a seed: gold with its mean, and `start` before training."""
    _, ax = plt.subplots(figsize=(5.2, 3.2))
    places = np.arange(len(betas))
    for which, (name, values) in enumerate(rows.items()):
        for row in values:
            ax.plot(places, row, MARKERS[which], color=COLOURS[which], markersize=4, alpha=0.7)
        ax.plot(places, values.mean(axis=0), color=COLOURS[which], linestyle=("-", "--")[which])
        direct_label(ax, places[-1], values.mean(axis=0)[-1], name, colour=COLOURS[which], offset=(8, 0))
    ax.axhline(np.mean(start), color=MUTED, linestyle=":", linewidth=1.2)
    ax.annotate("before", (0, np.mean(start)), xytext=(0, 4), textcoords="offset points", color=MUTED)
    ax.set(
        xticks=places,
        xticklabels=[f"{beta:g}" for beta in betas],
        xlabel="price β of a nat",
        ylabel="utility, help",
    )
    plt.show()


def proxy_lab(run: Callable, picture: Callable) -> Lab:
    """Train a reward and let best-of-n exploit it: ``run`` gives (ns, proxy, gold, held-out accuracy)."""
    return Lab(
        "distrust-a-reward",
        "Train a reward, then exploit it",
        controls=[
            Number("pairs", 20, 1500, 384, label="pairs of answers"),
            Number("noise", 0.0, 0.5, 0.0, label="share of labels turned round"),
            Number("epochs", 1, 20, 8, label="epochs"),
            Number("seed", 0, 99, 0, label="seed"),
        ],
        run=run,
        draw=_gold_curves,
        summary=lambda result: {
            "held-out accuracy": result[3],
            "best n": int(result[0][int(np.argmax(result[2]))]),
            "utility there": float(np.max(result[2])),
            "utility at 64": float(result[2][-1]),
        },
        picture=picture,
        caption="What best of n is worth by a reward learned from 384 pairs. Live, your rewards are added.",
        description="A curve of utility over n that rises from 0.3 to a peak near n = 8 and falls after it.",
    )


def _gold_curves(figure: Figure, runs: Sequence[Run]) -> None:
    ax = figure.subplots()
    for place, run in enumerate(runs):
        ns, _, gold, _ = run.result
        colour = COLOURS[(run.number - 1) % len(COLOURS)]
        newest = place == len(runs) - 1
        marker = MARKERS[(run.number - 1) % len(MARKERS)]
        ax.plot(ns, gold, color=colour, marker=marker, markersize=4, linewidth=2.2 if newest else 1.2)
        name = f"run {run.number}" if len(runs) > 1 else f"{run.values['pairs']} pairs"
        direct_label(ax, ns[-1], gold[-1], name, colour=colour, offset=(0, -12), ha="right")
    _plain_log(ax, runs[-1].result[0])
    ax.set(xlabel="n, of which the best is taken (logarithmic)", ylabel="utility")
