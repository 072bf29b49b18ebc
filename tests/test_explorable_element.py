"""The custom element in a real browser: it draws what Python computed and answers mouse and keys."""

from pathlib import Path

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
    VLine,
)
from lossutils.labs import Lab, Number

ASSETS = Path(__file__).resolve().parent.parent / "book" / "assets"
WORDS = ["the", "a", "cat", "dog", "sat", "mat"]
P = np.array([0.35, 0.2, 0.15, 0.1, 0.12, 0.08])
GRID = np.concatenate([np.geomspace(0.001, 0.1, 30)[:-1], np.linspace(0.1, 1, 40)])
AXIS = np.linspace(0.02, 0.98, 33)


def tempered(t, w):
    z = np.log(P) / t
    z[WORDS.index(w)] += 1
    q = np.exp(z) / np.exp(z).sum()
    h, kl = -(P * np.log(P)).sum(), (P * np.log(P / q)).sum()
    return {"p": P, "q": q, "h": h, "kl": kl, "ce": h + kl, "i": WORDS.index(w)}


def bernoulli_kl(p, q):
    return p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))


def two():
    return [
        Slider(
            "t",
            low=0.2,
            high=5,
            steps=13,
            start=2,
            scale="log",
            format=".2f",
            label="temperature",
            symbol="T",
        ),
        Slider.choices("w", options=WORDS, start="cat", label="favoured word"),
    ]


FIGURES = [
    Explorable(
        "lines",
        sliders=Slider(
            "p",
            low=0.001,
            high=0.999,
            steps=100,
            start=0.9,
            format=".3f",
            label="probability of the token that came",
            unit="",
            symbol="p",
        ),
        compute=lambda p: {
            "x": GRID,
            "n": -np.log(GRID),
            "b": -np.log2(GRID),
            "nats": -np.log(p),
            "bits": -np.log2(p),
        },
        view=Lines(
            [Line("n", "−ln p, in nats"), Line("b", "−log₂ p, in bits")],
            x_label="probability of the token that came",
            y_label="surprise",
            markers=[Marker("p", "nats", "you are here")],
            rules=[HLine(float(np.log(2)), "ln 2: one bit"), VLine(0.5, "even odds")],
        ),
        readouts=[Readout("nats", "surprise", "nats", color=1), Readout("bits", "the same", "bits", color=2)],
        caption="The surprise of a token.",
        description="Two falling curves.",
    ),
    Explorable(
        "bars",
        sliders=two(),
        compute=tempered,
        view=Bars(
            WORDS,
            [Bar("p", "the language p"), Bar("q", "the model q")],
            highlight="i",
            value_label="probability",
            digits=2,
        ),
        readouts=[Readout("ce", "cross-entropy", "nats/token")],
        caption="Two distributions.",
        description="Bars side by side.",
    ),
    Explorable(
        "stack",
        sliders=two(),
        compute=tempered,
        view=StackedBars(
            [""],
            [Bar("h", "entropy H(p)"), Bar("kl", "KL(p‖q)", fill="hatched")],
            total="ce",
            total_label="cross-entropy",
            value_label="loss",
            unit="nats/token",
        ),
        readouts=[
            Readout("h", "entropy", "nats/token"),
            Readout("kl", "KL", "nats/token"),
            Readout("ce", "cross-entropy", "nats/token"),
        ],
        caption="Entropy and KL add up.",
        description="One stacked bar.",
    ),
    Explorable(
        "heat",
        sliders=[
            Slider("p", low=0.02, high=0.98, steps=33, start=0.7, format=".2f", label="truth", symbol="p"),
            Slider("q", low=0.02, high=0.98, steps=33, start=0.3, format=".2f", label="model", symbol="q"),
        ],
        compute=lambda p, q: {
            "x": AXIS,
            "y": AXIS,
            "z": bernoulli_kl(AXIS[None, :], AXIS[:, None]),
            "kl": bernoulli_kl(p, q),
        },
        view=HeatMap(
            "z", x_label="truth p", y_label="model q", z_label="KL(p‖q)", z_unit="nats", cursor=("p", "q")
        ),
        readouts=[Readout("kl", "KL", "nats")],
        caption="KL of two coins.",
        description="Zero on the diagonal.",
    ),
]
LAB = Lab(
    "squares",
    "Square some numbers",
    controls=[Number("n", 2, 9, 5)],
    run=lambda *, n, progress: np.arange(n) ** 2,
    draw=lambda figure, runs: figure.subplots().plot(runs[-1].result),
    caption="Squares.",
    description="A parabola.",
)
BY_NAME = {f.name: f for f in FIGURES}


