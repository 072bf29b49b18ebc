"""The tasks behind `python3 tools TASK` and `make TASK`."""

from __future__ import annotations

import argparse
import functools
import http.server
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import book as pages
from tools import browser, compass_launch, environment
from tools.environment import ROOT, Problem

TASKS = {
    "help": "list these commands",
    "book": "build the book as web pages",
    "pdf": "print the book into one PDF, which the built cover then links to",
    "test": "build the book, run every notebook and compare, run all tests",
    "serve": "show the built book at http://127.0.0.1:8000",
    "lab": "open the chapters in JupyterLab",
    "refresh": "run the notebooks and store their outputs (one of them: NB=01)",
    "bench": "measure accuracy, speed and memory, and renew the tables that the book shows",
    "lint": "check the code's style",
    "lock": "renew constraints.txt, the exact version of every package",
    "clean": "remove what was built (with --all the environment too)",
}
CELL_SECONDS = 120
MOST_WORKERS = 4  # each holds a copy of PyTorch


def main(argv: Sequence[str]) -> int:
    """Run one task; the exit status is 0 when it went well, 2 for what the reader can put right."""
    argv = list(argv) or ["help"]
    argv, rest = (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    options = vars(_parser().parse_args(argv))
    task = options.pop("task")
    if rest and task != "test":
        print(f"Only the test task takes arguments after --, not {task}.", file=sys.stderr)
        return 2
    if task == "test":
        options["pytest_args"] = rest
    try:
        return globals()[f"task_{task}"](**options) or 0
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools", description="The book's commands.", allow_abbrev=False)
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    made = {name: tasks.add_parser(name, help=text, allow_abbrev=False) for name, text in TASKS.items()}
    made["test"].add_argument(
        "--no-site", action="store_true", help="leave out the tests that need a browser"
    )
    made["test"].add_argument(
        "--quick", action="store_true", help="leave out the slow tests (an install from nothing)"
    )
    made["book"].add_argument(
        "--repository", default="", metavar="URL", help="the book's place on GitHub: adds launch buttons"
    )
    made["book"].add_argument("--branch", default="main", help="the branch that they open (main)")
    made["book"].add_argument(
        "--site",
        default="",
        metavar="URL",
        help="where the pages will lie: adds their addresses and social cards",
    )
    made["serve"].add_argument("--port", type=int, default=8000, help="the first port to try (8000)")
    made["refresh"].add_argument(
        "notebooks", nargs="*", metavar="NB", help="a path, or the start of a name in book/"
    )
    made["refresh"].add_argument(
        "--check", action="store_true", help="run nothing, only check the stored form"
    )
    made["lint"].add_argument("--fix", action="store_true", help="put right what can be put right by itself")
    made["clean"].add_argument("--all", action="store_true", help="remove the virtual environment too")
    return parser


def task_help() -> None:
    print("The Compass of Training. Without make: python3 tools COMMAND, on Windows py tools COMMAND.\n")
    for name, text in TASKS.items():
        print(f"  make {name:<8} {text}")
    print("\nFor example: make serve PORT=8001   make refresh NB=01   make test ARGS='-k entropy'")


def task_book(repository: str = "", branch: str = "main", site: str = "") -> None:
    try:
        if repository:
            repository, branch = compass_launch.repository(repository), compass_launch.branch(branch)
        if site:
            site = pages.site_address(site)
    except ValueError as error:
        raise Problem(str(error)) from error
    python = environment.ensure()
    if repository:
        _name_repository(python, repository, branch)
    pages.build(repository=repository, branch=branch, site=site)
    print(f"The book is at {(pages.html() / 'index.html').as_uri()}\nor run: make serve")


def _name_repository(python: Path, repository: str, branch: str) -> None:
    """Colab opens a chapter as it lies in the repository, so the chapters must say where the library is."""
    program = "import sys; from tools import colab; sys.exit(colab.main(sys.argv[1:]))"
    command = [str(python), "-c", program, repository, branch, *map(str, _notebooks([]))]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise Problem("The repository could not be named in the chapters.")


def task_pdf() -> int:
    browser.find()  # a wrong CHROMIUM is better told before the build than after it
    python = environment.ensure()
    if not pages.is_current():
        pages.build()
    return subprocess.run([str(python), "-m", "tools.pdf"], cwd=ROOT).returncode


def task_test(no_site: bool, quick: bool, pytest_args: Sequence[str]) -> int:
    if not no_site:
        browser.find()  # a wrong CHROMIUM is better told before the installation than after it
    python = environment.ensure()
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    if not no_site:
        environ["CHROMIUM"] = str(browser.find_or_fetch(python))
    if not pages.is_current():
        pages.build()
    command = [str(python), "-m", "pytest", "--doctest-modules", "--nbval", "--nbval-current-env"]
    # In the root, the cache's README would be taken for a page of the book.
    command += ["-o", "cache_dir=_build/pytest_cache"]
    command += [f"--nbval-cell-timeout={CELL_SECONDS}", *_workers(), *_left_out(no_site=no_site, quick=quick)]
    # With no file named, pytest takes the folders that pyproject.toml lists.
    return subprocess.run([*command, *pytest_args], cwd=ROOT, env=environ).returncode


def _workers() -> list[str]:
    available = getattr(os, "sched_getaffinity", None)
    count = min(MOST_WORKERS, len(available(0)) if available else os.cpu_count() or 1)
    return ["-n", str(count), "--dist", "loadfile"] if count > 1 else []


def _left_out(*, no_site: bool, quick: bool) -> list[str]:
    return [*(["--no-site"] if no_site else []), *(["--quick"] if quick else [])]


def task_serve(port: int) -> None:
    if not pages.is_current():
        task_book()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(pages.html()))
    with _listen(port, handler) as server:
        print(f"The book is at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)", flush=True)
        server.serve_forever()


