"""What a stranger starts from: the tree as git gives it, a shell without this run's settings, a new environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools import environment

ROOT = Path(__file__).resolve().parent.parent
INDEX = "https://pypi.org/simple/pip/"  # a page of the usual package index: is there any way to it?


def clean_environ(**more: str) -> dict[str, str]:
    """The environment of a fresh shell: nothing of this test run, of make, or of an active environment."""
    ours = ("MAKE", "MFLAGS", "PYTEST", "VIRTUAL_ENV", "PYTHON", "COMPASS_", "GIT_", "CHROMIUM")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    inside = str(Path(sys.prefix) / ("Scripts" if os.name == "nt" else "bin"))
    kept["PATH"] = os.pathsep.join(
        p for p in kept.get("PATH", "").split(os.pathsep) if os.path.abspath(p) != inside
    )
    return kept | more


def copy_of_the_tree(target: Path) -> Path:
    """What git would give a stranger, with this moment's changes; outside git, all that no command made."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        made = (".venv", "_build", ".git", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*made))
        return target
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def run(
    command: list[str], cwd: Path, *, timeout: float = 120, **environ: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        command,
        cwd=cwd,
        env=clean_environ(**environ),
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def roomy_folder() -> Iterator[Path]:
    """A folder for an environment of two GB; removed at once, where pytest would keep the last three."""
    roomy = shutil.disk_usage(tempfile.gettempdir()).free > 2 * environment.NEEDED_BYTES
    with tempfile.TemporaryDirectory(dir=None if roomy else ROOT / "_build", prefix="compass-") as folder:
        yield Path(folder)


def new_environment(folder: Path, base: str = sys._base_executable) -> Path:
    """A virtual environment with nothing in it but pip: its interpreter."""
    made = run([base, "-m", "venv", str(folder)], folder.parent)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def pip_install(python: Path, *what: str, cwd: Path) -> None:
    """Run pip, which must succeed, unless this machine has no way to the package index: then the test is skipped."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q", *what]
    done = run(command, cwd, timeout=1500)
    if done.returncode and not environment.reachable(INDEX, 15):
        pytest.skip("the package index cannot be reached, and what is on this machine does not suffice")
    assert done.returncode == 0, done.stdout + done.stderr
