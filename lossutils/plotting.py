"""The book's figure style, and every figure helper that more than one cell needs.

A figure of the book has no title (its caption says it), labels its lines directly, names units on its axes and tells
its series apart by dash as well as by colour. Its colours are those of the page, so that the page can follow the
reader's theme.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ._curve_run import smooth

if TYPE_CHECKING:
    from . import curves
    from .labs import Run

__all__ = [
    "PAGE_COLOURS",
    "COLOURS",
    "DOTTED",
    "INK",
    "MARKERS",
    "direct_label",
    "draw_training_runs",
    "floor_line",
    "plot_diagnosis",
    "style",
    "use_book_style",
]

PAGE_COLOURS = {
    "c1": "#0b63b0",
    "c2": "#c2410c",
    "c3": "#0f7b55",
    "c4": "#8b3fa8",
    "c5": "#8a6100",
    "c6": "#5b6470",
    "ink": "#1f2328",
    "muted": "#57606a",
    "grid": "#d8dee4",
    "page": "#ffffff",
    "bad": "#b42318",
    "good": "#0f7b55",
}
"""The light values of the page's colour variables (``--compass-NAME`` in book/assets/compass.css)."""

COLOURS = tuple(PAGE_COLOURS[name] for name in ("c1", "c2", "c3", "c4", "c5", "c6"))
"""The six series colours, in order; each has a contrast of at least 4.5 : 1 on white."""

MARKERS = ("o", "s", "D", "^", "v", "P")
"""A marker for each colour: the second cue of a series of points."""

INK = PAGE_COLOURS["ink"]
DOTTED = (0, (1, 1))
"""Colour and dash of a floor, which no other line has."""


@contextmanager
def style() -> Iterator[None]:
    """Draw with the book's figure style inside a ``with`` block and leave matplotlib's settings as they were.

    Yields
    ------
    None

    Examples
    --------
    >>> import matplotlib as mpl
    >>> from lossutils.plotting import style
    >>> with style():
    ...     mpl.rcParams["axes.spines.top"]
    False
    """
    with as_file(files("lossutils") / "book.mplstyle") as path, matplotlib.style.context(str(path)):
        yield


def use_book_style() -> None:
    """Draw with the book's figure style from here on; in a notebook, as reproducible SVG.

    Called once, in the imports cell of a chapter. The SVG carries no date, and its ids are derived from its content, so
    the same figure is the same bytes on every run.
    """
    with as_file(files("lossutils") / "book.mplstyle") as path:
        matplotlib.style.use(str(path))
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:  # plain Python, no notebook: the style alone is what can be set
        return
    set_matplotlib_formats("svg", metadata={"Date": None}, bbox_inches=None)


def direct_label(
    ax: Axes,
    x: float,
    y: float,
    text: str,
    *,
    colour: str,
    offset: tuple[float, float] = (5, 0),
    ha: str = "left",
) -> None:
    """Name a line where it ends instead of in a legend.

    Parameters
    ----------
    ax : matplotlib Axes
    x, y : float
        The point that is named, in data coordinates.
    text : str
    colour : str
        The colour of the line.
    offset : (float, float), default (5, 0)
        Distance of the text from the point, in typographic points.
    ha : str, default "left"
        Horizontal alignment of the text at that point.
    """
    ax.annotate(
        text,
        (x, y),
        xytext=offset,
        textcoords="offset points",
        color=colour,
        va="center",
        ha=ha,
        annotation_clip=False,
    )


