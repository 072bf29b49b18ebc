"""A Chromium-family browser for the page tests: found on the machine, or fetched once by Playwright."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tools.environment import Problem

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "microsoft-edge-stable",
    "chrome",
    "msedge",
)
MAC_APPS = (
    "Google Chrome.app/Contents/MacOS/Google Chrome",
    "Chromium.app/Contents/MacOS/Chromium",
    "Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
WINDOWS_APPS = ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WHAT_TO_DO = (
    "The page tests need Chromium, Chrome or Edge, and none was found. On Debian or Ubuntu: sudo apt-get "
    "install chromium. Elsewhere: install one of them, or name its program: CHROMIUM=/path/to/it. To leave "
    "the page tests out: python3 tools test --no-site."
)


def flags() -> list[str]:
    """The browser's command-line options: no window, no traffic of its own. As root it has no sandbox."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*FLAGS, "--no-sandbox"] if is_root else list(FLAGS)


def candidates(environ: Mapping[str, str] = os.environ, system: str = sys.platform) -> Iterator[Path]:
    """The places where a browser may be, the likeliest first."""
    for name in NAMES:
        if found := shutil.which(name, path=environ.get("PATH", "")):
            yield Path(found)
    if system == "darwin":
        for base in (Path("/Applications"), Path(environ.get("HOME", "/")) / "Applications"):
            yield from (base / app for app in MAC_APPS)
    if system == "win32":
        for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
            if base := environ.get(variable):
                yield from (Path(base) / app for app in WINDOWS_APPS)


def find(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The browser named by CHROMIUM, else the first one on this machine that answers, else None.

    Raises
    ------
    Problem
        When CHROMIUM names something that is not a program.
    """
    if named := environ.get("CHROMIUM"):
        found = shutil.which(named, path=environ.get("PATH", ""))
        if found is None:
            raise Problem(f"CHROMIUM={named} is not a program on this machine. {WHAT_TO_DO}")
        return Path(found)
    return next((path for path in candidates(environ) if path.is_file() and _answers(path)), None)


def _answers(path: Path) -> bool:
    """Ubuntu's chromium-browser may be a script that only says what to install: so ask for a version."""
    if os.name == "nt":
        return True  # there, asking for the version opens a window
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def find_or_fetch(python: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The browser for the page tests; where the machine has none, Playwright's own, fetched once.

    Raises
    ------
    Problem
        With one line that says what to do, when there is none and none can be fetched.
    """
    if found := find(environ):
        return found
    if fetched := _playwrights_own(python, environ):
        return fetched
    print("no browser on this machine: fetching Playwright's Chromium once (about 170 MB)", flush=True)
    fetch = [python, "-m", "playwright", "install", "chromium"]
    try:
        subprocess.run(fetch, env=dict(environ), capture_output=True, timeout=600)
    except subprocess.TimeoutExpired as late:
        raise Problem(WHAT_TO_DO) from late
    if fetched := _playwrights_own(python, environ):
        return fetched
    raise Problem(WHAT_TO_DO)


def _playwrights_own(python: Path, environ: Mapping[str, str]) -> Path | None:
    ask = (
        "from playwright.sync_api import sync_playwright\n"
        "with sync_playwright() as p: print(p.chromium.executable_path)"
    )
    answer = subprocess.run([python, "-c", ask], env=dict(environ), capture_output=True, text=True)
    path = Path(answer.stdout.strip())
    return path if answer.returncode == 0 and path.is_file() and _answers(path) else None