class _Server(http.server.ThreadingHTTPServer):
    # On Windows, reuse would let two servers share one port.
    allow_reuse_address = os.name != "nt"


def _listen(port: int, handler, tries: int = 20) -> http.server.ThreadingHTTPServer:
    """A server on the loopback address only, at this port or the next free one."""
    for candidate in range(port, min(port + tries, 65536)):
        try:
            return _Server(("127.0.0.1", candidate), handler)
        except OSError:
            continue
    raise Problem(
        f"No port from {port} to {port + tries - 1} is free. Name another: python3 tools serve --port 9000"
    )


def task_lab() -> int:
    return subprocess.run(lab_command(environment.ensure(), ROOT / "book"), cwd=ROOT).returncode


def lab_command(python: Path, folder: Path) -> list[str]:
    """Start JupyterLab over a folder of chapters; the first of them is what the reader sees."""
    command = [str(python), "-m", "jupyterlab", "--ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    chapters = sorted(path.name for path in folder.glob("[0-9]*.ipynb"))
    command += [f"--LabApp.default_url=/lab/tree/{name}" for name in chapters[:1]]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container there is nobody else; the token still guards it
    return command


def task_refresh(notebooks: Sequence[str], check: bool) -> int:
    python = environment.ensure()
    command = [str(python), "-m", "tools.refresh", *(["--check"] if check else [])]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    return subprocess.run([*command, *map(str, _notebooks(notebooks))], cwd=ROOT, env=environ).returncode


def _notebooks(names: Sequence[str]) -> list[Path]:
    """The notebooks meant by paths or by the starts of names; all of them when none is named."""
    every = sorted((ROOT / "book").rglob("[!.]*.ipynb"))
    every = [path for path in every if ".ipynb_checkpoints" not in path.parts]
    chosen = []
    for name in names:
        as_path = Path(name) if Path(name).is_file() else ROOT / name
        meant = (
            [as_path.resolve()]
            if as_path.is_file()
            else [p for p in every if p.name.startswith(Path(name).name)]
        )
        if not meant or not name:
            raise Problem(
                f"NB={name}: no notebook has that path, and none in book/ has a name that starts so."
            )
        chosen += meant
    return chosen if names else every


def task_bench() -> int:
    """One process a script: what one has loaded or allocated must not touch what the other measures."""
    python = environment.ensure()
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    for script in ("accuracy.py", "speed_and_memory.py", "gpu.py"):
        command = [str(python), f"benchmarks/{script}", "--out", "benchmarks/results"]
        if code := subprocess.run(command, cwd=ROOT, env=environ).returncode:
            return code
    return 0


def task_lint(fix: bool) -> int:
    python = environment.ensure()
    ruff = [str(python), "-m", "ruff"]
    commands = [["check", *(["--fix"] if fix else []), "."], ["format", *([] if fix else ["--check"]), "."]]
    return max(subprocess.run([*ruff, *command], cwd=ROOT).returncode for command in commands)


LOCK_HEADER = """\
# The exact version of every package, for every system and Python that the book supports. These are
# constraints, not a list to install: pip install -r requirements.txt -c constraints.txt. Made by `make lock`,
# which runs:
#   uv pip compile requirements.txt pyproject.toml --universal --python-version 3.11 --upgrade
"""


def task_lock() -> int:
    python = environment.ensure()
    if subprocess.run([python, "-m", "uv", "--version"], capture_output=True).returncode:
        with environment.step("installing uv"):
            asked = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"]
            if subprocess.run(asked, cwd=ROOT).returncode:
                raise Problem("uv, which resolves the versions, could not be installed.")
    wanted = ["requirements.txt", "pyproject.toml", "--universal", "--python-version", "3.11", "--upgrade"]
    plain = ["--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"]
    # The reader's own uv settings and the file's present pins must not shape the result.
    command = [python, "-m", "uv", "pip", "compile", *wanted, *plain, "--no-config"]
    with environment.step("resolving"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Problem(
            done.stderr.strip() + "\nThe versions could not be resolved; constraints.txt is as it was."
        )
    target = ROOT / "constraints.txt"
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    after = LOCK_HEADER + done.stdout
    target.write_text(after, encoding="utf-8", newline="\n")
    changed = set(after.splitlines()) - set(before.splitlines())
    print(f"constraints.txt: {len(changed)} lines new or changed. Now run make test.")
    return 0


CACHES = ("__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints")


def task_clean(all: bool) -> None:
    """Remove what the commands made. A learner's progress file is not ours to remove."""
    doomed = [ROOT / "_build", ROOT / "build", ROOT / "dist"]
    for here, folders, _ in os.walk(ROOT):
        doomed += [Path(here) / name for name in folders if name in CACHES]
        folders[:] = [name for name in folders if name not in (".git", ".venv", "_build", *CACHES)]
    if all:
        doomed += [ROOT / ".venv", *ROOT.glob("*.egg-info")]
    for path in doomed:
        if path.exists():
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise Problem(
                    f"{path} could not be removed ({error}). Close what uses it and try again."
                ) from error
