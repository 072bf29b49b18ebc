"""The cover, which is no chapter: its explorable shows chapter 9's stored runs."""

from math import exp
from statistics import mean

from .chapter09 import SEEDS, text


def rows(stage):
    """The stored measurements of a stop, from the words of the slider: one a seed."""
    steps, _, demonstrations = stage.replace(",", "").partition(" + ")
    if demonstrations:
        n = int(demonstrations.split()[0])
        return [next(row for row in seed["demonstrations"] if row["n"] == n) for seed in SEEDS]
    n = int(steps.split()[0])
    return [({row["steps"]: row for row in seed["pretraining"]} | {1600: seed["base"]})[n] for seed in SEEDS]


def average(stage, key):
    return mean(row[key] for row in rows(stage))


READOUTS = {
    "loss-and-use": {
        "loss": lambda stage: f"{text(average(stage, 'loss'))} nats/token",
        "sides": lambda stage: f"{exp(average(stage, 'loss')):.2f}",
        "help": lambda stage: f"{average(stage, 'help'):.0%}",
    }
}