def page_html(figures, theme="light", script=True):
    body = "".join(
        f'<div class="cell_output"><div class="output text_html">{f.to_html()}</div></div>' for f in figures
    )
    files = [
        f'<link rel="stylesheet" href="{(ASSETS / name).as_uri()}">'
        for name in ("compass.css", "explorable.css")
    ]
    if script:
        files.append(f'<script defer src="{(ASSETS / "explorable.js").as_uri()}"></script>')
    return (
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8">'
        "<title>Explorables</title>"
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{"".join(files)}'
        "<style>body { margin: 0; font-family: sans-serif; color: var(--compass-ink);"
        " background: var(--compass-page) }"
        " main { padding: 16px }</style></head>"
        f"<body><main><h1>Explorables</h1>{body}</main></body></html>"
    )


@pytest.fixture
def open_page(chromium, tmp_path):
    """Open figures from disk, all else blocked; afterwards no request and no console error may be left."""
    contexts, requests, errors = [], [], []

    def block(route):
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            requests.append(route.request.url)
            route.abort()

    def opened(figures, *, theme="light", width=1000, script=True, **options):
        context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.route("**/*", block)
        page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(page_html(figures, theme, script), encoding="utf-8")
        page.goto(path.as_uri())
        if script and options.get("java_script_enabled", True):
            names = [f.name for f in figures if isinstance(f, Explorable)]
            for name in names:
                page.wait_for_selector(
                    f'compass-explorable[data-name="{name}"][data-ready]', state="attached"
                )
        return page

    yield opened
    for context in contexts:
        context.close()
    assert requests == [] and errors == []


def settle(page):
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def readouts(page, name):
    return page.eval_on_selector_all(
        f'[data-name="{name}"] [data-readout]',
        "all => Object.fromEntries(all.map(e => [e.dataset.readout, e.textContent]))",
    )


def position(page, figure):
    """The values at which the page's sliders stand."""
    at = page.eval_on_selector_all(f'[data-name="{figure.name}"] input', "all => all.map(e => +e.value)")
    return {s.name: s.values[i] for s, i in zip(figure.sliders, at, strict=True)}


def move(page, name, slider, stop):
    page.eval_on_selector(
        f'[data-name="{name}"] input[data-slider="{slider}"]',
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }",
        str(stop),
    )
    settle(page)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_readouts_equal_what_python_says_wherever_the_sliders_stand(open_page, figure):
    page = open_page([figure])
    assert readouts(page, figure.name) == figure.readout_text()
    rng = np.random.default_rng(0)
    for _ in range(6):
        values = {}
        for slider in figure.sliders:
            stop = int(rng.integers(len(slider.values)))
            values[slider.name] = slider.values[stop]
            move(page, figure.name, slider.name, stop)
        assert readouts(page, figure.name) == figure.readout_text(**values)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_a_mouse_drag_moves_the_figure_and_its_readouts(open_page, figure):
    page = open_page([figure])
    slider = page.locator(f'[data-name="{figure.name}"] input').first
    box = slider.bounding_box()
    drawn = page.locator("svg").inner_html()
    y = box["y"] + box["height"] / 2
    start = figure.sliders[0].values.index(figure.sliders[0].start) / (len(figure.sliders[0].values) - 1)
    page.mouse.move(box["x"] + 13 + start * (box["width"] - 26), y)
    page.mouse.down()
    seen = set()
    for share in (0.6, 0.4, 0.25):
        page.mouse.move(box["x"] + share * box["width"], y)
        settle(page)
        seen.add(position(page, figure)[figure.sliders[0].name])
        assert readouts(page, figure.name) == figure.readout_text(**position(page, figure))
    page.mouse.up()
    assert len(seen) == 3 and page.locator("svg").inner_html() != drawn


