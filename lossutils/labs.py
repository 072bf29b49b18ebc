"""Labs: panels that train, sample or compare in a live kernel; on a page, a picture and how to run it."""

from __future__ import annotations

import asyncio
import html
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossutils._live import (
    ROW,
    description_style,
    figure_style,
    mimebundle,
    new_figure,
    number_control,
    sentence,
    svg_markup,
)

__all__ = ["Choice", "Lab", "LabStopped", "Number", "Run", "Text"]

HOW = (
    "This lab runs on your own machine: download the notebook of this page, or run <code>make lab</code> "
    "in the book's folder, open the chapter and run its cells."
)
REFRESH = 0.1  # seconds between two updates of the progress bar


class LabStopped(BaseException):
    """Raised in ``run`` by the first progress call after Stop. No `Exception`, lest ``except`` eats it."""


@dataclass(frozen=True)
class Number:
    """A numeric control: an integer where `low`, `high` and `start` are, else a float.

    Parameters
    ----------
    name : str
        The keyword under which ``run`` receives the value.
    low, high, start : int or float
        Limits and first value.
    label : str
        What it is, in words.
    step : int or float, optional
        Smallest change; default 1, or a thousandth of the range.
    scale : {"linear", "log"}
        A log scale is always a float's.
    """

    name: str
    low: float
    high: float
    start: float
    label: str = ""
    step: float | None = None
    scale: str = "linear"

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not self.low <= self.start <= self.high or self.low == self.high:
            raise ValueError(
                f"Number {self.name!r} needs low <= start <= high and low < high, "
                f"got low={self.low!r}, start={self.start!r}, high={self.high!r}"
            )
        if self.scale not in ("linear", "log"):
            raise ValueError(f"Number {self.name!r} scale must be 'linear' or 'log', got {self.scale!r}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"Number {self.name!r} low must be positive on a log scale, got {self.low!r}")

    @property
    def is_integer(self) -> bool:
        """Whether the control moves in whole numbers."""
        return self.scale == "linear" and all(isinstance(v, int) for v in (self.low, self.high, self.start))


@dataclass(frozen=True)
class Choice:
    """A drop-down control over `options`: a list of values, or a mapping from shown text to value."""

    name: str
    options: Sequence[Any] | Mapping[str, Any]
    start: Any = None
    label: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        values = list(self.options.values()) if isinstance(self.options, Mapping) else list(self.options)
        if not values:
            raise ValueError(f"Choice {self.name!r} options must not be empty")
        if self.start is None:
            object.__setattr__(self, "start", values[0])
        if self.start not in values:
            raise ValueError(f"Choice {self.name!r} start must be one of {values}, got {self.start!r}")


@dataclass(frozen=True)
class Text:
    """A text control of `rows` lines."""

    name: str
    start: str = ""
    label: str = ""
    rows: int = 1

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.start, str):
            raise TypeError(f"Text {self.name!r} start must be a string, got {self.start!r}")


Control = Number | Choice | Text


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier() or name == "progress":
        raise ValueError(f"a control's name must be a Python identifier other than 'progress', got {name!r}")


@dataclass(frozen=True)
class Run:
    """One finished run: its `number` (from 1), the controls' `values`, and the `result` of ``run``."""

    number: int
    values: Mapping[str, Any]
    result: Any


