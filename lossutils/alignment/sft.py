"""Pretraining on the corpus, and supervised fine-tuning on demonstrations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .. import _checks
from .._checks import count
from ..instruction_world import Demonstrations, InstructionWorld
from ..models import GPT
from ..training import train_batches
from ._stages import Epochs, Trained, corpus_term, documents, fresh, pick, settings, with_corpus
from .responses import join, mean_nll, mean_row_nll

__all__ = ["PretrainConfig", "SFTConfig", "pretrain", "sft"]


@dataclass(frozen=True)
class PretrainConfig:
    """How to pretrain: the size of the model, and how long.

    Attributes
    ----------
    width, layers, heads : int
        Of the :class:`lossutils.models.GPT`.
    steps, batch_size : int
        Updates, and documents each. Documents are fresh: none is seen twice.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Of the first weights and of the documents.
    device, precision : optional
        As in :func:`lossutils.training.train_batches`: ``device="auto"`` takes a GPU if there is one.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    steps: int = 1600
    batch_size: int = 32
    learning_rate: float = 4e-3
    seed: int = 0
    device: str | torch.device | None = None
    precision: str = "float32"


@dataclass(frozen=True)
class SFTConfig:
    """How to fine-tune on demonstrations.

    Attributes
    ----------
    epochs : float
        How often each demonstration is seen.
    batch_size : int
        Demonstrations an update.
    corpus_weight : float
        How much the corpus counts beside them, in the sum of two means per token; 0 leaves it out.
    corpus_batch : int
        Documents of the corpus an update.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Of the order of the demonstrations, and of the documents.
    device, precision : optional
        As in :func:`lossutils.training.train_batches`.
    """

    epochs: float = 4
    batch_size: int = 16
    corpus_weight: float = 0.5
    corpus_batch: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    device: str | torch.device | None = None
    precision: str = "float32"


def pretrain(
    world: InstructionWorld,
    config: PretrainConfig = PretrainConfig(),
    *,
    model: nn.Module | None = None,
    **run: Any,
) -> Trained:
    """Train a language model on the corpus of an instruction world.

    Use it for the base model: what comes before any alignment.

    Parameters
    ----------
    world : InstructionWorld
        Where the documents come from.
    config : PretrainConfig
        Size, length, seed, device.
    model : torch module, optional
        What to begin with, in place of a new `GPT` of the configuration's size; it is left as it is.
    **run
        progress, stop, checkpoint, checkpoint_every, resume, evaluate, evaluate_every and what else
        :func:`lossutils.training.train_batches` takes.

    Returns
    -------
    Trained
        ``model, history``; the history's losses are nats/token of each batch.

    Raises
    ------
    ValueError, TypeError
        As :func:`lossutils.training.train_batches`.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> world = instruction_world()
    >>> model, history = pretrain(world, PretrainConfig(width=16, layers=1, heads=2, steps=60))
    >>> history.losses[0] > 2.9 > 2.6 > history.losses[-1] > world.entropy_rate
    True

    See Also
    --------
    sft : the next stage.
    """
    n = count("batch_size", config.batch_size)
    if model is None:
        size = {"width": config.width, "layers": config.layers, "heads": config.heads}
        model = GPT(world.vocab_size, context=world.max_tokens, seed=config.seed, **size)
    else:
        model = fresh(model)

    def corpus(step: int, generator: torch.Generator) -> torch.Tensor:
        return documents(world, n, generator)

    history = train_batches(model, mean_nll, corpus, **settings(config, config.steps, run))
    return Trained(model, history)


def sft(
    model: nn.Module,
    world: InstructionWorld,
    demonstrations: Demonstrations,
    config: SFTConfig = SFTConfig(),
    **run: Any,
) -> Trained:
    r"""Fine-tune a model to imitate demonstrations, while it goes on to read the corpus.

    Use it after pretraining: it teaches the form of an answer, for which the skill is there already.

    .. math:: L = \frac{\sum_i -\log \pi(y_i \mid x_i)}{\sum_i |y_i|}
              + w \, \frac{\text{nats of documents}}{\text{tokens}}

    Parameters
    ----------
    model : torch module
        Where to begin; it is left as it is.
    world : InstructionWorld
        Where the documents of the corpus mix come from.
    demonstrations : Demonstrations
        Prompts x (N, P) and responses y (N, R), as :meth:`InstructionWorld.demonstrations` draws them. The prompt's
        tokens do not count.
    config : SFTConfig
        Epochs, corpus weight w, seed, device.
    **run
        progress, stop, checkpoint, resume and what else :func:`lossutils.training.train_batches` takes.

    Returns
    -------
    Trained
        ``model, history``; the losses are the sum above, for each batch.

    Raises
    ------
    ValueError, TypeError
        As :func:`lossutils.training.train_batches`; shapes that do not fit, a weight below 0.

    Examples
    --------
    >>> import numpy as np
    >>> from lossutils.alignment import PretrainConfig, pretrain
    >>> from lossutils.instruction_world import instruction_world
    >>> world = instruction_world()
    >>> base, _ = pretrain(world, PretrainConfig(width=16, layers=1, heads=2, steps=10))
    >>> demonstrations = world.demonstrations(32, np.random.default_rng(0))
    >>> model, history = sft(base, world, demonstrations)
    >>> len(history.losses)
    8

    See Also
    --------
    dpo : from pairs of answers.
    """
    weight = _checks.real("corpus_weight", config.corpus_weight, 0.0)
    n = count("corpus_batch", config.corpus_batch)
    rows = join(*demonstrations)
    epochs = Epochs(len(rows.ids), config.batch_size, config.epochs, config.seed)

    def loss(model: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
        return mean_row_nll(model, batch["rows"]) + corpus_term(model, batch, weight)

    model = fresh(model)
    batches = with_corpus(world, weight, n, lambda step: {"rows": pick(rows, epochs(step))})
    return Trained(model, train_batches(model, loss, batches, **settings(config, epochs.steps, run)))
