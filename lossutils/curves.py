"""Read a training curve (our history, CSV, JSON, a trainer's state, TensorBoard) and say what it shows.

:func:`diagnose` names what can be seen in a curve, with its evidence, the steps, and what to try next. It says "can't
tell" where the curve cannot tell.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import _checks
from . import _curve_findings as rules
from ._curve_findings import Finding
from ._curve_readers import FORMATS, NAMES, read_series, steps_of_a_pass
from ._curve_run import SERIES, Run, smooth
from ._curve_view import MIN_POINTS, View

__all__ = ["Diagnosis", "Finding", "FORMATS", "KINDS", "Run", "diagnose", "read_run", "smooth"]

# Where their readers find them.
Finding.__module__ = Run.__module__ = smooth.__module__ = __name__

KINDS = (
    "healthy",
    "plateau",
    "divergence",
    "spike",
    "overfitting",
    "underfitting",
    "leak",
    "bad_start",
    "noise",
    "unknown",
)
"""What a finding can be. "noise" and "unknown" say that the curve can't tell."""


@dataclass(frozen=True)
class Diagnosis:
    """What :func:`diagnose` says; ``str(diagnosis)`` is a report in words.

    Attributes
    ----------
    findings : tuple of Finding
        The most severe first. If nothing is wrong, one finding that says "healthy" or why the curve can't tell.
    cannot_tell : dict of str to str
        What could not be looked at, and what it would need.
    facts : dict of str to float
        Points, the noise of one loss, the first loss, the mean of the last tenth, and the like.
    notes : tuple of str
        What was done to the numbers when they were read.
    name : str
        Of the run.
    """

    findings: tuple[Finding, ...]
    cannot_tell: dict[str, str] = field(default_factory=dict)
    facts: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    name: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the findings, in their order."""
        return tuple(finding.kind for finding in self.findings)

    @property
    def healthy(self) -> bool:
        """Whether the curve was long enough to judge and nothing was found."""
        return self.kinds == ("healthy",)

    def __str__(self) -> str:
        facts = self.facts
        head = f"{self.name or 'run'}: {', '.join(kind.replace('_', ' ') for kind in self.kinds)}"
        lines = [
            head,
            f"  {facts['points']:.0f} losses, steps {facts['first_step']:g} to {facts['last_step']:g}; the first is "
            f"{facts['first_loss']:.3f}, the last tenth has a mean of {facts['end']:.3f}, "
            f"one loss a noise of {facts['noise']:.3f} nats",
        ]
        for finding in self.findings:
            lines += ["", f"  {finding}"]
        if self.cannot_tell:
            lines += ["", "  can't tell"]
            lines += [f"    {kind.replace('_', ' ')}: {why}" for kind, why in self.cannot_tell.items()]
        if self.notes:
            lines += ["", *(f"  note: {note}" for note in self.notes)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON has it: numbers that are not finite become None."""
        return {
            "name": self.name,
            "kinds": list(self.kinds),
            "findings": [finding.to_dict() for finding in self.findings],
            "cannot_tell": dict(self.cannot_tell),
            "facts": {key: value if math.isfinite(value) else None for key, value in self.facts.items()},
            "notes": list(self.notes),
        }

    def to_json(self) -> str:
        """The diagnosis as JSON text, with all digits."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)


def read_run(
    path: str | os.PathLike,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    vocab_size: int | None = None,
    floor: float | None = None,
    pass_steps: float | None = None,
    name: str | None = None,
) -> Run:
    """Read a training curve from a file, or from a folder of TensorBoard events.

    Use it on a log of your own, whoever wrote it.

    Parameters
    ----------
    path : path
        CSV (commas, tabs or semicolons, with a header), JSON lines (as :meth:`History.to_jsonl` writes them), JSON (a
        list of objects, or the ``trainer_state.json`` of Hugging Face's Trainer), a TensorBoard event file or its
        folder.
    format : {"csv", "jsonl", "json", "tensorboard"}, optional
        None goes by the name.
    columns : mapping, optional
        Names of the columns, keys or tags where they are not the usual ones, by role: "step", "train", "validation",
        "learning_rate", "gradient_norm". Known without being told are, among others, step, global_step, iteration;
        loss, train_loss, train/loss; val_loss, eval_loss, validation_loss; lr; grad_norm.
    vocab_size, floor, pass_steps, name
        As in :class:`Run`. Without `pass_steps` it is taken from the log's epochs, if it has some; the name is the
        file's if none is given.

    Returns
    -------
    Run
        Its `notes` say what was done to the steps.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A format that cannot be told, a missing column (the message names those that are there), two that fit, a value
        that is no number (with its line), a loss without a step, no finite training loss, steps of several runs.
    ImportError
        Event files without the package tensorboard: ``pip install "lossutils[tensorboard]"``.

    Notes
    -----
    Steps out of order are sorted. A step that comes again later in the file is a run that was resumed from a
    checkpoint: all that was recorded from that step on is replaced by what came later, as those updates were undone.
    Equal steps one after the other are averaged. Each of the three leaves a note. An empty field is no value; "nan"
    and "inf" are losses.

    A loss that was averaged over many steps before it was written, as Trainer's is, has less noise than a batch.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "log.csv"
    ...     _ = path.write_text("step,loss,val_loss\\n0,3.9,3.9\\n1,3.5,\\n2,3.2,3.3\\n")
    ...     run = read_run(path, vocab_size=46)
    >>> run.train, run.validation_steps
    (array([3.9, 3.5, 3.2]), array([0., 2.]))

    See Also
    --------
    Run.from_history : what :func:`lossutils.training.train` returned.
    """
    if format is not None:
        _checks.choice("format", format, FORMATS)
    columns = dict(columns or {})
    for role in columns:
        _checks.choice("columns", role, ("step", *NAMES))
    path = Path(path)
    series, notes = read_series(path, format, columns)
    if "train" not in series:
        raise ValueError(f"{path} holds no training loss")
    steps, train = series.pop("train")
    if not np.isfinite(train).any():
        raise ValueError(
            f"{path}: none of the {len(train)} training losses is a finite number; there is no curve to read"
        )
    run: dict[str, Any] = {"steps": steps, "train": train}
    if "validation" in series:
        run["validation_steps"], run["validation"] = series["validation"]
    for role in SERIES:
        if role in series:
            known = dict(zip(series[role].steps, series[role].values, strict=True))
            run[role] = np.array([known.get(step, math.nan) for step in steps])
    if pass_steps is None and "epoch" in series:
        pass_steps = steps_of_a_pass(series["epoch"])
    name = path.stem if name is None and path.is_file() else path.name if name is None else name
    return Run(
        **run, vocab_size=vocab_size, floor=floor, pass_steps=pass_steps, name=name, notes=tuple(notes)
    )


SEVERITY = ("severe", "warning", "unclear", "fine")


def diagnose(run: Run, *, bigger: Run | None = None) -> Diagnosis:
    """Say what a training curve shows, with evidence and steps, and what to try next.

    Use it on a run that puzzles you, and on one that does not.

    Parameters
    ----------
    run : Run
        The curve and what is known about it. The more is known, the more can be told: see Notes.
    bigger : Run, optional
        The same training of a bigger model, to see under-fitting by.

    Returns
    -------
    Diagnosis
        Its findings are of these kinds:

        - **divergence**: the loss climbs and stays up for over a quarter of the run, stands half a nat above ln V for
          as long, only rises, or is not a number;
        - **spike**: it jumps by six times its noise and a tenth of its progress, and comes back;
        - **plateau**: it is flat for a fifth of the run and then falls at least seven times as fast; or it ends above
          90 % of ln V, or with 90 % of the way to the floor left, without having learned anything;
        - **overfitting**: validation rises by 5 % of what it had gained and by 4 times its own noise, training does
          not;
        - **underfitting**: a quarter of the way to the floor is left, or 5 % of a bigger run's progress is missing;
        - **leak**: within the first pass over the text training gains twice as much as validation, or more; or, where
          the length of a pass is not known, training falls and validation never gains a fifth of that; or validation
          is clearly below what any text costs (the floor if known, else 3 % of ln V);
        - **bad_start**: the first loss is half a nat or more above ln V;
        - **noise**: first and last fifth differ by less than four standard errors: the curve can't tell;
        - **unknown**: fewer than 20 points, a jump at the end, or a training loss that is too good with nothing
          to compare it with: the curve can't tell;
        - **healthy**: none of these.

    Raises
    ------
    TypeError
        If `run` or `bigger` is no Run.

    Notes
    -----
    What cannot be seen is said in ``cannot_tell``: over-fitting needs three validation losses, under-fitting the
    floor or a bigger run, a bad start ln V. What no curve shows is not found: gradients that weigh sequences rather
    than tokens leave the loss as it is (the clinic's "mean of means").

    A leak is told from over-fitting by the length of a pass over the text (``Run.pass_steps``). In the first pass each
    batch is new, so the training loss is a loss on new text; where validation is far above it, the answer is in the
    input. Without that length nobody can tell: on most texts a model whose targets were not shifted looks as one that
    learns a small text by heart. Its validation loss falls first, as it learns how often each token comes, and then
    rises. It is called over-fitting then.

    The noise of one loss is estimated from second differences (median, so that jumps don't count):
    ``sd = median |x[t + 1] - 2 x[t] + x[t - 1]| / (0.6745 √6)``. Losses that were smoothed before they were recorded
    look less noisy than they are; where levels are compared, block means guard against that.

    The rules were made on the known world and on Python's help topics. ``book/experiments/clinic_rates.py`` tried them
    on seeds, models and texts that were not used to make them, with every loss and as a log of means of five: 231 of
    231 sick runs were named rightly (21 of each of eleven patients), and none of 210 healthy runs was flagged. Without
    the length of a pass 14 of 21 unshifted targets and 14 of 21 over-fitting runs were named.
    The intervals stand in chapter 7, "Sick curves". These are the clinic's own patients; a log with two illnesses, or
    with one that is not in the clinic, may be read wrongly, so take a finding as a question to look into.

    Examples
    --------
    >>> import numpy as np
    >>> steps = np.arange(200)
    >>> loss = 2 + 1.8 * np.exp(-steps / 30) + 0.05 * np.random.default_rng(0).standard_normal(200)
    >>> diagnose(Run(steps, loss, vocab_size=46)).kinds
    ('healthy',)
    >>> loss[120:126] += 4
    >>> diagnosis = diagnose(Run(steps, loss, vocab_size=46))
    >>> diagnosis.kinds, diagnosis.findings[0].first_step
    (('spike',), np.float64(120.0))

    See Also
    --------
    lossutils.clinic : runs with a known illness.
    lossutils.plotting.plot_diagnosis : the findings, drawn into the curve.
    """
    if not isinstance(run, Run):
        raise TypeError(
            f"run must be a lossutils.curves.Run, got {type(run).__name__}: Run.from_history makes one"
        )
    if bigger is not None and not isinstance(bigger, Run):
        raise TypeError(f"bigger must be a lossutils.curves.Run, got {type(bigger).__name__}")
    view = View(run)
    cannot_tell = _blind(run, bigger)
    findings = [
        finding
        for finding in (rules.not_finite(run) or rules.vanished(run), rules.bad_start(view))
        if finding
    ]
    short = len(view) < MIN_POINTS
    if not short:
        findings += _shape(view, bigger, findings)
    if any(finding.kind == "divergence" for finding in findings) and run.steps[0] > 1:
        # The climb may be all that the first record saw.
        findings = [finding for finding in findings if finding.kind != "bad_start"]
        cannot_tell.setdefault(
            "bad_start", f"the run diverges, and its first record is that of step {run.steps[0]:g}"
        )
    if short and not findings:
        findings.append(_too_short(view))
    elif not findings:
        findings.append(_healthy(view))
    findings.sort(key=lambda finding: (SEVERITY.index(finding.severity), finding.first_step))
    facts = {
        "points": float(view.n_points),
        "first_step": float(view.first_step),
        "last_step": float(view.last_step),
        "first_loss": float(view.first_loss),
        "end": view.end,
        "lowest": view.best,
        "noise": view.noise,
    }
    return Diagnosis(tuple(findings), cannot_tell, facts, run.notes, run.name)


def _shape(view: View, bigger: Run | None, found: list[Finding]) -> list[Finding]:
    """What the shape of a curve shows; one cause at a time, as a diverged run shows everything."""
    if any(finding.kind == "divergence" for finding in found):
        return []
    findings = rules.divergence_or_spikes(view)
    if any(finding.kind == "divergence" for finding in findings):
        return findings
    if finding := rules.lost(view):
        return [finding]
    for rule in (rules.unlearned, rules.leak, rules.rising, rules.too_noisy):
        if finding := rule(view):
            return [*findings, finding]
    more = (rules.plateau(view), rules.overfitting(view))
    findings += [finding for finding in more if finding]
    if not any(finding.kind == "overfitting" for finding in findings) and (
        finding := rules.underfitting(view, bigger)
    ):
        findings.append(finding)
    return findings


def _blind(run: Run, bigger: Run | None) -> dict[str, str]:
    cannot = {}
    if rules.held_out_losses(run) is None:
        cannot["overfitting"] = "needs a validation loss at three steps or more"
    if run.validation is not None and run.pass_steps is None:
        cannot["leak or overfitting"] = "needs the steps of one pass over the text"
    elif run.validation is not None and not rules.in_the_first_pass(run).any():
        cannot["leak or overfitting"] = "needs a validation loss within the first pass"
    if run.floor is None and bigger is None:
        cannot["underfitting"] = "needs the floor, or a bigger run to compare with"
    if run.vocab_size is None:
        cannot["bad_start"] = "needs the vocabulary size, for ln V"
    elif not rules.first_is_seen(run):
        cannot["bad_start"] = f"the first recorded loss is that of step {run.steps[0]:g}"
    return cannot


def _too_short(view: View) -> Finding:
    return Finding(
        "unknown",
        "unclear",
        view.first_step,
        view.last_step,
        f"There {'is' if view.n_points == 1 else 'are'} {view.n_points} finite loss{'es' * (view.n_points != 1)}; a "
        f"shape needs {MIN_POINTS}.",
        "record the loss more often, each step if you can.",
        {"points": float(view.n_points)},
    )


def _healthy(view: View) -> Finding:
    run = view.run
    words = f"The loss falls from {view.first_loss:.3f} to {view.end:.3f} with a noise of {view.noise:.3f}"
    if run.floor is not None:
        words += f", {view.end - run.floor:+.3f} from the floor"
    return Finding(
        "healthy",
        "fine",
        view.first_step,
        view.last_step,
        words + "; no jump, no flat stretch before a fall.",
        "go on. A curve cannot show everything: weigh tokens rightly, and read what the model writes.",
        {"first_loss": float(view.first_loss), "end": view.end, "noise": view.noise},
    )
