"""What an explorable shows: the views, as plain descriptions that a page and a kernel can both draw.

A view never holds data. It names keys of the dict that ``compute`` returns (a string), or gives a constant
(a number, or a list for categories and axis values). `lossutils.explore` re-exports everything here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

COLORS = ("c1", "c2", "c3", "c4", "c5", "c6", "ink", "muted", "good", "bad")
DASHES = ("solid", "dashed", "dotted", "dashdot")
FILLS = ("solid", "light", "hatched")

Ref = str | float
Get = Callable[[Any], Any]


def one_of(value: Any, options: Iterable[Any], argument: str) -> Any:
    """Return `value` if it is among `options`, else raise ValueError naming the argument."""
    options = tuple(options)
    if value not in options:
        raise ValueError(f"{argument} must be one of {list(options)}, got {value!r}")
    return value


def _text(value: Any, argument: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, got {type(value).__name__} {value!r}")
    return value


def _ref(value: Any, argument: str) -> Ref:
    """A key of compute's result, or a finite number."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, (int, float, np.integer, np.floating)) and math.isfinite(value):
        return float(value)
    raise TypeError(f"{argument} must be a key of compute's result or a finite number, got {value!r}")


def _key(value: Any, argument: str) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{argument} must be a key of compute's result (a string), got {value!r}")
    return value


def _color(value: Any, argument: str) -> str | None:
    """1..6 and 'c1'..'c6' are the series colours; the rest have a meaning."""
    if value is None:
        return None
    return one_of(f"c{value}" if isinstance(value, int) else value, COLORS, argument)


def _range(value: Any, scale: str, argument: str) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{argument} must be a pair (low, high) or None, got {value!r}")
    low, high = float(value[0]), float(value[1])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{argument} must be finite with low < high, got {value!r}")
    if scale == "log" and low <= 0:
        raise ValueError(f"{argument} must be positive on a log scale, got {value!r}")
    return low, high


def _labels(value: Any, argument: str) -> str | list[Any]:
    """A key, or a literal list of category names or axis values."""
    if isinstance(value, str):
        return _key(value, argument)
    if isinstance(value, (Sequence, np.ndarray)) and len(value):
        return [v.item() if hasattr(v, "item") else v for v in value]
    raise TypeError(f"{argument} must be a key of compute's result or a non-empty list, got {value!r}")


def _setter(obj: Any) -> Callable[[str, Any], None]:
    return lambda name, value: object.__setattr__(obj, name, value)


def _span(values: Iterable[Any], scale: str = "linear") -> tuple[float, float]:
    """Smallest and largest finite value (positive on a log scale) of arrays and scalars, else (0, 1)."""
    flat = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values] or [np.empty(0)])
    flat = flat[np.isfinite(flat) & ((flat > 0) if scale == "log" else True)]
    if not flat.size:
        return (0.1, 1.0) if scale == "log" else (0.0, 1.0)
    return float(flat.min()), float(flat.max())


