"""Chapter 3, Averages and masks."""

import numpy as np

from lossutils import TokenMean, cross_entropy, surprisal
from lossutils.worlds import known_world

MAY_VARY = {
    "three-shifts": "losses of trained networks",
    "what-it-learned": "words that trained networks find likeliest",
    "padding-in-the-mean": "losses of a trained network",
    "never-stops": "losses and samples of trained networks",
    "what-they-write": "samples of trained networks",
    "two-rules": "a figure of trained networks",
    "test-by-rule": "losses of trained networks",
    "bent-gradients": "gradients of trained networks",
    "z-loss-runs": "losses of trained networks",
    "z-loss-figure": "a figure of trained networks",
    "lab-accumulate-a-batch": "a picture of a trained network",
}

SOURCED = {
    "5.4": "a section of Vaswani et al. (2017)",
}

SENTENCE = "the lonely king never loves the crown ."
PROMPT = "the lonely king"


def counted_losses(counted, padding):
    """The losses that a mask, by its words on the page, lets into the mean."""
    costs = known_world().nll(known_world().encode(SENTENCE), start="sentence").tolist()
    prompt = len(PROMPT.split())
    return {
        "every position": costs + int(padding) * [float(surprisal(0.9))],
        "all but the padding": costs,
        "all but padding and stop": costs[:-1],
        "the answer": costs[prompt:],
        "the answer but not its stop": costs[prompt:-1],
    }[counted]


def two_sequences(a, b):
    mean = TokenMean()
    mean.update(6.0 * int(a), int(a))
    mean.update(2.0 * int(b), int(b))
    return mean.mean


def smoothed_minimum(epsilon, vocabulary):
    """The smoothed loss of the best prediction and its probability of the right token, by the library's own loss."""
    epsilon, vocabulary = float(epsilon), int(vocabulary)
    right, wrong = 1 - epsilon + epsilon / vocabulary, epsilon / vocabulary
    logits = np.full(vocabulary, np.log(wrong) if wrong else -np.inf)
    logits[0] = np.log(right)
    return right, float(cross_entropy(logits, 0, label_smoothing=epsilon))


READOUTS = {
    "paint-a-mask": {
        "numerator": lambda counted, padding: f"{sum(counted_losses(counted, padding)):.3f} nats",
        "denominator": lambda counted, padding: f"{len(counted_losses(counted, padding))} tokens",
        "mean": lambda counted, padding: f"{np.mean(counted_losses(counted, padding)):.3f} nats/token",
    },
    "two-means": {
        "token_mean": lambda a, b: f"{two_sequences(a, b):.3f} nats/token",
        "mean_of_means": lambda a, b: f"{np.mean([6.0, 2.0]):.3f} nats/token",
        "ratio": lambda a, b: f"{int(b) / int(a):,.3g} tokens of B",
    },
    "label-smoothing": {
        "best": lambda epsilon, vocabulary: f"{smoothed_minimum(epsilon, vocabulary)[0]:.3f}",
        "minimum": lambda epsilon, vocabulary: f"{smoothed_minimum(epsilon, vocabulary)[1]:.3f} nats",
        "fake": lambda epsilon, vocabulary: f"{np.exp(smoothed_minimum(epsilon, vocabulary)[1]):.3f}",
        "nll_there": lambda epsilon, vocabulary: (
            f"{surprisal(smoothed_minimum(epsilon, vocabulary)[0]):.3f} nats"
        ),
    },
}
