"""Files of training curves, each read into the same four series of (step, value)."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FORMATS = ("csv", "jsonl", "json", "tensorboard")

# What each series is called out there, the most telling name first; case and /, -, ., spaces are ignored.
STEP_NAMES = (
    "step",
    "steps",
    "global_step",
    "iteration",
    "iter",
    "iters",
    "update",
    "updates",
    "trainer_global_step",
)
NAMES = {
    "train": (
        *("loss", "train_loss", "training_loss", "loss_train", "loss_training", "train_loss_step", "losses"),
        *("train_cross_entropy", "cross_entropy", "nll", "train_nll", "lm_loss", "train_lm_loss"),
    ),
    "validation": (
        *("validation_loss", "val_loss", "eval_loss", "valid_loss", "dev_loss"),
        *("loss_validation", "loss_val", "loss_eval", "loss_valid", "validation", "val"),
    ),
    "learning_rate": ("learning_rate", "lr", "train_learning_rate", "train_lr", "learning_rates"),
    "gradient_norm": ("gradient_norm", "grad_norm", "train_grad_norm", "train_gradient_norm", "gnorm"),
}
EPOCH_NAMES = ("epoch", "epochs", "train_epoch", "trainer_epoch")
NEEDED = ("step", "train")
OPTIONS = {"step": "--step-column", "train": "--loss-column", "validation": "--validation-column"}

Rows = Iterable[tuple[int, Mapping[str, Any]]]  # line number, values by column


class Series(NamedTuple):
    steps: np.ndarray
    values: np.ndarray


def read_series(
    path: Path, format: str | None, columns: Mapping[str, str]
) -> tuple[dict[str, Series], list[str]]:
    """Return the series that a file holds, in increasing steps, and what was done to get there."""
    path, format = locate(path, format)
    notes: list[str] = []
    if format == "tensorboard":
        raw = tensorboard_series(path, columns)
    else:
        rows = {"csv": csv_rows, "jsonl": jsonl_rows, "json": json_rows}[format](path, notes)
        raw = row_series(path, list(rows), columns)
    found = {}
    for role, points in raw.items():
        if points and not (role == "epoch" and shuffled(points)):
            found[role], note = in_order(f"{path}: {role.replace('_', ' ')}", points)
            if role != "epoch":
                notes += note
    return found, notes


def shuffled(points: list[tuple[float, float]]) -> bool:
    """Whether steps go back, which only :func:`in_order` understands, with losses."""
    return bool((np.diff([step for step, _ in points]) < 0).any())


def steps_of_a_pass(epochs: Series) -> float | None:
    """Steps of one pass over the text, from the epochs beside the steps; None where they do not tell.

    Whole numbers count the passes that are over (or, from 1 on, the pass that runs); fractions say more.
    """
    steps, epoch = epochs
    steps, epoch = steps[np.isfinite(epoch)], epoch[np.isfinite(epoch)]
    if (epoch != np.round(epoch)).any():
        begun = (epoch > 0) & (steps > 0)
        ratio = steps[begun] / epoch[begun]
    else:
        first_of_each = np.flatnonzero(np.diff(epoch) == 1) + 1
        passes = epoch[first_of_each] - epoch[:1]
        over = passes > 0
        ratio = (steps[first_of_each][over] - steps[:1]) / passes[over]
    ratio = ratio[ratio > 0]
    return float(np.median(ratio)) if len(ratio) else None


def locate(path: Path, format: str | None) -> tuple[Path, str]:
    """The file to read and its format, from its name if nobody says."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a file, or a folder of TensorBoard events")
    if path.is_dir():
        if any(path.glob("*tfevents*")):
            return path, "tensorboard"
        if (path / "trainer_state.json").exists():
            return path / "trainer_state.json", "json"
        below = sorted({str(file.parent) for file in path.rglob("*tfevents*")})
        more = f"; these do: {', '.join(below[:5])}" if below else ""
        raise ValueError(f"{path} holds no TensorBoard event file and no trainer_state.json{more}")
    if format is not None:
        return path, format
    suffixes = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
    if "tfevents" in path.name:
        return path, "tensorboard"
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{path} has a name that tells no format; say which it is: {', '.join(FORMATS)} (--format)"
        )
    return path, suffixes[path.suffix.lower()]


