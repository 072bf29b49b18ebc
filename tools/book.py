"""Building the book, and knowing whether what was built is still the book."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools import compass_launch, suite
from tools.environment import ROOT, STAMP, Problem, python, step

FOLDERS = ("benchmarks", "book", "lossutils", "tools", "tests/chapters")
FILES = ("_config.yml", "_toc.yml", "CITATION.cff", "LICENSE", "LICENSE-TEXT")
MARKER = "compass-built"
SITE = "COMPASS_SITE"  # the variable that tools/compass_site.py reads
_ADDRESS = re.compile(r"https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d+)?(?:/[A-Za-z0-9._~%-]+)*/?")


def site_address(site: str) -> str:
    """The address of the book's folder on the web, without a slash at its end.

    Raises
    ------
    ValueError
        When it is none: other pages and programs will be sent there.
    """
    site = site.strip()
    if not _ADDRESS.fullmatch(site) or site.endswith(".html"):
        raise ValueError(
            f"SITE={site}: not the address of a folder on the web, like https://example.org/compass"
        )
    return site.rstrip("/")


def html(root: Path = ROOT) -> Path:
    """The folder of the built pages."""
    return root / "_build" / "html"


def sources(root: Path = ROOT) -> Iterator[Path]:
    """Every file that a page may depend on, in a fixed order."""
    for name in FILES:
        if (root / name).is_file():
            yield root / name
    for folder in FOLDERS:
        for here, folders, files in os.walk(root / folder):
            folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
            yield from (
                Path(here) / f for f in sorted(files) if not f.startswith(".") and not f.endswith(".pyc")
            )


def fingerprint(root: Path = ROOT) -> str:
    """One hash of the names and contents of all sources, and of the environment that builds them.

    Of the other tests a page shows what `suite` says of them, so that alone counts: a test that is rewritten
    does not make the book old.
    """
    digest = hashlib.sha256()
    for path in sources(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update(repr(suite.modules(root)).encode())
    installed = root / ".venv" / STAMP
    digest.update(installed.read_bytes() if installed.exists() else b"")
    return digest.hexdigest()


def _marker(made_from: str, repository: str, branch: str, site: str = "") -> str:
    named = [repository, branch] if repository else []
    return " ".join([made_from, *named, *([f"at {site}"] if site else [])])


def is_current(root: Path = ROOT) -> bool:
    """Whether the built pages were made, without a warning, from exactly the sources that lie there now.

    With launch buttons or without, for a named site or none: all are the book.
    """
    try:
        built = (root / "_build" / MARKER).read_text(encoding="ascii")
    except OSError:
        return False
    return (html(root) / "index.html").is_file() and built.split(" ")[0] == fingerprint(root)


def build(root: Path = ROOT, *, repository: str = "", branch: str = "main", site: str = "") -> None:
    """Build the HTML book, every warning an error. Nothing is done when the built pages are current.

    With the address of a repository, each chapter gets launch buttons (tools/compass_launch.py); with that of the
    site where the pages will lie, each page gets its own address and a social card (tools/compass_site.py).

    Always from nothing: an incremental build is quicker, but it does not repeat the warnings of a page that
    has not changed, so a second try would pass; and it leaves the pages of deleted chapters behind.

    Raises
    ------
    Problem
        When a page has an error or a warning; the end of the log is shown.
    """
    if not (root / "_toc.yml").is_file():
        raise Problem(
            f"There is no _toc.yml in {root}: this is not the book's folder, or the copy is incomplete."
        )
    target = root / "_build"
    if is_current(root):
        wanted = _marker(fingerprint(root), repository, branch, site)
        if (target / MARKER).read_text(encoding="ascii") == wanted:
            return
    for old in (html(root), target / ".doctrees", target / "jupyter_execute"):
        shutil.rmtree(old, ignore_errors=True)
    (target / MARKER).unlink(missing_ok=True)
    target.mkdir(exist_ok=True)
    made_from = fingerprint(root)  # taken first: what changes during the build is built next time
    log = target / "book.log"
    run = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [str(python(root)), "-c", run, "build", ".", "-W", "--keep-going"]
    environ = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    environ |= {compass_launch.REPOSITORY: repository, compass_launch.BRANCH: branch, SITE: site}
    with step("building the book"):
        with log.open("w", encoding="utf-8", errors="replace") as out:
            code = subprocess.run(
                command, cwd=root, env=environ, stdout=out, stderr=subprocess.STDOUT
            ).returncode
        if code or not (html(root) / "index.html").is_file():
            raise Problem(
                "\n".join([*_telling_lines(log), "", f"The book was not built; the whole log is {log}."])
            )
    (target / MARKER).write_text(_marker(made_from, repository, branch, site), encoding="ascii")


def _telling_lines(log: Path, most: int = 30) -> list[str]:
    """The log's warnings and errors, or its end where it names none."""
    lines = (
        re.sub(r"\x1b\[[\d;]*m", "", log.read_text(encoding="utf-8", errors="replace")).strip().splitlines()
    )
    telling = [
        line for line in lines if any(word in line for word in ("WARNING", "ERROR", "CRITICAL", "Error:"))
    ]
    return [line[:400] for line in (telling or lines)[-most:]]
