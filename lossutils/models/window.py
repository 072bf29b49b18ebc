"""The neural n-gram: a network that sees the last few tokens and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ._interface import CausalModule, readable_ids, sizes

__all__ = ["WindowModel"]


class WindowModel(CausalModule):
    r"""Predict the next token from the last few ones: embeddings side by side, one hidden layer, logits.

    The neural language model of Bengio et al. (2003) without its direct connections. What it cannot see, it cannot use:
    with ``context=k`` its best possible loss is the conditional entropy H(X_t | X_{t-k}, …, X_{t-1}), which a known
    world gives exactly. That makes it the right first model for measuring a gap.

    .. math:: z_t = W_2 \, \mathrm{ReLU}(W_1 [e(x_{t-k}); \dots; e(x_{t-1})] + b_1) + b_2

    Parameters
    ----------
    vocab_size : int
        Number of tokens V.
    context : int
        Number of tokens k that the model sees, at least 1.
    width : int, default 128
        Size of the hidden layer.
    embedding : int, default 24
        Size of a token's embedding.
    seed : int, default 0
        Seed of the initial weights. No global random state is read or changed.

    Raises
    ------
    ValueError
        If ``vocab_size``, ``context``, ``width`` or ``embedding`` is less than 1.

    Notes
    -----
    ``forward(ids)`` takes ids of shape (..., T) and returns logits of shape (..., T, V): position t is the prediction
    of token t from the tokens before it, so ``cross_entropy(logits, ids)`` needs no shift. Before the text begins the
    window is filled with a padding token of its own.

    Examples
    --------
    >>> import torch
    >>> from lossutils.models import WindowModel
    >>> WindowModel(vocab_size=46, context=2)(torch.tensor([[3, 1, 4, 1]])).shape
    torch.Size([1, 4, 46])

    References
    ----------
    Bengio, Ducharme, Vincent & Jauvin (2003), *A Neural Probabilistic Language Model*, JMLR 3, 1137–1155.
    """

    def __init__(
        self, vocab_size: int, context: int, *, width: int = 128, embedding: int = 24, seed: int = 0
    ):
        sizes(vocab_size=vocab_size, context=context, width=width, embedding=embedding)
        super().__init__(vocab_size, context)
        self.width, self.embedding, self.seed = width, embedding, seed
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Parameter(torch.randn(vocab_size + 1, embedding, generator=generator))
        self.hidden_weight = nn.Parameter(
            torch.randn(width, context * embedding, generator=generator) * (2 / (context * embedding)) ** 0.5
        )
        self.hidden_bias = nn.Parameter(torch.zeros(width))
        # Small last weights: the first predictions are nearly uniform, so the first loss is ln V.
        self.out_weight = nn.Parameter(torch.randn(vocab_size, width, generator=generator) * 0.1 / width**0.5)
        self.out_bias = nn.Parameter(torch.zeros(vocab_size))

    @property
    def config(self) -> dict[str, int]:
        """The arguments that rebuild the model, weights apart: ``WindowModel(**model.config)``."""
        names = ("vocab_size", "context", "width", "embedding", "seed")
        return {name: int(getattr(self, name)) for name in names}

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (..., T, V) for ids (..., T): position t predicts ids[..., t] from the `context` tokens before it."""
        return super().forward(ids)

    def next_token_logits(self, ids: Tensor) -> Tensor:
        """Logits (..., T, V) for ids (..., T), which may contain `start_id`: position t predicts token t + 1."""
        readable_ids("ids", ids, self.vocab_size)
        padding = ids.new_full((*ids.shape[:-1], self.context), self.start_id)
        windows = torch.cat([padding, ids], dim=-1).unfold(-1, self.context, 1)[..., 1:, :]
        features = self.embed[windows].flatten(-2)
        hidden = torch.relu(nn.functional.linear(features, self.hidden_weight, self.hidden_bias))
        return nn.functional.linear(hidden, self.out_weight, self.out_bias)

    def window_start(self, position: int) -> int:
        """Index in a text of the oldest token that the model sees when it predicts the one at `position`."""
        return max(0, position - self.context)

    def _windows(self, n: int) -> Iterator[tuple[int, int, int]]:
        for first in range(0, n, 1024):
            yield self.window_start(first), first, min(first + 1024, n)
