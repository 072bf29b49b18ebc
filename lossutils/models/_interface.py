"""What a language model of this library can do, and the part of it that all torch models share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from .._checks import as_integer, count, is_torch
from ..cross_entropy import cross_entropy
from ..logspace import log_softmax

__all__ = ["LanguageModel"]

LOGITS_AT_ONCE = 2**22  # how many logits `nll` holds at a time: 32 MB in float64


@runtime_checkable
class LanguageModel(Protocol):
    """What every model here offers, and what the rest of the library asks of a model of yours.

    Use it in a type annotation, or ask ``isinstance(model, LanguageModel)``, which looks for the names.

    Attributes
    ----------
    vocab_size : int
        Number of tokens V: ids 0 ... V - 1 can be predicted.
    start_id : int or None
        The id that stands before a text: V for the models here. It is read, never predicted.

    Notes
    -----
    ``next_token_logits(ids)``
        ids (B, T) to logits (B, T, V); position t predicts token t + 1, the convention of Hugging Face's causal models.
        The ids may contain `start_id`. An n-gram model's logits are log-probabilities.
    ``next_token_log_probs(prefix)``
        float64 array (V,): the log-probabilities of the token after a text that begins with `prefix`, which may be
        empty. No start token is given: the model puts its own before the text.
    ``nll(ids)``
        float64 array (N,): nats of each token of a text given all before it that the model can see. For a text of
        any length, ``nll(ids)[t]`` is ``-next_token_log_probs(ids[:t])[ids[t]]`` up to rounding, so the sum is the
        code length of the text.

    Examples
    --------
    >>> from lossutils.models import LanguageModel, WindowModel
    >>> isinstance(WindowModel(46, 2), LanguageModel)
    True
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def start_id(self) -> int | None: ...

    def next_token_logits(self, ids: Any) -> Any: ...

    def next_token_log_probs(self, prefix: Any) -> np.ndarray: ...

    def nll(self, ids: Any) -> np.ndarray: ...


class CausalModule(nn.Module):
    """What the torch models share. A subclass has `next_token_logits`, `window_start` and `_windows`."""

    def __init__(self, vocab_size: int, context: int):
        super().__init__()
        self.vocab_size, self.context = vocab_size, context

    @property
    def start_id(self) -> int:
        """V, the id of the start token: it stands before a text, is read, and never predicted."""
        return self.vocab_size

    def next_token_logits(self, ids: Tensor) -> Tensor:
        """Logits (..., T, V) for ids (..., T), which may contain `start_id`: position t predicts token t + 1."""
        raise NotImplementedError

    def window_start(self, position: int) -> int:
        """Index in a text of the oldest token that is shown to the model when it predicts the one at `position`."""
        raise NotImplementedError

    def _windows(self, n: int) -> Iterator[tuple[int, int, int]]:
        """(begin, first, end) for a text of n tokens: shown tokens [begin, end), score [first, end)."""
        raise NotImplementedError

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (..., T, V) for ids (..., T): position t predicts ids[..., t] from the tokens before it."""
        start = ids.new_full((*ids.shape[:-1], 1), self.start_id)
        return self.next_token_logits(torch.cat([start, ids], dim=-1)[..., :-1])

    @torch.no_grad()
    def next_token_log_probs(self, prefix) -> np.ndarray:
        """Log-probabilities (V,), float64, of the token after a text that begins with `prefix` (may be empty)."""
        prefix = text_ids("prefix", prefix, self.vocab_size)
        seen = np.concatenate([[self.start_id], prefix[self.window_start(prefix.size) :]])
        logits = self.next_token_logits(torch.as_tensor(seen, device=self._device))[-1]
        return log_softmax(logits.cpu().double().numpy())

    @torch.no_grad()
    def nll(self, ids) -> np.ndarray:
        """Nats (N,), float64, of each token of a text (N,) of any length, given those that `window_start` shows."""
        ids = torch.as_tensor(text_ids("ids", ids, self.vocab_size))
        out = np.empty(len(ids))
        for (scored, length), group in groupby(self._windows(len(ids)), lambda w: (w[2] - w[1], w[2] - w[0])):
            # As many windows of one shape at a time as keep the logits small.
            for some in batched(group, max(1, LOGITS_AT_ONCE // (length * self.vocab_size))):
                shown = torch.stack([ids[begin:end] for begin, _, end in some])
                logits = self(shown.to(self._device))[:, -scored:].cpu().double()
                losses = cross_entropy(logits.flatten(0, 1), shown[:, -scored:].flatten(), reduction="none")
                for (_, first, end), row in zip(some, losses.view(len(some), scored), strict=True):
                    out[first:end] = row.numpy()
        return out

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of up to `size` items (itertools has this from Python 3.12 on)."""
    items = iter(items)
    while some := list(islice(items, size)):
        yield some


def sizes(**arguments: int) -> None:
    """Require integers of at least one."""
    for name, value in arguments.items():
        count(name, value)


def text_ids(name: str, ids, vocab_size: int) -> np.ndarray:
    """Return the ids of one text as an int64 array (N,), each in [0, V)."""
    ids = ids.detach().cpu().numpy() if is_torch(ids) else ids
    ids = np.asarray(ids)
    ids = as_integer(name, ids) if ids.size else ids.astype(np.int64)
    if ids.ndim != 1:
        raise ValueError(f"{name} must be one text of shape (N,), got shape {ids.shape}")
    outside = (ids < 0) | (ids >= vocab_size)
    if outside.any():
        where = int(outside.argmax())
        raise ValueError(f"{name} must be in [0, {vocab_size}), got {ids[where]} at position {where}")
    return ids


def readable_ids(name: str, ids: Tensor, vocab_size: int) -> Tensor:
    """Check ids that a model is to read: integers in [0, V], V the start token. Only looked at on the CPU."""
    if not is_torch(ids) or ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        kind = ids.dtype if is_torch(ids) else type(ids).__name__
        raise TypeError(f"{name} must be a tensor of integers, got {kind}")
    if ids.device.type == "cpu" and ids.numel():
        low, high = (int(x) for x in ids.aminmax())
        if low < 0 or high > vocab_size:
            raise ValueError(
                f"{name} must be in [0, {vocab_size}], where {vocab_size} is the start token, "
                f"got {low if low < 0 else high}"
            )
    return ids
