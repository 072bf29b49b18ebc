"""The exercises of chapter 6, Healthy curves. Every answer is computed here with the library, none is typed in."""

from __future__ import annotations

import numpy as np

from ..information import entropy, nats_to_bits
from .definition import Exercise, Misconception
from .registry import register

# 6.1: the loss at step 0.
WORDS, SIGMA = 32_000, 1.2
start = float(np.log(WORDS) + SIGMA**2 / 2)


# 6.2: the line of a text's word frequencies.
def unigram_line(ids):
    counts = np.unique(np.asarray(ids), return_counts=True)[1]
    return float(entropy(counts / counts.sum()))


def _shares(ids):
    counts = np.unique(np.asarray(ids), return_counts=True)[1]
    return counts / counts.sum()


TEXTS = [(np.array([0, 0, 1, 2]),), (np.array([5, 5, 5, 1, 1, 7, 9, 9]),), (np.array([3, 3, 3]),)]

# 6.3: a batch's noise.
NOISE_16, LARGER = 0.036, 16
noise_larger = NOISE_16 / np.sqrt(LARGER)

# 6.4: how many batches it takes.
NOISE, DIFFERENCE = 0.04, 0.02
batches = 2 * (2 * NOISE / DIFFERENCE) ** 2


# 6.5: an exponential mean, corrected.
def corrected_mean(values, beta):
    level, out = 0.0, []
    for n, value in enumerate(np.asarray(values, dtype=float), start=1):
        level = beta * level + (1 - beta) * value
        out.append(level / (1 - beta**n))
    return np.array(out)


def _from_zero(values, beta):
    return corrected_mean(values, beta) * (1 - beta ** np.arange(1, len(values) + 1))


def _from_first(values, beta):
    out = [float(values[0])]
    for value in values[1:]:
        out.append(beta * out[-1] + (1 - beta) * float(value))
    return np.array(out)


def _swapped(values, beta):
    return corrected_mean(values, 1 - beta)


def _one_late(values, beta):
    return _from_zero(values, beta) / (1 - beta ** np.arange(2, len(values) + 2))


def _running_mean(values, beta):
    return np.cumsum(values) / np.arange(1, len(values) + 1)


SERIES = [
    (np.array([4.0, 3.0, 2.0, 2.0]), 0.9),
    (np.array([3.0, 3.0, 3.0]), 0.5),
    (np.array([4.0, 2.0, 3.0, 1.0, 1.5]), 0.75),
]

# 6.8: eight times the size.
FLOOR, THERE, ALPHA, TIMES = 1.7, 2.6, 0.35, 8
larger = FLOOR + (THERE - FLOOR) * TIMES**-ALPHA

