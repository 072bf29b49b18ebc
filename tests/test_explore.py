"""Explorables: the table, the page's bytes, the checks of a spec, and the live panel, without a browser."""

import itertools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from lossutils.explore import (
    Bar,
    Bars,
    Explorable,
    HeatMap,
    HLine,
    Line,
    Lines,
    Marker,
    Readout,
    Slider,
    StackedBars,
)

GRID = np.linspace(0.01, 1, 40)
WORDS = ["the", "a", "cat"]
P = np.array([0.5, 0.3, 0.2])


def surprisal(**changes):
    arguments = {
        "sliders": Slider(
            "p", low=0.001, high=0.999, steps=100, start=0.9, format=".3f", label="probability"
        ),
        "compute": lambda p: {"x": GRID, "curve": -np.log(GRID), "nats": -np.log(p)},
        "view": Lines([Line("curve", "surprise")], markers=[Marker("p", "nats")]),
        "readouts": [Readout("nats", label="surprise", unit="nats")],
        "caption": "Surprise.",
        "description": "A falling curve.",
    } | changes
    return Explorable("surprisal", **arguments)


def two_sliders(view=None, readouts=("ce",)):
    def compute(t, w):
        z = np.log(P) / t
        z[WORDS.index(w)] += 1
        q = np.exp(z) / np.exp(z).sum()
        h, kl = -(P * np.log(P)).sum(), (P * np.log(P / q)).sum()
        return {"p": P, "q": q, "h": h, "kl": kl, "ce": h + kl, "i": WORDS.index(w), "t_only": t * np.ones(3)}

    return Explorable(
        "two",
        sliders=[
            Slider("t", low=0.25, high=4, steps=5, scale="log", format=".2f"),
            Slider.choices("w", options=WORDS, start="cat"),
        ],
        compute=compute,
        view=view or Bars(WORDS, ["p", "q", "t_only"], highlight="i"),
        readouts=readouts,
        caption="Two.",
        description="Bars.",
    )


def payload(figure):
    return json.loads(
        re.search(r'<script type="application/json">(.*)</script>', figure.to_html(), re.DOTALL)[1]
    )


def stored(entry, sizes, index):
    if not entry["by"]:
        return entry["data"]
    flat = 0
    for b in entry["by"]:
        flat = flat * sizes[b] + index[b]
    return entry["data"][flat]


@pytest.mark.parametrize("figure", [surprisal(), two_sliders()], ids=["one slider", "two sliders"])
def test_every_stop_of_the_table_equals_what_compute_returns_to_six_digits(figure):
    spec, sizes = payload(figure), [len(s.values) for s in figure.sliders]
    names = [s.name for s in figure.sliders]
    for index in itertools.product(*(range(n) for n in sizes)):
        values = {n: s.values[i] for n, s, i in zip(names, figure.sliders, index, strict=True)}
        truth = {**values, **figure.compute(**values)}
        for key, entry in spec["table"].items():
            np.testing.assert_allclose(stored(entry, sizes, index), truth[key], rtol=5.1e-6, atol=0)
        for readout in spec["readouts"]:
            shown = stored(readout, sizes, index)
            assert abs(shown - float(truth[readout["key"]])) <= 0.5001e-3
            text = f"{shown:.3f}" + (f" {readout['unit']}" if "unit" in readout else "")
            assert figure.readout_text(**values)[readout["key"]] == text


def test_what_does_not_depend_on_a_slider_is_stored_once():
    one = payload(surprisal())["table"]
    assert one["curve"]["by"] == [] and one["x"]["by"] == [] and one["nats"]["by"] == [0]
    two = payload(two_sliders())["table"]
    assert {k: v["by"] for k, v in two.items()} == {"p": [], "q": [0, 1], "t_only": [0], "i": [1]}
    assert len(two["t_only"]["data"]) == 5 and len(two["i"]["data"]) == 3 and len(two["q"]["data"]) == 15


def test_the_page_has_the_same_bytes_in_another_process_with_another_hash_seed():
    program = (
        "import sys; sys.path[:0] = ['tests', '.']; import test_explore as t; "
        "sys.stdout.buffer.write((t.surprisal().to_html() + t.two_sliders().to_html()).encode())"
    )
    here = (surprisal().to_html() + two_sliders().to_html()).encode()
    for seed in ("1", "77"):
        env = os.environ | {"PYTHONHASHSEED": seed}
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        out = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env=env, cwd=root
        )
        assert out.stdout == here


