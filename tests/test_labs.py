"""Labs: the static picture, the live panel by its own buttons, and both in a real kernel."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from lossutils.labs import HOW, Choice, Lab, Number, Text

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def descend(*, steps, rate, kind="plain", progress):
    x, losses = 4.0, []
    for step in range(steps):
        progress(step / steps, f"step {step}")
        x -= rate * x
        losses.append(x * x + 0.0123)
    return np.array(losses)


def draw_losses(figure, runs):
    ax = figure.subplots()
    for run in runs:
        ax.plot(run.result, label=f"run {run.number}")
    ax.set(xlabel="step", ylabel="loss (nats/token)")


def lab(**changes):
    arguments = {
        "controls": [
            Number("steps", 5, 100, 20, label="steps"),
            Number("rate", 0.001, 1.0, 0.1, scale="log"),
        ],
        "run": descend,
        "draw": draw_losses,
        "caption": "A loss falls.",
        "description": "A curve that falls to a floor.",
        "summary": lambda losses: {"final loss": float(losses[-1])},
    } | changes
    return Lab("descent", "Descend <a hill>", **arguments)


def until(condition, panel, seconds=10.0):
    """Empty the panel's queue until `condition` holds, as a kernel's event loop would."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        panel.wait(timeout=0.01)
        if condition():
            return True
    return False


# The static page --------------------------------------------------------------------------------------------
def test_the_page_shows_a_picture_a_caption_and_how_to_run_it_and_no_control():
    page = lab().to_html()
    assert (
        page.startswith('<figure class="compass-lab"')
        and 'role="img" aria-label="A curve that falls to a floor."' in page
    )
    assert "<figcaption>A loss falls.</figcaption>" in page and HOW in page
    assert not re.search(r"<(input|button|select|script)", page)
    assert "Descend &lt;a hill&gt;" in page and "<a hill>" not in page


def test_the_page_has_the_same_bytes_in_another_process_with_another_hash_seed():
    program = (
        "import sys; sys.path[:0] = ['tests', '.']; import test_labs as t; "
        "sys.stdout.buffer.write(t.lab().to_html().encode())"
    )
    out = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "5"},
        cwd=ROOT,
    )
    assert out.stdout == lab().to_html().encode()


def test_the_last_bits_of_a_result_do_not_reach_the_picture():
    exact = descend(steps=20, rate=0.1, progress=lambda *_: None)
    assert lab(picture=lambda: exact).to_html() == lab(picture=lambda: exact * (1 + 2.0**-52)).to_html()


def test_the_picture_is_what_draw_makes_of_the_start_values():
    exact = descend(steps=20, rate=0.1, progress=lambda *_: None)
    assert lab().to_html() == lab(picture=lambda: exact).to_html()
    assert lab().to_html() != lab(picture=lambda: exact[:10]).to_html()


def test_a_given_picture_spares_the_page_the_run():
    def never(**_):
        raise AssertionError("the page must not train")

    assert "<svg" in lab(run=never, picture=lambda: np.ones(5)).to_html()


def test_coordinates_have_at_most_two_decimals_but_text_keeps_its_digits():
    def draw(figure, runs):
        figure.subplots().text(0.12345, 0.5, "exactly 0.00123456")

    svg = lab(draw=draw).to_html()
    assert "exactly 0.00123456" in svg
    assert not re.search(r'="[^"]*\d\.\d{3,}[^"]*"', svg)