def _padded(low: float, high: float, scale: str) -> tuple[float, float]:
    """Leave a little air, and let an axis that nearly reaches zero reach it."""
    if scale == "log":
        pad = (high / low) ** 0.04 if high > low else 2.0
        return low / pad, high * pad
    if high == low:
        return (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    pad = 0.04 * (high - low)
    if 0 <= low < 0.25 * high:
        return 0.0, high + pad
    return low - pad, high + pad


def _vector(get: Get, ref: Any, owner: str) -> np.ndarray:
    array = np.atleast_1d(np.asarray(get(ref), dtype=float))
    if array.ndim != 1:
        raise ValueError(f"{owner} needs one dimension, but {ref!r} has shape {array.shape}")
    return array


def _scalar(get: Get, ref: Any, owner: str) -> None:
    if np.ndim(get(ref)) != 0:
        raise ValueError(f"{owner} needs a scalar, but {ref!r} has shape {np.shape(get(ref))}")


@dataclass(frozen=True)
class Line:
    """One series of `Lines`.

    Parameters
    ----------
    y : str
        Key of the values, shape (points,). NaN leaves a gap; ±inf runs off the plot.
    label : str, default ""
        Written at the line's end.
    x : str, optional
        Key of this series' own x values; default: the view's.
    color : int or str, optional
        1..6, or one of ``COLORS``; default by order.
    dash : {"solid", "dashed", "dotted", "dashdot"}, optional
        The second cue beside colour; default by order.
    points : bool, default False
        Draw a dot at every value as well (``"only"``: dots without the line).
    band : tuple of str, optional
        Keys of a lower and an upper bound, shaded: a spread over seeds, an interval.
    """

    y: str
    label: str = ""
    x: str | None = None
    color: int | str | None = None
    dash: str | None = None
    points: bool | str = False
    band: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        put = _setter(self)
        _key(self.y, "Line y")
        _text(self.label, "Line label")
        put("color", _color(self.color, "Line color"))
        if self.x is not None:
            _key(self.x, "Line x")
        if self.dash is not None:
            one_of(self.dash, DASHES, "Line dash")
        one_of(self.points, (True, False, "only"), "Line points")
        if self.band is not None:
            put("band", tuple(_key(k, "Line band") for k in self.band))
            if len(self.band) != 2:
                raise ValueError(f"Line band must be a pair of keys (lower, upper), got {self.band!r}")


@dataclass(frozen=True)
class Marker:
    """A dot that moves: at (`x`, `y`), each a key or a number; `guides` draws lines to the axes."""

    x: Ref
    y: Ref
    label: str = ""
    color: int | str = "ink"
    guides: bool = True

    def __post_init__(self) -> None:
        put = _setter(self)
        put("x", _ref(self.x, "Marker x"))
        put("y", _ref(self.y, "Marker y"))
        put("color", _color(self.color, "Marker color"))
        _text(self.label, "Marker label")


@dataclass(frozen=True)
class HLine:
    """A horizontal reference line at `value` (a key or a number), as matplotlib's ``axhline``."""

    value: Ref
    label: str = ""
    color: int | str = "muted"
    dash: str = "dashed"

    def __post_init__(self) -> None:
        put = _setter(self)
        kind = type(self).__name__
        put("value", _ref(self.value, f"{kind} value"))
        put("color", _color(self.color, f"{kind} color"))
        _text(self.label, f"{kind} label")
        one_of(self.dash, DASHES, f"{kind} dash")


@dataclass(frozen=True)
class VLine(HLine):
    """A vertical reference line at `value` (a key or a number), as matplotlib's ``axvline``."""


@dataclass(frozen=True)
class Bar:
    """One series of `Bars`, or one part of `StackedBars`.

    Parameters
    ----------
    value : str
        Key of the heights: shape (categories,), or a scalar when there is one bar.
    label : str, default ""
        What the series is called.
    color : int or str, optional
        1..6, or one of ``COLORS``; default by order.
    fill : {"solid", "light", "hatched"}, optional
        The second cue beside colour; default by order.
    """

    value: str
    label: str = ""
    color: int | str | None = None
    fill: str | None = None

    def __post_init__(self) -> None:
        _key(self.value, "Bar value")
        _text(self.label, "Bar label")
        _setter(self)("color", _color(self.color, "Bar color"))
        if self.fill is not None:
            one_of(self.fill, FILLS, "Bar fill")


def _members(items: Any, cls: type, argument: str, cues: str, names: Sequence[str]) -> tuple[Any, ...]:
    """Coerce strings to `cls`, then fill in colour and second cue by order."""
    if isinstance(items, (str, cls)):
        items = [items]
    made = [cls(i) if isinstance(i, str) and cls in (Line, Bar) else i for i in items]
    for number, item in enumerate(made):
        if not isinstance(item, cls):
            raise TypeError(f"{argument} must hold {cls.__name__} objects, got {item!r}")
        if cues:  # a copy: the caller may use the same object in another view
            cue = getattr(item, cues) or names[number % len(names)]
            made[number] = replace(item, color=item.color or f"c{number % 6 + 1}", **{cues: cue})
    return tuple(made)


def _axis_text(label: str, unit: str) -> str:
    return f"{label} ({unit})" if label and unit else label or unit


def _public(item: Any) -> dict[str, Any]:
    """A dataclass as JSON, without what is empty."""
    kept = {k: v for k, v in vars(item).items() if not (v is None or v is False or v == "")}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in kept.items()}