class Lab:
    """A panel to train, sample or compare in a live kernel; a picture of its result on a static page.

    Parameters
    ----------
    name : str
        Unique on the page; lower-case letters, digits and hyphens.
    title : str
        What the lab does, in a few words.
    controls : sequence of Number, Choice or Text
        The settings.
    run : callable
        ``run(progress=progress, **values)`` returns any result. It calls ``progress(fraction, message="")``
        often: that moves the bar, and it is where Stop takes effect.
    draw : callable
        ``draw(figure, runs)`` draws into an empty matplotlib Figure (not pyplot). `runs` is a list of `Run`,
        the newest last, so that earlier runs can stay visible for comparison.
    caption : str
        The sentence under the picture.
    description : str
        Text alternative of the picture.
    summary : callable, optional
        ``summary(result)`` returns a dict of short texts or numbers: further columns of the table of runs.
    picture : callable, optional
        Returns what ``run`` would return, cheaply and deterministically, for the static page. Default:
        ``run`` at the start values, which makes rendering the page as dear as the lab.
    how : str, optional
        HTML (yours, not escaped) that says how to run it. Default: download or ``make lab``.
    keep : int, default 6
        How many runs are kept for comparison.

    Notes
    -----
    Run works in a thread, so that the kernel stays free to receive Stop. The thread never touches a widget:
    it posts to a queue that is emptied in the kernel's own event loop (or by `wait`). Where there are no
    threads (Pyodide) it runs in the click itself, and Stop cannot interrupt it. An error in ``run`` or
    ``draw`` is shown as one sentence.

    Examples
    --------
    >>> lab = Lab(
    ...     "halving",
    ...     "Halve a probability",
    ...     controls=[Number("steps", 1, 20, 5)],
    ...     run=lambda *, steps, progress: [0.5**k for k in range(steps)],
    ...     draw=lambda figure, runs: figure.subplots().plot(runs[-1].result),
    ...     caption="A probability, halved again and again.",
    ...     description="A curve that falls by half at each step.",
    ... )
    >>> lab
    Lab('halving', 'Halve a probability')

    See Also
    --------
    lossutils.explore.Explorable : where every setting can be computed in advance.
    """

    def __init__(
        self,
        name: str,
        title: str,
        *,
        controls: Sequence[Control],
        run: Callable[..., Any],
        draw: Callable[..., Any],
        caption: str,
        description: str,
        summary: Callable[[Any], Mapping[str, Any]] | None = None,
        picture: Callable[[], Any] | None = None,
        how: str = HOW,
        keep: int = 6,
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"name must be lower-case letters, digits and hyphens, got {name!r}")
        for argument, text in (
            ("title", title),
            ("caption", caption),
            ("description", description),
            ("how", how),
        ):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"{argument} must say something (it is what some readers have), got {text!r}"
                )
        for argument, function in (("run", run), ("draw", draw), ("summary", summary), ("picture", picture)):
            if not callable(function) and not (function is None and argument in ("summary", "picture")):
                raise TypeError(f"{argument} must be callable, got {function!r}")
        self.controls = tuple(controls)
        for control in self.controls:
            if not isinstance(control, Control):
                raise TypeError(f"controls must hold Number, Choice and Text objects, got {control!r}")
        if len({c.name for c in self.controls}) != len(self.controls):
            raise ValueError(f"controls must have different names, got {[c.name for c in self.controls]}")
        if not isinstance(keep, int) or keep < 1:
            raise ValueError(f"keep must be a positive integer, got {keep!r}")
        self.name, self.title, self.run, self.draw = name, title, run, draw
        self.caption, self.description, self.summary, self.picture = caption, description, summary, picture
        self.how, self.keep = how, keep
        self._html: str | None = None
        self._panel: LabPanel | None = None

    def __repr__(self) -> str:
        return f"Lab({self.name!r}, {self.title!r})"

    @property
    def start(self) -> dict[str, Any]:
        """The controls' start values."""
        return {c.name: c.start for c in self.controls}

    def svg(self, runs: Sequence[Run], prefix: str, *, size: tuple[float, float] = (4.4, 2.9)) -> str:
        """The picture of these runs, by the lab's own ``draw``, as SVG with ids that start with `prefix`.

        `size` is its width and height in inches: the larger, the smaller its text where it is fitted to a width.
        """
        with figure_style():
            figure = new_figure(*size)
            self.draw(figure, list(runs))
            return svg_markup(figure, prefix, self.description)

    def to_html(self) -> str:
        """What a static page shows: the picture at the start values, its caption, and how to run the lab."""
        if self._html is None:
            result = self.picture() if self.picture else self.run(progress=lambda *_: None, **self.start)
            svg = self.svg([Run(1, self.start, result)], f"lab-{self.name}")
            self._html = (
                f'<figure class="compass-lab" data-name="{self.name}" role="group" '
                f'aria-label="{html.escape(self.title)}">'
                f'<p class="compass-lab-title">Lab: {html.escape(self.title)}</p>{svg}'
                f"<figcaption>{html.escape(self.caption)}</figcaption>"
                f'<p class="compass-lab-how">{self.how}</p></figure>'
            )
        return self._html

    def widget(self) -> Any:
        """The ipywidgets panel (needs ipywidgets); one a lab, made at the first call."""
        return self.panel().box

    def panel(self) -> LabPanel:
        """The panel's parts and its state: buttons, controls, `LabPanel.runs`, `LabPanel.wait`."""
        if self._panel is None:
            self._panel = LabPanel(self)
        return self._panel

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return mimebundle(repr(self), self.to_html(), self.widget)


