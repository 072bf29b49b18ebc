"""The rules of :func:`lossutils.curves.diagnose`: each looks for one thing and says what it saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._curve_view import (
    CLEAR,
    FIRST_PASS,
    FIRST_STEPS,
    FLAT_RATIO,
    FLAT_SHARE,
    GAP_TO_BIGGER,
    GAP_TO_FLOOR,
    LATER_SHARE,
    LOST_LEVEL,
    LOST_SHARE,
    NO_HELP,
    RISE_NOISE,
    RISE_PROGRESS,
    START_NATS,
    TOO_GOOD,
    UNLEARNED,
    YOUNG_SHARE,
    Jump,
    View,
    noise,
)


@dataclass(frozen=True)
class Finding:
    """One thing that a curve shows.

    Attributes
    ----------
    kind : str
        One of ``lossutils.curves.KINDS``.
    severity : {"fine", "unclear", "warning", "severe"}
        "unclear" is a finding that the curve can't tell.
    first_step, last_step : float
        Where it shows.
    evidence : str
        What was seen, with its numbers (nats unless said).
    advice : str
        What to try or to look at next.
    numbers : dict
        The numbers of the evidence, unrounded.
    """

    kind: str
    severity: str
    first_step: float
    last_step: float
    evidence: str
    advice: str
    numbers: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        where = f"step {self.first_step:g}"
        if self.last_step != self.first_step:
            where = f"steps {self.first_step:g} to {self.last_step:g}"
        return (
            f"{self.kind.replace('_', ' ')} ({self.severity}, {where}): {self.evidence} Next: {self.advice}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON has it: numbers that are not finite become None."""
        numbers = {key: float(value) if math.isfinite(value) else None for key, value in self.numbers.items()}
        return {**vars(self), "numbers": numbers}


# ------------------------------------------------------------------------------------------------ not a number


def not_finite(run) -> Finding | None:
    bad = ~np.isfinite(run.train)
    if not bad.any():
        return None
    first = int(bad.argmax())
    good = run.train[np.isfinite(run.train)]
    step, value = run.steps[first], run.train[first]
    return Finding(
        "divergence",
        "severe",
        step,
        run.steps[-1],
        f"The loss is {value:g} at step {step:g} ({bad.sum()} of {bad.size} recorded losses are not finite)."
        + gradient_words(run, step),
        "go back to a checkpoint before that step; a smaller learning rate, a longer warm-up, clipping at norm 1. "
        "Look for log(0), a division by a count of 0, and float16 overflow in the loss.",
        {"step": step, "not_finite": float(bad.sum()), "lowest": float(good.min())},
    )


def vanished(run) -> Finding | None:
    """Some trainers write 0.0 where the loss was NaN; the gradient norm beside it gives it away."""
    if run.gradient_norm is None:
        return None
    bad = (run.train == 0) & ~np.isfinite(run.gradient_norm)
    if not bad.any():
        return None
    step = run.steps[bad.argmax()]
    return Finding(
        "divergence",
        "severe",
        step,
        run.steps[-1],
        f"The loss is exactly 0 and the gradient norm is not a number from step {step:g}: a trainer that filters NaN "
        "writes the loss so.",
        "go back to a checkpoint before that step; turn the filter off (logging_nan_inf_filter), bfloat16 for float16, "
        "a smaller learning rate.",
        {"step": step, "zeros": float(bad.sum())},
    )


def gradient_words(run, step: float) -> str:
    """What the gradient norm did before."""
    if run.gradient_norm is None:
        return ""
    before = run.gradient_norm[(run.steps < step) & np.isfinite(run.gradient_norm)]
    if len(before) < 10:
        return ""
    usual, last = float(np.median(before)), float(before[-5:].max())
    if last < 3 * usual:
        return ""
    return f" The gradient norm went from {usual:.2g} to {last:.2g} in the five points before."


# --------------------------------------------------------------------------------------- jumps that stay or pass


