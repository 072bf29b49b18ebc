"""Chapter 9, The gap."""

import json
from dataclasses import replace
from math import exp, log
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from lossutils.instruction_world import instruction_world

MAY_VARY = {
    "pretrain-9": "measures of a trained network",
    "align-9": "measures of trained networks",
    "claim-9": "measures of trained networks",
    "they-say-9": "samples of trained networks",
    "sorts-9": "log-probabilities of trained networks",
    "fig-sorts": "a figure of trained networks",
    "needed-9": "divergences of trained networks",
    "dial-9": "measures of trained networks",
    "judge-9": "losses of trained networks",
    "lab-align-it-your-way": "a picture of a trained network",
}

SOURCED = {
    "0.007": "GPT-4 technical report, figure 8",
    "0.074": "GPT-4 technical report, figure 8",
    "1.12": "made up for exercise 9.7",
    "0.33": "made up for exercise 9.7",
    "0.23": "made up for exercise 9.7",
    "0.95": "made up for exercise 9.7",
}

STORED = Path(__file__).parents[2] / "book" / "experiments" / "alignment_seeds.json"
SEEDS = json.loads(STORED.read_text(encoding="utf-8"))["seeds"]
WORLD = instruction_world()


def number(text):
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


def forum():
    """How often the forum gives the right answer, from its habits and what its rambles and errors hit by chance."""
    prompts = WORLD.prompts()
    found = WORLD.response_log_prob(prompts, WORLD.right_answers(prompts))
    return float(np.average(np.exp(found), weights=WORLD.prompt_weights(prompts)))


def price(good):
    """Two terms of a coin, written out."""
    p, g = forum(), number(good)
    return p * log(p / g) + (1 - p) * log((1 - p) / (1 - g))


def per_token(good, share):
    share = number(share)
    stories, lessons, _ = WORLD.kind_shares
    left = (1 - share) / (stories + lessons)
    other = replace(WORLD, kind_shares=(left * stories, left * lessons, share))
    return price(good) * share / other.mean_tokens


def rows(stage):
    """The stored evaluations of a checkpoint, from the words of the slider."""
    if stage.startswith("pretrained"):
        steps = int(stage.split()[1])
        if steps == 1600:
            return [seed["base"] for seed in SEEDS]
        return [next(row for row in seed["pretraining"] if row["steps"] == steps) for seed in SEEDS]
    if stage == "DPO":
        return [seed["dpo"] for seed in SEEDS]
    n = int(stage.split()[1])
    if n == 192:
        return [seed["sft"] for seed in SEEDS]
    return swept(n)


def swept(n):
    return [next(row for row in seed["demonstrations"] if row["n"] == n) for seed in SEEDS]


def text(value, digits=3):
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def told(stage, key):
    values = [row[key] for row in rows(stage)]
    return f"{mean(values):.3f} ± {stdev(values):.3f}"


READOUTS = {
    "price-of-right-answers": {
        "answer": lambda good, share: f"{text(price(good))} nats/answer",
        "rise": lambda good, share: f"{text(per_token(good, share), 4)} nats/token",
        "perplexity": lambda good, share: f"{exp(per_token(good, share)) - 1:.1%}",
    },
    "loss-usefulness-plane": {
        key: lambda stage, measure, key=key: told(stage, key) + (" nats/token" if key == "loss" else "")
        for key in ("loss", "help", "refusal", "unsafe", "utility")
    },
    "how-many-demonstrations": {
        f"{key}_here": lambda n, key=key: text(mean(row[key] for row in swept(int(number(n)))))
        for key in ("help", "refusal", "unsafe")
    }
    | {
        "utility": lambda n: text(mean(row["utility"] for row in swept(int(number(n))))),
        "rise": lambda n: (
            text(
                mean(
                    row["loss"] - seed["base"]["loss"]
                    for row, seed in zip(swept(int(number(n))), SEEDS, strict=True)
                )
            )
            + " nats/token"
        ),
    },
}
