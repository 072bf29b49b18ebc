"""What all stages of alignment share: their result, their settings, their batches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import count
from .._training_options import positive
from ..instruction_world import InstructionWorld
from ..training import History
from .responses import Rows, mean_nll


@dataclass(frozen=True)
class Trained:
    """What a stage returns: ``model, history = sft(...)``.

    Attributes
    ----------
    model : torch module
        The trained model, a new one: the model that the stage was given is as it was.
    history : History
        The loss of each step, and more.
    """

    model: nn.Module
    history: History

    def __iter__(self):
        return iter((self.model, self.history))


def settings(config: Any, steps: int, run: dict[str, Any]) -> dict[str, Any]:
    """Arguments for train_batches: from a stage's configuration, and what the caller adds for this run."""
    taken = run.keys() & {"steps", "learning_rate", "seed", "device", "precision"}
    if taken:
        name = sorted(taken)[0]
        raise TypeError(f"{name} belongs into the configuration: {type(config).__name__}({name}=...)")
    return {
        "steps": steps,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "device": config.device,
        "precision": config.precision,
    } | run


def fresh(model: nn.Module) -> nn.Module:
    """A copy to train, so that the given model stays as it is."""
    return copy.deepcopy(model)


def frozen(model: nn.Module) -> nn.Module:
    """A copy for reference: it never changes, and no gradient flows to it."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def numpy_rng(generator: torch.Generator) -> np.random.Generator:
    """A NumPy generator whose seed is drawn from a torch generator, so that a resumed run draws the same."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def documents(world: InstructionWorld, n: int, generator: torch.Generator) -> Tensor:
    """Fresh documents (n, T) of the corpus: no document is seen twice."""
    return torch.as_tensor(world.sample(n, numpy_rng(generator)))


class Epochs:
    """Which rows of a data set make up the batch of a step: each row once an epoch, in an order of its own."""

    def __init__(self, n: int, batch_size: int, epochs: float, seed: int) -> None:
        positive("epochs", epochs)
        self.n, self.batch_size, self.seed = n, min(count("batch_size", batch_size), n), seed
        self.steps = max(1, round(epochs * n / self.batch_size))

    def __call__(self, step: int) -> Tensor:
        """Row numbers (batch_size,), which depend on the step and the seed alone."""
        places = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epoch, place = places // self.n, places % self.n
        orders = {
            int(e): torch.randperm(
                self.n, generator=torch.Generator().manual_seed(1_000_003 * self.seed + int(e))
            )
            for e in epoch.unique()
        }
        return torch.stack([orders[int(e)][p] for e, p in zip(epoch, place, strict=True)])


def with_corpus(
    world: InstructionWorld, weight: float, n: int, batch: Callable[[int], dict[str, Any]]
) -> Callable[[int, torch.Generator], dict[str, Any]]:
    """Batches with documents of the corpus beside them, where these count."""

    def batches(step: int, generator: torch.Generator) -> dict[str, Any]:
        mixed = batch(step)
        if weight:
            mixed["corpus"] = documents(world, n, generator)
        return mixed

    return batches


def corpus_term(model: nn.Module, batch: dict[str, Any], weight: float) -> Tensor | float:
    """The corpus' part of the loss: weight times nats per token."""
    return weight * mean_nll(model, batch["corpus"]) if weight else 0.0


def pick(rows: Rows, index: Tensor) -> Rows:
    return Rows(rows.ids[index], rows.labels[index])
