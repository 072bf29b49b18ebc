"""Chapter 1, Surprise."""

import numpy as np

from lossutils import distribution_cross_entropy, entropy, kl_divergence, nats_to_bits, surprisal
from lossutils.worlds import known_world

MAY_VARY = {
    "training-curves": "a figure of trained networks",
    "weigh-the-identity": "losses of trained networks",
    "left-over": "a figure of trained networks",
    "parts-of-the-gap": "losses of trained networks",
    "addresses": "a figure of trained networks",
    "file-sizes": "losses of trained networks, and sizes by compression libraries",
    "real-text": "the manual grows with each version of Python",
    "lab-train-a-predictor": "a picture of a trained network",
}

SOURCED = {
    "0.6": "Shannon (1951), lower bound in bits a letter",
    "1.3": "Shannon (1951), upper bound in bits a letter",
    "1.4427": "1 / ln 2",
    "1.30": "the loss that exercise 1.7 is about",
    "5.4": "a section of Cover and Thomas (2006)",
    "13.3": "a section of Cover and Thomas (2006)",
    "1.7": "an exercise's number",
}


def pair(probability):
    return np.array([probability, 1 - probability])


SENTENCE = "the lonely king never loves the crown and fears the bridge ."


def word_cost(position):
    place = int(position.split(".")[0]) - 1
    world = known_world()
    ids = world.encode(SENTENCE)
    return f"{world.nll(ids, start='sentence')[place]:.3f} nats"


READOUTS = {
    "surprise": {
        "nats": lambda q: f"{surprisal(float(q)):.3f} nats",
        "bits": lambda q: f"{nats_to_bits(surprisal(float(q))):.3f} bits",
        "odds": lambda q: f"{1 / float(q):.1f}",
    },
    "next-word": {"cost": word_cost},
    "forecast": {
        "CE": lambda p, q: f"{distribution_cross_entropy(pair(float(p)), pair(float(q))):.3f} nats",
        "H": lambda p, q: f"{entropy(pair(float(p))):.3f} nats",
        "KL": lambda p, q: f"{kl_divergence(pair(float(p)), pair(float(q))):.3f} nats",
        "rain": lambda p, q: f"{surprisal(float(q)):.3f} nats",
        "dry": lambda p, q: f"{surprisal(1 - float(q)):.3f} nats",
    },
    "asymmetry": {
        "forward": lambda p, q: f"{kl_divergence(pair(float(p)), pair(float(q))):.3f} nats",
        "reverse": lambda p, q: f"{kl_divergence(pair(float(q)), pair(float(p))):.3f} nats",
    },
}
