"""What a learner has done: a small JSON file beside the notebooks, and its table.

The file is written whole and moved into place, so a crash leaves the old one. A file that cannot be
understood is set aside under another name, never deleted. Where the folder cannot be written, progress
lasts until the kernel stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .definition import Exercise
from .registry import Chapter, chapters

FILE_NAME = ".compass-progress.json"
VERSION = 1
STATES = {"done": "✓", "attempted": "✗", "open": "○"}  # the furthest first

_memory: dict[
    str, dict
] = {}  # what this session recorded: merged into the file, and all there is without one


def _path() -> Path | None:
    """The file in the current folder; None where that folder was removed under our feet."""
    try:
        return Path.cwd() / FILE_NAME
    except OSError:
        return None


def _valid(data: object) -> bool:
    if (
        not isinstance(data, dict)
        or data.get("version") != VERSION
        or not isinstance(data.get("exercises"), dict)
    ):
        return False
    return all(
        isinstance(entry, dict)
        and isinstance(entry.get("state"), str)
        and entry["state"] in STATES
        and isinstance(entry.get("tries"), int)
        and entry["tries"] >= 0
        for entry in data["exercises"].values()
    )


def _load(path: Path) -> tuple[dict[str, dict], bool]:
    """The entries in the file, and whether it may be written over. A damaged file is first moved away."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}, True
    except OSError:
        return {}, False
    try:
        data = json.loads(raw.decode("utf8"))
    except (ValueError, RecursionError):
        data = None
    if _valid(data):
        return data["exercises"], True
    return {}, _set_aside(path)


def _set_aside(path: Path) -> bool:
    """Rename a damaged file to the first free name; False where even that is not allowed."""
    for number in range(1, 1000):
        target = path.with_name(f".compass-progress.damaged-{number}.json")
        try:
            # A hard link fails where the name is taken, so that no older damaged file is lost.
            os.link(path, target)
            os.unlink(path)
            return True
        except FileExistsError:
            continue
        except OSError:  # no hard links on this file system
            if target.exists():
                continue
            try:
                os.rename(path, target)
                return True
            except OSError:
                return False
    return False


def _save(path: Path, entries: dict[str, dict]) -> bool:
    """Write a new file beside the old one and move it into its place."""
    text = json.dumps(
        {"version": VERSION, "exercises": entries}, indent=1, sort_keys=True, ensure_ascii=False
    )
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=".compass-progress-", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        return True
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return False


def _merged(one: dict[str, dict], other: dict[str, dict]) -> dict[str, dict]:
    """Both records in one: done stays done, and the larger count of tries counts."""
    merged = {key: dict(entry) for key, entry in one.items()}
    for key, entry in other.items():
        old = merged.get(key, {"state": "open", "tries": 0})
        state = next(state for state in STATES if state in (old["state"], entry["state"]))
        merged[key] = {**old, "state": state, "tries": max(old["tries"], entry["tries"])}
    return merged


def record(key: str, verdict: str) -> bool:
    """Record a judged answer in the file beside the notebook.

    Use it from `check` only. 'right' makes an exercise done for good, 'wrong' makes it attempted; other
    verdicts are not recorded.

    Parameters
    ----------
    key : str
        The exercise's key.
    verdict : str
        As in `Feedback`.

    Returns
    -------
    bool
        Whether the file holds it now. False where the folder cannot be written (or nothing was to be
        recorded).

    Notes
    -----
    Two kernels that record within the same millisecond can lose one of the two records from the file; each
    session's own are written again with its next one.

    Examples
    --------
    >>> record("99.1", "unanswered")
    False
    """
    if verdict not in ("right", "wrong"):
        return False
    path = _path()
    stored, writable = _load(path) if path else ({}, False)
    entries = _merged(stored, _memory)
    old = entries.get(key, {"state": "open", "tries": 0})
    entry = {**old, "tries": old["tries"] + 1}
    if verdict == "right":
        entry["state"] = "done"
    elif old["state"] == "open":
        entry["state"] = "attempted"
    _memory[key] = entries[key] = entry
    return writable and path is not None and _save(path, entries)


@dataclass(frozen=True)
class Progress:
    """The state of every exercise: `states[key]` is 'done', 'attempted' or 'open'."""

    chapters: tuple[tuple[Chapter, tuple[Exercise, ...]], ...]
    states: dict[str, str]
    tries: dict[str, int]
    kept: bool = True

    @property
    def done(self) -> int:
        """How many exercises are done."""
        return sum(state == "done" for state in self.states.values())

    @property
    def total(self) -> int:
        """How many exercises there are."""
        return len(self.states)

    @property
    def next(self) -> Exercise | None:
        """What to do next: the first exercise that is not done after the last one that is, else the first of all.

        None when all are done.
        """
        items = [item for _, chapter in self.chapters for item in chapter]
        done = [self.states[item.key] == "done" for item in items]
        after = len(done) - done[::-1].index(True) if any(done) else 0
        ahead = [*items[after:], *items[:after]]
        return next((item for item in ahead if self.states[item.key] != "done"), None)

    def counted(self, items: Sequence[Exercise]) -> str:
        """'3 of 8 done, 1 attempted' for some of the exercises."""
        states = [self.states[item.key] for item in items]
        tried = f", {states.count('attempted')} attempted" if "attempted" in states else ""
        return f"{states.count('done')} of {len(items)} done{tried}"

    @property
    def advice(self) -> str:
        """What to do next, in words."""
        if self.next is None:
            return "All exercises are done."
        return f"Next: {self.next.key} {self.next.title}"

    def __repr__(self) -> str:
        lines = []
        width = max([len(item.title) for _, items in self.chapters for item in items], default=0)
        for chapter, items in self.chapters:
            lines.append(f"{chapter_words(chapter)} ({self.counted(items)})")
            for item in items:
                state, tries = self.states[item.key], self.tries[item.key]
                count = f", {tries} {'try' if tries == 1 else 'tries'}" if tries else ""
                lines.append(f"  {STATES[state]} {item.key:<5} {item.title:<{width}}  {state}{count}")
        where = (
            f"Kept in {FILE_NAME} beside the notebook."
            if self.kept
            else ("This folder cannot be written: progress lasts until the kernel stops.")
        )
        lines.append(f"{self.done} of {self.total} exercises done. {self.advice}")
        lines.append(where)
        return "\n".join(lines)

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        from .rendering import progress_html  # rendering knows Progress, so it is imported when first needed

        return {"text/plain": repr(self), "text/html": progress_html(self)}


def chapter_words(chapter: Chapter) -> str:
    """'Chapter 1 · Surprise'."""
    return f"Chapter {chapter.number}" + (f" · {chapter.title}" if chapter.title else "")


def progress() -> Progress:
    """Show which exercises are done, attempted and open.

    Use it in a notebook of its own, or at the end of a chapter. On the book's pages the browser keeps a
    record of its own.

    Returns
    -------
    Progress
        Shown as a table.

    Examples
    --------
    >>> 0 <= progress().done <= progress().total
    True

    See Also
    --------
    check : records what is shown here.
    """
    path = _path()
    stored, writable = _load(path) if path else ({}, False)
    writable = writable and path is not None and os.access(path.parent, os.W_OK)
    entries = _merged(stored, _memory)
    listed = tuple((chapter, tuple(items)) for chapter, items in chapters())
    keys = [item.key for _, items in listed for item in items]
    return Progress(
        listed,
        {key: entries[key]["state"] if key in entries else "open" for key in keys},
        {key: entries[key]["tries"] if key in entries else 0 for key in keys},
        writable,
    )
