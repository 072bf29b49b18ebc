"""Chapters 9 to 11: pretraining, fine-tuning, DPO, rewards, each with five seeds.

The chapters train one seed live. This script trains five, and what takes longer, and
writes what it measured to alignment_seeds.json beside it, which the notebooks read. It
takes about three minutes a seed on one core:

    python book/experiments/alignment_seeds.py

The file is written after each seed; with --resume the seeds that are in it are kept.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from lossutils.alignment import (
    DPOConfig,
    PolicyConfig,
    PretrainConfig,
    RewardConfig,
    SFTConfig,
    best_of_n_expectation,
    dpo,
    evaluate,
    policy_gradient,
    pretrain,
    response_logprobs,
    sample_responses,
    sampler,
    sft,
    train_reward_model,
)
from lossutils.instruction_world import instruction_world
from lossutils.models import GPT

SEEDS = (0, 1, 2, 3, 4)
PRETRAIN, SFT, DPO = PretrainConfig(), SFTConfig(), DPOConfig()
REWARD, POLICY = RewardConfig(), PolicyConfig()
DEMONSTRATIONS, PAIRS = 192, 384

LENGTHS = (400, 3200)  # of pretraining, besides PRETRAIN's own
DEMONSTRATION_SWEEP = (32, 64, 128, 256, 512, 1024)
# Without the likelihood of the chosen answer, which would hide what beta does.
DPO_BETAS = (0.03, 0.1, 0.3, 1.0, 3.0)
DPO_PARTS = {
    "plain": {"nll_weight": 0.0, "corpus_weight": 0.0},
    "with NLL": {"nll_weight": 0.5, "corpus_weight": 0.0},
    "with corpus": {"nll_weight": 0.0, "corpus_weight": 0.5},
    "with both": {"nll_weight": 0.5, "corpus_weight": 0.5},
}
POLICY_BETAS = (0.0, 0.1, 1.0)  # besides POLICY's own
# Best-of-n draws from a model that has seen few demonstrations: it errs often enough.
WEAK_DEMONSTRATIONS, WEAK_EPOCHS = 48, 2
REWARD_PAIRS = (100, 384)
POOL_PROMPTS, POOL = 160, 256
NS = (1, 2, 4, 8, 16, 32, 64)


def one_seed(seed: int) -> dict:
    """All that is trained from one seed, as rows of numbers."""
    world = instruction_world()

    def rng(purpose: int) -> np.random.Generator:
        return np.random.default_rng([seed, purpose])

    def row(model, **extra) -> dict:
        found = evaluate(model, world, base=base).as_row()
        return extra | {
            name: round(value, 5) for name, value in found.items()
        }

    base, _ = pretrain(world, replace(PRETRAIN, seed=seed))
    found: dict = {"seed": seed, "base": row(base)}
    found["pretraining"] = [
        row(
            pretrain(world, replace(PRETRAIN, seed=seed, steps=n)).model,
            steps=n,
        )
        for n in LENGTHS
    ]

    def tuned(model, n: int, **options):
        demonstrations = world.demonstrations(n, rng(1))
        return sft(
            model, world, demonstrations, replace(SFT, seed=seed, **options)
        ).model

    helper = tuned(base, DEMONSTRATIONS)
    found["sft"] = row(helper)
    found["demonstrations"] = [
        row(tuned(base, n), n=n) for n in DEMONSTRATION_SWEEP
    ]
    nothing = GPT(**base.config)
    found["sft from nothing"] = row(tuned(nothing, DEMONSTRATIONS))

    pairs = world.preferences(
        PAIRS, rng(2), candidates=sampler(helper, world)
    )

    def preferred(**options) -> dict:
        config = replace(DPO, seed=seed, **options)
        model = dpo(helper, world, pairs, config).model
        moved = [
            response_logprobs(model, pairs.prompts, answers)
            - response_logprobs(helper, pairs.prompts, answers)
            for answers in (pairs.chosen, pairs.rejected)
        ]
        return options | row(
            model,
            chosen_moved=round(float(moved[0].mean()), 4),
            rejected_moved=round(float(moved[1].mean()), 4),
            chosen_fell=round(float((moved[0] < 0).mean()), 4),
        )

    found["dpo parts"] = {
        name: preferred(**parts) for name, parts in DPO_PARTS.items()
    }
    found["dpo"] = found["dpo parts"]["with both"]
    found["dpo betas"] = [
        found["dpo parts"]["with corpus"] | {"beta": beta}
        if beta == DPO.beta
        else preferred(beta=beta, **DPO_PARTS["with corpus"])
        for beta in DPO_BETAS
    ]

    reward = train_reward_model(base, pairs, replace(REWARD, seed=seed))
    found["reward"] = {
        "accuracy": reward.accuracy,
        "held_out_accuracy": reward.held_out_accuracy,
    }

    def rewarded(beta: float) -> dict:
        config = replace(POLICY, seed=seed, beta=beta)
        trained = policy_gradient(helper, world, reward.model.score, config)
        return row(
            trained.model,
            beta=beta,
            proxy=[round(float(x), 4) for x in trained.rewards],
        )

    found["policy"] = rewarded(POLICY.beta)
    found["policy betas"] = [rewarded(beta) for beta in POLICY_BETAS]
    found["best of n"] = goodhart(world, base, tuned, rng, seed)
    return found


def goodhart(world, base, tuned, rng, seed: int) -> dict:
    """What best-of-n earns by a learned reward and in truth, for two data sets."""
    weak = tuned(base, WEAK_DEMONSTRATIONS, epochs=WEAK_EPOCHS)
    prompts = rng(3).permutation(world.prompts("held_out"))[:POOL_PROMPTS]
    pool = sample_responses(weak, world, prompts, rng(4), samples=POOL)
    truth = world.utility(prompts, pool)
    found = {
        "gold": [
            float(best_of_n_expectation(truth, truth, n).mean()) for n in NS
        ]
    }
    for n_pairs in REWARD_PAIRS:
        pairs = world.preferences(
            n_pairs, rng(5), candidates=sampler(weak, world)
        )
        trained = train_reward_model(
            base, pairs, replace(REWARD, seed=seed)
        )
        proxy = trained.model.score(prompts, pool)
        curves = {
            name: [
                round(
                    float(best_of_n_expectation(proxy, values, n).mean()), 5
                )
                for n in NS
            ]
            for name, values in (("proxy", proxy), ("utility", truth))
        }
        accuracy = {"held_out_accuracy": trained.held_out_accuracy}
        found[f"{n_pairs} pairs"] = curves | accuracy
    return found


def main() -> None:
    torch.set_num_threads(1)
    world = instruction_world()
    configurations = {
        "pretrain": PRETRAIN,
        "sft": SFT,
        "dpo": DPO,
        "reward": REWARD,
        "policy": POLICY,
    }
    results = {
        "settings": {name: asdict(c) for name, c in configurations.items()}
        | {
            "demonstrations": DEMONSTRATIONS,
            "pairs": PAIRS,
            "weak demonstrations": WEAK_DEMONSTRATIONS,
            "weak epochs": WEAK_EPOCHS,
            "pool": [POOL_PROMPTS, POOL],
            "ns": NS,
        },
        "entropy": world.entropy_rate,
        "entropy by kind": world.entropy_by_kind,
        "seeds": [],
    }
    results = json.loads(
        json.dumps(results)
    )  # tuples become lists, as in the file
    path = Path(__file__).with_suffix(".json")
    if "--resume" in sys.argv[1:] and path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept | {"seeds": []} != results:
            sys.exit(
                f"{path} was made with other settings: run without --resume"
            )
        results = kept
    for seed in SEEDS[len(results["seeds"]) :]:
        results["seeds"].append(one_seed(seed))
        path.write_text(
            json.dumps(results, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
