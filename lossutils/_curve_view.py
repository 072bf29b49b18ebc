"""A curve as the rules of :func:`lossutils.curves.diagnose` see it: its noise, its progress and its jumps.

Two units measure an effect: the *noise* of one recorded loss, which is estimated from the curve's own second
differences, and the *progress*, which is how far the loss fell below where it began. Both are the curve's own, so that
the same numbers serve a vocabulary of 2 and one of 50 000. Nats appear where a theory gives nats: at the start, at
zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

# What was chosen, on development seeds of one world and one text (book/experiments/clinic_rates.py says how often they
# are right on others). Few, and each with its reason.
MIN_POINTS = 20  # fewer points have no shape: a tenth of the run would be one point
LONGEST = 1000  # points that the rules look at; a longer curve is averaged over blocks first
JUMP_NOISE = 6.0  # a jump is higher than 6 sd of the noise: chance makes 1e-9 of that
JUMP_PROGRESS = 0.10  # and undoes a tenth of the progress, so that nobody is called for a wobble
LOST_SHARE = 0.25  # a jump that lasts longer than a quarter of the run cost the run: divergence
YOUNG_SHARE = 0.05  # a jump younger than this at the end may still come back
FLAT_SHARE = 0.20  # a plateau lasts a fifth of the run or longer
FLAT_RATIO = 0.15  # and falls less than 15 % as fast as the curve does later
LATER_SHARE = 0.25  # and what comes later is a quarter of all progress, so that it was worth waiting for
UNLEARNED = 0.90  # above 90 % of ln V, without a tenth of ln V of progress, nothing was learned
LOST_LEVEL = 0.5  # a run that is half a nat worse than a blind guess for a quarter of its time is lost
RISE_PROGRESS = 0.05  # over-fitting: validation rises by 5 % of what it had gained
RISE_NOISE = 4.0  # and by 4 sd of its own noise
NO_HELP = 0.20  # a leak, if the length of a pass is unknown: validation gains less than a fifth of what training gains
FIRST_PASS = 0.50  # and in the first pass: by half of what training gained, more than other documents cost
TOO_GOOD = 0.03  # no text costs less than 3 % of ln V a token
GAP_TO_FLOOR = 0.25  # under-fitting: the run ends above the floor by a quarter of the way that there was
GAP_TO_BIGGER = 0.05  # or above a bigger model by 5 % of what that one has gained
START_NATS = 0.5  # logits of standard deviation 1 cost half a nat above ln V: sigma squared over two
FIRST_STEPS = 10  # a first record later than this says nothing about the start
CLEAR = 4.0  # standard errors that a change must have to be more than noise


@dataclass(frozen=True)
class Jump:
    """The loss leaves the level that it had reached: indices of the first and the last point away from it."""

    first: int
    last: int
    level: float
    peak: float
    over: bool  # whether it came back


class View:
    """A curve as the rules see it: finite points, not too many, its noise and its progress."""

    def __init__(self, run) -> None:
        self.run = run
        finite = np.isfinite(run.train)
        steps, loss = run.steps[finite], run.train[finite]
        self.n_points = len(loss)
        self.first_loss, self.first_step, self.last_step = loss[0], steps[0], run.steps[-1]
        if len(loss) > LONGEST:
            blocks = np.array_split(np.arange(len(loss)), LONGEST)
            steps = np.array([steps[block].mean() for block in blocks])
            loss = np.array([loss[block].mean() for block in blocks])
        self.steps, self.loss = steps, loss
        self.noise = noise(loss)
        self.ln_v = math.log(run.vocab_size) if run.vocab_size else None

    def __len__(self) -> int:
        return len(self.loss)

    @cached_property
    def start(self) -> float:
        """Where the fall begins: the first losses, or ln V.

        ln V if they are above it by more than a start should be, and if they agree with it within their noise: then it
        is the better number, as an untrained model costs ln V and three losses scatter.
        """
        start = float(np.median(self.loss[:3]))
        if self.ln_v is None:
            return start
        error = self.noise / math.sqrt(2)  # of the median of three, roughly
        return self.ln_v if start > self.ln_v + START_NATS or abs(start - self.ln_v) < 2 * error else start

    @cached_property
    def end(self) -> float:
        """The mean of the last tenth."""
        return float(self.loss[-self.tenth :].mean())

    @cached_property
    def spacing(self) -> float:
        """Steps from one point to the next, usually."""
        return float(np.median(np.diff(self.steps))) if len(self) > 1 else 0.0

    @cached_property
    def tenth(self) -> int:
        return min(len(self), max(2, len(self) // 10))

    @cached_property
    def end_error(self) -> float:
        return self.error(self.tenth)

    def error(self, n: int) -> float:
        """The standard error of a mean of n neighbouring losses, the larger of two estimates.

        Losses that were averaged before they were recorded agree with their neighbours, and the single ones hide their
        noise. Means of a fiftieth of the run show it.
        """
        white = self.noise / math.sqrt(n)
        each = max(1, len(self) // 50)
        if each == 1:
            return white
        means = self.loss[: len(self) // each * each].reshape(-1, each).mean(axis=1)
        return max(white, noise(means) * math.sqrt(each / n))

    @cached_property
    def best(self) -> float:
        """The lowest mean of a tenth of the run."""
        means = np.convolve(self.loss, np.full(self.tenth, 1 / self.tenth), mode="valid")
        return float(means.min())

    @cached_property
    def progress(self) -> float:
        """How far the loss fell, at its best, below where it began."""
        return max(0.0, self.start - self.best)

    @cached_property
    def jumps(self) -> list[Jump]:
        return find_jumps(self)

    @cached_property
    def calm(self) -> np.ndarray:
        """The losses with the jumps bridged by straight lines."""
        loss = self.loss.copy()
        for jump in self.jumps:
            left, right = max(jump.first - 1, 0), min(jump.last + 1, len(loss) - 1)
            loss[left : right + 1] = np.interp(
                self.steps[left : right + 1],
                self.steps[[left, right]],
                [jump.level, min(jump.level, loss[right])],
            )
        return loss


def noise(loss: np.ndarray) -> float:
    """The standard deviation of one loss around a smooth curve, from the median of its second differences.

    A straight line has none, and the median does not see a jump.
    """
    if len(loss) < 5:
        return math.nan
    second = loss[2:] - 2 * loss[1:-1] + loss[:-2]
    return float(np.median(np.abs(second)) / 0.6745 / math.sqrt(6))


def find_jumps(view: View) -> list[Jump]:
    """Where the loss is far above the lowest level that it had reached, and how long."""
    loss = view.loss
    width = max(5, len(loss) // 50)
    window = max(20, len(loss) // 10)
    usual = min(view.noise, view.start / 20)
    jumps: list[Jump] = []
    level, first, peak, height = math.inf, 0, -math.inf, 0.0
    for i in range(width, len(loss)):
        if not first:
            # What stands in the middle of the last points has been reached; a lucky batch has not.
            level = min(level, float(np.median(loss[i - width : i])))
            # A curve may be noisier here than elsewhere. The noise of the whole is what a diverged run must not be
            # measured by: it counts up to a twentieth of the start.
            here = noise(loss[max(0, i - window) : max(i, window)])
            height = max(JUMP_NOISE * max(here, usual), JUMP_PROGRESS * view.progress)
            # One point may be an odd batch; if the model is hurt, the next one shows it too, or it is very high.
            alone = i + 1 < len(loss) and loss[i + 1] < level + height
            if loss[i] > level + (2 if alone else 1) * height:
                first, peak = i, float(loss[i])
        else:
            peak = max(peak, float(loss[i]))
            # Back, and not for one lucky batch only.
            if max(loss[i], np.median(loss[i : i + 3])) < level + height / 2:
                jumps.append(Jump(first, i - 1, level, peak, True))
                first = 0
    if first:
        jumps.append(Jump(first, len(loss) - 1, level, peak, False))
    return jumps
