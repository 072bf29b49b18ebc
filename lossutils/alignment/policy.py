"""Policy gradient: draw answers, reward them, make the better ones likelier, and stay near the reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import _checks
from .._checks import count
from ..cross_entropy import cross_entropy
from ..instruction_world import PAD, InstructionWorld
from ..preference import KINDS as KL_KINDS
from ..preference import kl_estimate
from ..training import train_batches
from ._stages import Trained, corpus_term, documents, fresh, frozen, numpy_rng, settings
from .responses import Rows, device_of, join, sample_responses

__all__ = ["PolicyConfig", "TrainedPolicy", "policy_gradient"]

Reward = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PolicyConfig:
    """How to train a policy on a reward.

    Attributes
    ----------
    steps : int
        Updates.
    prompts, samples : int
        Questions an update, and answers drawn to each, at least 2.
    beta : float
        The price of a nat of KL to the reference, in units of the reward; 0 leaves it out.
    kl_kind : {"k1", "k2", "k3"}
        The estimate inside the reward, summed over the tokens of an answer, as :func:`lossutils.kl_estimate`.
    corpus_weight : float
        How much the corpus' nats/token count beside the reward.
    corpus_batch : int
        Documents of the corpus an update.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Of the questions, the answers and the documents.
    device, precision : optional
        As in :func:`lossutils.training.train_batches`.
    """

    steps: int = 100
    prompts: int = 16
    samples: int = 8
    beta: float = 0.3
    kl_kind: str = "k1"
    corpus_weight: float = 0.5
    corpus_batch: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    device: str | torch.device | None = None
    precision: str = "float32"


@dataclass(frozen=True)
class TrainedPolicy(Trained):
    """What :func:`policy_gradient` returns: ``model, history``, and what its answers earned on the way.

    Attributes
    ----------
    model : torch module
        The trained policy.
    history : History
        Its losses are −(mean reward − β · mean KL estimate) + corpus weight · corpus loss.
    rewards, kls : list of float
        The mean reward of the answers drawn at each step, and their mean KL estimate in nats a response. Of a run that
        was resumed, the steps since then.
    """

    rewards: list[float] = field(default_factory=list)
    kls: list[float] = field(default_factory=list)


def policy_gradient(
    model: nn.Module,
    world: InstructionWorld,
    reward: Reward,
    config: PolicyConfig = PolicyConfig(),
    *,
    reference: nn.Module | None = None,
    **run: Any,
) -> TrainedPolicy:
    r"""Train a model to earn a reward, by REINFORCE with a group baseline and the KL in the reward.

    Use it with a learned reward (``trained.model.score``) or with the true one (``world.utility``).

    For S answers y_i to a question, drawn from the model,

    .. math:: R_i &= r(x, y_i) - \beta \sum_t k\big(\log \pi(y_{it}), \log \pi_\text{ref}(y_{it})\big) \\
              A_i &= R_i - \frac{1}{S - 1} \sum_{j \ne i} R_j, \qquad
              \nabla = -\frac1S \sum_i A_i \nabla \log \pi(y_i \mid x)

    Parameters
    ----------
    model : torch module
        Where to begin; it is left as it is.
    world : InstructionWorld
        Gives the questions (never held-out ones), and the documents of the corpus mix.
    reward : callable
        ``reward(prompts (N, P), responses (N, R))`` returns N numbers.
    config : PolicyConfig
        Steps, β, samples, seed, device.
    reference : torch module, optional
        The reference; `model` as it is given if None.
    **run
        progress, stop, checkpoint, resume and what else :func:`lossutils.training.train_batches` takes.

    Returns
    -------
    TrainedPolicy

    Raises
    ------
    ValueError, TypeError
        As :func:`lossutils.training.train_batches`; fewer than two samples, β below 0, an unknown `kl_kind`, a reward
        of the wrong shape.

    Notes
    -----
    The baseline of an answer is the mean of the *other* answers to the same question, so the gradient is unbiased.
    One gradient step is made on each batch of answers, so there is no ratio to clip.

    With "k1" in the reward the expected gradient is that of E[r] − β KL(π ‖ π_ref); "k2" and "k3" pull elsewhere.

    The same seed and machine draw the same answers, also in a run that was stopped and resumed.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> world = instruction_world()
    >>> config = PolicyConfig(steps=2, beta=0.1)
    >>> trained = policy_gradient(GPT(20, context=14, width=8, layers=1), world, world.utility, config)
    >>> len(trained.rewards), len(trained.history.losses)
    (2, 2)

    References
    ----------
    Williams (1992), "Simple statistical gradient-following algorithms". Kool, van Hoof & Welling (2019), "Buy 4
    REINFORCE samples, get a baseline for free!". Ahmadian et al. (2024), arXiv:2402.14740.

    See Also
    --------
    dpo : the same optimum from preferences.
    exact_optimum : that optimum, where all answers can be listed.
    """
    _checks.real("beta", config.beta, 0.0)
    weight = _checks.real("corpus_weight", config.corpus_weight, 0.0)
    _checks.choice("kl_kind", config.kl_kind, KL_KINDS)
    n = count("prompts", config.prompts)
    count("samples", config.samples, 2)
    n_corpus = count("corpus_batch", config.corpus_batch)
    anchor = frozen(model if reference is None else reference)
    rewards: list[float] = []
    kls: list[float] = []

    def batches(step: int, generator: torch.Generator) -> dict[str, Tensor]:
        rng = numpy_rng(generator)
        prompts, seed = world.sample_prompts(n, rng), rng.integers(2**62, size=1)
        batch = {"prompts": torch.as_tensor(prompts), "seed": torch.as_tensor(seed)}
        if weight:
            batch["corpus"] = documents(world, n_corpus, generator)
        return batch

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        rng = np.random.default_rng(int(batch["seed"]))
        earned = reinforce(model, anchor, world, reward, batch["prompts"], rng, config)
        rewards.append(earned.reward)
        kls.append(earned.kl)
        return earned.loss + corpus_term(model, batch, weight)

    model = fresh(model)
    history = train_batches(model, loss, batches, **settings(config, config.steps, run))
    return TrainedPolicy(model, history, rewards, kls)


class Earned(NamedTuple):
    """One batch of answers: the loss, whose gradient is the policy gradient, mean reward and mean KL estimate."""

    loss: Tensor
    reward: float
    kl: float


def reinforce(
    model: nn.Module,
    anchor: nn.Module,
    world: InstructionWorld,
    reward: Reward,
    prompts: Tensor,
    rng: np.random.Generator,
    config: PolicyConfig,
) -> Earned:
    """Draw answers to prompts (N, P), and return the loss whose gradient is the estimate of the policy gradient."""
    samples, device = config.samples, device_of(model)
    asked = prompts.cpu().numpy().repeat(samples, axis=0)
    answers = sample_responses(model, world, asked, rng)
    earned = np.asarray(reward(asked, answers), dtype=np.float64)
    if earned.shape != (len(asked),):
        raise ValueError(f"reward must return shape ({len(asked)},), got {earned.shape}")
    rows = Rows(*(x.to(device) for x in join(asked, answers)))
    logp = token_logprobs(model, rows)
    with torch.no_grad():
        logq = token_logprobs(anchor.to(device), rows)
        kl = kl_estimate(logp.detach(), logq, config.kl_kind).sum(1)
        total = torch.as_tensor(earned, dtype=kl.dtype, device=device) - config.beta * kl
        groups = total.view(-1, samples)
        # Minus the mean of the others is (minus the mean of all) * samples / (samples - 1).
        advantage = ((groups - groups.mean(1, keepdim=True)) * samples / (samples - 1)).flatten()
    surrogate = -(advantage * logp.sum(1)).mean()
    # The surrogate's value says nothing, its gradient all: show what is maximised instead.
    loss = surrogate - surrogate.detach() - total.mean()
    return Earned(loss, float(earned.mean()), kl.mean().item())


def token_logprobs(model: nn.Module, rows: Rows) -> Tensor:
    """Log-probability (N, T) of each token that counts, 0 elsewhere; gradients flow."""
    losses = cross_entropy(
        model(rows.ids).flatten(0, 1), rows.labels.flatten(), ignore_index=PAD, reduction="none"
    )
    return -losses.view(rows.labels.shape)
