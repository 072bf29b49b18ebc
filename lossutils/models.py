"""Models small enough to train inside a chapter, behind one interface: token ids in, next-token logits out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .logspace import softmax

__all__ = ["WindowModel", "generate"]


class WindowModel(nn.Module):
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
        super().__init__()
        for name, value in {
            "vocab_size": vocab_size, "context": context, "width": width, "embedding": embedding
        }.items():  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.vocab_size, self.context = vocab_size, context
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Parameter(torch.randn(vocab_size + 1, embedding, generator=generator))
        self.hidden_weight = nn.Parameter(
            torch.randn(width, context * embedding, generator=generator) * (2 / (context * embedding)) ** 0.5
        )
        self.hidden_bias = nn.Parameter(torch.zeros(width))
        # Small last weights: the first predictions are nearly uniform, so the first loss is ln V.
        self.out_weight = nn.Parameter(torch.randn(vocab_size, width, generator=generator) * 0.1 / width**0.5)
        self.out_bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (..., T, V): position t predicts ids[..., t] from the ``context`` tokens before it."""
        padding = ids.new_full((*ids.shape[:-1], self.context), self.vocab_size)
        windows = torch.cat([padding, ids], dim=-1)[..., :-1].unfold(-1, self.context, 1)
        features = self.embed[windows].flatten(-2)
        hidden = torch.relu(nn.functional.linear(features, self.hidden_weight, self.hidden_bias))
        return nn.functional.linear(hidden, self.out_weight, self.out_bias)


@torch.no_grad()
def generate(
    model: nn.Module, n_tokens: int, rng: np.random.Generator, *, prompt: Sequence[int] = ()
) -> np.ndarray:
    """Sample a text from a model, one token at a time.

    Parameters
    ----------
    model : torch module
        Maps ids (1, T) to logits (1, T, V), position t predicting token t from those before it.
    n_tokens : int
        How many tokens to sample, at least 1.
    rng : numpy Generator
        The source of chance.
    prompt : sequence of int, optional
        Token ids that the sample continues; they are not returned.

    Returns
    -------
    int64 array of shape (n_tokens,)

    Raises
    ------
    ValueError
        If ``n_tokens`` is less than 1.

    Examples
    --------
    >>> import numpy as np
    >>> from lossutils.models import WindowModel, generate
    >>> generate(WindowModel(46, 2), 3, np.random.default_rng(0)).shape
    (3,)
    """
    if n_tokens < 1:
        raise ValueError(f"n_tokens is {n_tokens}; it must be at least 1")
    ids = list(prompt)
    for _ in range(n_tokens):
        # The last position's input is a placeholder: no logit at a position looks at its own token.
        logits = model(torch.tensor([[*ids, 0]]))[0, -1]
        p = softmax(logits.double()).numpy()
        ids.append(int(rng.choice(p.size, p=p / p.sum())))
    return np.array(ids[len(prompt) :], dtype=np.int64)