def test_arrow_page_home_and_end_keys_move_it_and_do_not_reach_the_notebook_around_it(open_page):
    figure = BY_NAME["lines"]
    page = open_page([figure])
    page.evaluate("window.leaked = 0; document.addEventListener('keydown', () => window.leaked++)")
    page.locator("input").focus()
    stops, at = figure.sliders[0].values, figure.sliders[0].values.index(0.9)
    for key, expected in (
        ("ArrowRight", at + 1),
        ("ArrowLeft", at),
        ("ArrowLeft", at - 1),
        ("Home", 0),
        ("End", 99),
    ):
        page.keyboard.press(key)
        settle(page)
        assert position(page, figure)["p"] == stops[expected]
        assert readouts(page, "lines") == figure.readout_text(p=stops[expected])
    page.keyboard.press("PageDown")
    settle(page)
    assert stops[50] < position(page, figure)["p"] < stops[95]
    assert page.evaluate("window.leaked") == 0


def test_reset_returns_every_slider_to_its_start(open_page):
    figure = BY_NAME["bars"]
    page = open_page([figure])
    move(page, "bars", "t", 0)
    move(page, "bars", "w", 5)
    assert readouts(page, "bars") != figure.readout_text()
    page.get_by_role("button", name="Reset").click()
    settle(page)
    assert readouts(page, "bars") == figure.readout_text() and position(page, figure) == {
        "t": 2.0,
        "w": "cat",
    }


def test_what_a_screen_reader_hears_names_the_value_with_its_unit(open_page):
    figure = BY_NAME["lines"]
    page = open_page([figure])
    slider = page.get_by_role("slider", name="probability of the token that came")
    assert slider.get_attribute("aria-valuetext") == "0.900"
    slider.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    assert page.get_by_role("status").last.text_content() == ""  # not at each step
    page.wait_for_timeout(900)
    now = figure.readout_text(**position(page, figure))
    assert (
        page.locator('[aria-live="polite"]').text_content()
        == f"surprise: {now['nats']}; the same: {now['bits']}"
    )
    alt = page.locator('svg[role="img"]').get_attribute("aria-label")
    assert alt.startswith("Two falling curves.") and now["nats"] in alt


