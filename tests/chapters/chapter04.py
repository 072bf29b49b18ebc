"""Chapter 4, Perplexity."""

from functools import lru_cache

import numpy as np

from lossutils import distribution_cross_entropy, entropy, perplexity, softmax
from lossutils.models import NGramModel
from lossutils.worlds import known_world

MAY_VARY = {
    "train-the-gpt": "losses of a trained network",
    "weigh-the-gpt": "losses of a trained network",
    "below-the-floor": "losses of a trained network",
    "lab-climb-the-staircase": "a picture, whose drawing may differ",
}

SOURCED = {
    "21.11": "Jelinek et al. (1977), table I: perplexity of the task IBM-Lasers",
    "2.5": "the loss that exercise 4.2 is about",
    "1.542": "the loss that exercise 4.9 is about",
    "0.097": "the difference that exercise 4.9 is about",
    "0.18": "the loss that exercise 4.6 is about",
}


def zipf(V):
    return 1 / np.arange(1, int(V) + 1)


def tempered(T, V):
    """Zipf's probabilities to the power 1/T, normalised."""
    return softmax(np.log(zipf(V)) / float(T))


def on_the_text(T, V):
    return np.exp(distribution_cross_entropy(zipf(V) / zipf(V).sum(), tempered(T, V)))


@lru_cache
def texts():
    world = known_world()
    return world.sample(500_000, np.random.default_rng(1)), world.sample(20_000, np.random.default_rng(2))


@lru_cache
def counted(order, size):
    """Perplexities of a fitted model on (the first 20,000 words of) its training text and on the test text."""
    training, test = texts()
    training = training[: int(size.replace(",", ""))]
    model = NGramModel(known_world().vocab_size, int(order)).fit(training)
    seen = training[:20_000]
    return perplexity(model.nll(seen).sum(), seen.size), perplexity(model.nll(test).sum(), test.size)


def step(order):
    return known_world().staircase(8)[int(order)]


READOUTS = {
    "temperature": {
        "own": lambda T, V: f"{np.exp(entropy(tempered(T, V))):.2f}",
        "text": lambda T, V: f"{on_the_text(T, V):.2f}",
        "top": lambda T, V: f"{tempered(T, V)[0]:.3f}",
    },
    "counting": {
        "held_out": lambda order, size: f"{counted(order, size)[1]:.2f}",
        "training": lambda order, size: f"{counted(order, size)[0]:.2f}",
        "step": lambda order, size: f"{np.exp(step(order)):.2f}",
        "unseen": lambda order, size: f"{step(order) - known_world().entropy_rate:.3f} nats/token",
        "unlearned": lambda order, size: (
            f"{np.log(counted(order, size)[1]) - step(order):.3f} nats/token".replace("-", "−")
        ),
    },
}
