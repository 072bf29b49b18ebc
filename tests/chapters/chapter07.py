"""Chapter 7, Sick curves."""

import json
import math
from pathlib import Path

import numpy as np

from lossutils import clinic
from lossutils.exercises.chapter07 import judge_guess

MAY_VARY = {
    "live-patients": "losses of trained networks",
    "jumps": "a figure of trained networks",
    "late-recovery": "the numbers of a trained network",
    "by-heart": "losses of trained networks",
    "look-alike": "a figure of trained networks",
    "gaps": "a figure of trained networks",
    "noise": "the numbers of a trained network",
}

SOURCED = {"5.1": "the section of Chowdhery et al. (2023) on the spikes of PaLM"}

STORED = json.loads((Path(__file__).parents[2] / "book/experiments/chapter07.json").read_text())
PATIENTS = clinic.patients()
TESTS = {row["patient"]: row for row in STORED["tests"]}
LETTERS = dict(zip("ABCDEFGHI", TESTS, strict=True))


def nats(value, digits=3, unit="nats"):
    return f"{value:.{digits}f} {unit}"


def last_tenth(row):
    losses = np.array([x for x in row["train"] if x is not None])
    return losses[-(len(losses) // 10) :].mean()


def of_rate(rate, clip):
    wanted = 1.0 if clip.startswith("clipped") else None
    return [
        row
        for row in STORED["rates"]
        if math.isclose(row["learning rate"], float(rate)) and row["clip"] == wanted
    ]


def blind(patient):
    return STORED["blind"][int(patient) - 1]


def told(patient, guess):
    return judge_guess(guess, PATIENTS[blind(patient)["patient"]].kind)


def other(patient, test):
    row = TESTS[LETTERS[patient]]
    if test in ("the training loss alone", "and ln V"):
        return "–"
    if test.startswith("rerun"):
        return nats(np.mean(row[test.removeprefix("rerun: ")]["train"][-30:]))
    return nats(row["as it is"]["validation"][-1])


READOUTS = {
    "blind-diagnosis": {
        "first": lambda patient, guess: nats(blind(patient)["train"][0], 2),
        "peak": lambda patient, guess: nats(max(blind(patient)["train"]), 2),
        "end": lambda patient, guess: nats(last_tenth(blind(patient))),
        "validation_end": lambda patient, guess: nats(blind(patient)["validation"][-1]),
        "told": told,
    },
    "next-test": {
        "end": lambda patient, test: nats(np.mean(TESTS[LETTERS[patient]]["as it is"]["train"][-30:])),
        "other": other,
        "truth": lambda patient, test: PATIENTS[LETTERS[patient]].story if test == "tell me" else "–",
    },
    "learning-rate-cliff": {
        "peak": lambda rate, clip: nats(
            max(x for row in of_rate(rate, clip) for x in row["train"] if x is not None), 1, "nats/token"
        ),
        "best": lambda rate, clip: nats(min(map(last_tenth, of_rate(rate, clip))), 2, "nats/token"),
        "worst": lambda rate, clip: nats(max(map(last_tenth, of_rate(rate, clip))), 2, "nats/token"),
    },
}
