"""Chapter 4 over five seeds: how far above the floor do n-grams and a tiny GPT end?

The chapter trains one network live. This script trains five, each on a text of its
own, and writes what it measured to chapter04.json beside it, which the notebook reads.
It takes about two minutes on one core:

    python book/experiments/chapter04.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from lossutils import cross_entropy, log_softmax
from lossutils.models import GPT, NGramModel
from lossutils.training import train
from lossutils.worlds import known_world

SEEDS = range(1, 6)
SIZES = (5_000, 500_000)
ORDERS = range(1, 9)
CONTEXT = 48
ARCHITECTURE = {"context": CONTEXT, "width": 32, "layers": 1, "heads": 4}
SETTINGS = {"steps": 3_000, "learning_rate": 2e-2, "final_share": 0.01}


def measure(seed: int) -> dict:
    """What the models of one seed reach on 400 windows of fresh text, in nats/token."""
    world = known_world()
    text = world.sample(500_000, np.random.default_rng([4, seed]))
    fresh = np.random.default_rng([4, seed, 1])
    windows = world.sample(CONTEXT, fresh, n_sequences=400)

    model = GPT(world.vocab_size, **ARCHITECTURE, seed=seed)
    train(model, cross_entropy, text, length=CONTEXT, seed=seed, **SETTINGS)
    with torch.no_grad():
        log_q = log_softmax(
            model(torch.as_tensor(windows)).double()
        ).numpy()
    loss = -np.take_along_axis(log_q, windows[..., None], axis=-1).mean()
    kl = world.kl(windows, log_q)
    return {
        "seed": seed,
        "loss": round(float(loss), 5),
        "perfect reader": round(float(world.nll(windows).mean()), 5),
        "exact KL": round(float(kl.mean()), 5),
        "exact KL by position": kl.mean(axis=0).round(5).tolist(),
        "n-grams": {
            str(size): {
                str(order): ngram_excess(text[:size], order, windows)
                for order in ORDERS
            }
            for size in SIZES
        },
    }


def ngram_excess(
    text: np.ndarray, order: int, windows: np.ndarray
) -> float:
    """The exact KL of a Witten-Bell n-gram model on the windows."""
    world = known_world()
    model = NGramModel(world.vocab_size, order).fit(text)
    start = np.full((len(windows), 1), model.start_id)
    log_q = model.next_token_logits(
        np.concatenate([start, windows[:, :-1]], axis=1)
    )
    return round(float(world.kl(windows, log_q).mean()), 5)


def main() -> None:
    torch.set_num_threads(1)
    results = {
        "world": repr(known_world()),
        "architecture": ARCHITECTURE,
        "settings": SETTINGS,
        "runs": [measure(seed) for seed in SEEDS],
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