def divergence_or_spikes(view: View) -> list[Finding]:
    total = view.steps[-1] - view.steps[0]
    findings: list[Finding] = []
    passed: list[Jump] = []
    for jump in view.jumps:
        first, last = view.steps[jump.first], view.steps[jump.last]
        share = (last - first) / total
        numbers = {
            "level_before": jump.level,
            "peak": jump.peak,
            "end": view.end,
            "share_of_the_run": share,
            "noise": view.noise,
        }
        seen = (
            f"The loss leaves {jump.level:.2f} at step {first:g} and climbs to {jump.peak:.2f}"
            + ("" if jump.over else f"; it ends at {view.end:.2f}")
            + "."
            + gradient_words(view.run, first)
        )
        if share > LOST_SHARE or (not jump.over and share > YOUNG_SHARE):
            if jump.over:
                seen += f" It needs {100 * share:.0f} % of the run to come back: the end looks calm, the run is lost."
            findings.append(
                Finding(
                    "divergence",
                    "severe",
                    first,
                    last,
                    seen,
                    "a learning rate 3 to 10 times smaller, a longer warm-up, clipping at norm 1; restart, or go back "
                    "to a checkpoint before the climb.",
                    numbers,
                )
            )
        elif jump.over:
            passed.append(jump)
        else:
            findings.append(
                Finding(
                    "unknown",
                    "unclear",
                    first,
                    last,
                    seen + " The record ends too soon after it to tell a spike from a divergence.",
                    "watch a few more steps before you stop or go on.",
                    numbers,
                )
            )
    if passed and not any(finding.kind == "divergence" for finding in findings):
        findings.append(spikes(view, passed))
    return findings


def spikes(view: View, jumps: list[Jump]) -> Finding:
    worst = max(jumps, key=lambda jump: jump.peak - jump.level)
    first, last = view.steps[worst.first], view.steps[worst.last]
    others = f" There are {len(jumps)} such jumps; this is the highest." if len(jumps) > 1 else ""
    return Finding(
        "spike",
        "warning",
        view.steps[jumps[0].first],
        view.steps[jumps[-1].last],
        f"The loss jumps from {worst.level:.2f} to {worst.peak:.2f} at step {first:g} and is back after step {last:g}."
        + gradient_words(view.run, first)
        + others,
        "look at the batches of these steps. If they are sound, it is a meeting of state and data: restart from a "
        "checkpoint before it and skip them; if it comes again, a smaller learning rate or tighter clipping.",
        {
            "level_before": worst.level,
            "peak": worst.peak,
            "first_step_of_the_highest": first,
            "last_step_of_the_highest": last,
            "jumps": float(len(jumps)),
            "noise": view.noise,
        },
    )