def floor_line(ax: Axes, value: float, text: str = "entropy: the floor", *, x: float = 0.98) -> None:
    """Draw the level that no predictor's expected loss can pass, with its name.

    Parameters
    ----------
    ax : matplotlib Axes
    value : float
        The floor, in the units of the y-axis (nats/token in this book).
    text : str
    x : float, default 0.98
        Where the name stands, as a share of the width; the text is right-aligned there, below the line.
    """
    ax.axhline(value, color=INK, linewidth=1.2, linestyle=DOTTED)
    ax.annotate(
        text,
        (x, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=INK,
    )


def draw_training_runs(figure: Figure, runs: Sequence[Run], *, floor: float, window: int = 20) -> None:
    """Draw the training curves of a lab's runs, the newest one strongest, with the floor.

    Parameters
    ----------
    figure : matplotlib Figure
        An empty figure.
    runs : sequence of lossutils.labs.Run
        The newest last. Each result begins with the run's `History`.
    floor : float
        The entropy rate, in nats/token.
    window : int, default 20
        Steps that one point averages.
    """
    ax = figure.subplots()
    for place, run in enumerate(runs):
        newest = place == len(runs) - 1
        steps, losses = run.result[0].smoothed(min(window, len(run.result[0].losses)))
        colour = COLOURS[(run.number - 1) % len(COLOURS)]
        ax.plot(steps, losses, color=colour, linewidth=2.2 if newest else 1.2, alpha=1 if newest else 0.7)
        above = 0 if newest else 8  # a short old run ends in the middle of a long new one
        direct_label(ax, steps[-1], losses[-1], f"run {run.number}", colour=colour, offset=(5, above))
    floor_line(ax, floor)
    ax.set(xlabel="step", ylabel="training loss (nats/token)", ylim=(floor - 0.25, None))


def plot_diagnosis(
    run: curves.Run, diagnosis: curves.Diagnosis, *, bigger: curves.Run | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a training curve with what was found in it: each finding is a band over its steps, with its name.

    Parameters
    ----------
    run : lossutils.curves.Run
        Its losses are drawn thin, smoothed strong; of a very long curve the thin one is the range of each block.
    diagnosis : lossutils.curves.Diagnosis
        What :func:`lossutils.curves.diagnose` said of it.
    bigger : lossutils.curves.Run, optional
        What it was compared with; its smoothed curve is drawn too.
    ax : matplotlib Axes, optional
        Where to draw; a new figure in the book's style if None.

    Returns
    -------
    matplotlib Axes
        With a logarithmic loss if the curve climbs to more than five times its first loss.
    """
    if ax is None:
        with style():
            return plot_diagnosis(run, diagnosis, bigger=bigger, ax=Figure(figsize=(6.4, 3.8)).subplots())
    seen = np.isfinite(run.train)
    steps, losses = run.steps[seen], run.train[seen]
    last = run.steps[-1]
    if len(losses) > 2000:
        blocks = np.array_split(np.arange(len(losses)), 500)
        ends = [np.array([f(losses[block]) for block in blocks]) for f in (np.min, np.max)]
        middle = [steps[block].mean() for block in blocks]
        ax.fill_between(middle, *ends, color=COLOURS[0], alpha=0.3, linewidth=0)
    else:
        ax.plot(steps, losses, color=COLOURS[0], linewidth=0.8, alpha=0.45, linestyle="-")
    span = 0.05 * max(steps[-1] - steps[0], 1e-9)
    lines = [("training", COLOURS[0], "-", None, steps, smooth(steps, losses, span=span))]
    if run.validation is not None:
        lines.append(("validation", COLOURS[1], "--", MARKERS[1], run.validation_steps, run.validation))
    if bigger is not None:
        found = np.isfinite(bigger.train)
        x, y = bigger.steps[found], bigger.train[found]
        lines.append(("bigger", COLOURS[2], "-.", None, x, smooth(x, y, span=0.05 * max(x[-1] - x[0], 1e-9))))
    for _, colour, dash, marker, x, y in lines:
        ax.plot(x, y, color=colour, linestyle=dash, marker=marker, markersize=4)
    _labels_apart(ax, [(x[-1], y[np.isfinite(y)][-1], name, colour) for name, colour, *_, x, y in lines])
    climbs = losses.max() > 5 * losses[0] and losses.min() > 0
    if climbs:
        ax.set_yscale("log")
    else:
        ax.margins(y=0.08)
    if run.floor is not None and (run.floor > 0 or not climbs):
        floor_line(ax, run.floor, "floor", x=0.86)
    if run.vocab_size is not None:
        ln_v, muted = np.log(run.vocab_size), PAGE_COLOURS["muted"]
        ax.axhline(ln_v, color=muted, linewidth=1, linestyle=(0, (6, 3)))
        ax.annotate(
            "ln V",
            (0.72, ln_v),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            color=muted,
        )
    right = last + 0.16 * max(last - run.steps[0], 1e-9)
    ax.set(
        xlabel="step", ylabel="loss (nats/token)", xlim=(run.steps[0] - 0.02 * (right - run.steps[0]), right)
    )
    _name_findings(ax, run, diagnosis)
    return ax


def _labels_apart(ax: Axes, labels: list[tuple[float, float, str, str]]) -> None:
    """Name each line at its end; where two ends are close, the upper name moves up."""
    low, high = ax.get_ylim()
    below = -np.inf
    for x, y, name, colour in sorted(labels, key=lambda label: label[1]):
        close = y - below < 0.07 * (high - low)
        direct_label(ax, x, y, name, colour=colour, offset=(5, 10 if close else 0))
        below = y


def _name_findings(ax: Axes, run: curves.Run, diagnosis: curves.Diagnosis) -> None:
    """A band for each finding, the names one below the other at the top, above the curve."""
    first, last = run.steps[0], run.steps[-1]
    wide = max(last - first, 1e-9)
    tone = {"severe": "bad", "warning": "c5", "unclear": "muted", "fine": "good"}
    for row, finding in enumerate(diagnosis.findings):
        colour = PAGE_COLOURS[tone[finding.severity]]
        begin, end = max(finding.first_step, first), min(finding.last_step, last)
        if end - begin < 0.95 * wide:
            least = 0.006 * wide  # a spike of one step is to be seen too
            ax.axvspan(begin - least, end + least, color=colour, alpha=0.14, linewidth=0)
        name = f"{finding.kind.replace('_', ' ')} ({finding.severity})"
        if finding.kind == "unknown":
            name = "can't tell"
        at_right = begin > first + 0.6 * wide
        ax.annotate(
            name,
            (end if at_right else begin, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4 + 13 * (len(diagnosis.findings) - 1 - row)),
            textcoords="offset points",
            ha="right" if at_right else "left",
            va="bottom",
            color=colour,
            fontsize=10,
            annotation_clip=False,
        )