@dataclass(frozen=True)
class Lines:
    """Curves against a numeric axis, with moving markers and reference lines.

    Parameters
    ----------
    series : sequence of Line or str
        The curves. A string is a key.
    x : str, default "x"
        Key of the x values shared by series without their own.
    x_label, y_label, x_unit, y_unit : str
        Axis texts; the unit is put in brackets.
    x_scale, y_scale : {"linear", "log"}
        Axis scales.
    x_range, y_range : tuple of float, optional
        Axis limits. Default: what all slider stops together need, so that the axes never move.
    markers : sequence of Marker
        Dots that move.
    rules : sequence of HLine or VLine
        Reference lines.
    height : int, default 300
        Height of the plot on the page, in pixels.
    """

    series: Sequence[Line | str]
    x: str = "x"
    x_label: str = ""
    y_label: str = ""
    x_unit: str = ""
    y_unit: str = ""
    x_scale: str = "linear"
    y_scale: str = "linear"
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    markers: Sequence[Marker] = ()
    rules: Sequence[HLine] = ()
    height: int = 300
    kind: str = field(default="lines", init=False)

    def __post_init__(self) -> None:
        put = _setter(self)
        put("series", _members(self.series, Line, "Lines series", "dash", DASHES))
        put("markers", _members(self.markers, Marker, "Lines markers", "", ()))
        put("rules", _members(self.rules, HLine, "Lines rules", "", ()))
        _key(self.x, "Lines x")
        for axis in "xy":
            one_of(getattr(self, f"{axis}_scale"), ("linear", "log"), f"Lines {axis}_scale")
            scale = getattr(self, f"{axis}_scale")
            put(f"{axis}_range", _range(getattr(self, f"{axis}_range"), scale, f"Lines {axis}_range"))

    def keys(self) -> list[str]:
        """Every key of compute's result that this view draws."""
        refs: list[Any] = [self.x] if any(s.x is None for s in self.series) else []
        for s in self.series:
            refs += [s.y, s.x, *(s.band or ())]
        for m in self.markers:
            refs += [m.x, m.y]
        return _strings(refs + [r.value for r in self.rules])

    def check(self, get: Get) -> None:
        """Raise ValueError where shapes at one stop do not fit together."""
        for s in self.series:
            x = _vector(get, s.x or self.x, "Lines x")
            for ref in (s.y, *(s.band or ())):
                y = _vector(get, ref, f"Line {ref!r}")
                if y.shape != x.shape:
                    raise ValueError(
                        f"Line {ref!r} has {y.size} values but x ({s.x or self.x!r}) has {x.size}"
                    )
        for m in self.markers:
            _scalar(get, m.x, "Marker x")
            _scalar(get, m.y, "Marker y")
        for r in self.rules:
            _scalar(get, r.value, f"{type(r).__name__} value")

    def spec(self, all_values: Get) -> dict[str, Any]:
        """The JSON description; `all_values(ref)` lists a reference's values at every stop."""
        xs = [v for s in self.series for v in all_values(s.x or self.x)]
        xs += [v for m in self.markers for v in all_values(m.x)]
        xs += [v for r in self.rules if isinstance(r, VLine) for v in all_values(r.value)]
        ys = [v for s in self.series for ref in (s.y, *(s.band or ())) for v in all_values(ref)]
        ys += [v for m in self.markers for v in all_values(m.y)]
        ys += [v for r in self.rules if not isinstance(r, VLine) for v in all_values(r.value)]
        x_low, x_high = _span(xs, self.x_scale)
        x_auto = (x_low, x_high) if x_high > x_low else _padded(x_low, x_high, self.x_scale)
        return {
            "kind": "lines",
            "height": self.height,
            "x": self.x,
            "x_axis": _axis(_axis_text(self.x_label, self.x_unit), self.x_scale, self.x_range or x_auto),
            "y_axis": _axis(
                _axis_text(self.y_label, self.y_unit),
                self.y_scale,
                self.y_range or _padded(*_span(ys, self.y_scale), self.y_scale),
            ),
            "series": [_public(s) for s in self.series],
            "markers": [_public(m) for m in self.markers],
            "rules": [{"axis": "x" if isinstance(r, VLine) else "y", **_public(r)} for r in self.rules],
        }


