"""Chapter 6: many learning rates, and many sizes.

The chapter trains a few networks live. This script trains what takes longer and writes
what it measured to chapter06.json beside it, which the notebook reads: a tiny GPT at
six learning rates, with and without warm-up, and on texts of four lengths; a model of
word pairs at eleven sizes in five languages. It takes about four minutes on one core:

    python book/experiments/chapter06.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from lossutils import cross_entropy, entropy, log_softmax
from lossutils.models import GPT
from lossutils.training import train
from lossutils.worlds import known_world

SEEDS = (1, 2, 3)
LEARNING_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
ARCHITECTURE = {"context": 32, "width": 32, "layers": 1, "heads": 4}
STEPS = 300
TEXTS = (1_000, 4_000, 16_000, 64_000)

LANGUAGES = range(5)
WORDS = 256
RANKS = (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64)


def fit(text: np.ndarray, seed: int, **options) -> tuple[GPT, list[float]]:
    """Train the tiny GPT; the model and the losses of its batches."""
    model = GPT(known_world().vocab_size, **ARCHITECTURE, seed=seed)
    options = {"steps": STEPS, "seed": seed, **options}
    return model, train(model, cross_entropy, text, **options).losses


def exact_loss(model: GPT) -> float:
    """The expected loss on excerpts, in nats/token: the floor plus the exact KL."""
    world = known_world()
    windows = world.sample(
        32, np.random.default_rng([6, 0]), n_sequences=128
    )
    with torch.no_grad():
        log_q = log_softmax(model(torch.as_tensor(windows)).double())
    excess = world.kl(windows, log_q.numpy()).mean()
    return round(float(world.floor(32).mean() + excess), 4)


def sweep(learning_rate: float, seed: int, **options) -> dict:
    """One run at one learning rate: its exact loss at the end and its worst batch."""
    text = known_world().sample(200_000, np.random.default_rng([6, seed]))
    model, losses = fit(text, seed, learning_rate=learning_rate, **options)
    return {
        "learning rate": learning_rate,
        "seed": seed,
        **options,
        "loss": exact_loss(model),
        "peak": round(max(losses), 3),
    }


def gap(tokens: int, seed: int) -> dict:
    """One run on a text of so many tokens: the loss on that text and on new text."""
    world = known_world()
    text = world.sample(tokens, np.random.default_rng([6, 1, seed]))
    model, _ = fit(text, seed, learning_rate=1e-2)
    windows = np.lib.stride_tricks.sliding_window_view(text, 32)
    windows = windows[:: max(1, tokens // 256)].copy()
    with torch.no_grad():
        logits = model(torch.as_tensor(windows))
        loss = cross_entropy(
            logits.flatten(0, 1), torch.as_tensor(windows).flatten()
        )
    return {
        "tokens": tokens,
        "seed": seed,
        "training": round(loss.item(), 4),
        "perfect reader": round(float(world.nll(windows).mean()), 4),
        "validation": exact_loss(model),
    }


def language(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Word frequencies (V,) and probabilities of pairs (V, V) of a language of pairs.

    The logits of the next word are a sum of products whose sizes fall as a power.
    """
    rng = np.random.default_rng([6, 6, seed])
    left, right = rng.standard_normal((2, WORDS, WORDS))
    sizes = np.arange(1, WORDS + 1) ** -0.75
    logits = torch.as_tensor((left * sizes) @ right.T)
    follows = torch.softmax(logits, dim=1)
    frequency = torch.full((WORDS,), 1 / WORDS, dtype=torch.float64)
    for _ in range(500):
        frequency = frequency @ follows
    return frequency, frequency[:, None] * follows


def best_loss(pairs: torch.Tensor, rank: int) -> float:
    """The loss of the best model of this rank that L-BFGS finds, on all pairs at once.

    No text is sampled: this is the expected loss, so nothing in it is noise.
    """
    generator = torch.Generator().manual_seed(rank)
    size = {"generator": generator, "dtype": torch.float64}
    before = (0.3 * torch.randn(WORDS, rank, **size)).requires_grad_()
    after = (0.3 * torch.randn(WORDS, rank, **size)).requires_grad_()
    bias = pairs.sum(0).log().requires_grad_()
    frequency = pairs.sum(1)
    optimizer = torch.optim.LBFGS(
        [before, after, bias],
        max_iter=400,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = before @ after.T + bias
        nll = frequency @ logits.logsumexp(dim=1) - (pairs * logits).sum()
        nll.backward()
        return nll

    optimizer.step(loss)
    return round(loss().item(), 6)


def sizes(seed: int) -> dict:
    """The loss at each size, and the floor of that language, in nats/word."""
    frequency, pairs = language(seed)
    floor = entropy(pairs.flatten()) - entropy(frequency)
    return {
        "language": seed,
        "floor": round(float(floor), 6),
        "unigram": round(float(entropy(pairs.sum(0))), 6),
        "losses": [best_loss(pairs, rank) for rank in RANKS],
    }


def main() -> None:
    torch.set_num_threads(1)
    results = {
        "architecture": ARCHITECTURE,
        "steps": STEPS,
        "sweep": [
            sweep(learning_rate, seed, warm_up=warm_up)
            for learning_rate in LEARNING_RATES
            for warm_up in (STEPS // 20, 0)
            for seed in SEEDS
        ],
        "constant": [sweep(1e-2, seed, final_share=1.0) for seed in SEEDS],
        "texts": [gap(tokens, seed) for tokens in TEXTS for seed in SEEDS],
        "ranks": RANKS,
        "parameters": [2 * WORDS * rank + WORDS for rank in RANKS],
        "languages": [sizes(seed) for seed in LANGUAGES],
    }
    path = Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
