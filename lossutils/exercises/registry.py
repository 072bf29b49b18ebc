"""Which exercises there are. A chapter's module is imported when one of its keys is first asked for."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .definition import Exercise

KEY = re.compile(r"([1-9][0-9]?)\.([1-9][0-9]?)")


@dataclass(frozen=True)
class Chapter:
    """A chapter as the progress view shows it."""

    number: int
    title: str = ""
    page: str = ""


_exercises: dict[str, Exercise] = {}
_chapters: dict[int, Chapter] = {}


def register(*exercises: Exercise, title: str = "", page: str = "") -> None:
    """Make the exercises of one chapter known to `check`, `hint`, `solution` and `progress`.

    Use it once, at the end of a module ``lossutils/exercises/chapterNN.py``. Registering again replaces the
    chapter (so that a reload works).

    Parameters
    ----------
    *exercises : Exercise
        All exercises of one chapter.
    title : str
        The chapter's title.
    page : str
        The chapter's page, relative to the page that shows the progress ('01_surprise.html'); '' for no
        link.

    Raises
    ------
    ValueError
        If there are none, if they belong to different chapters, or if two have one key.
    TypeError
        If one is not an `Exercise`.

    Examples
    --------
    >>> register()
    Traceback (most recent call last):
    ValueError: exercises: none were given; register takes all exercises of one chapter

    See Also
    --------
    lossutils.exercises.temporary : registers for the length of a `with` block.
    """
    if not exercises:
        raise ValueError("exercises: none were given; register takes all exercises of one chapter")
    for exercise in exercises:
        if not isinstance(exercise, Exercise):
            raise TypeError(f"exercises: got {exercise!r}; each must be an Exercise")
    chapters = {exercise.chapter for exercise in exercises}
    if len(chapters) > 1:
        raise ValueError(f"exercises: got chapters {sorted(chapters)}; one call registers one chapter")
    if len({exercise.key for exercise in exercises}) < len(exercises):
        raise ValueError(f"exercises: got keys {[item.key for item in exercises]}; each must be used once")
    (number,) = chapters
    for key in [key for key, item in _exercises.items() if item.chapter == number]:
        del _exercises[key]
    _exercises.update({exercise.key: exercise for exercise in exercises})
    _chapters[number] = Chapter(number, title, page)


@contextmanager
def temporary(*exercises: Exercise, title: str = "", page: str = "") -> Iterator[None]:
    """Register exercises for the length of a `with` block, as tests do; everything is put back after it.

    Parameters
    ----------
    exercises : Exercise
        What is registered.
    title, page : str
        As in `register`.

    Yields
    ------
    None

    Examples
    --------
    >>> with temporary():
    ...     find("99.1") is None
    True
    """
    before = dict(_exercises), dict(_chapters)
    try:
        if exercises:
            register(*exercises, title=title, page=page)
        yield
    finally:
        for store, old in zip((_exercises, _chapters), before, strict=True):
            store.clear()
            store.update(old)


def load_chapter(number: int) -> None:
    """Import a chapter's definitions, where there are any. Errors inside them are not hidden."""
    if any(item.chapter == number for item in _exercises.values()):
        return
    name = f"{__package__}.chapter{number:02d}"
    if importlib.util.find_spec(name) is None:
        return
    known = sys.modules.get(name)
    if known is None:
        importlib.import_module(name)
    else:  # imported inside a `temporary` block, whose end forgot its exercises
        importlib.reload(known)


def find(key: object) -> Exercise | None:
    """The exercise with this key, or None; its chapter's module is imported when first needed."""
    if not isinstance(key, str):
        return None
    key = key.strip()
    match = KEY.fullmatch(key)
    if match and key not in _exercises:
        load_chapter(int(match[1]))
    return _exercises.get(key)


def keys_of_chapter(key: str) -> list[str]:
    """The keys of the known exercises in the chapter that `key` names, in order."""
    found = [item for item in _exercises.values() if str(item.chapter) == key.strip().split(".")[0]]
    return [item.key for item in sorted(found, key=lambda exercise: exercise.number)]


def all_exercises() -> list[Exercise]:
    """Every exercise of the book, in order.

    Use it for an overview or in tests that run over the whole book. Imports every chapter's definitions.

    Returns
    -------
    list of Exercise
        Sorted by chapter and number.

    Examples
    --------
    >>> keys = [exercise.number for exercise in all_exercises()]
    >>> keys == sorted(keys)
    True
    """
    for module in pkgutil.iter_modules(importlib.import_module(__package__).__path__):
        if match := re.fullmatch(r"chapter(\d\d)", module.name):
            load_chapter(int(match[1]))
    return sorted(_exercises.values(), key=lambda exercise: exercise.number)


def chapters() -> list[tuple[Chapter, list[Exercise]]]:
    """The chapters that have exercises, in order, each with its exercises."""
    exercises = all_exercises()
    return [
        (_chapters[number], [item for item in exercises if item.chapter == number])
        for number in sorted({item.chapter for item in exercises})
    ]