@dataclass(frozen=True)
class Bars:
    """Bars over categories, one or more series side by side.

    Parameters
    ----------
    categories : str or sequence of str
        The names under the bars: a list, or a key of a list of strings.
    series : sequence of Bar or str
        The heights.
    highlight : str or int, optional
        Position (from 0) of one category that stands out: a key, so that it may move, or a number.
    value_label, unit : str
        The value axis' text and unit.
    value_range : tuple of float, optional
        Limits of the value axis; default: zero and what all stops need.
    digits : int, default 3
        Decimals of the numbers written at the bars.
    orientation : {"vertical", "horizontal"}
        Horizontal suits long names and many categories.
    rules : sequence of HLine or VLine
        Reference values (either class: they follow the value axis).
    height : int, default 260
        Height of a vertical plot in pixels; a horizontal one grows with its rows.
    """

    categories: str | Sequence[str]
    series: Sequence[Bar | str]
    highlight: str | int | None = None
    value_label: str = ""
    unit: str = ""
    value_range: tuple[float, float] | None = None
    digits: int = 3
    orientation: str = "vertical"
    rules: Sequence[HLine] = ()
    height: int = 260
    total: str | None = field(default=None, init=False)
    total_label: str = field(default="", init=False)
    kind: str = field(default="bars", init=False)

    def __post_init__(self) -> None:
        put = _setter(self)
        who = type(self).__name__
        put("categories", _labels(self.categories, f"{who} categories"))
        put("series", _members(self.series, Bar, f"{who} series", "fill", FILLS))
        put("rules", _members(self.rules, HLine, f"{who} rules", "", ()))
        one_of(self.orientation, ("vertical", "horizontal"), f"{who} orientation")
        put("value_range", _range(self.value_range, "linear", f"{who} value_range"))
        if self.highlight is not None:
            put("highlight", _ref(self.highlight, f"{who} highlight"))

    def keys(self) -> list[str]:
        """Every key of compute's result that this view draws."""
        refs = [s.value for s in self.series] + [r.value for r in self.rules]
        cats = [self.categories] if isinstance(self.categories, str) else []
        return _strings([*cats, *refs, self.highlight, self.total])

    def check(self, get: Get) -> None:
        """Raise ValueError where shapes at one stop do not fit together."""
        n = len(get(self.categories))
        refs = [s.value for s in self.series] + ([self.total] if self.total else [])
        for ref in refs:
            size = _vector(get, ref, f"Bar {ref!r}").size
            if size != n:
                raise ValueError(
                    f"Bar {ref!r} has {size} values but there are {n} categories; they must match"
                )
        if self.highlight is not None:
            _scalar(get, self.highlight, "highlight")
            where = float(get(self.highlight))
            if not (where == int(where) and 0 <= where < n):
                raise ValueError(f"highlight must be a position in 0..{n - 1}, got {where:g}")
        for r in self.rules:
            _scalar(get, r.value, f"{type(r).__name__} value")

    def _auto_range(self, all_values: Get) -> tuple[float, float]:
        values = [v for s in self.series for v in all_values(s.value)]
        values += [v for r in self.rules for v in all_values(r.value)]
        low, high = _span([*values, 0.0])
        room = 0.06 * (high - low) or 1.0
        return (low - room if low < 0 else 0.0), (high + room if high > 0 else 0.0)

    def spec(self, all_values: Get) -> dict[str, Any]:
        """The JSON description; `all_values(ref)` lists a reference's values at every stop."""
        chosen = self.value_range or self._auto_range(all_values)
        spec = {
            "kind": self.kind,
            "height": self.height,
            "categories": self.categories,
            "value_axis": _axis(_axis_text(self.value_label, self.unit), "linear", chosen),
            "digits": self.digits,
            "horizontal": self.orientation == "horizontal",
            "series": [_public(s) for s in self.series],
            "rules": [_public(r) for r in self.rules],
        }
        optional = {"highlight": self.highlight, "total": self.total, "total_label": self.total_label or None}
        return spec | {k: v for k, v in optional.items() if v is not None}


