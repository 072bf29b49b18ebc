"""A small transformer that can be read in one sitting: the architecture of GPT-2, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ._interface import CausalModule, readable_ids, sizes

__all__ = ["GPT"]

Cache = list[tuple[Tensor, Tensor]]  # each layer's keys and values, (..., heads, tokens read, width / heads)


class GPT(CausalModule):
    r"""Predict the next token by attending to all tokens of the context: a decoder-only transformer.

    Use it where a model must reach far back. With N the layer norm, E the tokens' embeddings and P the positions', the
    tokens x_0 (the start token), x_1, ... become logits z_t for token t + 1:

    .. math::

        h_t &= E_{x_t} + P_t \\
        h_t &\leftarrow h_t + W_o \, \mathrm{attend}(W_q N h_t, \; W_k N h_{\le t}, \; W_v N h_{\le t})
        \qquad \text{then} \\
        h_t &\leftarrow h_t + W_2 \, \mathrm{GELU}(W_1 N h_t) \qquad \text{in each layer,} \\
        z_t &= W N h_t

    where attend is, for each head of size d, the mean of the values v with weights
    :math:`\mathrm{softmax}(q \cdot k / \sqrt d)`. All W have a bias.

    Parameters
    ----------
    vocab_size : int
        Number of tokens V.
    context : int
        How many tokens the model can read at once, the start token included.
    width : int, default 64
        Size of h, a multiple of `heads`.
    layers, heads : int, default 2 and 4
        Number of layers, and of heads in each.
    seed : int, default 0
        Seed of the initial weights. No global random state is read or changed.

    Raises
    ------
    ValueError
        If a size is less than 1, or `width` is no multiple of `heads`.
    TypeError
        If a size is not an integer.

    Notes
    -----
    ``forward(ids)`` takes ids (..., T), T at most `context`, and returns logits (..., T, V): position t is the
    prediction of token t from the start token and the tokens before it, so ``cross_entropy(logits, ids)`` needs no
    shift. `next_token_logits` reads the ids as they are and predicts what follows each.

    **Beyond the context** `forward` refuses. `nll`, `next_token_log_probs` and `generate` show the model a window: the
    start token and the text from `window_start(t)` on. The first window holds `context` tokens; then it moves on by
    half of that whenever it is full, so a prediction is always based on at least half a context. A text's losses are
    those of sliding windows with a stride of half a context that each begin with the start token.

    **First loss.** The last weights are small, so the first predictions are nearly uniform and the first loss is ln V
    within about 0.01. There is no dropout: training and evaluation compute the same.

    **Numerics.** Reading with a cache (`step`) gives the logits of reading at once within 1e-12 in float64 and 1e-5 in
    float32. Works in float32 and float64, and under bfloat16 autocast.

    Examples
    --------
    >>> import torch
    >>> from lossutils.models import GPT
    >>> model = GPT(vocab_size=46, context=32, width=32, layers=1)
    >>> model(torch.tensor([[3, 1, 4, 1]])).shape
    torch.Size([1, 4, 46])
    >>> sum(p.numel() for p in model.parameters())
    16814

    References
    ----------
    Vaswani et al. (2017), arXiv:1706.03762. Radford et al. (2019), "Language models are unsupervised multitask
    learners", section 2.3, for the norms before each part and the scaled initial weights.

    See Also
    --------
    WindowModel : sees the last few tokens only.
    Reader : reads a text token by token with a cache, beyond the context too.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        context: int,
        width: int = 64,
        layers: int = 2,
        heads: int = 4,
        seed: int = 0,
    ):
        sizes(vocab_size=vocab_size, context=context, width=width, layers=layers, heads=heads)
        if width % heads:
            raise ValueError(f"width is {width}; it must be a multiple of heads, which is {heads}")
        super().__init__(vocab_size, context)
        self.width, self.layers, self.heads, self.seed = width, layers, heads, seed
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Parameter(0.02 * torch.randn(vocab_size + 1, width, generator=generator))
        self.position = nn.Parameter(0.02 * torch.randn(context, width, generator=generator))
        self.blocks = nn.ModuleList(Block(width, heads, layers, generator) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        # Small last weights: the first predictions are nearly uniform, so the first loss is ln V.
        self.head = linear(width, vocab_size, generator, scale=0.1)

    @property
    def config(self) -> dict[str, int]:
        """The arguments that rebuild the model, weights apart: ``GPT(**model.config)``."""
        names = ("vocab_size", "context", "width", "layers", "heads", "seed")
        return {name: int(getattr(self, name)) for name in names}

    def next_token_logits(self, ids: Tensor) -> Tensor:
        """Logits (..., T, V) for ids (..., T), which may contain `start_id`: position t predicts token t + 1."""
        return self.step(ids)[0]

    def step(self, ids: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """Read on: the logits after each of some more ids, and the cache with which to read on from there.

        Parameters
        ----------
        ids : int tensor (..., T)
            What follows the tokens in `cache`. A text begins with `start_id`.
        cache : list, optional
            What an earlier step returned; it is not changed. None to begin.

        Returns
        -------
        (logits, cache) : logits (..., T, V), position t predicts token t + 1

        Raises
        ------
        ValueError
            If the cache and the ids together are longer than the context, or an id is outside [0, V].
        TypeError
            If the ids are no tensor of integers.
        """
        readable_ids("ids", ids, self.vocab_size)
        read, new = cache[0][0].shape[-2] if cache else 0, ids.shape[-1]
        if read + new > self.context:
            before = f" after {read} in the cache" if read else ""
            raise ValueError(
                f"ids has {new} tokens{before}; the model's context is {self.context}: "
                "cut the text into windows, or use nll(ids), which does"
            )
        x = self.embed[ids] + self.position[read : read + new]
        grown = []
        for block, past in zip(self.blocks, cache or [None] * self.layers, strict=True):
            x, now = block(x, past)
            grown.append(now)
        return self.head(self.norm(x)), grown

    def window_start(self, position: int) -> int:
        """Index in a text of the oldest token that is shown to the model when it predicts the one at `position`."""
        stride = max(1, self.context // 2)
        beyond = position - (self.context - 1)
        return max(0, -(-beyond // stride)) * stride  # rounded up to whole strides

    def _windows(self, n: int) -> Iterator[tuple[int, int, int]]:
        first = 0
        while first < n:
            begin = self.window_start(first)
            end = min(begin + self.context, n)
            yield begin, first, end
            first = end


class Block(nn.Module):
    """One layer: attention, then an MLP, each reads a normalised copy and adds to what was there."""

    def __init__(self, width: int, heads: int, layers: int, generator: torch.Generator):
        super().__init__()
        self.heads = heads
        # 2 * layers times something is added to the same h: scaled so that their sum keeps its size, as in GPT-2.
        added = (2 * layers) ** -0.5
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = linear(width, 3 * width, generator)
        self.project = linear(width, width, generator, scale=added)
        self.expand = linear(width, 4 * width, generator)
        self.contract = linear(4 * width, width, generator, scale=added)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, now = self.attend(self.norm_attention(x), past)
        x = x + attended
        return x + self.contract(gelu(self.expand(self.norm_mlp(x)))), now

    def attend(self, x: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Each new token asks, and takes from itself and from all before it; their keys and values are kept."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(-4, -2).unbind(-4)
        if past is not None:
            k, v = torch.cat([past[0], k], dim=-2), torch.cat([past[1], v], dim=-2)
        new, total = q.shape[-2], k.shape[-2]
        if past is None or new == 1:  # one new token may look at everything
            out = scaled_dot_product_attention(q, k, v, is_causal=past is None)
        else:
            visible = torch.ones(new, total, dtype=torch.bool, device=x.device).tril(total - new)
            out = scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.project(out.movedim(-3, -2).flatten(-2)), (k, v)


def linear(n_in: int, n_out: int, generator: torch.Generator, *, scale: float = 1.0) -> nn.Linear:
    """A layer that keeps the size of what it is given, times `scale`. Drawn from `generator`, not the global one."""
    layer = nn.utils.skip_init(nn.Linear, n_in, n_out)
    with torch.no_grad():
        layer.weight.normal_(0.0, scale / n_in**0.5, generator=generator)
        layer.bias.zero_()
    return layer