def test_ids_start_with_the_labs_name_and_every_reference_resolves():
    svg = lab().to_html()
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert ids and len(set(ids)) == len(ids) and all(i.startswith("lab-descent-") for i in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == set(ids)


def test_the_picture_follows_the_theme_and_leaks_no_style_into_the_page():
    svg = lab().to_html()
    assert "var(--compass-c1, #0b63b0)" in svg and "var(--compass-ink, #1f2328)" in svg
    assert "<style" not in svg and "DejaVu" not in svg
    bare = re.sub(r"var\(--compass-[a-z0-9]+, #[0-9a-f]{6}\)", "", svg)
    assert not re.search(r"#[0-9a-f]{6}\b", bare)


@pytest.mark.parametrize(
    ("make", "error", "names"),
    [
        (lambda: lab(run=1), TypeError, "run"),
        (lambda: lab(draw=None), TypeError, "draw"),
        (lambda: lab(summary=3), TypeError, "summary"),
        (lambda: lab(controls=["steps"]), TypeError, "controls"),
        (lambda: lab(controls=[Number("a", 0, 1, 0), Number("a", 0, 1, 0)]), ValueError, "different names"),
        (lambda: lab(caption=""), ValueError, "caption"),
        (lambda: lab(keep=0), ValueError, "keep"),
        (lambda: Number("a", 0, 1, 2), ValueError, "start=2"),
        (lambda: Number("a", 0, 1, 1, scale="log"), ValueError, "low"),
        (lambda: Number("progress", 0, 1, 1), ValueError, "progress"),
        (lambda: Choice("a", []), ValueError, "options"),
        (lambda: Choice("a", ["x"], "y"), ValueError, "'y'"),
        (lambda: Text("a", 3), TypeError, "start"),
    ],
)
def test_a_bad_lab_is_refused_with_the_argument_named(make, error, names):
    with pytest.raises(error, match=names):
        make()


# The live panel ---------------------------------------------------------------------------------------------
def test_run_shows_the_result_and_keeps_earlier_runs_for_comparison():
    panel = lab().panel()
    panel.run_button.click()
    assert panel.wait(10) and panel.status.value == "Run 1 is done." and panel.bar.value == 1.0
    first = panel.figure.value
    panel.controls["steps"].value = 40
    panel.run_button.click()
    assert panel.wait(10)
    assert [(r.number, r.values["steps"], len(r.result)) for r in panel.runs] == [(1, 20, 20), (2, 40, 40)]
    assert panel.table.value.count("<tr>") == 3 and "final loss" in panel.table.value
    assert panel.figure.value != first and "<svg" in panel.figure.value
    panel.clear_button.click()
    assert panel.runs == [] and panel.figure.value == ""


def test_only_the_newest_runs_are_kept():
    panel = lab(keep=2).panel()
    for _ in range(3):
        panel.run_button.click()
        assert panel.wait(10)
    assert [r.number for r in panel.runs] == [2, 3]


def test_controls_reach_run_with_their_types():
    seen = {}

    def run(*, progress, **values):
        seen.update(values)
        return np.ones(2)

    controls = [
        Number("n", 1, 9, 3),
        Number("x", 0.0, 1.0, 0.5),
        Choice("c", {"one": 1, "two": 2}, 2),
        Text("t", "hello", rows=3),
    ]
    panel = lab(controls=controls, run=run, summary=None).panel()
    panel.run_button.click()
    assert panel.wait(10) and seen == {"n": 3, "x": 0.5, "c": 2, "t": "hello"} and type(seen["n"]) is int


def test_stop_ends_a_run_at_its_next_step_and_a_new_run_can_begin():
    steps = []

    def endless(*, steps: int, rate, progress):
        for step in range(100_000):
            record.append(step)
            with contextlib.suppress(Exception):  # careless code in run must not swallow Stop
                progress(0.25, "still going")
            time.sleep(0.005)

    record = steps
    panel = lab(run=endless).panel()
    panel.run_button.click()
    assert until(lambda: panel.status.value == "25% still going", panel) and panel.bar.value == 0.25
    assert panel.run_button.disabled and not panel.stop_button.disabled
    panel.stop_button.click()
    assert panel.wait(10) and panel.status.value.startswith("Stopped at 25%")
    assert len(steps) < 2000 and panel.runs == [] and not panel.run_button.disabled
    panel.run_button.click()
    panel.stop_button.click()
    assert panel.wait(10) and panel.status.value.startswith("Stopped")


def test_a_second_click_on_run_does_not_start_a_second_run():
    gate, calls = threading.Event(), []

    def run(*, progress, **_):
        calls.append(1)
        gate.wait(10)
        return np.ones(2)

    panel = lab(run=run).panel()
    panel.run_button.click()
    panel.run_button.click()
    gate.set()
    assert panel.wait(10) and len(calls) == 1 and len(panel.runs) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"run": lambda **_: [][1]},
        {"draw": lambda figure, runs: 1 / 0},
        {"summary": lambda result: {"x": result.nothing}},
        {"run": lambda **_: sys.exit(3)},
    ],
    ids=["run", "draw", "summary", "exit"],
)
def test_an_error_is_one_sentence_without_a_traceback_and_the_panel_lives_on(changes):
    panel = lab(**changes).panel()
    panel.run_button.click()
    assert panel.wait(10)
    assert re.search(r"(Index|ZeroDivision|Attribute)Error: .+\.$|SystemExit: 3\.$", panel.status.value)
    assert "Traceback" not in panel.status.value and panel.bar.bar_style == "danger"
    assert panel.runs == [] and not panel.run_button.disabled