@dataclass(frozen=True)
class StackedBars(Bars):
    """Parts that add up, one bar a category: entropy and KL stacked to cross-entropy.

    Parameters
    ----------
    categories, series, value_label, unit, value_range, digits, rules, height
        As in `Bars`; the series are the parts, from the axis outwards, and must not be negative.
    total : str, optional
        Key of the sum, written at the bar's end. It comes from ``compute``: the page adds nothing up.
    total_label : str
        What the sum is called.
    """

    orientation: str = "horizontal"
    total: str | None = None
    total_label: str = ""
    kind: str = field(default="stacked", init=False)

    def check(self, get: Get) -> None:
        """As `Bars.check`, and parts may not be negative, and a total must be their sum."""
        super().check(get)
        parts = [_vector(get, s.value, f"Bar {s.value!r}") for s in self.series]
        for s, part in zip(self.series, parts, strict=True):
            if (part < 0).any():
                raise ValueError(f"StackedBars part {s.value!r} must not be negative, got {part.min():g}")
        if self.total:
            total = _vector(get, self.total, "total")
            if not np.allclose(sum(parts), total, rtol=1e-6, atol=1e-9):
                raise ValueError(
                    f"total {self.total!r} is {total.tolist()} but its parts add up to {sum(parts).tolist()}"
                )

    def _auto_range(self, all_values: Get) -> tuple[float, float]:
        columns = zip(*(all_values(s.value) for s in self.series), strict=True)
        sums = [np.sum([np.atleast_1d(np.asarray(p, float)) for p in column], axis=0) for column in columns]
        rules = [v for r in self.rules for v in all_values(r.value)]
        return 0.0, 1.06 * _span([*sums, *rules, 0.0])[1] or 1.0


