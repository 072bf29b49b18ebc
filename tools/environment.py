"""The virtual environment in `.venv`: made, filled and looked after by the commands.

Only the standard library, since nothing is installed yet. `ensure` is cheap when there is nothing to do: it
compares a stamp in the environment with what the environment should have been made from.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PROBE_SECONDS = 3.0
NEEDED_BYTES = 3_000_000_000  # 1.8 GB installed, and pip unpacks beside it
STAMP, UNFINISHED, LOG = "compass-stamp", "compass-unfinished", "install.log"


class Problem(Exception):
    """Something that the person at the keyboard can put right: shown as one line, exit status 2."""


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """One line a step: what is done, then how long it took."""
    print(f"{what} ...", end=" ", flush=True)
    start = time.perf_counter()
    try:
        yield
    except BaseException:
        print("not done", flush=True)
        raise
    print(f"{time.perf_counter() - start:.1f} s", flush=True)


def python(root: Path = ROOT) -> Path:
    """The environment's own interpreter."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def stamp(root: Path = ROOT) -> str:
    """What the environment is made from, in one hash: the lists, the library's needs, the Python, the place.

    The place belongs to it because lossutils is installed as a link to its folder: a moved tree is linked
    anew.
    """
    digest = hashlib.sha256()
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        digest.update(f"{name}\0".encode() + (root / name).read_bytes() + b"\0")
    digest.update(f"{sys.version_info[:2]} {platform.machine()} {root}".encode())
    return digest.hexdigest()


def ready(root: Path = ROOT) -> bool:
    """Whether the environment stands and was made from exactly what lies in the tree now."""
    venv = root / ".venv"
    if (venv / UNFINISHED).exists() or not python(root).exists():
        return False
    try:
        return (venv / STAMP).read_text(encoding="ascii") == stamp(root)
    except (OSError, UnicodeDecodeError):
        return False


def ensure(root: Path = ROOT) -> Path:
    """The environment's interpreter, after making or renewing the environment where that is needed.

    Raises
    ------
    Problem
        With one line for the reader, when the environment cannot be made here.
    """
    if ready(root):
        return python(root)
    with _one_at_a_time(root):
        if not ready(root):  # another call may have done it while this one waited
            _install(root)
    return python(root)


