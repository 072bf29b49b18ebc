"""Direct preference optimisation, with the corpus beside it and the chosen answer's likelihood held up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import _checks
from .._checks import count
from ..instruction_world import InstructionWorld, Preferences
from ..preference import dpo_loss
from ..training import train_batches
from ._stages import Epochs, Trained, corpus_term, fresh, pick, settings, with_corpus
from .responses import join, mean_row_nll, response_logprobs, row_logprobs

__all__ = ["DPOConfig", "dpo"]


@dataclass(frozen=True)
class DPOConfig:
    """How to train on preferences without a reward model.

    Attributes
    ----------
    beta : float
        The scale of the reward, per nat.
    loss_type, label_smoothing : str, float
        As in :func:`lossutils.dpo_loss`: "sigmoid", "ipo", "hinge", "robust", ...
    average : bool
        Give the loss log-probabilities per token and not per answer, as TRL does for "ipo".
    nll_weight : float
        How much −log π(chosen), in nats/token, counts beside it. Plain DPO has 0.
    corpus_weight : float
        How much the corpus' nats/token count beside it. Plain DPO has 0.
    corpus_batch : int
        Documents of the corpus an update.
    epochs, batch_size : float, int
        How often each pair is seen, and pairs an update.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Of the order of the pairs, and of the documents.
    device, precision : optional
        As in :func:`lossutils.training.train_batches`.
    """

    beta: float = 0.1
    loss_type: str = "sigmoid"
    label_smoothing: float = 0.0
    average: bool = False
    nll_weight: float = 0.5
    corpus_weight: float = 0.5
    corpus_batch: int = 32
    epochs: float = 4
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    device: str | torch.device | None = None
    precision: str = "float32"


def dpo(
    model: nn.Module,
    world: InstructionWorld,
    preferences: Preferences,
    config: DPOConfig = DPOConfig(),
    *,
    reference: nn.Module | None = None,
    **run: Any,
) -> Trained:
    r"""Train a model on preferences by DPO or one of its variants.

    Use it after pretraining or fine-tuning. The reference's log-probabilities are computed once, before the first
    step; the reference itself is not needed after that.

    .. math:: L = \ell\big(\log\pi(y_c), \log\pi(y_r), \log\pi_\text{ref}(y_c), \log\pi_\text{ref}(y_r)\big)
              + v \, \frac{-\log \pi(y_c)}{|y_c|} + w \, \frac{\text{nats of documents}}{\text{tokens}}

    Parameters
    ----------
    model : torch module
        Where to begin; it is left as it is.
    world : InstructionWorld
        Where the documents of the corpus mix come from.
    preferences : Preferences
        Prompts (N, P), chosen and rejected responses (N, R), as :meth:`InstructionWorld.preferences` draws them.
    config : DPOConfig
        The loss ℓ with its β, the weights v (``nll_weight``) and w (``corpus_weight``), epochs, seed, device.
    reference : torch module, optional
        The reference; `model` as it is given if None.
    **run
        progress, stop, checkpoint, resume and what else :func:`lossutils.training.train_batches` takes.

    Returns
    -------
    Trained
        ``model, history``; the losses are the sum above, for each batch.

    Raises
    ------
    ValueError, TypeError
        As :func:`lossutils.dpo_loss` and :func:`lossutils.training.train_batches`; a weight below 0.

    Notes
    -----
    The term with v is averaged over all chosen tokens of a batch, as in :func:`sft`.

    **Displacement.** DPO rewards a margin. The chosen answer's own likelihood may fall as long as the rejected one's
    falls faster; how far it fell is ``response_logprobs(trained, ...) - response_logprobs(reference, ...)`` for the
    chosen answers. v > 0 holds it up.

    Examples
    --------
    >>> import numpy as np
    >>> from lossutils.alignment import PretrainConfig, pretrain
    >>> from lossutils.instruction_world import instruction_world
    >>> world = instruction_world()
    >>> base, _ = pretrain(world, PretrainConfig(width=16, layers=1, heads=2, steps=10))
    >>> preferences = world.preferences(32, np.random.default_rng(0))
    >>> plain = DPOConfig(nll_weight=0, corpus_weight=0, epochs=1)
    >>> model, history = dpo(base, world, preferences, plain)
    >>> round(history.losses[0], 4)  # the model is the reference: log 2
    0.6931

    References
    ----------
    Rafailov et al. (2023), arXiv:2305.18290. With the chosen answer's likelihood beside it: Pang et al. (2024),
    arXiv:2404.19733.

    See Also
    --------
    policy_gradient : the same optimum by way of a reward.
    exact_optimum : that optimum, where all answers can be listed.
    """
    weight = _checks.real("corpus_weight", config.corpus_weight, 0.0)
    nll_weight = _checks.real("nll_weight", config.nll_weight, 0.0)
    n = count("corpus_batch", config.corpus_batch)
    prompts, *answers = preferences
    reference = model if reference is None else reference
    rows = [join(prompts, answer) for answer in answers]
    wide = next(model.parameters()).dtype == torch.float64
    anchors = [
        torch.as_tensor(
            response_logprobs(reference, prompts, answer, average=config.average),
            dtype=torch.float64 if wide else torch.float32,
        )
        for answer in answers
    ]
    epochs = Epochs(len(anchors[0]), config.batch_size, config.epochs, config.seed)

    def pairs(step: int) -> dict[str, Any]:
        index = epochs(step)
        return {
            "chosen": pick(rows[0], index),
            "rejected": pick(rows[1], index),
            "anchors": [anchor[index] for anchor in anchors],
        }

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        total = dpo_loss(
            row_logprobs(model, batch["chosen"], average=config.average),
            row_logprobs(model, batch["rejected"], average=config.average),
            *batch["anchors"],
            beta=config.beta,
            label_smoothing=config.label_smoothing,
            loss_type=config.loss_type,
        )
        if nll_weight:
            total = total + nll_weight * mean_row_nll(model, batch["chosen"])
        return total + corpus_term(model, batch, weight)

    model = fresh(model)
    batches = with_corpus(world, weight, n, pairs)
    return Trained(model, train_batches(model, loss, batches, **settings(config, epochs.steps, run)))
