"""The training loop that the demos share: random batches of a token stream, AdamW, cosine schedule, a history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["History", "train"]

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass
class History:
    """What a training run recorded: ``steps``, from 0, and the batch ``losses`` in nats/token before each step."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def smoothed(self, window: int = 25) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses averaged over consecutive blocks of ``window`` steps (a block mean has no lag)."""
        if not 1 <= window <= len(self.losses):
            raise ValueError(
                f"window is {window}; it must lie between 1 and the {len(self.losses)} recorded steps"
            )
        blocks = len(self.losses) // window
        cut = blocks * window
        return (
            np.asarray(self.steps[:cut], dtype=float).reshape(blocks, window).mean(axis=1),
            np.asarray(self.losses[:cut]).reshape(blocks, window).mean(axis=1),
        )


def train(
    model: nn.Module,
    loss_function: LossFunction,
    ids: np.ndarray,
    *,
    steps: int,
    batch_size: int = 16,
    length: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> History:
    """Train a next-token model on random excerpts of one token stream.

    AdamW (betas 0.9, 0.95, no weight decay), 5 % linear warm-up, then a cosine to a tenth of the learning rate;
    gradients clipped to norm 1.

    Parameters
    ----------
    model : torch module
        Maps ids (B, T) to logits (B, T, V), position t predicting token t.
    loss_function : callable
        ``loss_function(logits, target)`` with logits (B·T, V) and target (B·T,), returning a scalar tensor, in nats.
    ids : int array of shape (N,)
        The training text.
    steps, batch_size, length : int
        Number of updates, excerpts a batch, tokens an excerpt.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Seed of the choice of excerpts. The same model, seed and machine give the same history.
    progress : callable, optional
        Called as ``progress(share_done, message)`` before each step. What it raises stops the run.

    Returns
    -------
    History
        One entry a step: the loss of the batch before the update.

    Raises
    ------
    ValueError
        If ``ids`` is not one-dimensional or shorter than ``length``, if a count is less than 1, or if the learning
        rate is not positive.
    FloatingPointError
        If the loss is not finite; the message names the step.

    Examples
    --------
    >>> import numpy as np
    >>> from lossutils import cross_entropy
    >>> from lossutils.models import WindowModel
    >>> text = np.array([0, 1, 2] * 50)
    >>> history = train(WindowModel(3, context=1), cross_entropy, text, steps=60, learning_rate=2e-2)
    >>> history.losses[0] > 1.0 > 0.3 > history.losses[-1]
    True

    See Also
    --------
    lossutils.models.WindowModel : a model in the layout that it expects.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or ids.size < length:
        raise ValueError(
            f"ids has shape {ids.shape}; it must be one-dimensional with at least length = {length} tokens"
        )
    for name, value in {"steps": steps, "batch_size": batch_size, "length": length}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate}; it must be positive")

    stream = torch.as_tensor(ids, dtype=torch.long)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    warm_up = max(1, steps // 20)
    history = History()
    for step in range(steps):
        if progress is not None:
            progress(step / steps, f"step {step} of {steps}")
        done = (step - warm_up) / max(1, steps - warm_up)
        scale = (step + 1) / warm_up if step < warm_up else 0.1 + 0.45 * (1 + np.cos(np.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * scale
        starts = torch.randint(0, stream.numel() - length + 1, (batch_size,), generator=generator)
        batch = stream[starts[:, None] + torch.arange(length)]
        logits = model(batch)
        loss = loss_function(logits.flatten(0, 1), batch.flatten())
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {step}; try a smaller learning_rate")
        history.steps.append(step)
        history.losses.append(loss.item())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return history
