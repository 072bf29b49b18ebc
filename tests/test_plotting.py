"""The book's figure style is self-contained, and its figures can follow the page's theme."""

import io
import re
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from lossutils import plotting
from lossutils.labs import Run
from lossutils.training import History

ROOT = Path(__file__).parent.parent


def svg_of(figure):
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def sample_svg():
    with plotting.style():
        figure = Figure()
        ax = figure.subplots()
        for n in range(6):
            ax.plot([0, 1], [n, n + 1])
        plotting.floor_line(ax, 2.0)
        plotting.direct_label(ax, 1, 3, "a line", colour=plotting.COLOURS[0])
        ax.set(xlabel="x", ylabel="loss (nats)")
        return svg_of(figure)


def test_the_style_ends_with_its_block():
    before = dict(mpl.rcParams)
    with plotting.style():
        assert mpl.rcParams["svg.fonttype"] == "none"
    assert dict(mpl.rcParams) == before


def test_the_same_figure_is_the_same_bytes():
    assert sample_svg() == sample_svg()


def test_every_colour_of_a_figure_is_one_that_the_page_can_turn():
    from tools.compass_page import FIGURE_COLOURS, theme_colours

    used = {colour.lower() for colour in re.findall(r"#[0-9a-fA-F]{6}\b", sample_svg())}
    assert used <= set(FIGURE_COLOURS)
    assert set(plotting.COLOURS) <= used
    assert re.search(r"(?<!, )#[0-9a-f]{6}\b", theme_colours(sample_svg())) is None


def test_the_page_knows_the_same_colours():
    from tools.compass_page import FIGURE_COLOURS

    css = (ROOT / "book/assets/compass.css").read_text(encoding="utf8")
    light = css[: css.index('html[data-theme="dark"]')]
    for colour, variable in FIGURE_COLOURS.items():
        assert f"{variable}: {colour};" in light


def contrast(one, other):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_series_colour_is_readable_as_text_in_both_themes():
    css = (ROOT / "book/assets/compass.css").read_text(encoding="utf8")
    for theme in (css[: css.index("html[")], css[css.index("html[") :]):
        value = dict(re.findall(r"--compass-([a-z0-9]+): (#[0-9a-f]{6});", theme))
        for name in ("ink", "muted", "c1", "c2", "c3", "c4", "c5", "c6", "good", "bad"):
            assert contrast(value[name], value["page"]) >= 4.5, name


def test_training_runs_are_drawn_with_their_floor_and_names():
    history = History(steps=list(range(40)), losses=[4.0 - 0.05 * n for n in range(40)])
    short = History(steps=[0, 1], losses=[3.0, 2.0])
    with plotting.style():
        figure = Figure()
        plotting.draw_training_runs(figure, [Run(1, {}, (history,)), Run(2, {}, (short,))], floor=1.5)
    ax = figure.axes[0]
    curves = [line.get_ydata() for line in ax.lines]
    assert list(curves[0]) == pytest.approx([4.0 - 0.05 * 9.5, 4.0 - 0.05 * 29.5])
    assert list(curves[1]) == [2.5]
    assert list(curves[2]) == [1.5, 1.5]
    assert {"run 1", "run 2", "entropy: the floor"} <= {text.get_text() for text in ax.texts}