# -------------------------------------------------------------------------------------------------------- rows


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error.reason} at byte {error.start}") from error


def csv_rows(path: Path, notes: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    text = text_of(path)
    head = next((line for line in text.splitlines() if line.strip()), "")
    if not head:
        raise ValueError(f"{path} is empty; a header such as step,loss and one line a step are needed")
    delimiter = max(",\t;", key=head.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        if None in row:
            raise ValueError(
                f"{path}, line {reader.line_num}, has more fields than the header's {len(reader.fieldnames or ())}"
            )
        yield reader.line_num, row


def jsonl_rows(path: Path, notes: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    lines = text_of(path).splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines) and number > 1:
                notes.append(f"line {number} is cut off, as by a crash, and was left out")
                return
            raise ValueError(f"{path}, line {number}, is no JSON: {line[:60]!r}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}, is no JSON object: {line[:60]!r}")
        yield number, row


def json_rows(path: Path, notes: list[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """A trainer's state (its log_history), or a list of objects."""
    try:
        document = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}; is it JSON lines? (--format jsonl)") from error
    rows = document.get("log_history") if isinstance(document, dict) else document
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(
            f"{path} is no list of objects and has no log_history, as the state of Hugging Face's Trainer has"
        )
    return iter(list(enumerate(rows, 1)))


def row_series(path: Path, rows: list, columns: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    if not rows:
        raise ValueError(f"{path} holds no line of numbers")
    chosen = choose(path, "column", names, columns, ("step", *NAMES))
    step_name = chosen.pop("step")
    series: dict[str, list[tuple[float, float]]] = {role: [] for role in chosen}
    for number, row in rows:
        step = as_number(path, number, step_name, row.get(step_name))
        for role, name in chosen.items():
            value = as_number(path, number, name, row.get(name))
            if value is None:
                continue
            if step is None or not np.isfinite(step):
                raise ValueError(f"{path}, line {number}, has a {name!r} and no {step_name!r}")
            series[role].append((step, value))
    if not series["train"]:
        raise ValueError(f"{path} has nothing in its column {chosen['train']!r}")
    series["epoch"] = epoch_points(names, rows, step_name)
    return series


def epoch_points(names: list[str], rows: list, step_name: str) -> list[tuple[float, float]]:
    """Epochs beside their steps. Nobody asked for them, so one that cannot be read is no error."""
    name = next((name for name in names if simplified(name) in EPOCH_NAMES), None)
    points = []
    for _, row in rows if name is not None else ():
        try:
            step, epoch = float(row.get(step_name)), float(row.get(name))
        except (TypeError, ValueError):
            continue
        if np.isfinite(step) and np.isfinite(epoch):
            points.append((step, epoch))
    return points


def as_number(path: Path, line: int, name: str, value: Any) -> float | None:
    """A number, NaN and infinity included; None where there is nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}, line {line}: {name} is {value!r}, which is no number") from error


def choose(
    path: Path, what: str, names: list[str], given: Mapping[str, str], roles: Iterable[str]
) -> dict[str, str]:
    """Which name has which role: as given, else by its usual names."""
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(simplified(name), []).append(name)
    chosen = {}
    for role in roles:
        if role in given:
            if given[role] not in names:
                raise ValueError(f"{path} has no {what} {given[role]!r}; it has {listed(names)}")
            chosen[role] = given[role]
            continue
        usual = STEP_NAMES if role == "step" else NAMES[role]
        hit = next((plain[name] for name in usual if name in plain), None)
        if hit is not None and len(hit) > 1:
            raise ValueError(
                f"{path} has several {what}s for {said(role)}: {listed(hit)}; choose one ({asked(role)})"
            )
        if hit is not None:
            chosen[role] = hit[0]
        elif role in NEEDED:
            raise ValueError(
                f"{path} has no {what} for {said(role)}; it has {listed(names)}: name it ({asked(role)})"
            )
    return chosen


def simplified(name: str) -> str:
    """Lower case, one kind of joint, and without the run's name that an export puts before ' - '."""
    return re.sub(r"[\s/.\-]+", "_", str(name).split(" - ")[-1].strip().lower())


def said(role: str) -> str:
    return {"step": "the step", "train": "the training loss"}.get(role, f"the {role.replace('_', ' ')}")


def asked(role: str) -> str:
    option = f", {OPTIONS[role]} on the command line" if role in OPTIONS else ""
    return f"columns={{{role!r}: ...}}{option}"


def listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12]) or "none"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


# -------------------------------------------------------------------------------------------------- TensorBoard


def tensorboard_series(path: Path, columns: Mapping[str, str]) -> dict[str, list[tuple[float, float]]]:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise ImportError(
            'TensorBoard event files need the package tensorboard: pip install "lossutils[tensorboard]"'
        ) from error
    # 0 keeps every event; what a restarted run overwrites is left to the rule that all formats share.
    events = EventAccumulator(
        str(path), size_guidance={"scalars": 0, "tensors": 0}, purge_orphaned_data=False
    )
    events.Reload()
    tags = events.Tags()
    names = [*tags["scalars"], *tags["tensors"]]
    if not names:
        raise ValueError(f"{path} holds no scalar event")
    if "step" in columns:
        raise ValueError("columns must not name a step for TensorBoard: each event has its own")
    series = {}
    for role, tag in choose(path, "tag", names, columns, NAMES).items():
        if tag in tags["scalars"]:
            series[role] = [(float(event.step), float(event.value)) for event in events.Scalars(tag)]
        else:  # a writer of TensorFlow 2
            arrays = [(event.step, make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
            if any(array.size != 1 for _, array in arrays):
                raise ValueError(f"{path}: tag {tag!r} holds tensors, not one number a step")
            series[role] = [(float(step), float(array.reshape(()))) for step, array in arrays]
    epoch = next((tag for tag in tags["scalars"] if simplified(tag) in EPOCH_NAMES), None)
    if epoch is not None:
        series["epoch"] = [(float(event.step), float(event.value)) for event in events.Scalars(epoch)]
    return series


# -------------------------------------------------------------------------------------------------------- order


def in_order(what: str, points: list[tuple[float, float]]) -> tuple[Series, list[str]]:
    """Strictly increasing steps, and notes on what that took.

    Equal steps one after the other (micro-batches) are averaged. A step that comes again later is a run that was
    resumed: what was recorded from that step on is replaced, as those updates were undone. Steps that are merely out of
    order are sorted.
    """
    steps, values = (np.array(column) for column in zip(*points, strict=True))
    notes = []
    new = np.concatenate([[True], np.diff(steps) != 0])
    if not new.all():
        group = np.cumsum(new) - 1
        values = np.bincount(group, values) / np.bincount(group)
        notes.append(
            f"{what}: {len(steps) - int(new.sum())} values at the step of the value before were averaged"
        )
        steps = steps[new]
    if (np.diff(steps) > 0).all():
        return Series(steps, values), notes
    distinct = len(np.unique(steps))
    if distinct == len(steps):
        order = np.argsort(steps, kind="stable")
        notes.append(f"{what}: the steps were out of order and were sorted")
        return Series(steps[order], values[order]), notes
    kept: list[int] = []
    restarts = []
    for i, step in enumerate(steps):
        if kept and step <= steps[kept[-1]]:
            restarts.append(step)
            while kept and steps[kept[-1]] >= step:
                kept.pop()
        kept.append(i)
    if len(kept) < distinct / 2:
        raise ValueError(
            f"{what}: the steps are out of order and repeat ({len(steps)} values at {distinct} steps): this is neither "
            "one run nor a resumed one. Is it several runs in one file?"
        )
    where = ", ".join(f"{step:g}" for step in restarts[:5]) + (" and more" if len(restarts) > 5 else "")
    notes.append(
        f"{what}: resumed at step {where}; {len(steps) - len(kept)} earlier values from there on were replaced"
    )
    return Series(steps[kept], values[kept]), notes
