"""Chapter 7: the ward, curves for a blind diagnosis, tests on patients, learning rates.

The chapter trains a few patients of lossutils.clinic live. This script trains the
rest and writes what was recorded to chapter07.json beside it, which the notebook
reads. Beside it goes an example of a log.
It takes about four minutes on two quiet cores:

    python book/experiments/chapter07.py
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from lossutils import clinic
from lossutils.curves import Run, diagnose

SEEDS = (201, 202, 203, 204, 205)  # the ward: every patient, five times
TOLD = 206  # the patients that the reader tests
# The blind ones, in the order in which the reader meets them, with their seeds.
BLIND = {
    "overfitting": 211,
    "mean of means": 212,
    "late recovery": 213,
    "stuck": 214,
    "spike": 215,
    "leaky validation": 216,
    "too noisy": 217,
    "healthy": 218,
    "bad start": 219,
    "plateau": 220,
    "divergence": 221,
    "underfitting": 222,
}
TESTED = (
    "stuck",
    "healthy",
    "unshifted",
    "late recovery",
    "underfitting",
    "overfitting",
    "leaky validation",
    "bad start",
    "plateau",
)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0)
RATE_SEEDS = (231, 232, 233)
PARITY_SEEDS = range(240, 248)
EVERY = 5  # steps that the example's log averages
GARBAGE = (1, 3, 10, 30)


def curve(patient: clinic.Patient, seed: int) -> dict:
    """What one run recorded, short enough to keep."""
    history = clinic.run(patient, seed=seed)
    return {
        "train": [short(loss) for loss in history.losses],
        "validation_steps": history.validation_steps,
        "validation": [short(loss) for loss in history.validation_losses],
    }


def short(loss: float) -> float | None:
    return round(loss, 4) if math.isfinite(loss) else None


def as_run(patient: clinic.Patient, kept: dict) -> Run:
    def losses(key: str) -> list[float]:
        return [math.nan if x is None else x for x in kept[key]]

    return Run(
        range(len(kept["train"])),
        losses("train"),
        kept["validation_steps"],
        losses("validation"),
        vocab_size=patient.vocab_size,
        floor=patient.floor,
        pass_steps=patient.pass_steps,
        name=patient.name,
    )


def summary(patient: clinic.Patient, seed: int) -> dict:
    kept = curve(patient, seed)
    run = as_run(patient, kept)
    diagnosis = diagnose(run)
    validation = run.validation[1:]  # the first one comes before training
    return {
        "patient": patient.name,
        "seed": seed,
        "first": kept["train"][0],
        "peak": max(x for x in kept["train"] if x is not None),
        "end": short(diagnosis.facts["end"]),
        "noise": short(diagnosis.facts["noise"]),
        "best validation": short(float(validation.min())),
        "best step": run.validation_steps[1:][validation.argmin()],
        "validation": short(float(validation[-1])),
        "said": list(diagnosis.kinds),
    }


def tests(patient: clinic.Patient) -> dict:
    """The patient, and the same training with one thing changed."""
    changed = {
        "as it is": {},
        "a tenth of the rate": {
            "learning_rate": patient.learning_rate / 10
        },
        "ten times the rate": {"learning_rate": patient.learning_rate * 10},
        "a wider model": {"width": max(32, 2 * patient.width)},
    }
    return {
        name: curve(dataclasses.replace(patient, **change), TOLD)
        for name, change in changed.items()
    }


def rows(job: tuple[str, str, float, float | None, int]) -> dict:
    """One run of one of the tables."""
    torch.set_num_threads(1)
    table, name, number, clip, seed = job
    patient = clinic.patients()[name]
    if table == "ward":
        return summary(patient, seed)
    if table == "tests":
        return {"patient": name, **tests(patient)}
    if table == "twins":  # the same batches, each token counted once
        return summary(
            dataclasses.replace(patient, mean_of_means=False), seed
        )
    about = {"patient": name, "seed": seed}
    if table == "rates":
        about = {"learning rate": number, "clip": clip, "seed": seed}
        patient = dataclasses.replace(
            patient, learning_rate=number, clip=clip
        )
    if table == "garbage":
        about = {"batches": number, "seed": seed}
        patient = dataclasses.replace(patient, garbage=number)
    return about | curve(patient, seed)


def jobs() -> list[tuple[str, str, float, float | None, int]]:
    """Table, patient, rate or number of batches, clip, seed."""
    found = [("blind", name, 0, 1.0, seed) for name, seed in BLIND.items()]
    found += [("tests", name, 0, 1.0, TOLD) for name in TESTED]
    found += [("parity", "plateau", 0, 1.0, seed) for seed in PARITY_SEEDS]
    for seed in RATE_SEEDS:
        for clip in (1.0, None):
            found += [("rates", "healthy", r, clip, seed) for r in RATES]
        found += [("garbage", "healthy", n, 1.0, seed) for n in GARBAGE]
    for name in clinic.patients():
        found += [("ward", name, 0, 1.0, seed) for seed in SEEDS]
    found += [("twins", "mean of means", 0, 1.0, seed) for seed in SEEDS]
    return found


def example() -> dict:
    """A log as Hugging Face's Trainer writes it, of a run with one mistake."""
    patient = clinic.patients()["overfitting"]
    changes = {"subject": "topics", "sequences": 48}
    history = clinic.run(patient, seed=250, **changes)
    one_pass = dataclasses.replace(patient, **changes).pass_steps
    log = []
    for last in range(EVERY - 1, len(history.losses), EVERY):
        window = history.losses[last - EVERY + 1 : last + 1]
        log.append(
            {
                "step": last + 1,
                "epoch": round((last + 1) / one_pass, 2),
                "loss": round(sum(window) / EVERY, 4),
                "grad_norm": round(history.gradient_norms[last], 4),
                "learning_rate": history.learning_rates[last],
            }
        )
    checks = zip(
        history.validation_steps, history.validation_losses, strict=True
    )
    log += [
        {
            "step": step,
            "epoch": round(step / one_pass, 2),
            "eval_loss": round(x, 4),
        }
        for step, x in checks
    ]
    log.sort(key=lambda entry: entry["step"])
    return {"global_step": len(history.losses), "log_history": log}


def main() -> None:
    todo = jobs()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers
    with ProcessPoolExecutor(max_workers=2) as pool:
        done = list(pool.map(rows, todo))
    tables = []
    for table in dict.fromkeys(job[0] for job in todo):
        mine = [
            json.dumps(row)
            for job, row in zip(todo, done, strict=True)
            if job[0] == table
        ]
        tables.append(f'"{table}": [\n' + ",\n".join(mine) + "\n]")
    path = Path(__file__).with_suffix(".json")
    path.write_text("{" + ",\n".join(tables) + "}\n", encoding="utf-8")
    path = path.with_name("example_trainer_state.json")
    path.write_text(
        json.dumps(example(), indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
