"""Explorables: one object that is a figure on a static page and an instrument in a live kernel.

`Explorable` calls a Python function at every stop of one or two sliders, keeps the results in a table, and
renders a small custom element that only draws what the table holds. In a live kernel the same object is an
ipywidgets panel that calls the function for any value. `book/assets/explorable.js` is the page's half.
"""

from __future__ import annotations

import html
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossutils import _checks
from lossutils._views import (
    Bar,
    Bars,
    Get,
    HeatMap,
    HLine,
    Line,
    Lines,
    Marker,
    StackedBars,
    View,
    VLine,
    one_of,
    resolve,
)

__all__ = [
    "Bar",
    "Bars",
    "Explorable",
    "HLine",
    "HeatMap",
    "Line",
    "Lines",
    "Marker",
    "Readout",
    "Slider",
    "StackedBars",
    "VLine",
]

MAX_BYTES = 150_000  # a figure on a page; beyond this a phone feels it
MAX_STOPS = 4_000
MINUS = "\u2212"


class Slider:
    """A control of an `Explorable`: a number between `low` and `high`, in `steps` stops.

    The value that is shown is the value that is computed: stops are rounded to `format`, and the stop nearest
    to `start` is moved onto it, so a reader may check a readout with a calculator. For named stops see
    `Slider.choices`.

    Parameters
    ----------
    name : str
        The keyword under which ``compute`` receives the value.
    low, high : float
        First and last stop.
    steps : int, default 101
        Number of stops.
    start : float, optional
        Where it stands at first; default: the middle stop.
    label : str
        What the value is, in words. Default: `name`.
    symbol : str
        Its symbol, shown before the value.
    unit : str
        Its unit.
    format : str, default ".3g"
        Python format spec of the shown value.
    scale : {"linear", "log"}
        How the stops are spaced.

    Raises
    ------
    ValueError
        `low` >= `high`, fewer than 2 steps, a log scale from 0 or below, `start` outside, or a `format` too
        coarse to tell the stops apart.

    Examples
    --------
    >>> Slider("p", low=0, high=1, steps=5, format=".2f").values
    (0.0, 0.25, 0.5, 0.75, 1.0)
    >>> Slider("n", low=1, high=1000, steps=4, scale="log").texts
    ('1', '10', '100', '1e+03')
    >>> Slider.choices("word", options=["the", "cat"], start="cat").start
    'cat'

    See Also
    --------
    Explorable : the figure that it moves.
    """

    def __init__(
        self,
        name: str,
        *,
        low: float,
        high: float,
        steps: int = 101,
        start: float | None = None,
        label: str = "",
        symbol: str = "",
        unit: str = "",
        format: str = ".3g",
        scale: str = "linear",
    ) -> None:
        self._describe(name, label, symbol, unit)
        one_of(scale, ("linear", "log"), f"Slider {name!r} scale")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"Slider {name!r} needs finite low < high, got low={low!r}, high={high!r}")
        if scale == "log" and low <= 0:
            raise ValueError(f"Slider {name!r} low must be positive on a log scale, got {low!r}")
        steps = _checks.count(f"Slider {name!r} steps", steps, 2)
        grid = (np.geomspace if scale == "log" else np.linspace)(low, high, steps)
        if start is None:
            start = float(grid[(steps - 1) // 2])
        elif not low <= start <= high:
            raise ValueError(f"Slider {name!r} start must lie in [{low!r}, {high!r}], got {start!r}")
        if not np.isclose(grid, start, rtol=1e-12, atol=0).any():
            if steps == 2:
                raise ValueError(
                    f"Slider {name!r} start must be an end when there are 2 steps, got {start!r}"
                )
            inner = grid[1:-1]  # the ends stay ends
            near = np.abs(np.log(inner / start) if scale == "log" else inner - start)
            inner[int(near.argmin())] = start
        self.format, self.scale, self.low, self.high = format, scale, float(low), float(high)
        self.values = tuple(self._shown(v) for v in grid)
        if any(b <= a for a, b in itertools.pairwise(self.values)):
            raise ValueError(
                f"Slider {name!r} format {format!r} cannot tell its {steps} stops apart; use more digits"
            )
        self.texts = tuple(self.text(v) for v in self.values)
        self.start: Any = self._shown(start)

    @classmethod
    def choices(
        cls,
        name: str,
        *,
        options: Sequence[Any] | Mapping[str, Any],
        start: Any = None,
        label: str = "",
        symbol: str = "",
        unit: str = "",
    ) -> Slider:
        """A slider over named stops: a list of values, or a mapping from shown text to value."""
        self = cls.__new__(cls)
        self._describe(name, label, symbol, unit)
        pairs = list(options.items()) if isinstance(options, Mapping) else [(str(v), v) for v in options]
        self.texts = tuple(str(text) for text, _ in pairs)
        self.values = tuple(value for _, value in pairs)
        if len(pairs) < 2 or len(set(self.texts)) != len(pairs):
            raise ValueError(
                f"Slider {name!r} options must be at least two different names, got {list(self.texts)}"
            )
        self.start = self.values[0] if start is None else start
        if self.start not in self.values:
            raise ValueError(f"Slider {name!r} start must be one of {list(self.values)}, got {start!r}")
        self.is_choice, self.scale = True, "linear"
        return self

    def _describe(self, name: str, label: str, symbol: str, unit: str) -> None:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"Slider name must be a Python identifier, got {name!r}")
        self.name, self.label, self.symbol, self.unit = name, label or name, symbol, unit
        self.is_choice = False

    def _shown(self, value: float) -> float:
        return float(format(float(value), self.format).replace(",", ""))

    def text(self, value: Any) -> str:
        """The value as it is shown, without unit."""
        if self.is_choice:
            return self.texts[self.values.index(value)]
        return format(float(value), self.format).replace("-", MINUS)

    def check(self, value: Any) -> Any:
        """Return `value` if the slider can stand there, else raise ValueError."""
        if self.is_choice:
            return one_of(value, self.values, self.name)
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(f"{self.name} must be a number, got {value!r}")
        room = 1e-3 * (self.high - self.low)  # a stop at an end may have been rounded outwards
        if not self.low - room <= value <= self.high + room:
            raise ValueError(f"{self.name} must be a number in [{self.low:g}, {self.high:g}], got {value!r}")
        return float(value)

    def _spec(self) -> dict[str, Any]:
        spec = {"name": self.name, "label": self.label, "symbol": self.symbol, "unit": self.unit}
        kept: dict[str, Any] = {k: v for k, v in spec.items() if v}
        return kept | {"stops": list(self.texts), "start": self.values.index(self.start)}


@dataclass(frozen=True)
class Readout:
    """One number (or short text) under the figure.

    Parameters
    ----------
    key : str
        Key of compute's result: a scalar, or a string that is shown as it is (a verdict).
    label : str
        What it is, in words. Default: `key`.
    unit : str
        Its unit: nats, bits/token.
    digits : int, default 3
        Decimals.
    format : str, optional
        A Python format spec, instead of `digits`: ``",.0f"``, ``".1%"``, ``".3g"``.
    color : int or str, optional
        The colour of the series that it belongs to.

    Examples
    --------
    >>> Readout("nats", unit="nats").text(-0.10536)
    '−0.105 nats'
    >>> Readout("share", format=".1%").text(0.25), Readout("loss").text(float("inf"))
    ('25.0%', '∞')
    """

    key: str
    label: str = ""
    unit: str = ""
    digits: int = 3
    format: str | None = None
    color: int | str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not self.key:
            raise TypeError(f"Readout key must be a key of compute's result (a string), got {self.key!r}")
        if not isinstance(self.digits, int) or not 0 <= self.digits <= 12:
            raise ValueError(f"Readout {self.key!r} digits must be an integer in 0..12, got {self.digits!r}")

    def number(self, value: Any) -> str:
        """The value without its unit."""
        if isinstance(value, str):
            return value
        if np.ndim(value) != 0:
            raise ValueError(f"Readout {self.key!r} needs a scalar or a string, got shape {np.shape(value)}")
        value = float(value)
        if math.isnan(value):
            return "not defined"
        if math.isinf(value):
            return "∞" if value > 0 else MINUS + "∞"
        text = format(_settled(value), self.format or f".{self.digits}f")
        if not text.strip("-0.,%"):
            text = text.lstrip("-")  # no minus zero
        return text.replace("-", MINUS)

    def text(self, value: Any) -> str:
        """The value as it is shown, with its unit."""
        number = self.number(value)
        return f"{number} {self.unit}" if self.unit and number != "not defined" else number


class Explorable:
    """A figure that answers a drag: precomputed for the page, live in a kernel.

    Use it where a reader should try values before believing a sentence. It is displayed as the last
    expression of a cell.

    Parameters
    ----------
    name : str
        Unique on the page; lower-case letters, digits and hyphens.
    sliders : Slider or sequence of Slider
        One or two.
    compute : callable
        Called with the sliders' values as keywords; returns a dict of scalars, arrays and strings. It must be
        pure and cheap: it is called once a stop. A slider's own name is a key too.
    view : Lines, Bars, StackedBars or HeatMap
        What is drawn, as keys of compute's result.
    readouts : sequence of Readout or str
        Numbers under the figure.
    caption : str
        The sentence under the figure.
    description : str
        Text alternative: what a reader who cannot see the figure should know.
    digits : int, default 6
        Significant digits kept of what is drawn. Fewer make a lighter page; readouts are not affected.

    Raises
    ------
    ValueError
        A key that compute does not return, shapes that do not fit, a name that is not allowed, a page over
        150 KB.
    TypeError
        An argument of the wrong type.

    Notes
    -----
    The page holds every stop: nothing shown there is interpolated, and the script computes no loss. A value
    that does not depend on a slider is stored once. Values are rounded to 12 significant digits and then to
    `digits`, so that the last bits, which differ between processors, do not reach the page.

    Examples
    --------
    >>> import numpy as np
    >>> p = np.linspace(0.01, 1, 50)
    >>> figure = Explorable(
    ...     "surprisal",
    ...     sliders=Slider("q", low=0.01, high=0.99, steps=99, start=0.9, format=".2f"),
    ...     compute=lambda q: {"x": p, "curve": -np.log(p), "nats": -np.log(q)},
    ...     view=Lines(["curve"], markers=[Marker("q", "nats")]),
    ...     readouts=[Readout("nats", label="surprise", unit="nats")],
    ...     caption="Surprise.",
    ...     description="A curve that falls from 4.6 to 0.",
    ... )
    >>> figure
    Explorable('surprisal', sliders=['q'], view='Lines')
    >>> figure.readout_text(q=0.01)
    {'nats': '4.605 nats'}

    See Also
    --------
    lossutils.labs.Lab : for what must be trained or sampled, so has no table.
    """

    def __init__(
        self,
        name: str,
        *,
        sliders: Slider | Sequence[Slider],
        compute: Callable[..., Mapping[str, Any]],
        view: View,
        readouts: Sequence[Readout | str] = (),
        caption: str,
        description: str,
        digits: int = 6,
    ) -> None:
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise ValueError(f"name must be lower-case letters, digits and hyphens, got {name!r}")
        self.name = name
        self.sliders = (sliders,) if isinstance(sliders, Slider) else tuple(sliders)
        if not 1 <= len(self.sliders) <= 2 or not all(isinstance(s, Slider) for s in self.sliders):
            raise ValueError(f"sliders must be one or two Slider objects, got {sliders!r}")
        if len({s.name for s in self.sliders}) != len(self.sliders):
            raise ValueError(f"sliders must have different names, got {[s.name for s in self.sliders]}")
        if not callable(compute):
            raise TypeError(f"compute must be callable, got {compute!r}")
        if not isinstance(view, (Lines, Bars, HeatMap)):
            raise TypeError(f"view must be Lines, Bars, StackedBars or HeatMap, got {view!r}")
        for argument, text in (("caption", caption), ("description", description)):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(
                    f"{argument} must say something (it is what some readers have), got {text!r}"
                )
        if not isinstance(digits, int) or not 2 <= digits <= 12:
            raise ValueError(f"digits must be an integer in 2..12, got {digits!r}")
        self.readouts = tuple(Readout(r) if isinstance(r, str) else r for r in readouts)
        if len({r.key for r in self.readouts}) != len(self.readouts):
            raise ValueError(f"readouts must have different keys, got {[r.key for r in self.readouts]}")
        self.compute, self.view, self.caption, self.description = compute, view, caption, description
        self._digits = digits
        self._widget: Any = None
        self._html = self._render()

    def __repr__(self) -> str:
        names = [s.name for s in self.sliders]
        return f"Explorable({self.name!r}, sliders={names}, view={type(self.view).__name__!r})"

    # What Python computes -----------------------------------------------------------------------------------
    def _call(self, values: Mapping[str, Any]) -> dict[str, Any]:
        result = self.compute(**values)
        if not isinstance(result, Mapping):
            raise TypeError(f"compute must return a dict, got {type(result).__name__} at {dict(values)}")
        return {**values, **result}

    def at(self, **values: Any) -> dict[str, Any]:
        """Compute's result at any slider values (not only stops); a slider left out stands at its start.

        Raises
        ------
        TypeError
            A name that is no slider.
        ValueError
            A value outside its slider.
        """
        known = {s.name: s for s in self.sliders}
        for name in values:
            if name not in known:
                raise TypeError(f"{name!r} is not a slider of {self.name!r}; its sliders are {list(known)}")
        return self._call({n: s.check(values[n]) if n in values else s.start for n, s in known.items()})

    def readout_text(self, **values: Any) -> dict[str, str]:
        """The readouts at these slider values, exactly as the page shows them: key to text with unit."""
        result = self.at(**values)
        return {r.key: r.text(result[r.key]) for r in self.readouts}

    @property
    def stops(self) -> dict[str, tuple[Any, ...]]:
        """Each slider's name and its stops: the values for which the page holds results."""
        return {s.name: s.values for s in self.sliders}

    # What the page holds ------------------------------------------------------------------------------------
    def _table(self) -> tuple[dict[str, list[Any]], dict[str, list[str]], Get]:
        """Every stop's values by key, its readout texts by key, and a getter of all values of a reference."""
        combos = list(itertools.product(*(s.values for s in self.sliders)))
        if len(combos) > MAX_STOPS:
            raise ValueError(
                f"sliders have {len(combos)} stops together; {MAX_STOPS} is the most a page can hold"
            )
        names = [s.name for s in self.sliders]
        drawn = self.view.keys()
        rows = []
        for combo in combos:
            where = dict(zip(names, combo, strict=True))
            result = self._call(where)
            for key in [*drawn, *(r.key for r in self.readouts)]:
                if key not in result:
                    raise ValueError(f"{key!r} is shown, but compute returned only {sorted(result)}")
            try:
                self.view.check(resolve(result))
            except ValueError as error:
                raise ValueError(f"{error} (at {where})") from None
            rows.append(result)
        values = {key: [_rounded(row[key], self._digits) for row in rows] for key in drawn}
        texts = {r.key: [r.number(row[r.key]) for row in rows] for r in self.readouts}
        return values, texts, lambda ref: [row[ref] for row in rows] if isinstance(ref, str) else [ref]

    def _render(self) -> str:
        values, texts, all_values = self._table()
        self._spec_view = self.view.spec(all_values)
        sizes = [len(s.values) for s in self.sliders]
        table = {}
        for key, column in values.items():
            by, data = _compressed(column, sizes)
            table[key] = f'{{"by":{json.dumps(by)},"data":{_numbers(data)}}}'
        readouts = []
        for r in self.readouts:
            by, data = _compressed([_fixed(t, r) for t in texts[r.key]], sizes)
            head = {
                "key": r.key,
                "label": r.label or r.key,
                "unit": r.unit,
                "digits": r.digits,
                "color": r.color,
            }
            head = {k: v for k, v in head.items() if v is not None and v != ""}
            if isinstance(r.color, int):
                head["color"] = f"c{r.color}"
            readouts.append(f'{_json(head)[:-1]},"by":{json.dumps(by)},"data":{_numbers(data)}}}')
        parts = [
            f'"name":{_json(self.name)}',
            f'"caption":{_json(self.caption)}',
            f'"description":{_json(self.description)}',
            f'"sliders":{_json([s._spec() for s in self.sliders])}',
            f'"view":{_json(self._spec_view)}',
            f'"readouts":[{",".join(readouts)}]',
            '"table":{' + ",".join(f"{_json(k)}:{v}" for k, v in table.items()) + "}",
        ]
        payload = _script_safe("{" + ",".join(parts) + "}")
        page = (
            f'<compass-explorable data-name="{self.name}">{self._start_markup()}'
            f'<script type="application/json">{payload}</script></compass-explorable>'
        )
        size = len(page.encode())
        if size > MAX_BYTES:
            heavy = sorted(((len(v.encode()), k) for k, v in table.items()), reverse=True)[:3]
            named = ", ".join(f"{k!r} {n / 1000:.0f} KB" for n, k in heavy)
            raise ValueError(
                f"explorable {self.name!r} is {size / 1000:.0f} KB, the limit is {MAX_BYTES / 1000:.0f} KB "
                f"(largest: {named}); use fewer stops, fewer points or fewer digits"
            )
        return page

    def _start_markup(self) -> str:
        """What there is without JavaScript: the readouts at the start position, and a line that says so."""
        start = self.at()
        rows = [(s.label, f"{s.text(s.start)} {s.unit}".strip()) for s in self.sliders]
        rows += [(r.label or r.key, r.text(start[r.key])) for r in self.readouts]
        body = "".join(
            f'<tr><th scope="row">{html.escape(label)}</th><td>{html.escape(text)}</td></tr>'
            for label, text in rows
        )
        return (
            f'<figure class="ce-start" role="group"><p>{html.escape(self.description)}</p>'
            f"<table><caption>At the start position</caption><tbody>{body}</tbody></table>"
            f"<p>Moving this figure needs JavaScript on the book's page, or a running notebook.</p>"
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )

    def to_html(self) -> str:
        """The custom element with its table: the same bytes on every run."""
        return self._html

    def widget(self) -> Any:
        """The ipywidgets panel (needs ipywidgets); one a figure, made at the first call."""
        if self._widget is None:
            from lossutils._live import explorable_panel

            self._widget = explorable_panel(self)
        return self._widget

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from lossutils._live import mimebundle

        return mimebundle(repr(self), self._html, self.widget)


def _settled(value: float) -> float:
    """Drop the last bits, which differ between processors, before any visible rounding."""
    return float(f"{value:.11e}")


def _rounded(value: Any, digits: int) -> Any:
    """Numbers as nested lists of floats of `digits` significant digits; NaN as None; strings as they are."""
    if isinstance(value, str):
        return value
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return [str(v) for v in array.ravel()]
    if array.dtype.kind not in "biuf":
        raise TypeError(f"compute must return numbers and strings, got {array.dtype} {value!r}")
    array = array.astype(np.float64)

    def short(v: float) -> float | None:
        if math.isnan(v):
            return None
        return v if math.isinf(v) else float(f"{_settled(v):.{digits - 1}e}") + 0.0

    flat = [short(v) for v in array.ravel().tolist()]
    if array.ndim == 0:
        return flat[0]
    if array.ndim == 1:
        return flat
    if array.ndim == 2:
        width = array.shape[1]
        return [flat[i * width : (i + 1) * width] for i in range(array.shape[0])]
    raise ValueError(f"compute must return arrays of at most 2 dimensions, got shape {array.shape}")


def _compressed(column: list[Any], sizes: Sequence[int]) -> tuple[list[int], Any]:
    """Keep a column once for the fewest sliders that it depends on: (their positions, values in order)."""
    index = list(itertools.product(*(range(n) for n in sizes)))
    for count in range(len(sizes) + 1):
        for by in itertools.combinations(range(len(sizes)), count):
            seen: dict[tuple[int, ...], Any] = {}
            if all(
                seen.setdefault(tuple(i[b] for b in by), v) == v for i, v in zip(index, column, strict=True)
            ):
                data = [seen[k] for k in sorted(seen)]
                return list(by), data if by else data[0]
    raise AssertionError("the full set of sliders always fits")


def _fixed(text: str, readout: Readout) -> float | str:
    """A readout's text as a number where the page can restore it exactly, else the text itself."""
    plain = text.replace(MINUS, "-")
    pattern = r"-?\d{1,12}" + (rf"\.\d{{{readout.digits}}}" if readout.digits else "")
    return float(plain) if not readout.format and re.fullmatch(pattern, plain) else text


def _numbers(data: Any) -> str:
    """Compact JSON; ±inf as ±1e999, which JSON allows and every parser reads as infinite."""
    if data is None:
        return "null"
    if isinstance(data, str):
        return _json(data)
    if isinstance(data, list):
        return "[" + ",".join(_numbers(v) for v in data) + "]"
    if math.isinf(data):
        return "1e999" if data > 0 else "-1e999"
    if data == int(data) and abs(data) < 1e15:
        return str(int(data))
    return repr(data).replace("e-0", "e-").replace("e+", "e")


def _json(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _script_safe(payload: str) -> str:
    """Nothing in the payload may end the script element or open a comment."""
    swaps: Iterable[tuple[str, str]] = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"))
    for plain, escaped in swaps:
        payload = payload.replace(plain, escaped)
    return payload.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
