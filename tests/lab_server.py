"""A JupyterLab of a test's own, started as `make lab` starts it, and a notebook that is open in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tools import tasks

# JupyterLab would ask whether to fetch its news, and so over the page; and it would drop cells out of sight.
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}
HARMLESS: tuple[str, ...] = ()  # parts of console warnings that are not ours; none is known

PATIENCE = 20_000  # milliseconds
ERRORS = ".jp-Notebook [data-mime-type*=error], .jp-Notebook [data-mime-type*=stderr]"


@dataclass(frozen=True)
class Server:
    """Where a running JupyterLab answers, and the folder that it shows."""

    url: str
    token: str
    folder: Path


def write_settings(folder: Path) -> None:
    for name, settings in SETTINGS.items():
        path = folder / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings), encoding="utf8")


def environment(home: Path) -> dict[str, str]:
    """The server's environment: nothing of the reader's own Jupyter is read or written."""
    ours = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "npm_config_cache": "npm",  # JupyterLab's language servers ask npm, where there is one, for its folder
    }
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "JPY_", "IPYTHON"))
    }
    return kept | {key: str(home / name) for key, name in ours.items()} | {"JUPYTER_PREFER_ENV_PATH": "1"}


def _address(server: subprocess.Popen, home: Path, log: Path) -> tuple[str, str]:
    """The server's address and token, from the file that it writes when it is ready."""
    end = time.monotonic() + PATIENCE / 1000
    while server.poll() is None and time.monotonic() < end:
        for path in (home / "runtime").glob("jpserver-*.json"):
            try:
                known = json.loads(path.read_text(encoding="utf8"))
            except ValueError:
                continue  # half written
            return f"http://127.0.0.1:{known['port']}{known['base_url']}", known["token"]
        time.sleep(0.05)
    pytest.fail(f"JupyterLab did not start. It said:\n{log.read_text(encoding='utf8', errors='replace')}")


@contextmanager
def serving(folder: Path, home: Path, python: Path = Path(sys.executable)) -> Iterator[Server]:
    """A JupyterLab over a folder, with its own things in `home`; it and its kernels end with the block."""
    write_settings(home / "settings")
    command = [*tasks.lab_command(python, folder), "--no-browser", "--port=0", "--LabApp.news_url=None"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--LabApp.extension_manager=readonly"]
    log = home / "log.txt"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, cwd=folder, env=environment(home), stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        url, token = _address(server, home, log)
        yield Server(url, token, folder)
    finally:
        family = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        for process in psutil.wait_procs(family, timeout=5)[1]:
            process.kill()


@dataclass
class Notebook:
    """A notebook in JupyterLab: its page, and what the browser asked for and complained of."""

    page: Page
    asked: set[str] = field(default_factory=set)  # the hosts
    complaints: list[str] = field(default_factory=list)

    def cell(self, number: int) -> Locator:
        """By its number among all cells, those with text too."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def output(self, number: int) -> Locator:
        return self.cell(number).locator(".jp-OutputArea-output")

    def run_all(self) -> None:
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def run(self, numbers: Sequence[int]) -> None:
        """Run these cells one after another, as a reader does with the keyboard, without waiting for the first."""
        for number in numbers:
            self.cell(number).locator(".jp-InputPrompt").click()
            self.page.keyboard.press("Shift+Enter")

    def expect_run(self, number: int, *, count: int, timeout: float = PATIENCE) -> None:
        """Wait until this cell is done as the `count`-th of its kernel, and none before it failed."""
        prompt = self.cell(number).locator(".jp-InputPrompt").get_by_text(f"[{count}]:")
        expect(prompt.or_(self.page.locator(ERRORS)).first).to_be_visible(timeout=timeout)
        assert self.page.locator(ERRORS).all_inner_texts() == []


def end_kernels(server: Server) -> None:
    """End what runs in JupyterLab, without the browser: it may be what failed."""

    def ask(method: str, path: str) -> bytes:
        address = f"{server.url}api/sessions{path}?token={server.token}"
        with urllib.request.urlopen(urllib.request.Request(address, method=method), timeout=60) as answer:
            return answer.read()

    for session in json.loads(ask("GET", "")):
        ask("DELETE", f"/{session['id']}")


@contextmanager
def opened(chromium, server: Server, name: str) -> Iterator[Notebook]:
    """A notebook in a fresh window, its kernel ready; the kernel ends with the block."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(PATIENCE)
    notebook = Notebook(context.new_page())

    def pass_or_block(route: Route) -> None:
        parts = urlsplit(route.request.url)
        notebook.asked.add(parts.hostname or parts.scheme)
        if parts.hostname == "127.0.0.1":
            route.continue_()
        else:
            route.abort()

    def complain(kind: str, text: str) -> None:
        if kind in ("error", "warning", "pageerror") and not any(part in text for part in HARMLESS):
            notebook.complaints.append(f"{kind}: {text}")

    context.route("**/*", pass_or_block)
    page = notebook.page
    page.on("websocket", lambda socket: notebook.asked.add(urlsplit(socket.url).hostname))
    page.on("console", lambda message: complain(message.type, message.text))
    page.on("pageerror", lambda error: complain("pageerror", str(error)))
    expect.set_options(timeout=PATIENCE)
    try:
        page.goto(f"{server.url}doc/tree/{name}?token={server.token}")
        # Before its kernel is ready, Run does nothing. A long chapter takes its time to be drawn.
        expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=3 * PATIENCE)
        yield notebook
    finally:
        expect.set_options(timeout=None)  # the default again, for the other files
        context.close()
        end_kernels(server)