def test_the_last_bits_of_a_value_do_not_reach_the_page():
    ulp = 1 + 2.0**-52
    nudged = surprisal(
        compute=lambda p: {"x": GRID * ulp, "curve": -np.log(GRID) * ulp, "nats": -np.log(p) * ulp}
    )
    assert nudged.to_html() == surprisal().to_html()


def test_a_tie_of_rounding_is_decided_the_same_way_on_both_sides_of_the_last_bit():
    tie = Readout("x", digits=2)
    assert len({tie.text(v) for v in (0.125, np.nextafter(0.125, 0), np.nextafter(0.125, 1))}) == 1


def test_a_text_that_closes_the_script_or_opens_a_tag_is_escaped():
    nasty = '</script><img src=x onerror=alert(1)> & "quotes" <!--'
    figure = surprisal(caption=nasty, description=nasty, readouts=[Readout("nats", label=nasty, unit=nasty)])
    page = figure.to_html()
    assert page.count("</script>") == 1 and page.endswith("</script></compass-explorable>")
    assert "<img" not in page and "<!--" not in page
    spec = payload(figure)
    assert spec["caption"] == nasty and spec["readouts"][0]["label"] == nasty


def test_infinite_and_undefined_values_survive_the_json():
    def compute(p):
        return {
            "x": GRID,
            "curve": np.where(GRID < 0.3, np.nan, np.where(GRID > 0.9, np.inf, GRID)),
            "nats": math.inf,
            "bad": math.nan,
        }

    figure = surprisal(compute=compute, readouts=["nats", "bad"], view=Lines(["curve"]))
    curve = payload(figure)["table"]["curve"]["data"]
    assert curve[0] is None and curve[-1] == math.inf
    assert figure.readout_text() == {"nats": "∞", "bad": "not defined"}
    assert payload(figure)["view"]["y_axis"]["range"][1] < 1


def test_the_value_shown_at_a_slider_is_the_value_that_was_computed():
    slider = Slider("p", low=0.001, high=0.999, steps=100, start=0.9, format=".3f")
    assert all(float(t) == v for t, v in zip(slider.texts, slider.values, strict=True))
    assert 0.9 in slider.values and slider.values[0] == 0.001 and slider.values[-1] == 0.999
    assert len(set(slider.values)) == 100


def test_a_start_near_an_end_leaves_the_end_where_it_is():
    assert Slider("p", low=0, high=1, steps=3, start=0.9).values == (0.0, 0.9, 1.0)


def test_at_takes_values_between_stops_and_leaves_the_others_at_their_start():
    figure = surprisal()
    assert figure.at(p=0.12345)["nats"] == -np.log(0.12345)
    assert figure.at()["p"] == 0.9
    assert two_sliders().at(t=2)["w"] == "cat"
    assert figure.readout_text(p=0.5) == {"nats": "0.693 nats"}


@pytest.mark.parametrize(
    ("readout", "value", "text"),
    [
        (Readout("x"), -0.0001, "0.000"),
        (Readout("x"), -1.5, "−1.500"),
        (Readout("x", digits=0, unit="bits"), 2.0, "2 bits"),
        (Readout("x", format=".1%"), 0.123, "12.3%"),
        (Readout("x", format=",.0f", unit="B"), 1234567.0, "1,234,567 B"),
        (Readout("x"), "over-confident", "over-confident"),
        (Readout("x"), -math.inf, "−∞"),
    ],
)
def test_a_readout_is_written_as_a_reader_expects(readout, value, text):
    assert readout.text(value) == text


def test_a_formatted_or_textual_readout_is_stored_as_its_text():
    figure = surprisal(
        compute=lambda p: {"x": GRID, "curve": GRID, "nats": 1, "v": "low" if p < 0.5 else "high", "s": p},
        readouts=["v", Readout("s", format=".1%")],
    )
    verdicts, shares = (r["data"] for r in payload(figure)["readouts"])
    assert set(verdicts) == {"low", "high"} and shares[-1] == "99.9%"