def test_show_the_numbers_gives_a_table_that_follows_the_sliders(open_page):
    figure = BY_NAME["bars"]
    page = open_page([figure])
    page.get_by_text("Show the numbers").click()
    move(page, "bars", "t", 3)
    values = position(page, figure)
    cells = page.eval_on_selector_all(
        ".ce-tables table:last-child tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    truth = figure.at(**values)
    assert [row[0] for row in cells] == WORDS
    np.testing.assert_allclose([float(row[1]) for row in cells], truth["p"], rtol=1e-3)
    np.testing.assert_allclose([float(row[2]) for row in cells], truth["q"], rtol=1e-3)
    assert figure.readout_text(**values)["ce"] in page.locator(".ce-tables table").first.text_content()


def test_the_marker_stands_where_the_numbers_say(open_page):
    """Pixels read back: the marker lies on the curve and above its own value on the axis."""
    page = open_page([BY_NAME["lines"]])
    move(page, "lines", "p", 10)
    where = page.evaluate(
        """() => {
          const svg = document.querySelector('svg'), dot = svg.querySelector('circle.ce-dot');
          const ticks = [...svg.querySelectorAll('text.ce-muted')].map(t => [+t.textContent,
          +t.getAttribute('x'), +t.getAttribute('y'), t.getAttribute('text-anchor')]); return { x:
          +dot.getAttribute('cx'), y: +dot.getAttribute('cy'), ticks };
        }"""
    )
    xs = [(x, v) for v, x, _, anchor in where["ticks"] if anchor == "middle"]
    ys = [(y - 4, v) for v, _, y, anchor in where["ticks"] if anchor == "end"]
    value = BY_NAME["lines"].sliders[0].values[10]
    (x_slope, x_zero), (y_slope, y_zero) = (
        np.polyfit(*zip(*xs, strict=True), 1),
        np.polyfit(*zip(*ys, strict=True), 1),
    )
    assert abs(x_slope * where["x"] + x_zero - value) < 0.005
    assert abs(y_slope * where["y"] + y_zero + np.log(value)) < 0.03


def test_stacked_parts_are_as_long_as_their_shares(open_page):
    figure = BY_NAME["stack"]
    page = open_page([figure])
    move(page, "stack", "t", 0)
    (first, second) = page.eval_on_selector_all(
        "svg g:last-of-type > rect.ce-bar",
        "all => all.map(e => ({ x: +e.getAttribute('x'), width: +e.getAttribute('width') }))",
    )
    truth = figure.at(**position(page, figure))
    assert abs(second["width"] / first["width"] - truth["kl"] / truth["h"]) < 0.01
    assert abs(first["x"] + first["width"] - second["x"]) < 0.3


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 375, 1000])
def test_nothing_overflows_and_text_stays_readable(open_page, theme, width):
    page = open_page([*FIGURES, LAB], theme=theme, width=width)
    for details in page.locator("summary").all():
        details.click()
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    measure = (
        "all => all.map(t => parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a)"
    )
    sizes = page.eval_on_selector_all(".ce-chart text", measure)
    assert len(sizes) > 40 and min(sizes) >= 12
    sizes = page.eval_on_selector_all(
        ".compass-lab text", measure
    )  # one picture for all widths, so it shrinks
    assert len(sizes) > 5 and min(sizes) >= (12 if width >= 375 else 9.5)
    outside = page.evaluate(
        """() => [...document.querySelectorAll('.ce-chart svg')].flatMap(svg => {
          const box = svg.getBoundingClientRect();
          return [...svg.querySelectorAll('text')].filter(t => {
            const b = t.getBoundingClientRect();
            return b.left < box.left - 1 || b.right > box.right + 1 || b.top < box.top - 1 || b.bottom >
            box.bottom + 1;
          }).map(t => t.textContent);
        })"""
    )
    assert outside == []


LABELS = """() => {
  const svg = document.querySelector('svg'), high = +svg.getAttribute('height');
  const boxes = [...svg.querySelectorAll('text.ce-label')].map(t => [t.textContent, t.getBBox()]);
  const hit = (a, b) => Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x) > 1 &&
    Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) > 2;
  return {
    count: boxes.length,
    overlaps: boxes.flatMap(([s, a], i) =>
      boxes.slice(i + 1).filter(([, b]) => hit(a, b)).map(([t]) => s + ' / ' + t)),
    outside: boxes.filter(([, b]) => b.y < -1 || b.y + b.height > high + 1).map(([s]) => s),
  };
}"""


@pytest.mark.parametrize("width", [375, 1000])
def test_labels_of_lines_never_overlap_wherever_the_slider_stands(open_page, width):
    page = open_page([BY_NAME["lines"]], width=width)
    for stop in range(0, 100, 9):
        move(page, "lines", "p", stop)
        found = page.evaluate(LABELS)
        assert found["count"] >= 4 and found["overlaps"] == [] and found["outside"] == [], f"stop {stop}"


@pytest.mark.parametrize("height", [0.0, 0.5, 1.0])
def test_labels_of_lines_that_end_together_are_pushed_apart_and_stay_in_the_figure(open_page, height):
    x = np.linspace(0, 1, 5)
    figure = Explorable(
        "together",
        sliders=Slider("k", low=0, high=1, steps=3),
        compute=lambda k: {"x": x} | {name: height * x + 0.001 * i * k for i, name in enumerate("abcde")},
        view=Lines([Line(name, f"curve {name}") for name in "abcde"], y_range=(0, 1)),
        caption="Together.",
        description="Five lines.",
    )
    found = open_page([figure]).evaluate(LABELS)
    assert found == {"count": 5, "overlaps": [], "outside": []}


