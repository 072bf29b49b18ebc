"""Chapter 12, Capstone: an audit."""

from functools import cache

import numpy as np

from lossutils import bits_per_byte, perplexity
from lossutils.instruction_world import PAD, instruction_world
from lossutils.models import NGramModel

MAY_VARY = {
    "exhibit-b": "losses of trained networks",
    "exhibit-b-figure": "a figure of a trained network",
    "exhibit-c": "losses of trained networks",
    "exhibit-d": "losses of trained networks",
    "exhibit-e": "losses of trained networks",
    "exhibit-f": "scores of trained networks",
    "exhibit-g": "losses of trained networks",
    "exhibit-h": "scores of trained networks",
    "exhibit-i": "log-probabilities of trained networks",
    "exhibit-i-dearest": "losses of trained networks",
    "exhibit-j": "scores of trained networks",
    "law-with-floor": "a figure of a trained network",
    "table-redone": "losses of trained networks",
    "pairs-redone": "losses of trained networks",
    "bytes-redone": "losses of trained networks",
    "the-honest-table": "numbers of trained networks",
    "tokens-redone": "losses of trained networks",
    "seeds-redone": "scores of trained networks",
    "levels-redone": "log-probabilities of trained networks",
    "judge-redone": "a figure of trained networks",
    "lab-your-own-row": "a picture of trained networks",
}

SOURCED = {"3.5": "the section of Ouyang et al. (2022) on training past the lowest validation loss"}

TEXTS = "the archive's test part", "fresh documents"


def spelled(document):
    text = instruction_world().decode(document) + "\n"
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64)


@cache
def scored():
    """By text and document: nats of Parrot, of the byte model and of the perfect reader; words and bytes."""
    world = instruction_world()
    rng = np.random.default_rng(1)
    originals = world.sample(1_000, rng)
    archive = originals[rng.integers(0, 1_000, 6_000)]
    parrot = NGramModel(world.vocab_size, 10, "witten-bell").fit([d[d != PAD] for d in archive[:4_800]])
    study = world.sample(6_000, np.random.default_rng(20))
    by_bytes = NGramModel(256, 10, "witten-bell").fit([spelled(d) for d in study])
    fresh = world.sample(1_000, np.random.default_rng(2))[:300]
    return {
        text: {
            "parrot": np.array([parrot.nll(d[d != PAD]).sum() for d in documents]),
            "bytes": np.array([by_bytes.nll(spelled(d)).sum() for d in documents]),
            "perfect": -world.log_prob(documents),
            "words": (documents != PAD).sum(axis=1),
            "letters": np.array([spelled(d).size for d in documents]),
        }
        for text, documents in zip(TEXTS, (archive[4_800:], fresh), strict=True)
    }


def number(text, ruler, model):
    found = scored()[text]
    nats, pieces = found[model].sum(), found["letters" if model == "bytes" else "words"]
    if ruler == "bits per byte":
        return bits_per_byte(nats, int(found["letters"].sum()))
    return perplexity(nats, int(pieces.sum()))


def below(text, ruler):
    """The Wrens have read neither text, so they are never below the perfect reader."""
    names = {"parrot": "Parrot", "bytes": "the byte model"}
    perfect = number(text, ruler, "perfect")
    return ", ".join(names[m] for m in names if number(text, ruler, m) < perfect) or "nobody"


def points(sure, charge):
    """Two points for the right charge, one for another, minus two for a sound statement; in twentieths of tenths."""
    p, c = round(20 * float(sure)), round(10 * float(charge))
    return (2 * p * c + p * (10 - c) - 20 * (20 - p)) / 200


def signed(value):
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")


READOUTS = {
    "when-to-accuse": {
        "expected": lambda sure, charge: signed(points(sure, charge)),
        "even": lambda sure, charge: f"{2 / (3 + float(charge)):.2f}",
        "advice": lambda sure, charge: "accuse" if points(sure, charge) > 0 else "stay silent",
    },
    "honest-table": {
        model: lambda text, ruler, model=model: f"{number(text, ruler, model):.3f}"
        for model in ("parrot", "bytes", "perfect")
    }
    | {"below": below},
}