@pytest.mark.parametrize(
    ("make", "error", "names"),
    [
        (lambda: surprisal(view=Lines(["missing"])), ValueError, "'missing'"),
        (lambda: surprisal(readouts=["gone"]), ValueError, "'gone'"),
        (lambda: surprisal(compute=lambda p: {"x": GRID, "curve": GRID[:-1], "nats": 1}), ValueError, "39"),
        (lambda: surprisal(compute=lambda p: [1]), TypeError, "list"),
        (lambda: surprisal(compute=3), TypeError, "compute"),
        (lambda: surprisal(sliders=[]), ValueError, "sliders"),
        (lambda: surprisal(view="lines"), TypeError, "view"),
        (lambda: surprisal(caption=" "), ValueError, "caption"),
        (lambda: surprisal(description=""), ValueError, "description"),
        (lambda: surprisal(readouts=[Readout("curve")]), ValueError, r"\(40,\)"),
        (lambda: surprisal(digits=0), ValueError, "digits"),
        (lambda: Slider("p", low=1, high=0), ValueError, "low=1"),
        (lambda: Slider("p", low=0, high=1, scale="log"), ValueError, "low"),
        (lambda: Slider("p", low=0, high=1, scale="cubic"), ValueError, "cubic"),
        (lambda: Slider("p", low=0, high=1, start=2), ValueError, "start"),
        (lambda: Slider("p", low=0, high=1, steps=1), ValueError, "steps"),
        (lambda: Slider("p", low=0, high=1, steps=2.5), TypeError, "steps"),
        (lambda: Slider("p", low=0, high=1, steps=50, format=".1f"), ValueError, ".1f"),
        (lambda: Slider("not a name", low=0, high=1), ValueError, "not a name"),
        (lambda: Slider.choices("w", options=["a", "a"]), ValueError, "options"),
        (lambda: Slider.choices("w", options=["a", "b"], start="c"), ValueError, "start"),
        (lambda: Line("y", color="puce"), ValueError, "puce"),
        (lambda: Line("y", dash="wavy"), ValueError, "wavy"),
        (lambda: Lines(["y"], y_range=(2, 1)), ValueError, "y_range"),
        (lambda: Lines(["y"], y_scale="log", y_range=(0, 1)), ValueError, "y_range"),
        (lambda: Lines([3]), TypeError, "series"),
        (lambda: Marker("x", None), TypeError, "Marker y"),
        (lambda: HLine(math.nan), TypeError, "HLine value"),
        (lambda: HeatMap("z", cursor=(1,)), TypeError, "cursor"),
        (lambda: Readout("x", digits=-1), ValueError, "digits"),
        (lambda: two_sliders(Bars(["one"], ["p"])), ValueError, "categories"),
        (lambda: two_sliders(Bars(WORDS, ["p"], highlight=7)), ValueError, "highlight"),
        (lambda: two_sliders(StackedBars([""], ["h", "kl"], total="h")), ValueError, "total"),
        (lambda: two_sliders(HeatMap("p", x=WORDS, y=["r"])), ValueError, "shape"),
    ],
)
def test_a_bad_spec_is_refused_with_the_argument_or_value_named(make, error, names):
    with pytest.raises(error, match=names):
        make()


@pytest.mark.parametrize(
    ("value", "error"), [(2, ValueError), ("x", TypeError), (math.nan, ValueError), (True, TypeError)]
)
def test_at_refuses_a_value_that_its_slider_cannot_take(value, error):
    with pytest.raises(error, match="p must be a number"):
        surprisal().at(p=value)


def test_at_refuses_a_name_that_is_no_slider():
    with pytest.raises(TypeError, match="'q' is not a slider"):
        surprisal().at(q=1)


def test_a_negative_part_cannot_be_stacked():
    with pytest.raises(ValueError, match="'neg'"):
        surprisal(compute=lambda p: {"neg": -1.0, "nats": 1}, view=StackedBars(["a"], ["neg"]))


def test_a_figure_too_heavy_for_a_phone_is_refused_with_its_sizes():
    with pytest.raises(ValueError, match=r"'curve' \d+ KB.*fewer stops"):
        surprisal(compute=lambda p: {"x": np.arange(500.0), "curve": np.arange(500.0) ** p, "nats": p})