def _stops(control: Number) -> list[float]:
    """Where the slider of a float can stand: at its steps, and exactly at its limits and its start."""
    low, high = (
        (math.log10(control.low), math.log10(control.high))
        if control.scale == "log"
        else (control.low, control.high)
    )
    step = control.step or (high - low) / 1000
    grid = low + step * np.arange(math.floor((high - low) / step + 1e-9) + 1)
    digits = ".3g" if control.scale == "log" else ".6g"
    shown = {float(format(v, digits)) for v in (10**grid if control.scale == "log" else grid)}
    inside = {v for v in shown if control.low < v < control.high}
    return sorted(inside | {float(control.low), float(control.start), float(control.high)})


def _widget_for(control: Control, style: Mapping[str, str]) -> tuple[Any, Any]:
    """What stands in the panel, and what holds the value."""
    import ipywidgets as widgets

    label = control.label or control.name
    wide = {"description": label, "style": style, "layout": widgets.Layout(**ROW)}
    if isinstance(control, Number) and not control.is_integer:
        row, _, box = number_control(_stops(control), float(control.start), label=label, style=style)
        return row, box
    if isinstance(control, Choice):
        options = (
            list(control.options.items()) if isinstance(control.options, Mapping) else list(control.options)
        )
        widget = widgets.Dropdown(options=options, value=control.start, **wide)
    elif isinstance(control, Text):
        widget = (widgets.Text if control.rows == 1 else widgets.Textarea)(value=control.start, **wide)
    else:
        widget = widgets.IntSlider(
            value=control.start,
            min=control.low,
            max=control.high,
            step=control.step or 1,
            **wide,
        )
    return widget, widget


def _short(value: Any) -> str:
    """A value in the table of runs. Large numbers keep their digits: 200000 steps are no 2e+05."""
    if not isinstance(value, float):
        return str(value)[:40]
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.4g}"