@dataclass(frozen=True)
class HeatMap:
    """A matrix as colour, with a cursor at the sliders' position.

    Parameters
    ----------
    z : str
        Key of the matrix, shape (rows, columns).
    x, y : str or sequence
        Column and row names or values: a list, or a key. Numbers must ascend.
    x_label, y_label, x_unit, y_unit : str
        Axis texts.
    z_label, z_unit : str
        The colour bar's text and unit.
    z_scale : {"linear", "log"}
        How colour follows the value.
    z_range : tuple of float, optional
        Ends of the colour bar; default: what all stops need.
    cursor : tuple, optional
        (x, y), keys or numbers: on numeric axes in the axis' own units, else positions from 0.
    digits : int, default 3
        Decimals of the numbers written in cells that are large enough.
    origin : {"lower", "upper"}
        Where row 0 is drawn: "lower" as in a plot, "upper" as in a matrix.
    height : int, default 320
        Height of the plot on the page, in pixels.
    """

    z: str
    x: str | Sequence[Any] = "x"
    y: str | Sequence[Any] = "y"
    x_label: str = ""
    y_label: str = ""
    x_unit: str = ""
    y_unit: str = ""
    z_label: str = ""
    z_unit: str = ""
    z_scale: str = "linear"
    z_range: tuple[float, float] | None = None
    cursor: tuple[Ref, Ref] | None = None
    digits: int = 3
    origin: str = "lower"
    height: int = 320
    kind: str = field(default="heat", init=False)

    def __post_init__(self) -> None:
        put = _setter(self)
        _key(self.z, "HeatMap z")
        put("x", _labels(self.x, "HeatMap x"))
        put("y", _labels(self.y, "HeatMap y"))
        one_of(self.z_scale, ("linear", "log"), "HeatMap z_scale")
        one_of(self.origin, ("lower", "upper"), "HeatMap origin")
        put("z_range", _range(self.z_range, self.z_scale, "HeatMap z_range"))
        if self.cursor is not None:
            if not isinstance(self.cursor, Sequence) or isinstance(self.cursor, str) or len(self.cursor) != 2:
                raise TypeError(f"HeatMap cursor must be a pair (x, y), got {self.cursor!r}")
            put("cursor", tuple(_ref(c, "HeatMap cursor") for c in self.cursor))

    def keys(self) -> list[str]:
        """Every key of compute's result that this view draws."""
        axes = [v for v in (self.x, self.y) if isinstance(v, str)]
        return _strings([self.z, *axes, *(self.cursor or ())])

    def check(self, get: Get) -> None:
        """Raise ValueError where shapes at one stop do not fit together."""
        z = np.asarray(get(self.z), dtype=float)
        x, y = np.asarray(get(self.x)), np.asarray(get(self.y))
        if z.shape != (len(y), len(x)):
            raise ValueError(
                f"HeatMap z {self.z!r} has shape {z.shape} but y and x ask for {(len(y), len(x))}"
            )
        for name, axis in (("x", x), ("y", y)):
            if axis.dtype.kind in "iuf" and not (np.diff(axis) > 0).all():
                raise ValueError(f"HeatMap {name} must ascend where it is numeric, got {axis.tolist()}")
        for ref in self.cursor or ():
            _scalar(get, ref, "HeatMap cursor")

    def spec(self, all_values: Get) -> dict[str, Any]:
        """The JSON description; `all_values(ref)` lists a reference's values at every stop."""
        low, high = self.z_range or _span(all_values(self.z), self.z_scale)
        if low == high:
            low, high = _padded(low, high, self.z_scale)
        return {
            "kind": "heat",
            "height": self.height,
            "z": self.z,
            "x": self.x,
            "y": self.y,
            "x_axis": {"label": _axis_text(self.x_label, self.x_unit)},
            "y_axis": {"label": _axis_text(self.y_label, self.y_unit)},
            "z_axis": _axis(_axis_text(self.z_label, self.z_unit), self.z_scale, (low, high)),
            "digits": self.digits,
            "upper": self.origin == "upper",
            **({"cursor": list(self.cursor)} if self.cursor else {}),
        }


def _axis(label: str, scale: str, limits: tuple[float, float]) -> dict[str, Any]:
    return {"label": label, "scale": scale, "range": [float(f"{v:.6g}") for v in limits]}


def _strings(refs: Iterable[Any]) -> list[str]:
    """The keys among references, once each, in order (a set's order would depend on the hash seed)."""
    return list(dict.fromkeys(r for r in refs if isinstance(r, str)))


View = Lines | Bars | StackedBars | HeatMap


def resolve(values: Mapping[str, Any]) -> Get:
    """A getter for references: a string looks up `values`; anything else is a constant."""
    return lambda ref: values[ref] if isinstance(ref, str) else ref
