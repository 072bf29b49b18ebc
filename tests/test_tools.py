"""The commands: what they promise in their help is what they do, and what the papers say of them is true."""

from __future__ import annotations

import ast
import copy
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import nbformat
import pytest
import torch
import yaml
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import v4
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import book, browser, environment, refresh, tasks

ROOT = Path(__file__).resolve().parent.parent


def lines(path: str) -> list[str]:
    return (ROOT / path).read_text(encoding="utf-8").splitlines()


def requirements(path: str) -> list[Requirement]:
    stripped = (re.split(r"(?:^|\s)#", line)[0].strip() for line in lines(path))
    return [Requirement(line) for line in stripped if line and not line.startswith("-")]


def names(found: list[Requirement]) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in found}


def tracked_files() -> list[Path]:
    git = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout: there is no list of the files that belong to the book")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


# Commands and papers


def test_help_lists_every_task():
    done = subprocess.run([sys.executable, "tools"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert re.findall(r"^  make (\w+)", done.stdout, re.MULTILINE) == list(tasks.TASKS)


def test_every_task_has_a_function_and_every_function_is_a_task():
    assert {name[5:] for name in vars(tasks) if name.startswith("task_")} == set(tasks.TASKS)


def test_the_makefile_has_a_target_for_every_task_and_no_other():
    phony = next(line for line in lines("Makefile") if line.startswith(".PHONY:"))
    assert set(phony.split()[1:]) == set(tasks.TASKS) | {"python"}


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["book"], "python3 tools book"),
        (
            ["book", "REPO=https://github.com/a/b", "BRANCH=v1"],
            "python3 tools book --repository https://github.com/a/b --branch v1",
        ),
        (["book", "SITE=https://a.org/b"], "python3 tools book   --site https://a.org/b"),
        (["test"], "python3 tools test   --"),
        (
            ["test", "QUICK=1", "NO_SITE=1", "ARGS=-k 'a b'"],
            "python3 tools test --no-site --quick -- -k 'a b'",
        ),
        (["serve", "PORT=8001"], "python3 tools serve --port 8001"),
        (["refresh", "NB=01"], "python3 tools refresh 01"),
        (["lint", "FIX=1"], "python3 tools lint --fix"),
        (["clean", "ALL=1"], "python3 tools clean --all"),
    ],
)
def test_make_hands_its_variables_on(arguments, command):
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "PYTHON"
    }
    shown = subprocess.run(
        ["make", "-n", *arguments], cwd=ROOT, env=environ, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip().splitlines()[-1].strip() == command


def test_make_without_python_says_what_to_do_in_one_line():
    done = subprocess.run(
        ["make", "-s", "PYTHON=no-such-python", "book"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "Install Python 3.11 or newer" in done.stderr.splitlines()[0]


def test_the_readme_names_every_task_and_only_tasks_that_exist():
    readme = "\n".join(lines("README.md"))
    by_make = set(re.findall(r"(?:`|^)make(?: [A-Z_]+=\S+)* ([a-z]+)\b", readme, re.MULTILINE))
    by_python = set(re.findall(r"\b(?:python3|py) tools ([a-z]+)", readme))
    assert by_make == set(tasks.TASKS)
    assert by_python <= set(tasks.TASKS)
    assert {"book", "test"} <= by_python


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md"])
def test_every_make_variable_that_a_paper_names_is_known_to_the_makefile(paper):
    makefile = "\n".join(lines("Makefile"))
    for variable in set(re.findall(r"\bmake [a-z ]*?([A-Z_]+)=", "\n".join(lines(paper)))):
        assert f"$({variable})" in makefile, variable


def test_every_task_explains_its_options():
    for task in tasks.TASKS:
        done = subprocess.run(
            [sys.executable, "tools", task, "--help"], cwd=ROOT, capture_output=True, text=True
        )
        assert (done.returncode, "usage: tools" in done.stdout) == (0, True), task


def test_arguments_after_two_dashes_are_for_the_tests_only(capsys):
    assert tasks.main(["lint", "--", "-k", "x"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_entry_point_is_read_by_every_python():
    for name in ("__main__.py", "__init__.py"):
        source = (ROOT / "tools" / name).read_text(encoding="ascii")
        ast.parse(source, feature_version=(3, 4))
        assert not re.search(r"\bf[\"']|:=|\bprint ", source)


def test_a_notebook_is_found_by_the_start_of_its_name_and_a_wrong_name_gets_a_sentence():
    every = tasks._notebooks([])
    assert every == sorted(
        path for path in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
    )
    assert tasks._notebooks([every[0].name[:4]])[0] == every[0]
    assert tasks._notebooks([str(every[0])]) == [every[0]]
    with pytest.raises(environment.Problem, match=r"NB=zz: no notebook"):
        tasks._notebooks(["zz"])


def test_the_server_listens_on_the_loopback_address_only_and_takes_the_next_free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with tasks._listen(port, http.server.SimpleHTTPRequestHandler) as server:
            assert server.server_address[0] == "127.0.0.1"
            assert server.server_port > port


# The stamp


@pytest.fixture
def tree(tmp_path):
    """A folder that looks to the stamp like one whose environment is complete."""
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    program = environment.python(tmp_path)
    program.parent.mkdir(parents=True)
    program.touch()
    (tmp_path / ".venv" / environment.STAMP).write_text(environment.stamp(tmp_path), encoding="ascii")
    return tmp_path


def test_a_complete_environment_is_ready(tree):
    assert environment.ready(tree)


def test_a_ready_environment_costs_less_than_a_third_of_a_second(tree):
    start = time.perf_counter()
    assert environment.ensure(tree) == environment.python(tree)
    assert time.perf_counter() - start < 0.3


@pytest.mark.parametrize("name", ["requirements.txt", "constraints.txt", "pyproject.toml"])
def test_a_change_in_what_it_was_made_from_makes_the_environment_stale(tree, name):
    (tree / name).write_text((tree / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert not environment.ready(tree)


def test_an_interrupted_installation_is_not_ready(tree):
    (tree / ".venv" / environment.UNFINISHED).touch()
    assert not environment.ready(tree)


def test_an_environment_whose_python_is_gone_is_not_ready(tree):
    environment.python(tree).unlink()
    assert not environment.ready(tree)


def test_another_python_version_makes_the_environment_stale(tree, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))
    assert not environment.ready(tree)


def test_a_moved_tree_is_installed_anew(tree):
    moved = tree.rename(tree.with_name("moved"))
    assert not environment.ready(moved)


def test_two_commands_do_not_install_at_once(tree):
    hold = (
        "import sys, time; from pathlib import Path; from tools import environment as e\n"
        "with e._one_at_a_time(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tree)]
    first = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert first.stdout.readline() == "held\n"
    second = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert second.stdout.readline() == "another command is installing; waiting for it\n"
    first.communicate("", timeout=20)
    assert second.stdout.readline() == "held\n"
    second.communicate("", timeout=20)


# The book's fingerprint


def test_the_built_book_is_current_until_a_source_is_changed_added_or_removed(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_toc.yml").write_text("a", encoding="utf-8")
    page = tmp_path / "book" / "a.md"
    page.write_text("a", encoding="utf-8")
    book.html(tmp_path).mkdir(parents=True)
    (book.html(tmp_path) / "index.html").touch()
    assert not book.is_current(tmp_path)
    (tmp_path / "_build" / book.MARKER).write_text(book.fingerprint(tmp_path), encoding="ascii")
    assert book.is_current(tmp_path)
    (tmp_path / "book" / ".compass-progress.json").touch()
    assert book.is_current(tmp_path), "a learner's progress is no source"
    page.write_text("b", encoding="utf-8")
    assert not book.is_current(tmp_path)
    page.write_text("a", encoding="utf-8")
    assert book.is_current(tmp_path)
    page.rename(page.with_name("b.md"))
    assert not book.is_current(tmp_path)


# PyTorch's source


class Answer(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self):
        self.asked.append(self.path)
        self.send_response(200 if self.path.startswith("/cpu/") else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def index():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def direct(monkeypatch):
    """No proxy between the test and its own server."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def closed_port() -> int:
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        return once.getsockname()[1]


def test_an_index_that_answers_is_handed_to_pip(index, direct, capsys):
    address = f"{index}/cpu"
    assert environment.torch_source({"COMPASS_TORCH": address}) == ["--extra-index-url", address]
    assert Answer.asked[-1] == "/cpu/torch/"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("why", ["closed port", "refusal", "unknown name"])
def test_an_index_that_cannot_be_reached_is_passed_over_with_one_line(why, index, direct, capsys):
    addresses = {
        "closed port": f"http://127.0.0.1:{closed_port()}/cpu",
        "refusal": f"{index}/elsewhere",
        "unknown name": "http://no-such-host.invalid/cpu",
    }
    start = time.perf_counter()
    assert environment.torch_source({"COMPASS_TORCH": addresses[why]}) == []
    assert time.perf_counter() - start < environment.PROBE_SECONDS + 0.5
    said = capsys.readouterr().out.strip().splitlines()
    assert len(said) == 1
    assert addresses[why] in said[0]


def test_an_index_that_never_answers_is_given_up_after_three_seconds(direct):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.perf_counter()
        assert not environment.reachable(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert environment.PROBE_SECONDS - 0.5 < time.perf_counter() - start < environment.PROBE_SECONDS + 0.5


def test_the_default_index_asks_nobody():
    assert environment.torch_source({"COMPASS_TORCH": "default"}) == []


def test_a_choice_of_torch_that_does_not_exist_gets_a_sentence():
    with pytest.raises(environment.Problem, match="COMPASS_TORCH=gpu is not one of"):
        environment.torch_source({"COMPASS_TORCH": "gpu"})


@pytest.mark.parametrize(
    ("system", "machine", "smi", "expected"),
    [
        ("linux", "x86_64", None, True),
        ("linux", "aarch64", None, True),
        ("linux", "x86_64", 0, False),  # an nvidia-smi that works
        ("linux", "x86_64", 9, True),  # one that finds no driver
        ("linux", "riscv64", None, False),
        ("darwin", "x86_64", None, False),
        ("win32", "AMD64", None, False),
    ],
)
def test_the_cpu_build_is_for_linux_without_an_nvidia_gpu(
    system, machine, smi, expected, tmp_path, monkeypatch
):
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has an NVIDIA driver, which cannot be hidden")
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(environment.platform, "machine", lambda: machine)
    monkeypatch.setenv("PATH", str(tmp_path))
    if smi is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nexit {smi}\n", encoding="ascii")
        program.chmod(0o755)
    assert environment._is_linux_without_nvidia() is expected


# The browser


def test_the_browser_named_by_the_reader_is_taken():
    assert browser.find({"CHROMIUM": sys.executable, "PATH": ""}) == Path(sys.executable)


def test_a_browser_that_does_not_exist_gets_one_line(tmp_path):
    with pytest.raises(browser.Problem) as problem:
        browser.find({"CHROMIUM": str(tmp_path / "chrome"), "PATH": ""})
    assert len(str(problem.value).splitlines()) == 1
    assert "--no-site" in str(problem.value)


@pytest.mark.skipif(os.name == "nt", reason="the programs here are shell scripts")
def test_a_browser_that_only_says_to_install_another_is_passed_over(tmp_path, monkeypatch):
    for name, status in (("chromium", 1), ("google-chrome", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n", encoding="ascii")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(browser, "MAC_APPS", ())
    assert browser.find({"PATH": str(tmp_path)}) == tmp_path / "google-chrome"


def test_the_sandbox_is_given_up_for_root_alone(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    assert "--no-sandbox" in browser.flags()
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    assert "--no-sandbox" not in browser.flags()


# The normal form of notebooks


def untidy():
    view = {refresh.WIDGET_VIEW: {"model_id": "9f"}, "text/plain": "IntSlider(value=0)"}
    cells = [
        v4.new_markdown_cell("# Title\n\n"),
        v4.new_code_cell(
            "print(1)\n",
            execution_count=7,
            metadata={"execution": {"iopub.execute_input": "2026"}, "tags": ["hide-input"], "scrolled": True},
            outputs=[v4.new_output("stream", text="1"), v4.new_output("stream", text="\n")],
        ),
        v4.new_code_cell("slider", execution_count=9, outputs=[v4.new_output("display_data", view)]),
        v4.new_code_cell(
            "2",
            execution_count=1,
            outputs=[v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)],
        ),
        v4.new_code_cell(
            "print(1); show(); print(2)",
            outputs=[
                v4.new_output("stream", text="1\n"),
                v4.new_output("display_data", {refresh.WIDGET_VIEW: {}}),
                v4.new_output("display_data", {"text/plain": "x"}),
                v4.new_output("stream", text="2\n"),
            ],
        ),
        v4.new_code_cell(
            "fail()",
            outputs=[
                v4.new_output(
                    "error",
                    ename="E",
                    evalue="e",
                    traceback=[f"File \x1b[32m{ROOT / 'lossutils' / 'a.py'}:3\x1b[39m"],
                )
            ],
        ),
    ]
    metadata = {
        "kernelspec": {"name": "mine", "display_name": "Mine"},
        "language_info": {"name": "python", "version": "3.99"},
        "widgets": {},
        "vscode": {},
    }
    return v4.new_notebook(cells=cells, metadata=metadata)


def test_normalising_twice_changes_nothing_and_the_bytes_are_the_same():
    once = refresh.normalise(untidy())
    assert refresh.to_bytes(refresh.normalise(once)) == refresh.to_bytes(once)
    nb = untidy()
    assert refresh.to_bytes(refresh.normalise(nb)) == refresh.to_bytes(refresh.normalise(copy.deepcopy(nb)))


def test_normalising_does_not_touch_what_it_was_given():
    nb = untidy()
    before = json.dumps(nb, sort_keys=True)
    refresh.normalise(nb)
    assert json.dumps(nb, sort_keys=True) == before


def test_cells_are_counted_from_one_and_keep_their_ids():
    nb = untidy()
    after = refresh.normalise(nb)
    assert [cell.execution_count for cell in after.cells if cell.cell_type == "code"] == [1, 2, 3, 4, 5]
    assert after.cells[3].outputs[0].execution_count == 3
    assert [cell.id for cell in after.cells] == [cell.id for cell in nb.cells]


def test_a_missing_or_repeated_id_is_replaced_by_one_that_is_the_same_on_every_run():
    nb = untidy()
    nb.cells[2].id = nb.cells[1].id
    del nb.cells[4]["id"]
    once, again = refresh.normalise(nb), refresh.normalise(copy.deepcopy(nb))
    assert len({cell.id for cell in once.cells}) == len(once.cells)
    assert [cell.id for cell in once.cells] == [cell.id for cell in again.cells]


def test_editors_notes_widgets_and_timings_go_and_the_authors_tags_stay():
    after = refresh.normalise(untidy())
    assert after.metadata == {"kernelspec": refresh.KERNELSPEC, "language_info": {"name": "python"}}
    assert after.cells[1].metadata == {"tags": ["hide-input"]}
    assert refresh.WIDGET_VIEW not in refresh.to_bytes(after).decode()
    assert after.cells[2].outputs[0].data == {"text/plain": "IntSlider(value=0)"}


def test_printing_is_joined_and_keeps_its_place_beside_other_output():
    after = refresh.normalise(untidy())
    assert [output.text for output in after.cells[1].outputs] == ["1\n"]
    kinds = [output.output_type for output in after.cells[4].outputs]
    assert kinds == ["stream", "display_data", "stream"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            f"File \x1b[32m{ROOT}/lossutils/a.py:3\x1b[39m, in f",
            "File \x1b[32mlossutils/a.py:3\x1b[39m, in f",
        ),
        (f"File {ROOT}/.venv/lib/python3.11/site-packages/torch/nn/a.py:2", "File torch/nn/a.py:2"),
        ("File \x1b[32m~/env/lib/python3.12/site-packages/torch/a.py:2", "File \x1b[32mtorch/a.py:2"),
        ("File \x1b[32m/usr/lib/python3.11/json/decoder.py:355", "File \x1b[32mjson/decoder.py:355"),
        ("File C:\\Python\\Lib\\site-packages\\numpy\\a.py:1", "File numpy\\a.py:1"),
        ("      1 ratio = a/lib/b", "      1 ratio = a/lib/b"),
    ],
)
def test_a_traceback_does_not_tell_whose_machine_it_was(line, expected):
    assert refresh._without_paths(line, ROOT) == expected


def test_a_notebook_file_ends_with_one_newline_and_has_no_carriage_return():
    content = refresh.to_bytes(refresh.normalise(untidy()))
    assert content.endswith(b"}\n") and b"\r" not in content


def test_refresh_runs_a_notebook_in_place_and_a_second_run_changes_nothing(tmp_path):
    path = tmp_path / "a.ipynb"
    nb = v4.new_notebook(
        cells=[
            v4.new_code_cell("x = 6\nx * 7"),
            v4.new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
        ]
    )
    path.write_bytes(refresh.to_bytes(nb))
    assert refresh.refresh(path) == "stored"
    stored = refresh.read(path)
    assert stored.cells[0].outputs[0].data["text/plain"] == "42"
    assert stored.cells[1].outputs[0].ename == "ZeroDivisionError"
    assert refresh.refresh(path) == "unchanged"


def test_refresh_stores_the_seconds_and_the_machine_and_renews_them_only_with_the_outputs(tmp_path):
    path = tmp_path / "a.ipynb"
    author = {"compass": {"lab": True}}
    path.write_bytes(
        refresh.to_bytes(
            refresh.normalise(v4.new_notebook(cells=[v4.new_code_cell("6 * 7")], metadata=author))
        )
    )
    assert refresh.refresh(path) == "stored"
    run = refresh.last_run(refresh.read(path))
    assert run == {"seconds": run["seconds"], **refresh.machine()}
    assert 0 < run["seconds"] < 60
    nb = refresh.read(path)
    assert nb.metadata.compass.lab is True, "what an author noted there stays"
    nb.metadata.compass.run.seconds = 999.9
    path.write_bytes(refresh.to_bytes(nb))
    assert refresh.refresh(path) == "unchanged"
    assert refresh.last_run(refresh.read(path))["seconds"] == 999.9
    nb.cells[0].outputs[0].data["text/plain"] = "43"
    path.write_bytes(refresh.to_bytes(nb))
    assert refresh.refresh(path) == "stored"
    assert refresh.last_run(refresh.read(path))["seconds"] < 60
    del nb.metadata.compass["run"]
    nb.cells[0].outputs[0].data["text/plain"] = "42"
    path.write_bytes(refresh.to_bytes(nb))
    assert refresh.refresh(path) == "stored", "equal outputs whose seconds are not known yet"


def test_the_machine_is_told_without_a_name_of_its_own():
    machine = refresh.machine()
    assert set(machine) == {"processor", "cores", "python", "torch"}
    assert machine["cores"] == os.cpu_count()
    assert machine["python"] == sys.version.split()[0]
    assert machine["torch"] == torch.__version__
    assert machine["processor"] and socket.gethostname() not in machine["processor"].split()


def test_refresh_leaves_the_file_alone_when_a_cell_fails(tmp_path, capsys):
    path = tmp_path / "a.ipynb"
    path.write_bytes(refresh.to_bytes(v4.new_notebook(cells=[v4.new_code_cell("no_such_name")])))
    before = path.read_bytes()
    assert refresh.main([str(path)]) == 1
    assert "no_such_name" in capsys.readouterr().out
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Requirements, constraints, Binder


def pinned() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for requirement in requirements("constraints.txt"):
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_constraints_pin_one_exact_version_for_every_line_and_hold_no_options():
    for line in lines("constraints.txt"):
        assert re.fullmatch(r"#.*|[\w.-]+==[\w.!+]+(?: ; .+)?", line), line


def test_every_requirement_is_pinned_within_its_own_bounds():
    library = [
        Requirement(text)
        for text in tomllib.loads("\n".join(lines("pyproject.toml")))["project"]["dependencies"]
    ]
    for requirement in [*requirements("requirements.txt"), *library]:
        pins = pinned()[canonicalize_name(requirement.name)]
        for pin in pins:
            version = next(iter(pin.specifier)).version
            assert requirement.specifier.contains(version), f"{requirement} but {pin}"


def test_the_book_requires_all_that_the_library_requires():
    library = [
        Requirement(text)
        for text in tomllib.loads("\n".join(lines("pyproject.toml")))["project"]["dependencies"]
    ]
    assert names(library) <= names(requirements("requirements.txt"))


def test_the_library_requires_what_it_imports_and_nothing_else():
    project = tomllib.loads("\n".join(lines("pyproject.toml")))["project"]
    imported = set()
    for path in (ROOT / "lossutils").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    known = set(sys.stdlib_module_names) | {"lossutils", "pydoc_data", "mpl_toolkits"}
    # Packages that a requirement brings by its own word.
    brought = dict.fromkeys(("IPython", "traitlets", "matplotlib_inline"), "ipywidgets")
    needed = {canonicalize_name(brought.get(name, name)) for name in imported - known}
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    assert needed == names([Requirement(text) for text in [*project["dependencies"], *extras]])


def test_the_packages_that_are_installed_here_are_the_pinned_ones():
    from importlib import metadata

    for name, pins in pinned().items():
        here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a CUDA library beside a CPU build, or another system's package
        assert any(pin.specifier.contains(version, prereleases=True) for pin in here), (
            f"{name} {version}: {here}"
        )


def imported_by_the_chapters() -> set[str]:
    """The packages that the chapters name themselves, but for those that they try and can do without."""
    found = set()
    for path in (ROOT / "book").glob("[0-9]*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
                waiting = ast.parse(TransformerManager().transform_cell(cell.source)).body
                while waiting:
                    node = waiting.pop()
                    if isinstance(node, ast.Import):
                        found |= {alias.name.split(".")[0] for alias in node.names}
                    elif isinstance(node, ast.ImportFrom):
                        found.add(node.module.split(".")[0])
                    elif not isinstance(node, ast.Try):
                        waiting += ast.iter_child_nodes(node)
    known = set(sys.stdlib_module_names) | {"lossutils", "pydoc_data", "IPython"}  # ipykernel brings the last
    return {canonicalize_name(name) for name in found - known}


def test_binder_installs_what_the_chapters_need_at_the_pinned_versions():
    text = "\n".join(lines("binder/requirements.txt"))
    assert f"--extra-index-url {environment.CPU_INDEX}\n" in text
    assert "-c ../constraints.txt\n" in text
    asked = requirements("binder/requirements.txt")
    project = tomllib.loads("\n".join(lines("pyproject.toml")))["project"]
    library = [*project["dependencies"], *project["optional-dependencies"]["coding"]]  # chapter 5 codes
    assert (
        names([Requirement(text) for text in library]) | {"jupyterlab", "ipykernel", "setuptools"}
        <= names(asked)
        <= names(requirements("requirements.txt"))
    )
    assert imported_by_the_chapters() <= names(asked)
    for requirement in asked:
        for pin in pinned()[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(next(iter(pin.specifier)).version)


def test_binder_takes_a_python_that_the_book_supports_and_links_the_library():
    version = re.fullmatch(r"python-(\d+)\.(\d+)", lines("binder/runtime.txt")[0])
    assert (int(version[1]), int(version[2])) >= (3, 11)
    post_build = ROOT / "binder" / "postBuild"
    assert post_build.read_bytes().startswith(b"#!/bin/bash\n")
    assert "-e ." in lines("binder/postBuild")[-1]
    if os.name != "nt":
        assert os.access(post_build, os.X_OK) and os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_scripts_are_sound_bash():
    for script in (".ci/run", "binder/postBuild"):
        assert subprocess.run(["bash", "-n", script], cwd=ROOT).returncode == 0


# The rest of the tree


def test_the_citation_names_the_version_of_the_library():
    citation = yaml.safe_load("\n".join(lines("CITATION.cff")))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == tomllib.loads("\n".join(lines("pyproject.toml")))["project"]["version"]


def test_no_file_names_the_machine_it_was_written_on():
    places = {str(ROOT), str(Path.home()), sys.base_prefix}
    places = {
        place for place in places if len(place) > 4 and place not in ("/root", "/home", "/usr", "localhost")
    }
    marks = [place.encode() for place in places]
    for path in tracked_files():
        content = path.read_bytes()
        assert not [mark for mark in marks if mark in content], path


def test_no_file_is_larger_than_a_few_megabytes():
    assert [path for path in tracked_files() if path.stat().st_size > 4_000_000] == []
