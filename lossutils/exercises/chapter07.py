"""The exercises of chapter 7, Sick curves, and the blind diagnosis.

Every answer is computed here with the library, none is typed in.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .definition import Exercise, Misconception
from .registry import register

# ---------------------------------------------------------------------------------------------- the blind diagnosis

GUESSES = (
    "healthy",
    "divergence",
    "spike",
    "plateau",
    "overfitting",
    "underfitting",
    "leak",
    "bad start",
    "noise",
)
"""What a reader can say of a curve."""

# Two that are taken for each other: (guess, truth) -> what tells them apart.
CONFUSED = {
    (
        "spike",
        "divergence",
    ): "A spike is over soon. This one is away from its level for more than a quarter of the run.",
    ("divergence", "spike"): "It comes back within a few steps, and learning goes on where it was.",
    (
        "divergence",
        "bad start",
    ): "It never climbs: it starts too high, at step 0, and comes down.",
    (
        "spike",
        "bad start",
    ): "A spike leaves a level that had been reached. Here the first loss of all is the high one.",
    (
        "healthy",
        "bad start",
    ): "Look at the first loss: it is far above ln V, more than a blind guess costs.",
    (
        "overfitting",
        "leak",
    ): "Over-fitting has a good time first: validation falls, then turns. This validation was never any good, "
    "or is better than any can be.",
    (
        "leak",
        "overfitting",
    ): "Validation did learn something before it turned. After a leak it learns nothing, or far too much.",
    (
        "healthy",
        "leak",
    ): "Both losses pass below the floor. Nobody can be that good: the answer is in the input.",
    (
        "healthy",
        "underfitting",
    ): "The shape is healthy, the level is not: see how far the floor is.",
    (
        "plateau",
        "underfitting",
    ): "It is flat at the end, after learning a good deal, and no fall follows. The floor is still far.",
    (
        "underfitting",
        "plateau",
    ): "It learned nothing at all for a long time. Under-fitting learns what its size allows.",
    (
        "noise",
        "plateau",
    ): "The noise is small beside the scale of the curve: flat is what it is.",
    (
        "plateau",
        "noise",
    ): "To call it flat you would have to see more sharply: the noise is larger than what could have been learned.",
    (
        "underfitting",
        "healthy",
    ): "There is a gap to the floor, as there is at the end of any short run; less than a quarter of the way is left.",
    (
        "noise",
        "healthy",
    ): "It wiggles, but it falls by far more than the wiggles.",
}

SHOWS = {
    "healthy": "Something is wrong with it. Look at the level, the first loss and the validation loss again.",
    "divergence": "A divergence climbs, and stays away for a quarter of the run or more.",
    "spike": "A spike jumps from a level that had been reached, and comes back soon.",
    "plateau": "A plateau is a flat stretch where something could be learned: at ln V, or before a fall.",
    "overfitting": "Over-fitting is validation that falls first and then rises, while training goes on falling.",
    "underfitting": "Under-fitting ends far above what is known to be possible.",
    "leak": "A leak is too good: training falls and validation learns nothing, or both pass below the floor.",
    "bad start": "A bad start lies clearly above ln V at the very first step.",
    "noise": "Too noisy means that the first and the last fifth differ by no more than chance.",
}
RIGHT = "Right."


def judge_guess(guess: object, truth: str) -> str:
    """What a diagnosis is told; it begins with "Right." if it is.

    Examples
    --------
    >>> judge_guess("spike", "spike")
    'Right.'
    >>> judge_guess("Bad_start", "divergence").split(".")[0]
    'A bad start lies clearly above ln V at the very first step'
    """
    if guess is ... or guess is None:
        return "No diagnosis yet."
    said = str(guess).strip().casefold().replace("_", " ")
    if said not in GUESSES:
        return f"{guess!r} is none of: {', '.join(GUESSES)}."
    truth = truth.replace("_", " ")
    if said == truth:
        return RIGHT
    return CONFUSED.get((said, truth), SHOWS[said])


def score_guesses(guesses: Mapping[int, object], truths: Mapping[int, str]) -> str:
    """The score of a blind diagnosis, with a sentence for each patient that was missed.

    Examples
    --------
    >>> print(score_guesses({1: "spike", 2: ...}, {1: "divergence", 2: "healthy"}))
    0 of 1 right, 1 to go
    1, spike: A spike is over soon. This one is away from its level for more than a quarter of the run.
    """
    told = {n: judge_guess(guesses.get(n, ...), truth) for n, truth in truths.items()}
    open_ones = [n for n in truths if guesses.get(n, ...) in (..., None)]
    right = sum(sentence == RIGHT for sentence in told.values())
    head = f"{right} of {len(truths) - len(open_ones)} right"
    if open_ones:
        head += f", {len(open_ones)} to go"
    lines = [head]
    for n, sentence in told.items():
        if n not in open_ones and sentence != RIGHT:
            lines.append(f"{n}, {guesses[n]}: {sentence}")
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------ the exercises


# 7.1: the first step that is bad.
def first_bad_step(losses):
    lowest = np.inf
    for step, loss in enumerate(np.asarray(losses, dtype=float)):
        if not np.isfinite(loss) or loss > lowest + 3:
            return step
        lowest = min(lowest, loss)
    return -1


def _without_nan(losses):
    lowest = np.inf
    for step, loss in enumerate(np.asarray(losses, dtype=float)):
        if loss > lowest + 3:
            return step
        lowest = min(lowest, loss)
    return -1


def _from_the_last(losses):
    losses = np.asarray(losses, dtype=float)
    for step, loss in enumerate(losses):
        if not np.isfinite(loss) or (step and loss > losses[step - 1] + 3):
            return step
    return -1


def _from_the_first(losses):
    losses = np.asarray(losses, dtype=float)
    for step, loss in enumerate(losses):
        if not np.isfinite(loss) or loss > losses[0] + 3:
            return step
    return -1


def _sees_the_future(losses):
    losses = np.asarray(losses, dtype=float)
    finite = losses[np.isfinite(losses)]
    bad = ~np.isfinite(losses) | (losses > finite.min() + 3)
    return int(bad.argmax()) if bad.any() else -1


def _counts_from_one(losses):
    step = first_bad_step(losses)
    return step + 1 if step >= 0 else -1


CURVES = [
    ([3.8, 2.0, 1.5, 1.6, 5.2, 9.0],),
    ([3.8, 2.1, np.nan, np.nan],),
    ([3.8, 3.0, 2.2, 1.9],),
    ([4.0, 1.0, 2.5, 3.9, 5.5, 8.0],),
    ([7.0, 3.5, 2.0, np.inf, 2.0],),
    ([3.8, 2.0, 1.0, 0.5],),
]


# 7.2: the smallest change that can be told.
NOISE_4, FIFTH, ERRORS = 0.07, 40, 4
smallest = ERRORS * NOISE_4 * np.sqrt(2 / FIFTH)

# 7.3: how wide are these logits?
WORDS, FIRST = 32_000, 12.9
sigma = np.sqrt(2 * (FIRST - np.log(WORDS)))


# 7.5: the checkpoint to keep.
def best_checkpoint(steps, validation):
    losses = np.asarray(validation, dtype=float)
    return float(np.asarray(steps)[np.nanargmin(np.where(np.isfinite(losses), losses, np.nan))])


def _last_checkpoint(steps, validation):
    return float(steps[-1])


def _place(steps, validation):
    losses = np.asarray(validation, dtype=float)
    return float(np.nanargmin(np.where(np.isfinite(losses), losses, np.nan)))


def _poisoned(steps, validation):
    return float(np.asarray(steps)[np.argmin(np.asarray(validation, dtype=float))])


def _the_loss(steps, validation):
    losses = np.asarray(validation, dtype=float)
    return float(losses[np.isfinite(losses)].min())


def _first_rise(steps, validation):
    losses = np.asarray(validation, dtype=float)
    for place in range(len(losses) - 1):
        if not losses[place + 1] <= losses[place]:
            return float(steps[place])
    return float(steps[-1])


CHECKPOINTS = [
    (np.array([0, 50, 100, 150, 200]), np.array([3.8, 2.9, 2.6, 2.8, 3.4])),
    (np.array([0, 30, 60, 90, 120]), np.array([3.8, 2.7, 2.75, 2.5, 2.9])),
    (np.array([10, 20, 30, 40]), np.array([2.0, np.nan, 1.6, 1.7])),
    (np.array([10, 20, 30]), np.array([2.0, 1.8, 1.5])),
]

# 7.8: what an alarm is worth.
SICK, HIT, FALSE = 0.02, 0.95, 0.02
worth = SICK * HIT / (SICK * HIT + (1 - SICK) * FALSE)

register(
    Exercise(
        key="7.1",
        title="The first bad step",
        answer=first_bad_step,
        cases=CURVES,
        wrong=[
            Misconception(
                "NaN slips through",
                _without_nan,
                "A comparison with NaN is always False: a loss that is not a number passes your test. Ask for finite "
                "losses first.",
            ),
            Misconception(
                "compares neighbours",
                _from_the_last,
                "You compare each loss with the one before it. A slow climb never jumps: compare with the lowest so "
                "far.",
            ),
            Misconception(
                "compares with the first",
                _from_the_first,
                "You compare with the first loss. After the curve has fallen it could rise by a lot before that "
                "rings: compare with the lowest so far.",
            ),
            Misconception(
                "sees the future",
                _sees_the_future,
                "You compare with the lowest loss of the whole run. In the beginning a healthy curve is more than "
                "3 nats above its end, and at that time nobody knows the end.",
            ),
            Misconception(
                "counts from one",
                _counts_from_one,
                "You are one step late: the first loss is that of step 0.",
            ),
        ],
        hints=[
            "Go through the losses once, and keep the lowest that you have seen.",
            "np.isfinite(loss) is False for NaN and for infinity. Test it before you compare.",
            "Update the lowest after the test, and return -1 at the end.",
        ],
        praise="That is a watchdog: it can run beside the training, as it never looks ahead.",
    ),
    Exercise(
        key="7.2",
        title="The smallest change that shows",
        answer=smallest,
        unit="nats/token",
        wrong=[
            Misconception(
                "one mean",
                ERRORS * NOISE_4 / np.sqrt(FIFTH),
                "This is four standard errors of one mean. A difference of two means has the noise of both: √2 more.",
            ),
            Misconception(
                "one standard error",
                NOISE_4 * np.sqrt(2 / FIFTH),
                "This is one standard error of the difference. The question asks for four.",
            ),
            Misconception(
                "single losses",
                ERRORS * NOISE_4 * np.sqrt(2),
                "This is for two single losses. The mean of 40 losses scatters √40 times less.",
            ),
            Misconception(
                "the whole run",
                ERRORS * NOISE_4 * np.sqrt(2 / 200),
                "You averaged over 200 losses. A fifth of the run has 40.",
            ),
        ],
        hints=[
            "How much does a mean of 40 losses scatter? And the difference of two such means?",
            "0.07 · √(1/40 + 1/40) is one standard error.",
        ],
        praise="Less than that and the honest answer is: can't tell.",
    ),
    Exercise(
        key="7.3",
        title="How wide are these logits?",
        answer=sigma,
        wrong=[
            Misconception(
                "variance",
                sigma**2,
                "This is σ², the variance. Take the square root.",
            ),
            Misconception(
                "without the two",
                np.sqrt(FIRST - np.log(WORDS)),
                "The start is ln V + σ²/2, with a two below: σ² is twice the excess.",
            ),
            Misconception(
                "from zero",
                np.sqrt(2 * FIRST),
                "You forgot ln V: a model that guesses blindly pays 10.373 nats.",
            ),
            Misconception(
                "the excess itself",
                FIRST - np.log(WORDS),
                "This is how far it starts above ln V, in nats. It is σ²/2.",
            ),
        ],
        hints=[
            "What would a blind guess cost?",
            "What is left is σ²/2.",
        ],
        praise="Fresh weights should give less than 1. Look at the scale of the last layer.",
    ),
    Exercise(
        key="7.4",
        title="Too good",
        answer="Print one input and its target side by side, token by token",
        options=[
            "Add dropout and weight decay: it over-fits",
            "Print one input and its target side by side, token by token",
            "Divide the learning rate by ten",
            "Keep it: the model has learned the training text",
        ],
        wrong=[
            Misconception(
                "over-fitting",
                "Add dropout and weight decay: it over-fits",
                "No text has been seen twice yet, so there is nothing to learn by heart. Something gives the answer "
                "away.",
            ),
            Misconception(
                "learning rate",
                "Divide the learning rate by ten",
                "A smaller rate would reach the same impossible loss later.",
            ),
            Misconception(
                "keep it",
                "Keep it: the model has learned the training text",
                "In its first pass no token is seen before it is predicted. A loss of 0.01 means that it could be "
                "seen.",
            ),
        ],
        hints=[
            "How often has the model seen each text, at step 40 of the first pass?",
            "What would a model have to read to be right about text that it never saw?",
        ],
        praise="An unshifted target, a mask that lets the future through, or padding that counts.",
    ),
    Exercise(
        key="7.5",
        title="The checkpoint to keep",
        answer=best_checkpoint,
        cases=CHECKPOINTS,
        wrong=[
            Misconception(
                "the last one",
                _last_checkpoint,
                "You keep the last one. After the turn, each further step made it worse.",
            ),
            Misconception(
                "place for step",
                _place,
                "This is the place in the array. The question asks for the step that stands there.",
            ),
            Misconception(
                "NaN wins",
                _poisoned,
                "np.argmin takes a NaN for the smallest. Leave out what is not finite: np.nanargmin.",
            ),
            Misconception(
                "the loss itself",
                _the_loss,
                "This is the lowest loss. The question asks at which step it was.",
            ),
            Misconception(
                "the first rise",
                _first_rise,
                "You stop at the first rise. Validation is noisy too: a lower one may come later.",
            ),
        ],
        hints=[
            "Where is the validation loss lowest? What if one of them is NaN?",
            "np.nanargmin gives a place; steps[place] is the step.",
        ],
        praise="One number was chosen as the lowest of many: it is a little too good. Report on a third text.",
    ),
    Exercise(
        key="7.6",
        title="It came back",
        answer="Restart with a learning rate 10 times smaller: most of the run was lost",
        options=[
            "Nothing: it ends near ln V and it is calm",
            "Train on from the end, with the same schedule",
            "Restart with a learning rate 10 times smaller: most of the run was lost",
            "Skip the batches of step 18 and go on",
        ],
        wrong=[
            Misconception(
                "calm is well",
                "Nothing: it ends near ln V and it is calm",
                "It ends where it began, at a blind guess. It is calm because the schedule has taken the learning "
                "rate to nothing.",
            ),
            Misconception(
                "train on",
                "Train on from the end, with the same schedule",
                "The same schedule would raise the learning rate to 1 again, and the loss with it.",
            ),
            Misconception(
                "skip",
                "Skip the batches of step 18 and go on",
                "Skipping batches helps against a meeting of state and data. Here the step size is too large for any "
                "batch.",
            ),
        ],
        hints=[
            "What had been learned at the end?",
            "Why did it become calm?",
        ],
        praise="Judge a run by where it ends beside its lines, and by how long it was away.",
    ),
    Exercise(
        key="7.7",
        title="Flat at 0.69",
        answer="Try to learn one batch by heart, with a few learning rates",
        options=[
            "Wait ten times as long",
            "Conclude that the task cannot be learned",
            "Try to learn one batch by heart, with a few learning rates",
            "Take a larger batch, to have less noise",
        ],
        wrong=[
            Misconception(
                "wait",
                "Wait ten times as long",
                "It may be right in the end. It is also the dearest test, and a bug never ends.",
            ),
            Misconception(
                "give up",
                "Conclude that the task cannot be learned",
                "A curve at ln 2 shows that nothing was learned yet, by this code at this rate. The eight runs of this "
                "chapter all stood there for a hundred steps and more.",
            ),
            Misconception(
                "a larger batch",
                "Take a larger batch, to have less noise",
                "The curve is at ln 2 whatever its noise. Less of it would show the same flat line more sharply.",
            ),
        ],
        hints=[
            "0.693 is ln 2. What does a model that has learned nothing pay?",
            "Which of these takes seconds and can tell a bug from a hard task?",
        ],
        praise="If it cannot even learn 16 examples by heart, look at code and rate. If it can, waiting may pay.",
    ),
    Exercise(
        key="7.8",
        title="What an alarm is worth",
        answer=worth,
        tolerance="2 decimals",
        wrong=[
            Misconception(
                "the hit rate",
                HIT,
                "This is how often a sick run is flagged. The question goes the other way: of the flagged ones, how "
                "many are sick?",
            ),
            Misconception(
                "no base rate",
                HIT / (HIT + FALSE),
                "You forgot that only one run in 50 is sick. Weigh both kinds by how often they come.",
            ),
            Misconception(
                "all alarms",
                SICK * HIT + (1 - SICK) * FALSE,
                "This is the share of runs that are flagged. Which part of it is sick?",
            ),
        ],
        hints=[
            "Take 5000 runs: 100 of them leak. How many are flagged among those, and among the other 4900?",
            "95 and 98.",
        ],
        praise="A coin toss. Where illness is rare, an alarm is a reason to look and no verdict.",
    ),
    title="Sick curves",
    page="07_sick_curves.html",
)
