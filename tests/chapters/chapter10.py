"""Chapter 10, Rewards."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

MAY_VARY = {
    "a-reward-model": "accuracies of a trained reward model",
    "what-it-can-judge": "accuracies of a trained reward model",
    "small-policies": "values of trained policies",
    "fig-frontier-10": "a figure of trained policies",
    "three-estimates": "divergences of a trained policy",
    "bound-10": "divergences from a trained model",
    "best-of-the-pool": "answers of a trained model",
    "fig-at-the-top-10": "a figure of answers of a trained model",
    "first-letters": "answers of a trained model",
    "no-price": "answers of a trained policy",
    "free-everywhere": "answers of a trained policy",
    "lab-distrust-a-reward": "a picture of answers of a trained model",
}

SOURCED = {}


def number(text):
    return float(text.replace("\N{MINUS SIGN}", "-"))


def normal_errors(distance, samples):
    """The typical errors of k1, k2, k3 between two normals, from the moments in closed form, and k2's bias."""
    m, n = number(distance) ** 2 / 2, int(samples)
    k1 = 2 * m
    k2 = 2 * m**2 + 2 * m**3
    k3 = np.expm1(2 * m) - 2 * m
    bias = m**2 / 2
    typical = [np.sqrt(k1 / n), np.sqrt(bias**2 + k2 / n), np.sqrt(k3 / n)]
    # Twelve digits, as the page keeps, lest a last bit decides how a tie is rounded.
    return tuple(float(f"{each:.12g}") for each in (m, bias / m, *(each / m for each in typical)))


@lru_cache
def pool():
    """Reward and worth (questions, draws) of the stored pool, one entry for each draw."""
    path = Path(__file__).parents[2] / "book" / "experiments" / "chapter10.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["questions"]
    return tuple(np.array([np.repeat(row[key], row["counts"]) for row in rows]) for key in ("proxy", "gold"))


def told(weights):
    """KL, promise in units of utility, and worth of a policy that gives each draw this weight."""
    proxy, gold = pool()
    # All draws of one answer have the same weight, so the KL over draws is that over answers.
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(weights > 0, weights * np.log(weights * proxy.shape[1]), 0.0)
    slope = np.cov(proxy.ravel(), gold.ravel())[0, 1] / proxy.var(ddof=1)
    promise = gold.mean() + slope * ((weights * proxy).sum(1).mean() - proxy.mean())
    return terms.sum(1).mean(), promise, (weights * gold).sum(1).mean()


@lru_cache
def best_of(n):
    """The best of n draws with replacement: what lies below and at each height of the reward, counted."""
    proxy = pool()[0]
    below = (proxy[:, None, :] < proxy[:, :, None]).mean(-1)
    same = (proxy[:, None, :] == proxy[:, :, None]).mean(-1)
    return told(((below + same) ** n - below**n) / (same * proxy.shape[1]))


@lru_cache
def tilted(beta):
    proxy = pool()[0]
    heights = (proxy - proxy.max(1, keepdims=True)) / beta
    weights = np.exp(heights)
    return told(weights / weights.sum(1, keepdims=True))


KEYS = ("kl", "proxy", "gold")
FORMATS = ("{:.2f} nats", "{:.2f}", "{:.3f}")

READOUTS = {
    "kl-estimators": {
        "kl": lambda distance, samples: f"{normal_errors(distance, samples)[0]:.5f} nats",
        "bias": lambda distance, samples: f"{normal_errors(distance, samples)[1]:+.2%}",
        **{
            f"k{i + 1}_here": lambda distance, samples, i=i: f"{normal_errors(distance, samples)[2 + i]:.2g}"
            for i in range(3)
        },
    },
    "proxy-and-gold": {
        **{
            f"{key}_n": lambda n, beta, i=i: FORMATS[i].format(best_of(int(n))[i])
            for i, key in enumerate(KEYS)
        },
        **{
            f"{key}_beta": lambda n, beta, i=i: FORMATS[i].format(tilted(float(beta))[i])
            for i, key in enumerate(KEYS)
        },
    },
}