def watched_panel():
    """A panel, and the set of threads that write to its widgets from now on."""
    panel, writers = lab().panel(), set()
    for widget in (panel.bar, panel.status, panel.figure, panel.table, panel.run_button):
        widget.observe(lambda _: writers.add(threading.current_thread()))
    return panel, writers


def test_the_worker_never_touches_a_widget():
    panel, writers = watched_panel()
    panel.run_button.click()
    assert panel.wait(10) and writers == {threading.current_thread()}


def test_under_an_event_loop_results_arrive_by_themselves_in_the_loops_own_thread():
    panel, writers = watched_panel()

    async def reader():
        panel.run_button.click()
        for _ in range(500):
            if not panel.is_running:
                return
            await asyncio.sleep(0.02)

    loop_thread = threading.Thread(target=lambda: asyncio.run(reader()))
    loop_thread.start()
    loop_thread.join(20)
    assert panel.status.value == "Run 1 is done." and len(panel.runs) == 1
    assert writers == {loop_thread}


# A real kernel ----------------------------------------------------------------------------------------------
SETUP = """
import sys
sys.path[:0] = ["tests", "."]
import test_labs as t, test_explore as e, time
def slow(*, steps, rate, progress):
    for i in range(2000):
        progress(i / 2000, "going")
        time.sleep(.01)
lab = t.lab(run=slow, picture=lambda: t.np.ones(4))
panel = lab.panel()
"""


@pytest.fixture(scope="module")
def kernel():
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=ROOT)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client, code):
    """Run code in the kernel; its display data and its printed text."""
    outputs, text = [], []

    def hook(message):
        content = message["content"]
        if message["msg_type"] in ("display_data", "execute_result"):
            outputs.append(content["data"])
        elif message["msg_type"] == "stream":
            text.append(content["text"])

    reply = client.execute_interactive(code, output_hook=hook, timeout=60)
    assert reply["content"]["status"] == "ok", reply["content"]
    return outputs, "".join(text).strip()


def click(client, comm_id):
    """What the front end sends when a reader clicks a button."""
    data = {"method": "custom", "content": {"event": "click"}}
    client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm_id, "data": data}))


def test_in_a_real_kernel_run_and_stop_answer_clicks_while_the_kernel_stays_free(kernel):
    _, ids = execute(kernel, SETUP + "print(panel.run_button.model_id, panel.stop_button.model_id)")
    run, stop = ids.split()
    click(kernel, run)
    for _ in range(60):
        time.sleep(0.1)
        _, status = execute(kernel, "print(panel.status.value)")  # other cells run beside the lab
        if status.endswith("going"):
            break
    assert status.endswith("going")
    click(kernel, stop)
    for _ in range(60):
        time.sleep(0.1)
        _, status = execute(kernel, "print(panel.status.value, panel.run_button.disabled)")
        if status.startswith("Stopped at"):
            break
    assert status.startswith("Stopped at") and status.endswith("False")


def test_in_a_real_kernel_both_objects_give_the_widget_beside_the_html(kernel):
    outputs, text = execute(kernel, SETUP + "display(lab, e.surprisal())")
    assert text == ""
    for data in outputs:
        assert set(data) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert outputs[0]["text/html"] == lab(picture=lambda: np.ones(4)).to_html()


def test_a_notebook_that_stores_only_the_html_passes_nbval_and_a_changed_digit_fails_it(tmp_path):
    import nbformat
    import test_explore

    paths = [os.path.join(ROOT, "tests"), ROOT]
    code = f"import sys\nsys.path[:0] = {paths!r}\nimport test_explore as e\ne.surprisal()"
    figure = test_explore.surprisal()
    data = {"text/plain": repr(figure), "text/html": figure.to_html()}
    for name, html in (("good", data["text/html"]), ("bad", data["text/html"].replace("0.105", "0.106"))):
        cell = nbformat.v4.new_code_cell(code, execution_count=1)
        cell.outputs = [
            nbformat.v4.new_output("execute_result", data | {"text/html": html}, execution_count=1)
        ]
        notebook = nbformat.v4.new_notebook(cells=[cell])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
    ]
    names = [str(tmp_path / f"{n}.ipynb") for n in ("good", "bad")]
    done = subprocess.run([*command, *names], capture_output=True, text=True, cwd=tmp_path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "bad.ipynb" in done.stdout.split("short test summary")[-1] and "text/html" in done.stdout