def test_the_figure_is_redrawn_at_the_width_it_gets(open_page):
    page = open_page([BY_NAME["lines"]])
    wide = page.locator("svg").bounding_box()["width"]
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_function("document.querySelector('svg').getBoundingClientRect().width < 400")
    chart = page.locator(".ce-chart").bounding_box()["width"]
    assert wide > 600 and abs(page.locator("svg").bounding_box()["width"] - chart) < 1


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1000])
def test_axe_finds_nothing_serious(open_page, theme, width):
    from axe_playwright_python.sync_playwright import Axe

    page = open_page([*FIGURES, LAB], theme=theme, width=width)
    for details in page.locator("summary").all():
        details.click()
    settle(page)
    found = (
        Axe().run(page, options={"preload": False}).response["violations"]
    )  # it would fetch the CSS again, by XHR
    assert [
        (v["id"], [n["html"][:120] for n in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ] == []


def test_touch_targets_are_large_enough_and_focus_is_visible(open_page):
    page = open_page([BY_NAME["bars"]], width=375)
    for selector in ("input", ".ce-reset", "summary"):
        assert page.locator(selector).first.bounding_box()["height"] >= 24
    page.keyboard.press("Tab")
    outline = page.evaluate(
        "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert outline == ["INPUT", "solid"]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.name)
def test_an_update_fits_into_a_frame(open_page, figure):
    page = open_page([figure])
    times = page.evaluate(
        """async () => {
          const e = document.querySelector('compass-explorable'), input = e.querySelector('input'), times =
          []; for (let i = 0; i < 40; i++) {
            input.value = i % +input.max;
            input.dispatchEvent(new Event('input'));
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
            times.push(e.drawTime);
          }
          return times;
        }"""
    )
    assert 0 < np.median(times) < 16


def test_many_events_in_one_frame_draw_once(open_page):
    page = open_page([BY_NAME["lines"]])
    count = page.evaluate(
        """async () => {
          const e = document.querySelector('compass-explorable'), input = e.querySelector('input'), draw =
          e.draw; let count = 0;
          e.draw = function () { count++; draw.call(this); };
          for (let i = 0; i < 30; i++) { input.value = i; input.dispatchEvent(new Event('input')); }
          await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
          return count;
        }"""
    )
    assert count == 1 and readouts(page, "lines") == BY_NAME["lines"].readout_text(
        p=BY_NAME["lines"].sliders[0].values[29]
    )


def test_without_javascript_the_start_numbers_are_there(open_page):
    page = open_page([BY_NAME["lines"]], java_script_enabled=False)
    text = page.locator("compass-explorable").inner_text()
    assert "0.105 nats" in text and "needs JavaScript" in text and "0.152 bits" in text


def test_the_same_figure_twice_on_a_page_has_no_clashing_ids(open_page):
    figure = BY_NAME["stack"]
    page = open_page([figure, figure])
    ids = page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")
    assert len(ids) == len(set(ids)) and len(ids) > 4


def test_loading_the_script_twice_and_moving_the_element_do_no_harm(open_page):
    figure = BY_NAME["lines"]
    page = open_page([figure])
    page.add_script_tag(path=str(ASSETS / "explorable.js"))
    page.evaluate("document.querySelector('main').prepend(document.querySelector('compass-explorable'))")
    move(page, "lines", "p", 4)
    assert readouts(page, "lines") == figure.readout_text(p=figure.sliders[0].values[4])
    assert page.locator("compass-explorable input").count() == 1


def test_infinite_and_missing_values_are_drawn_as_a_run_off_and_a_gap(open_page):
    y = np.where(GRID < 0.3, np.nan, np.where(GRID > 0.9, np.inf, GRID))
    figure = Explorable(
        "odd",
        sliders=Slider("p", low=0, high=1, steps=3),
        compute=lambda p: {"x": GRID, "y": y, "loss": np.inf if p == 1 else p},
        view=Lines(["y"], markers=[Marker("p", "loss")]),
        readouts=["loss"],
        caption="Odd.",
        description="Odd.",
    )
    page = open_page([figure])
    move(page, "odd", "p", 2)
    assert readouts(page, "odd") == {"loss": "∞"}
    assert (
        "NaN" not in page.locator("svg").inner_html() and "Infinity" not in page.locator("svg").inner_html()
    )