def lost(view: View) -> Finding | None:
    """Worse than a blind guess for long, though no level was left: the climb lies before or in the first records."""
    if view.ln_v is None:
        return None
    width = max(3, len(view) // 50)
    level = np.array(
        [np.median(view.loss[max(0, i - width // 2) : i + width // 2 + 1]) for i in range(len(view))]
    )
    above = level > view.ln_v + LOST_LEVEL
    share = float(above.mean())
    if share <= LOST_SHARE:
        return None
    # A bad start that takes long comes down from the very first loss; a run that was lost climbs from ln V.
    if view.run.steps[0] <= 1 and level.max() <= view.first_loss + LOST_LEVEL:
        return None
    first, last = view.steps[np.flatnonzero(above)[[0, -1]]]
    return Finding(
        "divergence",
        "severe",
        first,
        last,
        f"For {100 * share:.0f} % of the run the loss is more than {LOST_LEVEL:g} above ln V = {view.ln_v:.2f}, up to "
        f"{view.loss.max():.2f}: worse than a blind guess. It ends at {view.end:.2f}.",
        "a learning rate 3 to 10 times smaller, a longer warm-up, clipping at norm 1; then start again. Record the "
        "first steps one by one, to see it climb.",
        {"share_of_the_run": share, "ln_v": view.ln_v, "peak": float(view.loss.max()), "end": view.end},
    )


# -------------------------------------------------------------------------------------------- flat, and too noisy


def unlearned(view: View) -> Finding | None:
    """Nothing learned at all; needs ln V."""
    if view.ln_v is None:
        return None
    level, ln_v = view.end, view.ln_v
    least = (1 - UNLEARNED) * ln_v  # what it would have to gain
    second_half = view.loss[len(view) // 2 :]
    # The last tenth alone may be too noisy to know the level by; a level known to a tenth of `least` is known.
    if (
        min(level, second_half.mean()) < UNLEARNED * ln_v
        or view.error(len(second_half)) > 0.1 * least
        or view.progress - 2 * view.end_error > least
    ):
        return None
    return Finding(
        "plateau",
        "severe",
        view.first_step,
        view.last_step,
        f"The loss ends at {level:.3f}, {100 * level / ln_v:.0f} % of ln V = {ln_v:.3f}: nothing has been learned.",
        "check that the weights change at all (learning rate, frozen parameters, optimizer given the right ones), that "
        "inputs and targets belong together, then a learning rate 10 times larger.",
        {"end": level, "ln_v": ln_v, "progress": view.progress},
    )


def plateau(view: View) -> Finding | None:
    """A flat stretch with a fall after it: the reverse of how a healthy curve bends."""
    loss, steps = view.calm, view.steps
    n = min(40, len(loss) // 2)
    # Blocks of equal length in steps, as a plateau is one of time.
    edges = np.linspace(steps[0], steps[-1], n + 1)
    block = np.clip(np.searchsorted(edges, steps, side="right") - 1, 0, n - 1)
    counts = np.bincount(block, minlength=n)
    filled = counts > 0
    centres = (edges[:-1] + edges[1:]) / 2
    level = np.interp(centres, centres[filled], np.bincount(block, loss, n)[filled] / counts[filled])
    error = view.noise / np.sqrt(max(1.0, len(loss) / n))
    width = max(2, round(FLAT_SHARE * n))
    fall = level[:-width] - level[width:]  # over `width` blocks, beginning with each
    later = np.maximum.accumulate(fall[::-1])[::-1]  # the fastest fall from there on
    flat = (
        (fall < FLAT_RATIO * later)
        & (later > LATER_SHARE * view.progress)
        & (later > 2 * CLEAR * error)
        & (np.abs(fall) < FLAT_RATIO * later + 2 * error)
    )
    if not flat.any() or view.progress <= 0:
        return None
    first = int(flat.argmax())
    last = int(np.flatnonzero(flat)[-1]) + width
    height = float(level[first:last].mean())
    drop = float(later[first])
    begin, end = steps[np.searchsorted(steps, edges[[first, last]]).clip(max=len(steps) - 1)]
    return Finding(
        "plateau",
        "warning",
        begin,
        end,
        f"The loss stays near {height:.3f} from step {begin:g} to {end:g}, then falls by {drop:.3f} within "
        f"{100 * FLAT_SHARE:.0f} % of the run.",
        "train on, as it has left the plateau. To leave it sooner: a larger learning rate or a shorter warm-up, a "
        "better scale of the first weights, easier examples first.",
        {"level": height, "fall_after": drop, "progress": view.progress, "noise": view.noise},
    )


def rising(view: View) -> Finding | None:
    """A loss that only climbs, too slowly for a jump."""
    loss, k = view.loss, max(2, len(view) // 5)
    begin, end = float(loss[:k].mean()), float(loss[-k:].mean())
    if end - begin <= CLEAR * math.sqrt(2) * view.error(k):
        return None
    return Finding(
        "divergence",
        "warning",
        view.first_step,
        view.last_step,
        f"The loss rises from {begin:.3f} in the first fifth to {end:.3f} in the last.",
        "check the sign of the loss and of the update; then a smaller learning rate.",
        {"first_fifth": begin, "last_fifth": end, "noise": view.noise},
    )


def too_noisy(view: View) -> Finding | None:
    """Whether the ends of the curve differ by more than chance."""
    loss, k = view.calm, max(2, len(view) // 5)
    change = float(loss[:k].mean() - loss[-k:].mean())
    error = math.sqrt(2) * view.error(k)
    if abs(change) > CLEAR * error:
        return None
    return Finding(
        "noise",
        "unclear",
        view.first_step,
        view.last_step,
        f"From the first fifth to the last the loss changes by {-change:+.3f} ± {error:.3f} (one standard error); one "
        f"loss has a noise of {view.noise:.3f}. That is no more than chance.",
        "record more steps, larger batches (noise falls as 1/√B), or a validation loss on the same tokens each time.",
        {"change": -change, "standard_error": error, "noise": view.noise},
    )


# ------------------------------------------------------------------------------------- against the validation loss


def leak(view: View) -> Finding | None:
    run = view.run
    advice = (
        "print one input and its target, token by token: the target of position t must be token t + 1; check that no "
        "layer sees ahead (the causal mask), and that no training text is in the validation set."
    )
    floor = run.floor
    lowest_possible = floor if floor is not None else TOO_GOOD * view.ln_v if view.ln_v is not None else None
    held_out = held_out_losses(run)
    if (apart := apart_in_the_first_pass(view)) and apart["gap"] > FIRST_PASS * apart["train_gain"]:
        return Finding(
            "leak",
            "severe",
            view.first_step,
            view.last_step,
            f"At step {apart['step']:g}, within the first pass over the text, training has fallen by "
            f"{apart['train_gain']:.2f} to {apart['train']:.3f} and validation stands at {apart['validation']:.3f}. In "
            "a first pass each batch is new and nothing is learned by heart: what training gained and validation "
            "did not is no knowledge of the text.",
            advice,
            apart,
        )
    numbers = {"train_end": view.end}
    if floor is not None:
        numbers["floor"] = floor
    if held_out is not None:
        gained = float(held_out[0] - held_out.min())
        numbers |= {
            "validation_end": float(held_out[-1]),
            "validation_gain": gained,
            "train_gain": view.progress,
        }
        # Who reads a small text often may gain as little, so this is for logs that do not tell the length of a pass.
        if (
            run.pass_steps is None
            and view.progress > 2 * CLEAR * view.end_error
            and gained < NO_HELP * view.progress
            and held_out.min() - view.end > (1 - NO_HELP) * view.progress
        ):
            return Finding(
                "leak",
                "severe",
                view.first_step,
                view.last_step,
                f"The training loss falls by {view.progress:.2f} to {view.end:.3f}, the validation loss gains only "
                f"{gained:.2f} at its best and ends at {held_out[-1]:.2f}: what is learned is no use on other text.",
                advice,
                numbers,
            )
        if lowest_possible is not None and clearly_below(held_out[-1], lowest_possible, view):
            return Finding(
                "leak",
                "severe",
                view.first_step,
                view.last_step,
                f"The validation loss ends at {held_out[-1]:.3f}, below {lowest_possible:.3f}, "
                + (
                    "the floor"
                    if floor is not None
                    else f"{100 * TOO_GOOD:.0f} % of ln V, less than any text costs"
                )
                + ": the answer must be in the input, for the validation text too.",
                advice,
                numbers,
            )
        return None
    if lowest_possible is not None and clearly_below(view.end, lowest_possible, view):
        return Finding(
            "unknown",
            "unclear",
            view.first_step,
            view.last_step,
            f"The training loss ends at {view.end:.3f}, below {lowest_possible:.3f}, "
            + (
                "the floor"
                if floor is not None
                else f"{100 * TOO_GOOD:.0f} % of ln V, less than new text costs"
            )
            + ". Either the targets leak or the text was learned by heart; without a validation loss nobody can tell.",
            advice + " And measure the loss on text that was not trained on.",
            numbers,
        )
    return None


def in_the_first_pass(run) -> np.ndarray:
    """Which validation losses were taken in the first pass, after the start."""
    steps = run.validation_steps
    return (steps <= run.pass_steps) & (steps > run.steps[0]) & np.isfinite(run.validation)


def apart_in_the_first_pass(view: View) -> dict[str, float] | None:
    """How far training and validation are apart at the last validation loss of the first pass, if that is known."""
    run = view.run
    if run.pass_steps is None or run.validation is None:
        return None
    first_pass = in_the_first_pass(run)
    if not first_pass.any():
        return None
    at = int(np.flatnonzero(first_pass)[-1])
    step = float(run.validation_steps[at])
    # Before it only, so that what is learned by heart later does not count; a mean over a tenth of the way there.
    before = view.steps <= step
    near = view.calm[before & (view.steps >= step - max(0.1 * (step - view.first_step), view.spacing))]
    if not len(near):
        return None
    train, error = float(near.mean()), view.error(len(near))
    found = {
        "step": step,
        "train": train,
        "validation": float(run.validation[at]),
        "train_gain": view.start - train,
        "gap": float(run.validation[at]) - train,
    }
    return found if min(found["gap"], found["train_gain"]) > CLEAR * error else None


def clearly_below(value: float, bound: float, view: View) -> bool:
    """Below by more than noise, and by a tenth of the bound (which may be known to the third digit only)."""
    return value < 0.9 * bound and bound - value > CLEAR * view.end_error


def held_out_losses(run) -> np.ndarray | None:
    """The finite validation losses, if there are at least three: one of them the best, one before or after it."""
    if run.validation is None:
        return None
    finite = run.validation[np.isfinite(run.validation)]
    return finite if len(finite) >= 3 else None


def overfitting(view: View) -> Finding | None:
    run = view.run
    held_out = held_out_losses(run)
    if held_out is None:
        return None
    steps = run.validation_steps[np.isfinite(run.validation)]
    best = int(held_out.argmin())
    rise = float(held_out[-1] - held_out[best])
    gained = float(held_out[0] - held_out[best])
    spread = noise(held_out) if len(held_out) >= 5 else 0.0
    after = view.loss[view.steps >= steps[best]]
    around = view.loss[np.abs(view.steps - steps[best]) <= (view.steps[-1] - view.steps[0]) / 20]
    if len(after) < 2 or len(around) < 1:
        return None
    error = view.noise * math.sqrt(1 / len(around) + 1 / view.tenth)
    if (
        rise < RISE_PROGRESS * gained
        or rise < RISE_NOISE * spread
        or rise < CLEAR * view.end_error
        or held_out[-2:].min() < held_out[best] + rise / 4  # the last one alone may be an accident
        or view.end > around.mean() + 2 * error  # training rose as well: not this
    ):
        return None
    if run.pass_steps is not None and run.pass_steps >= steps[-1]:
        return Finding(
            "unknown",
            "unclear",
            steps[best],
            steps[-1],
            f"The validation loss rises from {held_out[best]:.3f} at step {steps[best]:g} to {held_out[-1]:.3f} while "
            f"training falls, but a pass takes {run.pass_steps:g} steps: nothing was read twice, so this is no "
            "over-fitting.",
            "compare the two texts: does the training text change along the way, is it another kind of text, or does "
            "it hold the same passages several times? A small leak looks like this too.",
            {"best": float(held_out[best]), "best_step": float(steps[best]), "rise": rise},
        )
    return Finding(
        "overfitting",
        "severe" if rise > gained else "warning",
        steps[best],
        steps[-1],
        f"The validation loss is best at step {steps[best]:g} with {held_out[best]:.3f} and rises to "
        f"{held_out[-1]:.3f}, while the training loss goes from {around.mean():.3f} to {view.end:.3f}.",
        f"keep the checkpoint of step {steps[best]:g}; more text, fewer passes over it, weight decay or dropout, or a "
        "smaller model.",
        {
            "best": float(held_out[best]),
            "best_step": float(steps[best]),
            "validation_end": float(held_out[-1]),
            "rise": rise,
            "train_end": view.end,
        },
    )


# --------------------------------------------------------------------------------------- against what is possible


def underfitting(view: View, bigger) -> Finding | None:
    run = view.run
    held_out = held_out_losses(run)
    end = float(held_out[-1]) if held_out is not None else view.end
    whose = "validation" if held_out is not None else "training"
    falling = float(view.loss[-2 * view.tenth : -view.tenth].mean() - view.end)
    still = falling > max(2 * math.sqrt(2) * view.end_error, 0.02 * view.progress)
    trend = (
        f" It is still falling, by {falling:.3f} over the last tenth."
        if still
        else " The training loss falls no more."
    )
    advice = (
        "train longer first, with a schedule that ends later; then a higher learning rate, then a bigger model."
        if still
        else "a bigger model or a higher learning rate; check that regularisation is not too strong."
    )
    if run.floor is not None and view.start > run.floor:
        gap = end - run.floor
        way = view.start - run.floor
        if gap > UNLEARNED * way and gap > CLEAR * view.end_error:
            return Finding(
                "plateau",
                "severe",
                view.first_step,
                view.last_step,
                f"The {whose} loss ends at {end:.3f}, {100 * gap / way:.0f} % of the way to the floor of "
                f"{run.floor:.3f} is left: next to nothing has been learned.",
                "larger batches first, if single losses scatter; then as for a loss that stays at ln V: the learning "
                "rate, frozen parameters, inputs beside targets.",
                {"end": end, "floor": run.floor, "gap": gap, "share_left": gap / way},
            )
        if gap > GAP_TO_FLOOR * way and gap > CLEAR * view.end_error:
            return Finding(
                "underfitting",
                "warning",
                view.first_step,
                view.last_step,
                f"The {whose} loss ends at {end:.3f}, {gap:.3f} above the floor of {run.floor:.3f}: "
                f"{100 * gap / way:.0f} % of the way is left." + trend,
                advice,
                {
                    "end": end,
                    "floor": run.floor,
                    "gap": gap,
                    "share_left": gap / way,
                    "fall_of_last_tenth": falling,
                },
            )
    if bigger is not None:
        other = View(bigger)
        theirs = held_out_losses(bigger)
        both = held_out is not None and theirs is not None
        mine, yours = (end, float(theirs[-1])) if both else (view.end, other.end)
        gap, error = mine - yours, math.hypot(view.end_error, other.end_error)
        if gap > GAP_TO_BIGGER * other.progress and gap > CLEAR * error:
            return Finding(
                "underfitting",
                "warning",
                view.first_step,
                view.last_step,
                f"The {'validation' if both else 'training'} loss ends at {mine:.3f}, the bigger run's at {yours:.3f}: "
                f"{gap:.3f} could be gained." + trend,
                advice,
                {"end": mine, "bigger_end": yours, "gap": gap, "fall_of_last_tenth": falling},
            )
    return None


def bad_start(view: View) -> Finding | None:
    if view.ln_v is None or not first_is_seen(view.run):
        return None
    excess = float(view.first_loss - view.ln_v)
    if excess < START_NATS:
        return None
    if view.run.steps[0] > 1 and len(view) > 1 and view.loss[1] >= view.loss[0]:
        return None  # it climbs, and may have begun lower
    return Finding(
        "bad_start",
        "warning",
        view.first_step,
        view.first_step,
        f"The first loss is {view.first_loss:.2f}, {excess:.2f} above ln V = {view.ln_v:.2f}: a model that knows "
        f"nothing should not be surer. Logits of standard deviation {math.sqrt(2 * excess):.1f} would do it.",
        "scale the last layer's first weights down (a standard deviation of logits below 0.5), check the scale of tied "
        "embeddings; compare the vocabulary with the model's.",
        {"first_loss": float(view.first_loss), "ln_v": view.ln_v, "excess": excess},
    )


def first_is_seen(run) -> bool:
    """Whether the first recorded loss is nearly that of the untrained model: from there a healthy one only falls."""
    return run.steps[0] <= FIRST_STEPS
