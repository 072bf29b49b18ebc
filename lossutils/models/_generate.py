"""Write text with a model, one token at a time, and read along with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..logspace import log_softmax, softmax
from ._interface import LanguageModel, sizes
from .gpt import GPT

__all__ = ["Reader", "generate"]


class Reader:
    """A model reading one text: what does it expect next, token after token?

    Use it to sample, to code, or to show predictions as a text unfolds. A `GPT` remembers what it has read, so that
    each token costs one step; any other model is asked afresh.

    Parameters
    ----------
    model : LanguageModel or torch module
        A module that is no `LanguageModel` maps ids (1, T) to logits (1, T, V), position t predicting token t from
        those before it.
    prompt : sequence of int, optional
        How the text begins.

    Attributes
    ----------
    ids : int64 array
        The text so far, to look at; `append` adds to it.

    Notes
    -----
    `log_probs` is ``model.next_token_log_probs(reader.ids)`` up to rounding, also where the text is longer than a GPT's
    context. The same calls give the same bits; a cache and a prefix read at once may differ in the last ones.

    Examples
    --------
    >>> from lossutils.models import GPT, Reader
    >>> reader = Reader(GPT(46, context=32), prompt=[2, 14])
    >>> reader.log_probs().shape
    (46,)
    >>> reader.append(7)
    >>> reader.ids
    array([ 2, 14,  7])
    """

    def __init__(self, model: nn.Module | LanguageModel, prompt: Sequence[int] = ()):
        self.model = model
        prompt = np.asarray(prompt, dtype=np.int64)
        self._buffer, self._length = np.resize(prompt, max(64, 2 * prompt.size)), prompt.size
        self._is_model = isinstance(model, LanguageModel)
        self._begin: int | None = None  # where a GPT's window begins

    def append(self, token: int) -> None:
        """Read one more token."""
        if self._length == self._buffer.size:
            self._buffer = np.resize(self._buffer, 2 * self._length)
        self._buffer[self._length] = token
        self._length += 1

    @property
    def ids(self) -> np.ndarray:
        return self._buffer[: self._length]

    def log_probs(self) -> np.ndarray:
        """Log-probabilities (V,), float64, of the next token."""
        if isinstance(self.model, GPT):
            return self._remembering(self.model)
        if self._is_model:
            return self.model.next_token_log_probs(self.ids)
        with torch.no_grad():
            # The last position's input is a placeholder: no logit at a position looks at its own token.
            logits = self.model(torch.tensor([[*self.ids, 0]]))[0, -1]
        return log_softmax(logits.cpu().double().numpy())

    @torch.no_grad()
    def _remembering(self, model: GPT) -> np.ndarray:
        begin = model.window_start(self._length)
        if begin != self._begin:  # a new text, or the window has moved on
            self._begin, self._read, self._cache = begin, begin, None
        new = self.ids[self._read :].tolist()
        if self._cache is None:
            new = [model.start_id, *new]
        if new:
            logits, self._cache = model.step(torch.tensor(new, device=model.head.weight.device), self._cache)
            self._read = self._length
            self._log_probs = log_softmax(logits[-1].cpu().double().numpy())
        return self._log_probs


def generate(
    model: nn.Module | LanguageModel,
    n_tokens: int,
    rng: np.random.Generator,
    *,
    prompt: Sequence[int] = (),
    temperature: float = 1.0,
    top_k: int | None = None,
) -> np.ndarray:
    r"""Sample a text from a model, one token at a time.

    Use it to see what a model has learned. A text of any length: what a model sees of it is what `nll` lets it see.

    .. math:: p(w) \propto P(w \mid \text{prompt and text so far})^{1 / \text{temperature}}

    Parameters
    ----------
    model : LanguageModel or torch module
        A module that is no `LanguageModel` maps ids (1, T) to logits (1, T, V), position t predicting token t from
        those before it.
    n_tokens : int
        How many tokens to sample, at least 1.
    rng : numpy Generator
        The source of chance.
    prompt : sequence of int, optional
        Token ids that the sample continues; they are not returned.
    temperature : float, default 1
        Positive. Below one likely tokens become likelier; one samples what the model says.
    top_k : int, optional
        Sample among the k most likely tokens only.

    Returns
    -------
    int64 array of shape (n_tokens,)

    Raises
    ------
    ValueError
        If ``n_tokens`` or ``top_k`` is less than 1, ``temperature`` is not positive, or the prompt holds an id that is
        no token.
    TypeError
        If a count is not an integer.

    Examples
    --------
    >>> import numpy as np
    >>> from lossutils.models import WindowModel, generate
    >>> generate(WindowModel(46, 2), 3, np.random.default_rng(0)).shape
    (3,)

    See Also
    --------
    Reader : the predictions themselves.
    """
    sizes(n_tokens=n_tokens, **({} if top_k is None else {"top_k": top_k}))
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature is {temperature}; it must be positive and finite")
    reader = Reader(model, prompt)
    for _ in range(n_tokens):
        scores = reader.log_probs() / temperature
        if top_k is not None and top_k < scores.size:
            scores[np.argsort(-scores, kind="stable")[top_k:]] = -np.inf
        p = softmax(scores)
        reader.append(rng.choice(p.size, p=p / p.sum()))
    return reader.ids[len(prompt) :].copy()
