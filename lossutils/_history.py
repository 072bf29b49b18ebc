"""What a training run recorded, in memory and in files."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# One row a step. A column may be empty: a history that was filled by hand may hold nothing but losses.
COLUMNS = {
    "loss": "losses",
    "learning_rate": "learning_rates",
    "gradient_norm": "gradient_norms",
    "tokens": "tokens",
}


@dataclass
class History:
    """What a training run recorded, one entry a step unless it says otherwise.

    Use it to draw a curve, to compare runs, and to keep them (:meth:`to_csv`, :meth:`to_jsonl`).

    Attributes
    ----------
    steps : list of int
        From 0: the number of updates made before.
    losses : list of float
        The loss of the batch before the update, nats/token for a language model.
    learning_rates : list of float
        What the schedule gave for this update.
    gradient_norms : list of float
        The Euclidean norm over all weights before it was clipped.
    tokens : list of int
        How many tokens were trained on up to and including this step.
    validation_steps, validation_losses : list of int, list of float
        What ``evaluate`` returned, and the number of updates made before. The last one comes after the last update, so
        it has no loss beside it.
    stopped : bool
        Whether the run was stopped before its last step.

    Examples
    --------
    >>> History(steps=[0, 1, 2, 3], losses=[3.0, 2.0, 1.5, 1.5]).smoothed(2)
    (array([0.5, 2.5]), array([2.5, 1.5]))
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    stopped: bool = False

    def smoothed(self, window: int = 25) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses averaged over consecutive blocks of ``window`` steps (a block mean has no lag)."""
        if not 1 <= window <= len(self.losses):
            raise ValueError(
                f"window is {window}; it must lie between 1 and the {len(self.losses)} recorded steps"
            )
        blocks = len(self.losses) // window
        cut = blocks * window
        return (
            np.asarray(self.steps[:cut], dtype=float).reshape(blocks, window).mean(axis=1),
            np.asarray(self.losses[:cut]).reshape(blocks, window).mean(axis=1),
        )

    def rows(self) -> list[dict[str, float | int]]:
        """One dict a step, with the keys step, loss, learning_rate, gradient_norm, tokens and validation_loss.

        A key that was not recorded at a step is left out.
        """
        by_step: dict[int, dict[str, float | int]] = {}
        for key, name in COLUMNS.items():
            values = getattr(self, name)
            if len(values) not in (0, len(self.steps)):
                raise ValueError(
                    f"{name} has {len(values)} entries and steps has {len(self.steps)}; they must be as many, or none"
                )
            for step, value in zip(self.steps, values, strict=False):
                by_step.setdefault(step, {"step": step})[key] = value
        for step, value in zip(self.validation_steps, self.validation_losses, strict=True):
            by_step.setdefault(step, {"step": step})["validation_loss"] = value
        return [by_step[step] for step in sorted(by_step)]

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write a CSV file: a header, then one line a step; what was not recorded is empty. No digit is lost."""
        text = io.StringIO()
        writer = csv.DictWriter(text, ["step", *COLUMNS, "validation_loss"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows())
        Path(path).write_text(text.getvalue(), encoding="utf-8", newline="\n")

    def to_jsonl(self, path: str | os.PathLike) -> None:
        """Write a file of JSON lines, one a step; a stopped run ends in ``{"stopped": true}``. No digit is lost."""
        rows = [*self.rows(), *([{"stopped": True}] if self.stopped else [])]
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="\n")

    @classmethod
    def from_jsonl(cls, path: str | os.PathLike) -> History:
        """Read what :meth:`to_jsonl` wrote; a line that it cannot have written is a ValueError that names it."""
        history = cls()
        for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
                if row.keys() == {"stopped"}:
                    history.stopped = bool(row["stopped"])
                    continue
                step = row["step"]
                if not isinstance(step, int) or not row.keys() <= {"step", *COLUMNS, "validation_loss"}:
                    raise ValueError
                if row.keys() & COLUMNS.keys():
                    history.steps.append(step)
                for key, name in COLUMNS.items():
                    if key in row:
                        getattr(history, name).append(row[key])
                if "validation_loss" in row:
                    history.validation_steps.append(step)
                    history.validation_losses.append(row["validation_loss"])
            except (ValueError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is no line of a training history: {line[:80]!r}"
                ) from error
        return history