register(
    Exercise(
        key="6.1",
        title="Before the first step",
        answer=start,
        unit="nats/token",
        wrong=[
            Misconception(
                "only ln V",
                np.log(WORDS),
                "This is ln V, the price of equal logits. These have a spread of 1.2, and noise costs extra: σ²/2.",
            ),
            Misconception(
                "sigma not squared",
                np.log(WORDS) + SIGMA / 2,
                "You added σ/2. It is the variance that counts: σ²/2.",
            ),
            Misconception(
                "variance not halved",
                np.log(WORDS) + SIGMA**2,
                "You added σ². The mean of e^z is e to the power σ²/2: half of it.",
            ),
            Misconception(
                "bits",
                nats_to_bits(start),
                "These are bits. The question asks for nats: natural logarithms throughout.",
            ),
            Misconception(
                "subtracted",
                np.log(WORDS) - SIGMA**2 / 2,
                "You subtracted σ²/2. A guess that takes sides at random is worse than one that takes none.",
            ),
        ],
        hints=[
            "Two terms: one for the size of the vocabulary, one for the noise of the logits.",
            "ln 32,000 = 10.373, and the noise adds σ²/2.",
            "10.373 + 0.72.",
        ],
        praise="A first loss of 11.1 is normal for this model. One of 13 is not, and no training is needed to see it.",
    ),
    Exercise(
        key="6.2",
        title="The first line of your own text",
        answer=unigram_line,
        cases=TEXTS,
        wrong=[
            Misconception(
                "bits",
                lambda ids: float(nats_to_bits(unigram_line(ids))),
                "This is in bits. The line is to be drawn into a curve in nats: use the natural logarithm.",
            ),
            Misconception(
                "ln V",
                lambda ids: float(np.log(len(np.unique(ids)))),
                "This is the logarithm of how many different tokens there are: what they would cost if all were "
                "equally frequent. Count how often each one comes.",
            ),
            Misconception(
                "mean over kinds",
                lambda ids: float(np.mean(-np.log(_shares(ids)))),
                "You averaged the surprisal over the different tokens, each once. Frequent tokens come more often, so "
                "weigh each by its share.",
            ),
            Misconception(
                "sign",
                lambda ids: -unigram_line(ids) if unigram_line(ids) else -1.0,
                "The size is right and the sign is wrong. Where did the minus in −log p go?",
            ),
            Misconception(
                "total",
                lambda ids: unigram_line(ids) * len(ids) if unigram_line(ids) else -2.0,
                "This is the cost of the whole text. A line in a curve is per token: divide by their number.",
            ),
        ],
        hints=[
            "Which single distribution has the smallest loss on a text? (Exercise 1.6.)",
            "np.unique(ids, return_counts=True)[1] counts each token that occurs. Divide by the sum.",
            "Then −Σ p log p, in nats.",
        ],
        praise="Three lines of code, and your curve has a first landmark. On a text that is short beside its "
        "vocabulary the line comes out a little low.",
    ),
    Exercise(
        key="6.3",
        title="A larger batch",
        answer=noise_larger,
        unit="nats/token",
        tolerance="2%",
        wrong=[
            Misconception(
                "one over B",
                NOISE_16 / LARGER,
                "You divided by 16: by the ratio of the sizes, or by the square root of the larger one. The variance "
                "shrinks with that ratio, the standard deviation with its square root.",
            ),
            Misconception(
                "unchanged",
                NOISE_16,
                "This is the noise of the small batch. The mean of sixteen times as many excerpts scatters less.",
            ),
            Misconception(
                "grown",
                NOISE_16 * np.sqrt(LARGER),
                "You multiplied by √16. A mean over more excerpts scatters less, not more.",
            ),
        ],
        hints=[
            "How many times larger is the batch?",
            "The standard deviation of a mean shrinks with the square root of that.",
            "0.036 / √16.",
        ],
        praise="A quarter of the noise for sixteen times the work. Averaging sixteen small batches does the same.",
    ),
    Exercise(
        key="6.4",
        title="Is the new run better?",
        answer=batches,
        unit="batches",
        tolerance=0.5,
        wrong=[
            Misconception(
                "one mean",
                (2 * NOISE / DIFFERENCE) ** 2,
                "You made one mean precise enough. But two means are compared and both are noisy: the variance of a "
                "difference is twice that of each.",
            ),
            Misconception(
                "one standard error",
                2 * (NOISE / DIFFERENCE) ** 2,
                "With this many the difference equals one standard error. The question asks for two.",
            ),
            Misconception(
                "no square",
                2 * NOISE / DIFFERENCE * np.sqrt(2),
                "This is how many times smaller the noise must become. It shrinks with the square root of the number "
                "of batches, so square it.",
            ),
            Misconception(
                "four times",
                4 * (2 * NOISE / DIFFERENCE) ** 2,
                "You doubled the noise of the difference. Independent noises add in the variance: √2 times, not twice.",
            ),
        ],
        hints=[
            "What is the standard deviation of the mean of n batches, and of the difference of two such means?",
            "0.04 · √(2/n). Twice that should be 0.02.",
            "√(2/n) = 0.25, so n = 2 / 0.0625.",
        ],
        praise="Half the difference would need four times as many; two models scored on the same text, far fewer.",
    ),
    Exercise(
        key="6.5",
        title="An exponential mean that starts right",
        answer=corrected_mean,
        cases=SERIES,
        wrong=[
            Misconception(
                "from zero",
                _from_zero,
                "The recursion is right, but it starts at 0, and the first values are pulled towards it. Divide by the "
                "sum of the weights, 1 − β^n.",
            ),
            Misconception(
                "from the first value",
                _from_first,
                "You started at the first value. It then keeps the weight β^n for long, while all others get "
                "(1 − β) at most. Start at 0 and divide by 1 − β^n.",
            ),
            Misconception(
                "beta swapped",
                _swapped,
                "β and 1 − β are swapped: β is the weight of what was there, 1 − β that of the new value.",
            ),
            Misconception(
                "one late",
                _one_late,
                "You divided by 1 − β^(n+1). After n values the weights sum to 1 − β^n; count from 1.",
            ),
            Misconception(
                "running mean",
                _running_mean,
                "This is the mean of all values so far. The exponential mean forgets: older values weigh less.",
            ),
        ],
        hints=[
            "level = beta * level + (1 - beta) * value, beginning at 0. What do the weights sum to after n values?",
            "To 1 − β^n. Divide by it.",
            "The first entry must be the first value, and a constant series must stay constant.",
        ],
        praise="A constant stays a constant from the first value on. The lag is still there.",
    ),
    Exercise(
        key="6.6",
        title="Validation below training",
        answer="Dropout is on in training and off in validation",
        options=[
            "The validation text has leaked into the training text",
            "Dropout is on in training and off in validation",
            "The model over-fits",
            "The learning rate is too low",
        ],
        wrong=[
            Misconception(
                "leak",
                "The validation text has leaked into the training text",
                "A leak would let validation be as good as training, not better, and at step 200 of a first pass "
                "nothing can be remembered yet. Something makes the training loss worse.",
            ),
            Misconception(
                "over-fitting",
                "The model over-fits",
                "Over-fitting is the other way round: the training loss falls below the validation loss.",
            ),
            Misconception(
                "learning rate",
                "The learning rate is too low",
                "That slows both curves down and leaves their order as it is.",
            ),
        ],
        hints=[
            "Both losses come from one set of weights. What differs between the two modes of the model?",
            "In which of the two is a tenth of the network switched off?",
        ],
        praise="Measure the training text with dropout off before you compare. A training loss that averages the steps "
        "since the last report does the same: it is older than the validation loss.",
    ),
    Exercise(
        key="6.7",
        title="A shelf at 2.0",
        answer="Look for a level of theory nearby: it predicts from the last word, and the next step is hard to find",
        options=[
            "The learning rate is too high: divide it by ten",
            "It has converged: this is the floor, stop here",
            "Look for a level of theory nearby: it predicts from the last word, and the next step is hard to find",
            "The batch is too small: what you see is noise",
        ],
        wrong=[
            Misconception(
                "learning rate",
                "The learning rate is too high: divide it by ten",
                "At 0.003 the network is far from the cliff, and a tenth of the rate would make the shelf ten times "
                "as long.",
            ),
            Misconception(
                "converged",
                "It has converged: this is the floor, stop here",
                "The floor is at 1.54, and it is known. A flat curve above a known floor is not the end.",
            ),
            Misconception(
                "noise",
                "The batch is too small: what you see is noise",
                "Noise of 0.025 nats scatters around the curve. It does not hold the curve at a level for 80 steps.",
            ),
        ],
        hints=[
            "Which of the lines is nearest to 2.0?",
            "1.95 is the best that a model can do with one word in view. What does it have to find next?",
        ],
        praise="A shelf has an address. Here it is the second step of the staircase.",
    ),
    Exercise(
        key="6.8",
        title="Eight times the size",
        answer=larger,
        unit="nats/token",
        wrong=[
            Misconception(
                "no floor",
                THERE * TIMES**-ALPHA,
                "You shrank the whole loss. Only what lies above E shrinks: take E away, shrink, put it back.",
            ),
            Misconception(
                "divided by eight",
                FLOOR + (THERE - FLOOR) / TIMES,
                "You divided the excess by 8. It falls with the power α = 0.35 of the size, by the factor 8^0.35.",
            ),
            Misconception(
                "times alpha",
                FLOOR + (THERE - FLOOR) * ALPHA,
                "You multiplied the excess by α. It is an exponent: multiply by 8 to the power −α.",
            ),
            Misconception(
                "three doublings, once",
                FLOOR + (THERE - FLOOR) * 2**-ALPHA,
                "This is one doubling. Eight times is three of them.",
            ),
        ],
        hints=[
            "How much of the 2.6 lies above E?",
            "0.9 nats. Which factor does eight times the size bring?",
            "1.7 + 0.9 · 8^(−0.35).",
        ],
        praise="That is, if E is 1.7. With another E the same two numbers promise another future.",
    ),
    title="Healthy curves",
    page="06_healthy_curves.html",
)
