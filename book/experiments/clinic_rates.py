"""How often is the diagnosis right? Hit and false-alarm rates for chapter 7.

The thresholds of lossutils.curves.diagnose were chosen on the known world, with a
GPT of width 32 and a window model, on seeds below 100. Here they are tried on what
they have not seen: bytes of Python's help topics, other widths, depths, lengths,
batch sizes, learning rates and schedules, and seeds from FIRST_SEED on. Each run is
judged twice: with every loss, and as a log that keeps the mean of five steps.

It writes every outcome to clinic_rates.json beside it and takes about ten minutes
on two quiet cores:

    python book/experiments/clinic_rates.py
"""

from __future__ import annotations

import dataclasses
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from lossutils import clinic
from lossutils.curves import Run, diagnose
from scipy.stats import binomtest

FIRST_SEED = 1000
SEEDS_EACH = 7  # of every patient in each of its settings
HEALTHY = 108
COARSE = 5  # steps that the second, coarser log averages

# Where every patient but those of the parity is tried.
SETTINGS = {
    "bytes, 2 layers": {
        "subject": "topics",
        "width": 48,
        "layers": 2,
        "batch_size": 8,
        "learning_rate": 4e-3,
    },
    "bytes, long": {
        "subject": "topics",
        "width": 24,
        "length": 64,
        "batch_size": 12,
        "learning_rate": 6e-3,
        "final_share": 0.0,
        "steps": 400,
    },
    "words, deep": {
        "width": 64,
        "layers": 2,
        "length": 48,
        "batch_size": 12,
        "warm_up": 40,
        "steps": 350,
    },
}
PARITIES = {
    "20 signs": {
        "parity": (20, 3),
        "width": 128,
        "batch_size": 96,
        "steps": 450,
    },
    "24 signs": {"parity": (24, 3), "width": 384, "steps": 450},
    "30 signs, slower": {"learning_rate": 6e-3, "steps": 700},
}
NOISY = {
    "40 signs": {"parity": (40, 3), "width": 32, "steps": 120},
    "12 signs": {"parity": (12, 4), "learning_rate": 0.05},
    "batches of 2": {"batch_size": 2, "steps": 80},
}
# What makes a patient ill stays as it is.
ILLNESS = {
    "divergence": {"learning_rate", "final_share", "warm_up"},
    "late recovery": {"learning_rate", "final_share", "warm_up"},
    "underfitting": {"width"},
    "stuck": {"learning_rate"},
    "mean of means": {"batch_size"},
}


def jobs() -> list[tuple[str, str, int, dict]]:
    """Group, name of the setting, seed, changes."""
    found = []
    for name, patient in clinic.patients().items():
        if name == "healthy":
            continue
        settings = SETTINGS
        if patient.subject == "parity":
            settings = NOISY if name == "too noisy" else PARITIES
        for place, (setting, changes) in enumerate(settings.items()):
            kept = ILLNESS.get(name, set())
            own = {k: v for k, v in changes.items() if k not in kept}
            for n in range(SEEDS_EACH):
                seed = FIRST_SEED + 100 * place + n
                found.append((name, setting, seed, own))
    for n in range(HEALTHY):
        found.append(("healthy", "", FIRST_SEED + 1000 + n, healthy(n)))
    return found


def healthy(n: int) -> dict:
    """Settings of a run that nothing is wrong with, drawn by number."""
    rng = np.random.default_rng([FIRST_SEED, n])
    words = n % 3 == 0
    drawn = {
        "subject": "world" if words else "topics",
        "model": str(rng.choice(["gpt", "gpt", "window"])),
        "width": int(rng.choice([24, 40, 64])),
        "layers": int(rng.choice([1, 2])),
        "length": int(rng.choice([24, 40, 64])),
        "batch_size": int(rng.choice([8, 16, 24])),
        "learning_rate": round(float(10 ** rng.uniform(-2.5, -2.0)), 5),
        "steps": int(rng.choice([250, 400, 600])),
        "final_share": float(rng.choice([0.0, 0.1, 1.0])),
        "warm_up": int(rng.choice([5, 20, 40])),
    }
    if words:  # the floor is known: long enough to come near it
        drawn |= {"steps": 600, "batch_size": 16}
    return drawn


def examine(job: tuple[str, str, int, dict]) -> dict:
    name, setting, seed, changes = job
    torch.set_num_threads(1)
    patient = dataclasses.replace(clinic.patients()[name], **changes)
    run = patient.as_run(clinic.run(patient, seed=seed))
    bigger = None
    if name == "underfitting" and run.floor is None:
        well = dataclasses.replace(
            clinic.patients()["healthy"], **SETTINGS[setting]
        )
        bigger = well.as_run(clinic.run(well, seed=seed))
    return {
        "patient": name,
        "setting": setting or changes,
        "seed": seed,
        "said": list(diagnose(run, bigger=bigger).kinds),
        "said of the coarse log": list(
            diagnose(coarse(run), bigger=bigger).kinds
        ),
    }


def coarse(run: Run) -> Run:
    """As a log that keeps the mean of every five steps."""
    n = len(run) // COARSE * COARSE
    return dataclasses.replace(
        run,
        steps=run.steps[:n].reshape(-1, COARSE)[:, -1] + 1,
        train=run.train[:n].reshape(-1, COARSE).mean(axis=1),
        learning_rate=None,
        gradient_norm=None,
    )


def rates(rows: list[dict], key: str) -> dict:
    """Right answers by patient, with a 95 % interval (Wilson)."""
    table = {}
    for name, patient in clinic.patients().items():
        mine = [row[key] for row in rows if row["patient"] == name]
        right = sum(patient.kind in said for said in mine)
        interval = binomtest(right, len(mine)).proportion_ci(
            method="wilson"
        )
        table[name] = {
            "kind": patient.kind,
            "runs": len(mine),
            "right": right,
            "rate": round(right / len(mine), 4),
            "interval": [round(interval.low, 4), round(interval.high, 4)],
            "with something else": sum(
                patient.kind in said and len(said) > 1 for said in mine
            ),
        }
    return table


def main() -> None:
    todo = jobs()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers
    with ProcessPoolExecutor(max_workers=2) as pool:
        rows = list(pool.map(examine, todo, chunksize=4))
    tables = {
        "every loss": rates(rows, "said"),
        "mean of five": rates(rows, "said of the coarse log"),
    }
    head = {
        "first seed": FIRST_SEED,
        "settings": {**SETTINGS, **PARITIES, **NOISY},
        "rates": tables,
    }
    text = json.dumps(head, indent=1)[:-2] + ',\n "runs": [\n  '
    text += ",\n  ".join(json.dumps(row) for row in rows) + "\n ]\n}\n"
    path = Path(__file__).with_suffix(".json")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