class LabPanel:
    """A lab's ipywidgets and what they do. Made by `Lab.panel`; its `box` is what a notebook shows."""

    def __init__(self, lab: Lab) -> None:
        import ipywidgets as widgets

        self.lab = lab
        self.runs: list[Run] = []
        style = description_style([c.label or c.name for c in lab.controls])
        made = {c.name: _widget_for(c, style) for c in lab.controls}
        self.controls = {name: holder for name, (_, holder) in made.items()}
        self.run_button = widgets.Button(
            description="Run", button_style="primary", tooltip="Run with these settings"
        )
        self.stop_button = widgets.Button(description="Stop", disabled=True, tooltip="Stop at the next step")
        self.clear_button = widgets.Button(description="Clear runs", disabled=True)
        self.bar = widgets.FloatProgress(value=0.0, min=0.0, max=1.0, layout=widgets.Layout(width="220px"))
        self.status, self.figure, self.table = widgets.HTML("Ready."), widgets.HTML(), widgets.HTML()
        buttons = widgets.HBox([self.run_button, self.stop_button, self.clear_button, self.bar])
        title = widgets.HTML(f"<b>{html.escape(lab.title)}</b>")
        caption = widgets.HTML(f"<p>{html.escape(lab.caption)}</p>")
        rows = [row for row, _ in made.values()]
        parts = [title, *rows, buttons, self.status, self.figure, self.table, caption]
        self.box = widgets.VBox(parts)
        self._count = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._posts: list[Callable[[], None]] = []
        self._last_post = 0.0
        self.run_button.on_click(self._on_run)
        self.stop_button.on_click(self._on_stop)
        self.clear_button.on_click(self._on_clear)

    # Between the thread and the widgets ---------------------------------------------------------------------
    def _post(self, update: Callable[[], None]) -> None:
        """From the worker: have `update` run where the widgets live."""
        with self._lock:
            self._posts.append(update)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            posts, self._posts = self._posts, []
        for post in posts:
            post()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the run is over and shown, for scripts and tests; False after `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                self._drain()
                return False
        self._drain()
        return True

    @property
    def is_running(self) -> bool:
        """Whether a run is under way, or its result not shown yet."""
        return self.run_button.disabled

    # What the buttons do ------------------------------------------------------------------------------------
    def _on_run(self, _: Any = None) -> None:
        if self.is_running:
            return
        self.run_button.disabled, self.stop_button.disabled = True, False
        self.bar.value, self.bar.bar_style, self.status.value = 0.0, "", "Running …"
        self._stop.clear()
        self._last_post = 0.0
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None  # no event loop here: `wait` empties the queue
        values = {name: control.value for name, control in self.controls.items()}
        self._thread = threading.Thread(
            target=self._work, args=(values,), daemon=True, name=f"lab-{self.lab.name}"
        )
        try:
            self._thread.start()
        except RuntimeError:  # no threads on this platform
            self._thread = None
            self._work(values)
            self._drain()

    def _on_stop(self, _: Any = None) -> None:
        if self.is_running:
            self._stop.set()
            self.status.value = "Stopping at the next step …"

    def _on_clear(self, _: Any = None) -> None:
        if not self.is_running:
            self.runs = []
            self.figure.value = self.table.value = ""
            self.clear_button.disabled = True
            self.status.value = "Ready."

    def _work(self, values: Mapping[str, Any]) -> None:
        """In the thread: run, and post what happens. It reads no widget and writes none."""
        reached = 0.0

        def progress(fraction: float, message: str = "") -> None:
            nonlocal reached
            if self._stop.is_set():
                raise LabStopped
            reached = min(1.0, max(0.0, float(fraction)))
            now = time.monotonic()
            if now - self._last_post >= REFRESH:
                self._last_post = now
                here = reached
                self._post(lambda: self._show_progress(here, message))

        try:
            result = self.lab.run(progress=progress, **values)
        except LabStopped:
            self._post(
                lambda: self._end(f"Stopped at {reached:.0%}. Nothing was kept of this run.", "warning")
            )
        except (
            BaseException
        ) as error:  # a thread's error would vanish: whatever it is, the reader gets a sentence
            text = f"This run failed. {sentence(error)}"
            self._post(lambda: self._end(text, "danger"))
        else:
            self._post(lambda: self._finish(values, result))

    # In the widgets' thread ---------------------------------------------------------------------------------
    def _show_progress(self, fraction: float, message: str) -> None:
        if not self._stop.is_set():
            self.bar.value = fraction
            self.status.value = html.escape(f"{fraction:.0%} {message}".strip())

    def _end(self, text: str, style: str) -> None:
        self.bar.bar_style, self.status.value = style, html.escape(text)
        self.run_button.disabled, self.stop_button.disabled = False, True

    def _finish(self, values: Mapping[str, Any], result: Any) -> None:
        self._count += 1
        runs = [*self.runs, Run(self._count, dict(values), result)][-self.lab.keep :]
        try:
            svg = self.lab.svg(runs, f"live-lab-{self.lab.name}", size=(6.4, 3.6))
            table = self._table(runs)
        except Exception as error:
            self._end(f"The result could not be drawn. {sentence(error)}", "danger")
            return
        self.runs = runs
        self.figure.value = f'<div style="max-width: 620px; background: #fff; color: #1f2328">{svg}</div>'
        self.table.value = table
        self.bar.value = 1.0
        self.clear_button.disabled = False
        self._end(f"Run {self._count} is done.", "success")

    def _table(self, runs: Sequence[Run]) -> str:
        labels = [c.label or c.name for c in self.lab.controls]
        notes = [dict(self.lab.summary(r.result)) if self.lab.summary else {} for r in runs]
        extra = list(dict.fromkeys(k for note in notes for k in note))
        head = "".join(f'<th scope="col">{html.escape(t)}</th>' for t in ["run", *labels, *extra])
        rows = ""
        for r, note in zip(runs, notes, strict=True):
            cells = [_short(v) for v in r.values.values()] + [_short(note.get(k, "–")) for k in extra]
            rows += (
                f'<tr><th scope="row">{r.number}</th>'
                + "".join(f"<td>{html.escape(c)}</td>" for c in cells)
                + "</tr>"
            )
        spaced = "border-collapse: separate; border-spacing: 1em 0; margin-left: -1em; text-align: left"
        return (
            f'<table class="compass-lab-runs" style="{spaced}"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )
