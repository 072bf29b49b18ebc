"""The live half of explorables: the same spec, drawn by matplotlib, moved by ipywidgets. Also page SVG."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lossutils._views import Bars, HeatMap, HLine, Lines, StackedBars, VLine, _axis_text, resolve
from lossutils.plotting import PAGE_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lossutils.explore import Explorable, Slider

# Variables of the page by colour; the first name of a colour wins ("good" shares its light value with "c3").
VARIABLES = {value: name for name, value in reversed(PAGE_COLOURS.items())}
DASHES = {"solid": "-", "dashed": (0, (5, 2)), "dotted": (0, (1, 1.6)), "dashdot": (0, (6, 2, 1, 2))}
LONG_NUMBER = re.compile(r"(?<![\w#.])-?\d+\.\d{3,}(?![\w.])")
SIZES = ("font.size", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
FIGURE_RC = {
    "svg.fonttype": "none",
    **dict.fromkeys(SIZES, 12.5),
}  # still 12 px where 4.4 inches meet a 375 px screen


def kernel_is_live() -> bool:
    """Whether this process is a Jupyter kernel (and not a script, a test or a plain IPython shell)."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def mimebundle(plain: str, page: str, widget: Callable[[], Any]) -> dict[str, Any]:
    """Text and HTML for everyone; in a live kernel with ipywidgets also the widget's view."""
    bundle: dict[str, Any] = {"text/plain": plain, "text/html": page}
    if kernel_is_live():
        try:
            view = widget()._repr_mimebundle_()
        except ImportError:
            return bundle
        kind = "application/vnd.jupyter.widget-view+json"
        bundle |= {kind: view[kind]} if view and kind in view else {}
    return bundle


def new_figure(width: float = 4.4, height: float = 2.9) -> Figure:
    """A figure of its own, outside pyplot's global state, in the book's style: call inside `figure_style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def figure_style() -> Any:
    """The book's style as a context, with text large enough for a figure shrunk to a phone's width."""
    from contextlib import ExitStack

    import matplotlib as mpl
    import matplotlib.style  # style() uses it as an attribute

    from lossutils.plotting import style

    stack = ExitStack()
    stack.enter_context(style())
    stack.enter_context(mpl.rc_context(FIGURE_RC))
    return stack


def _two_decimals(match: re.Match[str]) -> str:
    text = f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _short_ids(svg: str, prefix: str) -> str:
    """Number the ids in use and drop the rest: matplotlib's contain a hash of unrounded coordinates."""
    used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
    names = {old: f"{prefix}-{number}" for number, old in enumerate(dict.fromkeys(used), start=1)}
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", svg)
    svg = re.sub(r'href="#([^"]+)"', lambda m: f'href="#{names[m[1]]}"', svg)
    return re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{names[m[1]]})", svg)


def svg_markup(figure: Figure, prefix: str, alt: str) -> str:
    """A figure as inline SVG for the page: the same bytes on every run, themed, with ids that start with
    `prefix`.

    Coordinates are rounded to 2 decimals, which hides the last bits of another processor. Text stays text.
    The book's colours become CSS variables, so that the figure follows the reader's theme.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    # Only inside attributes: a tick label "0.001" is text, and stays what it says.
    svg = re.sub(r'="[^"]*"', lambda m: LONG_NUMBER.sub(_two_decimals, m[0]), svg)
    svg = _short_ids(svg, prefix)
    # The page's own font; and no hint of which fonts this machine has.
    svg = re.sub(r"font: (?:[\w ]+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r'(\sd="[^"]*")', lambda m: " " + " ".join(m[0].split()), svg)
    # matplotlib names rules for every path ("*{stroke-linejoin: ...}"), which would leak into the whole page.
    svg = re.sub(r"<style[^>]*>\s*\*\s*\{([^}]*)\}\s*</style>", "", svg)
    for value, name in VARIABLES.items():
        svg = svg.replace(value, f"var(--compass-{name}, {value})")
    svg = re.sub(
        r"<text (?![^>]*fill)([^>]*?)style=\"", r'<text \1style="fill: var(--compass-ink, #1f2328); ', svg
    )
    viewbox = re.search(r'viewBox="[^"]+"', svg)
    label = html.escape(alt)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {viewbox[0]} '
    head += f'role="img" aria-label="{label}" stroke-linejoin="round" style="stroke-linecap: butt">'
    return re.sub(r">\s+<", "><", head + svg[svg.index(">") + 1 :]).strip()


# Drawing the views ------------------------------------------------------------------------------------------
def draw(figure: Figure, explorable: Explorable, values: Mapping[str, Any]) -> None:
    """Draw an explorable's view of compute's result `values` into an empty figure."""
    spec = explorable._spec_view
    get = resolve(values)
    ax = figure.add_subplot()
    view = explorable.view
    if isinstance(view, Lines):
        _lines(ax, view, spec, get)
    elif isinstance(view, HeatMap):
        _heat(ax, view, spec, get)
    else:
        _bars(ax, view, spec, get)


def _array(value: Any) -> np.ndarray:
    value = value.detach().cpu() if hasattr(value, "detach") else value
    return np.atleast_1d(np.asarray(value, dtype=float))


def _rules(ax: Axes, rules: Sequence[HLine], get: Callable[[Any], Any], vertical: bool | None = None) -> None:
    for rule in rules:
        across = isinstance(rule, VLine) if vertical is None else vertical
        at = float(get(rule.value))
        style = {"color": PAGE_COLOURS[rule.color], "linestyle": DASHES[rule.dash], "linewidth": 1.3}
        (ax.axvline if across else ax.axhline)(at, **style)
        where = (at, 0.98) if across else (0.99, at)
        ax.annotate(
            rule.label,
            where,
            xycoords=("data", "axes fraction") if across else ("axes fraction", "data"),
            xytext=(4, 0) if across else (0, 3),
            textcoords="offset points",
            ha="left" if across else "right",
            va="top" if across else "bottom",
            color=PAGE_COLOURS[rule.color],
            fontsize=10.5,
        )


def _lines(ax: Axes, view: Lines, spec: Mapping[str, Any], get: Callable[[Any], Any]) -> None:
    ax.set(
        xscale=view.x_scale, yscale=view.y_scale, xlim=spec["x_axis"]["range"], ylim=spec["y_axis"]["range"]
    )
    ax.set(xlabel=spec["x_axis"]["label"], ylabel=spec["y_axis"]["label"])
    for s in view.series:
        x, y = _array(get(s.x or view.x)), _array(get(s.y))
        color = PAGE_COLOURS[s.color]
        if s.band:
            ax.fill_between(
                x, _array(get(s.band[0])), _array(get(s.band[1])), color=color, alpha=0.16, linewidth=0
            )
        ax.plot(
            x,
            y,
            color=color,
            linestyle="none" if s.points == "only" else DASHES[s.dash],
            marker="o" if s.points else None,
            markersize=4,
            label=s.label or f"_{s.y}",
        )
    _rules(ax, view.rules, get)
    for m in view.markers:
        x, y = float(get(m.x)), float(get(m.y))
        if m.guides:
            ax.plot(
                [x, x, spec["x_axis"]["range"][0]],
                [spec["y_axis"]["range"][0], y, y],
                ":",
                color=PAGE_COLOURS["muted"],
                lw=1,
            )
        ax.plot(
            [x],
            [y],
            "o",
            color=PAGE_COLOURS[m.color],
            markersize=8,
            markeredgecolor=PAGE_COLOURS["page"],
            clip_on=False,
            zorder=5,
        )
        ax.annotate(
            m.label,
            (x, y),
            xytext=(8, 8),
            textcoords="offset points",
            color=PAGE_COLOURS[m.color],
            fontsize=11,
        )
    if any(s.label for s in view.series):
        ax.legend(loc="best", fontsize=10.5)


def _bars(ax: Axes, view: Bars, spec: Mapping[str, Any], get: Callable[[Any], Any]) -> None:
    names = [str(c) for c in get(view.categories)]
    flat, stacked = view.orientation == "horizontal", isinstance(view, StackedBars)
    at = np.arange(len(names), dtype=float)
    thick = 0.6 if stacked else 0.78 / len(view.series)
    below = np.zeros(len(names))
    hot = int(get(view.highlight)) if view.highlight is not None else None
    for number, s in enumerate(view.series):
        v, color = _array(get(s.value)), PAGE_COLOURS[s.color]
        shift = 0.0 if stacked else (number - (len(view.series) - 1) / 2) * thick
        style: dict[str, Any] = {"edgecolor": color, "linewidth": 1.2, "label": s.label or f"_{s.value}"}
        style["color" if s.fill == "solid" else "facecolor"] = (
            color if s.fill == "solid" else (*_rgb(color), 0.22)
        )
        style |= {"hatch": "///"} if s.fill == "hatched" else {}
        draw_bar = (lambda **k: ax.barh(at + shift, v, left=below, **k)) if flat else None  # noqa: B023
        bars = (
            draw_bar(height=thick, **style)
            if draw_bar
            else ax.bar(at + shift, v, width=thick, bottom=below, **style)
        )
        for i, bar in enumerate(bars):
            bar.set_alpha(0.3 if hot is not None and i != hot else None)
        below = below + v if stacked else below
    limits = spec["value_axis"]["range"]
    if stacked and view.total:
        for i, t in enumerate(_array(get(view.total))):
            text = f"{view.total_label} {t:.{view.digits}f}".strip()
            inside = flat and t > 0.6 * limits[1]  # no room beyond the end: write it above the bar instead
            place = {
                "xytext": (-2, 22) if inside else (5, 0),
                "ha": "right" if inside else "left",
                "va": "center",
            }
            up = {"xytext": (0, 4), "ha": "center", "va": "bottom"}
            ax.annotate(
                text,
                (t, i) if flat else (i, t),
                textcoords="offset points",
                weight="bold",
                **(place if flat else up),
            )
    if flat:
        ax.set(yticks=at, yticklabels=names, xlim=limits, xlabel=spec["value_axis"]["label"])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.grid(False, axis="y")
    else:
        crowded = len(names) > 12
        ax.set(xticks=at, ylim=limits, ylabel=spec["value_axis"]["label"])
        ax.set_xticklabels(names, rotation=90 if crowded else 0, fontsize=8 if crowded else None)
        ax.grid(False, axis="x")
    _rules(ax, view.rules, get, vertical=flat)
    if len([s for s in view.series if s.label]) > 1:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(view.series), fontsize=10.5)


def _rgb(value: str) -> tuple[float, ...]:
    return tuple(int(value[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _heat(ax: Axes, view: HeatMap, spec: Mapping[str, Any], get: Callable[[Any], Any]) -> None:
    from matplotlib.colors import LogNorm, Normalize

    z, x, y = _array(get(view.z)), np.asarray(get(view.x)), np.asarray(get(view.y))
    low, high = spec["z_axis"]["range"]
    norm = (LogNorm if view.z_scale == "log" else Normalize)(low, high, clip=True)
    image = ax.imshow(z, cmap="YlGnBu", norm=norm, origin=view.origin, aspect="auto")
    for axis, labels in (("x", x), ("y", y)):
        step = max(1, len(labels) // 8) if labels.dtype.kind in "iuf" else 1
        ticks = np.arange(0, len(labels), step)
        names = [f"{v:.3g}" if labels.dtype.kind in "iuf" else str(v) for v in labels[ticks]]
        getattr(ax, f"set_{axis}ticks")(ticks, names)
        getattr(ax, f"set_{axis}label")(spec[f"{axis}_axis"]["label"])
    ax.grid(False)
    if view.cursor:
        at = []
        for ref, labels in zip(view.cursor, (x, y), strict=True):
            v = float(get(ref))
            at.append(
                float(np.interp(v, labels, np.arange(len(labels)))) if labels.dtype.kind in "iuf" else v
            )
        for width, color in ((5, PAGE_COLOURS["ink"]), (2.2, PAGE_COLOURS["page"])):
            ax.plot(*([a] for a in at), "o", mfc="none", mec=color, mew=width, ms=11)
    ax.figure.colorbar(image, ax=ax, label=_axis_text(view.z_label, view.z_unit))


# The panel --------------------------------------------------------------------------------------------------
ROW = {"width": "100%", "max_width": "620px"}


def description_style(labels: Sequence[str]) -> dict[str, str]:
    """The style of the controls with these labels: below one another, their sliders begin at one place."""
    return {"description_width": f"{max(map(len, labels))}ch" if len(labels) > 1 else "initial"}


def number_control(
    stops: Sequence[float],
    start: float,
    *,
    label: str,
    style: Mapping[str, str],
    symbol: str = "",
    unit: str = "",
) -> tuple[Any, Any, Any]:
    """A slider over `stops` and a box for any number between the first and the last: (row, slider, box).

    The box holds the value. A float slider of ipywidgets would move a typed value, and even the start, onto
    the nearest of its steps.
    """
    import ipywidgets as widgets

    def nearest(value: float) -> int:
        return int(np.abs(np.asarray(stops) - value).argmin())

    slider = widgets.IntSlider(
        value=nearest(start),
        min=0,
        max=len(stops) - 1,
        description=label,
        readout=False,
        style=style,
        layout=widgets.Layout(width="auto", flex="1 1 auto"),
    )
    box = widgets.BoundedFloatText(
        value=start,
        min=stops[0],
        max=stops[-1],
        description=f"{symbol} =" if symbol else "",
        tooltip=f"{label}: any number from {stops[0]:g} to {stops[-1]:g}",
        style={"description_width": "initial"},
        layout=widgets.Layout(width="9em", flex="0 0 auto", margin="2px 2px 2px 12px"),
    )

    def follow_slider(_: Any) -> None:
        if slider.value != nearest(box.value):  # else it was the box that moved the slider
            box.value = stops[slider.value]

    def follow_box(_: Any) -> None:
        slider.value = nearest(box.value)

    slider.observe(follow_slider, names="value")
    box.observe(follow_box, names="value")
    parts = [slider, box, widgets.Label(unit)] if unit else [slider, box]
    return widgets.HBox(parts, layout=widgets.Layout(**ROW)), slider, box


def _control(slider: Slider, style: Mapping[str, str]) -> tuple[Any, Any, Any]:
    """What stands in the panel, what is dragged, and what holds the value."""
    import ipywidgets as widgets

    if not slider.is_choice:
        words = {"label": slider.label, "symbol": slider.symbol, "unit": slider.unit}
        return number_control(slider.values, slider.start, style=style, **words)
    options = list(zip(slider.texts, slider.values, strict=True))
    choice = widgets.SelectionSlider(
        options=options,
        value=slider.start,
        description=slider.label,
        style=style,
        layout=widgets.Layout(**ROW),
    )
    return choice, choice, choice


def sentence(error: BaseException) -> str:
    """An error as one sentence for a reader: no traceback."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."


def explorable_panel(explorable: Explorable) -> Any:
    """An ipywidgets panel for an explorable: the sliders, the drawing and the readouts, updated in place."""
    import ipywidgets as widgets

    style = description_style([s.label for s in explorable.sliders])
    made = {s.name: _control(s, style) for s in explorable.sliders}
    rows = [row for row, _, _ in made.values()]
    controls = {name: holder for name, (_, _, holder) in made.items()}
    picture, readouts = widgets.HTML(), widgets.HTML()
    caption = widgets.HTML(f"<p>{html.escape(explorable.caption)}</p>")
    reset = widgets.Button(description="Reset", tooltip="Back to the start position")

    def update(_: Any = None) -> None:
        try:
            values = {name: control.value for name, control in controls.items()}
            result = explorable.at(**values)
            texts = {r.key: r.text(result[r.key]) for r in explorable.readouts}
            alt = (
                explorable.description
                + " "
                + "; ".join(f"{r.label or r.key}: {texts[r.key]}" for r in explorable.readouts)
            )
            with figure_style():
                figure = new_figure(6.4, 3.6)
                draw(figure, explorable, result)
                svg = svg_markup(figure, f"live-{explorable.name}", alt)
        except (
            Exception
        ) as error:  # whatever compute does, the reader gets a sentence, and the last picture stays
            readouts.value = (
                f"<p role='alert'>This setting could not be computed. {html.escape(sentence(error))}</p>"
            )
            return
        picture.value = f'<div style="max-width: 620px; background: #fff; color: #1f2328">{svg}</div>'
        items = (
            f"<span>{html.escape(r.label or r.key)} "
            f"<b data-readout='{html.escape(r.key)}'>{html.escape(texts[r.key])}</b></span>"
            for r in explorable.readouts
        )
        readouts.value = f'<div style="display: flex; flex-wrap: wrap; gap: .3em 2em">{"".join(items)}</div>'

    def back(_: Any) -> None:
        for s in explorable.sliders:
            controls[s.name].value = s.start

    for control in controls.values():
        control.observe(update, names="value")
    reset.on_click(back)
    update()
    panel = widgets.VBox([picture, readouts, *rows, reset, caption])
    panel.sliders = {name: dragged for name, (_, dragged, _) in made.items()}
    panel.controls, panel.picture, panel.readouts, panel.reset = controls, picture, readouts, reset
    return panel