def _install(root: Path) -> None:
    venv = root / ".venv"
    _require_tools()
    _require_space(root)
    fresh = (venv / UNFINISHED).exists() or not _alive(root)
    if fresh:
        with step(f"making the virtual environment {venv}"):
            _make_venv(venv)
    (venv / UNFINISHED).touch()
    (venv / STAMP).unlink(missing_ok=True)
    pip = [str(python(root)), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    wanted = ["-r", "requirements.txt", "-c", "constraints.txt", "--progress-bar", "off"]
    source = torch_source()
    with step("installing the packages (some 2 GB, a few minutes the first time)"):
        _logged(root, [*pip, "install", *wanted, *source])
    with step("installing lossutils"):
        _logged(root, [*pip, "install", "--no-deps", "--no-build-isolation", "-e", "."])
    (venv / STAMP).write_text(stamp(root), encoding="ascii")
    (venv / UNFINISHED).unlink()


def _require_tools() -> None:
    """venv and ensurepip are part of Python, but Debian and its kin ship them in a package of their own."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise Problem(
            f"This Python ({sys.executable}) comes without the module {missing[0]}, which makes virtual "
            f"environments. On Debian or Ubuntu: sudo apt-get install {package}. Elsewhere: install a "
            "complete Python 3.11 or newer."
        )


def _require_space(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < NEEDED_BYTES and not (root / ".venv" / STAMP).exists():
        raise Problem(
            f"There is not enough room on the disk of {root}: {free / 1e9:.1f} GB are free, and the packages "
            f"need {NEEDED_BYTES / 1e9:.1f} GB while they are unpacked. Make room, or move the book."
        )


def _alive(root: Path) -> bool:
    """Whether what stands in .venv can be built upon: the right Python version, and a pip that answers."""
    ask = "import sys, pip; print('%d.%d' % sys.version_info[:2])"
    try:
        answer = subprocess.run([python(root), "-c", ask], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and answer.stdout.split() == [".".join(map(str, sys.version_info[:2]))]


def _make_venv(venv: Path) -> None:
    # From inside an environment, its base is asked: an environment must not be made out of itself.
    base = getattr(sys, "_base_executable", None) or sys.executable
    try:
        if venv.exists():
            shutil.rmtree(venv)
        venv.mkdir()
        (venv / UNFINISHED).touch()
    except OSError as error:
        raise Problem(
            f"The folder {venv} could not be made anew ({error}). Close what uses it, or remove it."
        ) from error
    done = subprocess.run([base, "-m", "venv", str(venv)], capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no message"]
        raise Problem(f"Python could not make the virtual environment {venv}: {said[-1]}")


def _logged(root: Path, command: list[str]) -> None:
    log = root / ".venv" / LOG
    with log.open("a", encoding="utf-8", errors="replace") as out:
        start = out.tell()
        code = subprocess.run(command, cwd=root, stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        with log.open(encoding="utf-8", errors="replace") as lines:
            lines.seek(start)
            text = lines.read()
        raise Problem("\n".join([*text.strip().splitlines()[-12:], "", _reason(text, log)]))


def _reason(text: str, log: Path) -> str:
    """pip's failure in one sentence, the last of what is shown."""
    if "No space left on device" in text or "not enough space on the disk" in text:
        return f"The disk is full. Make room and run the command again (the whole log: {log})."
    signs = (
        "NewConnectionError",
        "NameResolutionError",
        "ConnectTimeout",
        "ReadTimeout",
        "ProxyError",
        "SSLError",
    )
    if any(sign in text for sign in signs):
        return (
            "The package index could not be reached. Check the network, or tell pip about your proxy or "
            f"mirror, and run the command again (the whole log: {log})."
        )
    return f"pip could not install the packages; its last lines are above, the whole log is {log}."


@contextlib.contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """Two commands must not install into one folder at once. The system drops the lock if we are killed."""
    (root / "_build").mkdir(exist_ok=True)
    with (root / "_build" / "install.lock").open("a+b") as handle:
        if not _try_lock(handle):
            print("another command is installing; waiting for it", flush=True)
            while not _try_lock(handle):
                time.sleep(0.5)
        yield


def _try_lock(handle) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def torch_source(environ: Mapping[str, str] = os.environ) -> list[str]:
    """pip's extra source for PyTorch: its CPU index on a Linux machine without an NVIDIA GPU, else nothing.

    PyPI's Linux build of PyTorch brings several gigabytes of CUDA libraries. `COMPASS_TORCH` decides
    otherwise: `default` takes no extra source, `cpu` takes the CPU index on any machine, an address is taken
    as that index.
    """
    choice = environ.get("COMPASS_TORCH", "").strip()
    if choice == "default" or (not choice and not _is_linux_without_nvidia()):
        return []
    index = choice if "://" in choice else CPU_INDEX
    if choice not in ("", "cpu") and "://" not in choice:
        raise Problem(
            f"COMPASS_TORCH={choice} is not one of: default, cpu, or the address of a package index."
        )
    if reachable(f"{index.rstrip('/')}/torch/"):
        return ["--extra-index-url", index]
    print(
        f"PyTorch's CPU index ({index}) cannot be reached; taking PyTorch from the usual index, whose Linux "
        "build may bring several GB of CUDA libraries",
        flush=True,
    )
    return []


def _is_linux_without_nvidia() -> bool:
    if not sys.platform.startswith("linux") or platform.machine() not in ("x86_64", "aarch64"):
        return False
    if Path("/proc/driver/nvidia").exists():
        return False
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return True
    try:
        return subprocess.run([smi], capture_output=True, timeout=10).returncode != 0
    except (OSError, subprocess.TimeoutExpired):
        return True


def reachable(address: str, seconds: float = PROBE_SECONDS) -> bool:
    """Whether an address answers a request with success within the time, name look-up included."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(address, timeout=seconds) as reply:
                answers.append(reply.status == 200)
        except (OSError, ValueError):  # urllib's errors are OSErrors; ValueError is a malformed address
            answers.append(False)

    # A name look-up has no time limit of its own, so it is left behind in a thread that does not hold up the
    # exit.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers and answers[0])
