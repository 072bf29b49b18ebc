"""Chapter 10: a pool of answers, what a learned reward says of each, and its worth.

The chapter trains a reward model live. What its explorable shows must not depend on
the processor, so this script writes a pool to chapter10.json beside it: questions that
were held out, 256 answers to each, from a model that has seen few demonstrations. The
models are those of seed 0 of alignment_seeds.py, and so is the pool. It takes about
half a minute on one core:

    python book/experiments/chapter10.py
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from alignment_seeds import (
    POOL,
    POOL_PROMPTS,
    PRETRAIN,
    REWARD,
    REWARD_PAIRS,
    SFT,
    WEAK_DEMONSTRATIONS,
    WEAK_EPOCHS,
)
from lossutils.alignment import (
    pretrain,
    sample_responses,
    sampler,
    sft,
    train_reward_model,
)
from lossutils.instruction_world import instruction_world

SEED, QUESTIONS = 0, 80


def question(
    answers: np.ndarray, proxy: np.ndarray, gold: np.ndarray
) -> dict:
    """The different answers of a pool: how often each was drawn, proxy and gold."""
    _, first, counts = np.unique(
        answers, axis=0, return_index=True, return_counts=True
    )
    order = np.argsort(proxy[first], kind="stable")
    return {
        "counts": counts[order].tolist(),
        "proxy": proxy[first][order].round(3).tolist(),
        "gold": gold[first][order].round(4).tolist(),
    }


def main() -> None:
    torch.set_num_threads(1)
    world = instruction_world()

    def rng(purpose: int) -> np.random.Generator:
        return np.random.default_rng([SEED, purpose])

    base, _ = pretrain(world, replace(PRETRAIN, seed=SEED))
    demonstrations = world.demonstrations(WEAK_DEMONSTRATIONS, rng(1))
    config = replace(SFT, seed=SEED, epochs=WEAK_EPOCHS)
    weak, _ = sft(base, world, demonstrations, config)
    n_pairs = REWARD_PAIRS[-1]
    pairs = world.preferences(
        n_pairs, rng(5), candidates=sampler(weak, world)
    )
    reward = train_reward_model(base, pairs, replace(REWARD, seed=SEED))

    prompts = rng(3).permutation(world.prompts("held_out"))[:POOL_PROMPTS]
    pool = sample_responses(weak, world, prompts, rng(4), samples=POOL)
    proxy, gold = (
        score(prompts, pool)
        for score in (reward.model.score, world.utility)
    )
    rows = zip(pool, proxy, gold, strict=True)
    result = {
        "seed": SEED,
        "pairs": n_pairs,
        "draws": POOL,
        "questions": [question(*row) for row in rows][:QUESTIONS],
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(
        json.dumps(result, separators=(",", ":")) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