def test_figures_stay_within_the_weight_that_a_page_can_carry():
    assert len(surprisal().to_html()) < 25_000
    grid = np.linspace(0.02, 0.98, 50)
    z = np.log(grid)[:, None] * grid[:25]
    heavy = Explorable(
        "heavy",
        sliders=[
            Slider("a", low=0, high=1, steps=50, format=".4f"),
            Slider("b", low=0, high=1, steps=25, format=".4f"),
        ],
        compute=lambda a, b: {"z": z, "x": grid[:25], "y": grid, "v": math.sin(a * b), "u": a + b},
        view=HeatMap("z", cursor=("b", "a")),
        readouts=["v", "u"],
        caption="Heavy.",
        description="A matrix.",
    )
    assert len(heavy.to_html()) < 80_000


def test_axes_hold_every_stop_so_that_they_never_move():
    figure = surprisal()
    low, high = payload(figure)["view"]["y_axis"]["range"]
    nats = [-math.log(p) for p in figure.stops["p"]]
    assert low <= min(nats) and max(nats) <= high


def test_one_series_object_may_serve_two_views_and_colours_follow_each_order():
    line = Line("curve")
    assert [s.color for s in Lines([Line("a"), line]).series] == ["c1", "c2"]
    assert Lines([line]).series[0].color == "c1" and line.color is None
    assert [s.fill for s in Bars(WORDS, ["p", Bar("q", color=5)]).series] == ["solid", "light"]


def test_without_javascript_the_page_still_shows_the_start_readout_and_says_why():
    before = surprisal().to_html().split("<script")[0]
    assert "0.105 nats" in before and "JavaScript" in before and "A falling curve." in before


def test_torch_tensors_are_taken_as_they_are():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(GRID)
    tensors = surprisal(
        compute=lambda p: {"x": x, "curve": -x.log(), "nats": -torch.tensor(p, dtype=torch.float64).log()}
    )
    assert tensors.to_html() == surprisal().to_html()


# The live panel ---------------------------------------------------------------------------------------------
def test_the_repr_is_one_stable_line_and_outside_a_kernel_there_is_no_widget_view():
    bundle = surprisal()._repr_mimebundle_()
    assert bundle["text/plain"] == "Explorable('surprisal', sliders=['p'], view='Lines')"
    assert set(bundle) == {"text/plain", "text/html"}


def test_the_live_panel_computes_the_exact_value_between_two_stops():
    figure = surprisal()
    panel = figure.widget()
    first = panel.picture.value
    panel.controls["p"].value = 0.25
    assert f"{-math.log(0.25):.3f} nats" in panel.readouts.value
    assert panel.picture.value != first and "<svg" in panel.picture.value
    panel.reset.click()
    assert panel.controls["p"].value == 0.9 and panel.picture.value == first


@pytest.mark.parametrize(
    "view",
    [
        Bars(WORDS, ["p", "q"], highlight="i", rules=[HLine(0.3, "third")]),
        Bars(WORDS, ["p"], orientation="horizontal"),
        StackedBars([""], ["h", "kl"], total="ce", total_label="cross-entropy"),
    ],
    ids=["bars", "horizontal bars", "stacked bars"],
)
def test_the_live_panel_draws_bars_and_follows_both_sliders(view):
    panel = two_sliders(view).widget()
    before = panel.picture.value, panel.readouts.value
    panel.controls["t"].value = 2.0
    panel.controls["w"].value = "a"
    assert (
        "alert" not in panel.readouts.value
        and panel.readouts.value != before[1]
        and panel.picture.value != before[0]
    )


def test_an_error_inside_compute_is_a_sentence_and_the_picture_stays():
    def compute(p):
        if p < 0.0011 and p != 0.001:
            raise ZeroDivisionError("the model gave <nothing>")
        return {"x": GRID, "curve": GRID, "nats": p}

    panel = surprisal(compute=compute).widget()
    picture = panel.picture.value
    panel.controls["p"].value = 0.00105
    assert "ZeroDivisionError: the model gave &lt;nothing&gt;." in panel.readouts.value
    assert "Traceback" not in panel.readouts.value and panel.picture.value == picture
