"""A reward model: a number for an answer, learned from which of two answers was preferred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import _checks
from .._training_run import mode
from ..instruction_world import PAD, Preferences
from ..models import GPT
from ..preference import bradley_terry_loss
from ..training import train_batches
from ._stages import Epochs, Trained, fresh, pick, settings
from .responses import Rows, device_of, in_parts, join

__all__ = ["RewardConfig", "RewardModel", "TrainedReward", "reward_accuracy", "train_reward_model"]


@dataclass(frozen=True)
class RewardConfig:
    """How to train a reward model.

    Attributes
    ----------
    epochs, batch_size : float, int
        How often each pair is seen, and pairs an update.
    held_out : float
        The share of the questions whose pairs are not trained on, to measure the accuracy with; may be 0.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Of the new last layer, of the split and of the order of the pairs.
    device, precision : optional
        As in :func:`lossutils.training.train_batches`.
    """

    epochs: float = 8
    batch_size: int = 16
    held_out: float = 0.2
    learning_rate: float = 1e-3
    seed: int = 0
    device: str | torch.device | None = None
    precision: str = "float32"


class RewardModel(nn.Module):
    """A language model whose last layer gives one number, read off at the end of an answer.

    Use :func:`train_reward_model` to make one, and `score` as the reward of a policy gradient or of best-of-n.

    Parameters
    ----------
    model : GPT
        Its weights are copied, all but the last layer.
    seed : int
        Of the new last layer.

    Raises
    ------
    TypeError
        If `model` is no GPT.

    Notes
    -----
    The scale is that of Bradley and Terry: a difference of 1 is odds of e. The zero means nothing.

    The start token takes a place in the context: of a row as long as the context, the last token is not read.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> world = instruction_world()
    >>> prompts = world.prompts("held_out")
    >>> RewardModel(GPT(20, context=14, width=8, layers=1)).score(prompts, world.right_answers(prompts)).shape
    (504,)
    """

    def __init__(self, model: GPT, *, seed: int = 0) -> None:
        super().__init__()
        if not isinstance(model, GPT):
            raise TypeError(f"model must be a GPT, got {type(model).__name__}")
        self.trunk = fresh(model)
        generator = torch.Generator().manual_seed(seed)
        head = nn.utils.skip_init(nn.Linear, model.width, 1)
        with torch.no_grad():
            head.weight.copy_(0.1 * torch.randn(1, model.width, generator=generator) / model.width**0.5)
            head.bias.zero_()
        self.trunk.head = head.to(model.head.weight)

    def forward(self, rows: Rows) -> Tensor:
        """Scores (N,) of rows: prompts joined with their responses, each read up to its last token."""
        ids, labels = rows
        start = ids.new_full((len(ids), 1), self.trunk.start_id)
        # Position t of the trunk has read the start token and t tokens.
        values = self.trunk.step(torch.cat([start, ids], dim=1)[:, : self.trunk.context])[0][..., 0]
        place = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        last = torch.where(labels != PAD, place, 0).amax(dim=1, keepdim=True).clamp(max=values.shape[1] - 1)
        return values.gather(1, last)[:, 0]

    def score(self, prompts, responses) -> np.ndarray:
        """Scores of responses: (N,) float64 for responses (N, R), (N, S) for (N, S, R).

        The same call as :meth:`InstructionWorld.utility`, so that either can be a reward.
        """
        responses = _checks.as_integer("responses", responses)
        if responses.ndim == 3:
            n, several, width = responses.shape
            prompts = np.repeat(np.asarray(prompts), several, axis=0)
            return self.score(prompts, responses.reshape(-1, width)).reshape(n, several)
        rows = join(prompts, responses)
        out = np.empty(len(rows.ids))
        with torch.no_grad(), mode(self, training=False):
            for part in in_parts(len(out)):
                here = Rows(*(x[part].to(device_of(self)) for x in rows))
                out[part] = self(here).double().cpu().numpy()
        return out


@dataclass(frozen=True)
class TrainedReward(Trained):
    """What :func:`train_reward_model` returns: ``model, history``, and how often the model agrees with the labels.

    Attributes
    ----------
    model : RewardModel
        The trained model.
    history : History
        Its validation losses are those of the held-out pairs.
    accuracy, held_out_accuracy : float
        The share of pairs, trained on and held out, in which the chosen answer has the higher score.
    """

    accuracy: float
    held_out_accuracy: float


def train_reward_model(
    model: GPT,
    preferences: Preferences,
    config: RewardConfig = RewardConfig(),
    **run: Any,
) -> TrainedReward:
    r"""Train a reward model on preferences, by the likelihood of Bradley and Terry.

    Use it before a policy gradient or best-of-n, where the utility itself is not to be had.

    .. math:: L = -\log \sigma\big(r(x, y_c) - r(x, y_r)\big)

    Parameters
    ----------
    model : GPT
        Where to begin; it is left as it is.
    preferences : Preferences
        Prompts (N, P), chosen and rejected responses (N, R).
    config : RewardConfig
        Epochs, held-out share, seed, device.
    **run
        progress, stop, checkpoint, resume and what else :func:`lossutils.training.train_batches` takes.

    Returns
    -------
    TrainedReward

    Raises
    ------
    ValueError, TypeError
        As :func:`lossutils.training.train_batches`; shapes that do not fit; nothing left to train on.

    Notes
    -----
    Pairs are held out by question: no question of a held-out pair is trained on.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> world = instruction_world()
    >>> preferences = world.preferences(100, np.random.default_rng(0))
    >>> trained = train_reward_model(GPT(20, context=14, width=16, layers=1), preferences)
    >>> trained.accuracy > 0.8
    True

    References
    ----------
    Christiano et al. (2017), arXiv:1706.03741; Ouyang et al. (2022), arXiv:2203.02155, eq. 1.

    See Also
    --------
    dpo : without a reward model.
    """
    share = _checks.real("held_out", config.held_out, 0.0, 1.0)
    prompts, chosen, rejected = (np.asarray(part) for part in preferences)
    _, question = np.unique(prompts, axis=0, return_inverse=True)
    order = np.random.default_rng(config.seed).permutation(question.max() + 1)
    tested = np.isin(question, order[: round(share * len(order))])
    if tested.all():
        raise ValueError(f"held_out is {config.held_out!r}, which leaves no pair to train on")
    good, bad = join(prompts, chosen), join(prompts, rejected)
    use = torch.as_tensor(np.flatnonzero(~tested))
    epochs = Epochs(len(use), config.batch_size, config.epochs, config.seed)

    def batches(step: int, generator: torch.Generator) -> dict[str, Any]:
        index = use[epochs(step)]
        return {"chosen": pick(good, index), "rejected": pick(bad, index)}

    def loss(model: nn.Module, batch: dict[str, Any]) -> Tensor:
        return bradley_terry_loss(model(batch["chosen"]), model(batch["rejected"]))

    def part(rows: np.ndarray) -> Preferences:
        return Preferences(prompts[rows], chosen[rows], rejected[rows])

    def held_out_loss(model: RewardModel) -> float:
        here = part(tested)
        scores = (model.score(here.prompts, answers) for answers in (here.chosen, here.rejected))
        return float(bradley_terry_loss(*scores))

    reward = RewardModel(model, seed=config.seed)
    if tested.any():
        run = {"evaluate": held_out_loss} | run
    history = train_batches(reward, loss, batches, **settings(config, epochs.steps, run))
    return TrainedReward(
        reward, history, reward_accuracy(reward, part(~tested)), reward_accuracy(reward, part(tested))
    )


def reward_accuracy(reward: RewardModel, preferences: Preferences) -> float:
    """Return the share of pairs in which the chosen answer has the higher score.

    Use it on pairs that the reward model was not trained on.

    Parameters
    ----------
    reward : RewardModel
        What to test.
    preferences : Preferences
        Prompts (N, P), chosen and rejected responses (N, R).

    Returns
    -------
    float
        In [0, 1]; equal scores count half. NaN for no pairs.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> preferences = instruction_world().preferences(10, np.random.default_rng(0))
    >>> accuracy = reward_accuracy(RewardModel(GPT(20, context=14, width=8, layers=1)), preferences)
    >>> 0 <= accuracy <= 1
    True
    """
    if not len(preferences.chosen):
        return float("nan")
    good = reward.score(preferences.prompts, preferences.chosen)
    bad = reward.score(preferences.prompts, preferences.rejected)
    return float(((good > bad) + 0.5 * (good == bad)).mean())
