"""Score a text that is longer than the model's window, each token exactly once.

A model with a window of `max_length` inputs cannot see a long text at once.  The text is cut into windows that
overlap; each window scores only the tokens that no earlier one has scored, with what stands before them in
the window as context.  How far the windows move, the stride, is a choice that changes the perplexity: the
same model is better with more context.  So a report names both.

The convention is that of Hugging Face's causal models and of lm-evaluation-harness: position t of the logits
predicts token t + 1, and a window of L inputs can score L tokens, the last of which is no input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from lossutils import _checks
from lossutils.cross_entropy import cross_entropy
from lossutils.models import GPT
from lossutils.perplexity import bits_per_byte, perplexity

__all__ = [
    "TextScore",
    "Window",
    "WindowedLosses",
    "plan_windows",
    "score_text",
    "sliding_window_nll",
]

# The window if nobody asks for another: more than n-grams can use, and logits that fit the memory also for
# models that could read a book.
DEFAULT_LENGTH = 2048


class Window(NamedTuple):
    """One window: the model sees tokens [begin, end - 1) and is scored on tokens [first, end)."""

    begin: int
    end: int
    first: int


@dataclass(frozen=True)
class WindowedLosses:
    """What :func:`sliding_window_nll` returns: a loss for each token that could be predicted.

    Attributes
    ----------
    nll : float64 array, shape (M,)
        Negative log-likelihoods in nats, in the order of the text.
    context : int64 array, shape (M,)
        How many tokens the model saw before each of them, a start token included.
    first : int
        The index in `ids` of the first token that was scored: 0 with a start token, 1 without.
    n_windows : int
        How many windows were run.
    """

    nll: np.ndarray
    context: np.ndarray
    first: int
    n_windows: int


def plan_windows(n: int, max_length: int, stride: int) -> list[Window]:
    """Return the windows that score each token of a sequence exactly once.

    Use it to see, or to run by other means, what :func:`sliding_window_nll` runs.

    The sequence has tokens 0 ... n - 1, and token 0 (a start token, or the text's first) is context only.  A
    window (begin, end, first) feeds the model tokens [begin, end - 1), at most `max_length` of them, and
    scores tokens [first, end).  The first window scores as many as it can, each later one the next `stride`::

        first window:    begin = 0                          end = min(n, max_length + 1)    first = 1
        later windows:   begin = end - 1 - max_length       end = min(n, first + stride)    first = the last end

    Parameters
    ----------
    n : int >= 2
        The number of tokens, a start token included.
    max_length : int >= 1
        How many tokens the model can read at once.
    stride : int in [1, max_length]
        How many tokens each window after the first scores.  `max_length` makes windows that share no input.

    Returns
    -------
    list of Window
        Named triples (begin, end, first).

    Raises
    ------
    ValueError
        A number below its minimum, or a stride above `max_length`.
    TypeError
        A number that is not an integer.

    Notes
    -----
    Each token 1 ... n - 1 is scored once.  Beyond the first window each has a context of at least
    max_length - stride + 1 tokens; in the first, token t has t.  The last window is shifted left so that it
    is full, and its tokens have more context than the minimum: no token is thrown away, and no window is
    padded.

    Examples
    --------
    Nine tokens after a start token, a window of three, a stride of two:

    >>> for begin, end, first in plan_windows(10, max_length=3, stride=2):
    ...     print("sees", list(range(begin, end - 1)), "scores", list(range(first, end)))
    sees [0, 1, 2] scores [1, 2, 3]
    sees [2, 3, 4] scores [4, 5]
    sees [4, 5, 6] scores [6, 7]
    sees [6, 7, 8] scores [8, 9]

    References
    ----------
    Gao et al. (2021), lm-evaluation-harness, ``get_rolling_token_windows``: the same windows, with
    context_len = max_length - stride + 1.

    See Also
    --------
    sliding_window_nll : runs them.
    """
    n = _checks.count("n", n, 2)
    max_length = _checks.count("max_length", max_length)
    stride = _checks.count("stride", stride)
    if stride > max_length:
        raise ValueError(
            f"stride must be in [1, max_length = {max_length}], got {stride}: tokens would be missed"
        )
    plan = [Window(0, min(n, max_length + 1), 1)]
    while (first := plan[-1].end) < n:
        end = min(n, first + stride)
        plan.append(Window(end - 1 - max_length, end, first))
    return plan


def sliding_window_nll(
    logits_fn: Callable,
    ids,
    *,
    max_length: int,
    stride: int | None = None,
    prefix_token_id: int | None = None,
    prefix_each_window: bool = False,
    batch_size: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> WindowedLosses:
    """Return the loss of each token of a text of any length, every token scored exactly once.

    Use it for the perplexity of a text that is longer than the model's window.  The windows are those of
    :func:`plan_windows`; the losses are :func:`lossutils.cross_entropy.cross_entropy`'s::

        nll_t = -log p(ids_t | the tokens before it in its window)

    Parameters
    ----------
    logits_fn : callable
        Takes int64 ids (B, T) and returns logits (B, T, V), or an object that has them as ``.logits``;
        position t predicts token t + 1.  An object with a method ``next_token_logits``, as this library's
        models have, is asked through it.  A torch module is run in evaluation mode, on its own device, and
        put back.
    ids : integer array_like or torch.Tensor, shape (N,)
        The text's tokens, without a start token.
    max_length : int >= 1
        How many tokens the model can read at once, a start token included.
    stride : int in [1, max_length], optional
        How many tokens each window after the first scores; by default half of `max_length` (at least 1).
    prefix_token_id : int, optional
        A start token (BOS) that is put before the text: then its first token is scored too.
    prefix_each_window : bool
        Whether later windows start with the start token as well, in the place of the oldest token.  For
        models that never saw a window without one.
    batch_size : int >= 1
        How many windows are run at once.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of tokens after each batch.

    Returns
    -------
    WindowedLosses
        With ``nll`` and ``context``, both of length N with a start token and N - 1 without.

    Raises
    ------
    ValueError
        `ids` that are not one-dimensional, too few (fewer than 2, or 1 with a start token), negative or not
        below V; what :func:`plan_windows` refuses; logits of another shape than (B, T, V); a loss of NaN; a
        `prefix_each_window` without a start token.
    TypeError
        Ids or numbers that are not integers; a `logits_fn` that cannot be called or returns no tensor.

    Notes
    -----
    A start token is never scored.  A token that the model rules out costs inf; NaN is refused, as one would
    hide in a mean.  Losses are computed in the logits' precision (float16 and bfloat16 in float32) and
    returned in float64, so that their sum is one.  No window is padded: all have the same length, unless the
    text fits into one.

    Two batch sizes may differ in the last digits, as matrix products do.

    Examples
    --------
    A model that gives the token it saw last a probability of 1/2 and shares the rest among three others:

    >>> import torch
    >>> def copycat(ids):
    ...     return torch.log((1 + 2 * torch.nn.functional.one_hot(ids, 4)) / 6.0)
    >>> found = sliding_window_nll(copycat, [2, 2, 2, 0, 0], max_length=2, stride=1)
    >>> found.nll.round(3)  # four losses: nothing comes before the first token
    array([0.693, 0.693, 1.792, 0.693])
    >>> found.context
    array([1, 2, 2, 2])

    References
    ----------
    Baevski & Auli (2019), arXiv:1809.10853, on context windows at evaluation.

    See Also
    --------
    score_text : from text, with words and bytes counted.
    lossutils.perplexity.perplexity : of ``nll.sum()`` and ``len(nll)``.
    """
    ids = _text_ids(ids)
    max_length, batch_size = _checks.count("max_length", max_length), _checks.count("batch_size", batch_size)
    stride = max(1, max_length // 2) if stride is None else stride
    if prefix_token_id is None:
        if prefix_each_window:
            raise ValueError(
                "prefix_each_window is True, but prefix_token_id is None: give the start token's id"
            )
        sequence = ids
    else:
        prefix = torch.tensor([_checks.count("prefix_token_id", prefix_token_id, 0)])
        sequence = torch.cat([prefix, ids])
    if len(sequence) < 2:
        without = "" if prefix_token_id is not None else " (or one, with prefix_token_id)"
        raise ValueError(
            f"ids must hold at least {2 - (prefix_token_id is not None)} tokens{without}, got {len(ids)}"
        )
    plan = plan_windows(len(sequence), max_length, stride)
    nll, context = np.empty(len(sequence) - 1), np.empty(len(sequence) - 1, dtype=np.int64)
    function, owner, device = _causal(logits_fn)
    # The first window scores more tokens than the others, so it goes alone; the rest have one length.
    batches = [plan[:1]] + [plan[k : k + batch_size] for k in range(1, len(plan), batch_size)]
    with torch.no_grad(), _evaluating(owner):
        for batch in batches:
            inputs = torch.stack([sequence[w.begin : w.end - 1] for w in batch])
            if prefix_each_window:
                inputs[:, 0] = sequence[0]
            logits = _logits(function(inputs.to(device)), inputs.shape)
            _check_vocabulary(ids, logits)
            for row, w in enumerate(batch):
                scored = logits[row, w.first - 1 - w.begin :]
                loss = cross_entropy(scored, sequence[w.first : w.end].to(logits.device), reduction="none")
                nll[w.first - 1 : w.end - 1] = loss.cpu().double().numpy()
                context[w.first - 1 : w.end - 1] = np.arange(w.first, w.end) - w.begin
            done = nll[: batch[-1].end - 1]
            if np.isnan(done[batch[0].first - 1 :]).any():
                raise ValueError(
                    "logits_fn gave logits from which a loss is NaN: look for NaN or inf in them"
                )
            if progress is not None:
                progress(len(done), len(nll))
    return WindowedLosses(nll, context, int(prefix_token_id is None), len(plan))


@dataclass(frozen=True)
class TextScore:
    """The losses of a text's tokens with what is needed to report them in any unit: one scoring, all numbers.

    M tokens were scored in D documents.

    Attributes
    ----------
    nll : float64 array, shape (M,)
        Negative log-likelihoods in nats, the documents one after another.
    context : int64 array, shape (M,)
        How many tokens the model saw before each of them.
    ids : int64 array, shape (M,)
        The tokens that were scored.
    document : int64 array, shape (M,)
        Which document a token is from: the groups for an interval.
    token_bytes : int64 array, shape (M,)
        How many bytes (UTF-8) of the text each token stands for.
    n_words : int64 array, shape (D,)
        Words of each document that were scored: what ``str.split()`` finds.
    n_chars : int64 array, shape (D,)
        Characters of each document that were scored.
    names : tuple of str
        The documents' names.
    max_length : int
        The windows' length.
    stride : int
        How many tokens each window after the first scored.
    prefix_token_id : int or None
        The start token.
    prefix_each_window : bool
        Whether each window began with it.
    """

    nll: np.ndarray
    context: np.ndarray
    ids: np.ndarray
    document: np.ndarray
    token_bytes: np.ndarray
    n_words: np.ndarray
    n_chars: np.ndarray
    names: tuple[str, ...]
    max_length: int
    stride: int
    prefix_token_id: int | None
    prefix_each_window: bool

    @property
    def nll_sum(self) -> float:
        """The sum of all losses in nats."""
        return float(self.nll.sum())

    @property
    def document_nll(self) -> np.ndarray:
        """The sum of losses of each document in nats, float64 (D,)."""
        return np.bincount(self.document, self.nll, len(self.names))

    def document_count(self, per: str = "token") -> np.ndarray:
        """How many tokens, words, characters ("char") or bytes of each document were scored, int64 (D,)."""
        _checks.choice("per", per, ("token", "word", "char", "byte"))
        if per == "token":
            return np.bincount(self.document, minlength=len(self.names))
        if per == "byte":
            return np.bincount(self.document, self.token_bytes, len(self.names)).astype(np.int64)
        return self.n_words if per == "word" else self.n_chars

    def count(self, per: str = "token") -> int:
        """How many tokens, words, characters ("char") or bytes were scored."""
        return int(self.document_count(per).sum())

    def perplexity(self, per: str = "token") -> float:
        """The perplexity per token, word, character ("char") or byte: exp of all losses over the count."""
        return float(perplexity(self.nll_sum, self.count(per)))

    @property
    def bits_per_byte(self) -> float:
        """Bits for each byte (UTF-8) of the scored text, the number that models with any tokenizer can share."""
        return float(bits_per_byte(self.nll_sum, self.count("byte")))


def score_text(
    model,
    documents,
    tokenizer,
    *,
    max_length: int | None = None,
    stride: int | None = None,
    prefix_token_id: int | str | None = "auto",
    prefix_each_window: bool | None = None,
    batch_size: int = 1,
    progress: Callable[[int, int], object] | None = None,
) -> TextScore:
    """Score a text, or several documents, and count what a report divides by.

    Use it for perplexity per token, word or byte and bits per byte from one pass over the text.

    Parameters
    ----------
    model : callable or model
        As `logits_fn` of :func:`sliding_window_nll`.
    documents : str, or sequence of str or of objects with ``name`` and ``text``
        Each document is scored on its own: no context reaches over from the one before, and nothing
        (no separator, no end token) is scored between them.
    tokenizer : object
        With ``encode(text) -> ids`` and ``n_bytes(ids) -> bytes of each token``, or with
        ``encode_with_bytes(text) -> (ids, bytes of each token)`` in one.  This library's tokenizers have the
        former, those of :mod:`lossutils.huggingface` the latter.
    max_length : int, optional
        By default the model's own, its ``max_length`` or, of a :class:`lossutils.models.GPT`, its
        ``context``; but at most 2048, as the logits of a window are in memory at once.
    stride : int, optional
        By default half of `max_length`.
    prefix_token_id : int or None, optional
        The start token; "auto" takes the model's ``start_id``, if it has one.
    prefix_each_window : bool, optional
        None takes what the model says in ``start_each_window``.  This library's models do not say; they were
        trained on windows that all begin with a start token, so for them (and for whatever has
        ``next_token_logits``) it is True, and for any other callable False.
    batch_size : int
        How many windows are run at once.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of tokens.

    Returns
    -------
    TextScore

    Raises
    ------
    ValueError
        No document, a document without a token to score, a tokenizer whose bytes do not add up to the text's,
        and what :func:`sliding_window_nll` refuses.
    TypeError
        Documents that are not text, a tokenizer without the methods above.

    Notes
    -----
    What is counted is what is scored.  With a start token that is the whole text.  Without one, the first
    token of each document has nothing to be predicted from: it is left out of the loss *and* of tokens,
    words, characters and bytes (a word or character that it cuts is counted with the rest).  The start token
    itself is never scored or counted.  Bytes are those of the text as it was given, in UTF-8; words are what
    ``str.split()`` finds.

    Examples
    --------
    A model that knows nothing about 256 bytes:

    >>> import torch
    >>> from lossutils.text import ByteTokenizer
    >>> score = score_text(lambda ids: torch.zeros(*ids.shape, 256), "So do I.", ByteTokenizer(), prefix_token_id=0)
    >>> print(f"{score.perplexity():.1f} a byte, {score.perplexity('word'):.0f} a word")
    256.0 a byte, 2642246 a word
    >>> print(f"{score.bits_per_byte:.1f} bits per byte")
    8.0 bits per byte

    References
    ----------
    Biderman et al. (2024), arXiv:2405.14782, on why reports of one model differ.

    See Also
    --------
    lossutils.intervals.perplexity_interval : how sure the number is.
    """
    names, texts = _documents(documents)
    if max_length is None:
        max_length = min(window_limit(model) or DEFAULT_LENGTH, DEFAULT_LENGTH)
    if stride is None:
        stride = max(1, _checks.count("max_length", max_length) // 2)
    if isinstance(prefix_token_id, str):
        _checks.choice("prefix_token_id", prefix_token_id, ("auto",))
        prefix_token_id = getattr(model, "start_id", None)
    if prefix_each_window is None:
        prefix_each_window = prefix_token_id is not None and bool(
            getattr(model, "start_each_window", hasattr(model, "next_token_logits"))
        )
    encoded = [encode_document(tokenizer, text, name) for name, text in zip(names, texts, strict=True)]
    first = int(prefix_token_id is None)
    for name, (ids, _) in zip(names, encoded, strict=True):
        if len(ids) <= first:
            why = (
                "and without a start token the first is not scored"
                if len(ids)
                else "there is nothing to score"
            )
            raise ValueError(f"document {name!r} has {len(ids)} token{'s' * (len(ids) != 1)}: {why}")
    done, total = 0, sum(len(ids) - first for ids, _ in encoded)
    parts: list[WindowedLosses] = []
    for ids, _ in encoded:
        found = sliding_window_nll(
            model,
            ids,
            max_length=max_length,
            stride=stride,
            prefix_token_id=prefix_token_id,
            prefix_each_window=prefix_each_window,
            batch_size=batch_size,
            progress=None if progress is None else lambda n, _, done=done: progress(done + n, total),
        )
        parts.append(found)
        done += len(found.nll)
    scored = [
        text.encode("utf-8")[int(sizes[:first].sum()) :]
        for text, (_, sizes) in zip(texts, encoded, strict=True)
    ]
    return TextScore(
        nll=np.concatenate([part.nll for part in parts]),
        context=np.concatenate([part.context for part in parts]),
        ids=np.concatenate([ids[first:] for ids, _ in encoded]),
        document=np.repeat(np.arange(len(parts)), [len(part.nll) for part in parts]),
        token_bytes=np.concatenate([sizes[first:] for _, sizes in encoded]),
        n_words=np.array([len(raw.decode("utf-8", "replace").split()) for raw in scored], dtype=np.int64),
        n_chars=np.array([_characters(raw) for raw in scored], dtype=np.int64),
        names=tuple(names),
        max_length=int(max_length),
        stride=int(stride),
        prefix_token_id=None if prefix_token_id is None else int(prefix_token_id),
        prefix_each_window=bool(prefix_each_window),
    )


# ----------------------------------------------------------------------------------------------------------


def window_limit(model) -> int | None:
    """How many tokens a model can read at once; None if it does not say, or has no limit."""
    return model.context if isinstance(model, GPT) else getattr(model, "max_length", None)


def _text_ids(ids) -> torch.Tensor:
    if not _checks.is_torch(ids) and np.size(ids) == 0:
        ids = np.empty(np.shape(ids), dtype=np.int64)  # [] holds no floats either
    ids = _checks.as_integer("ids", ids)
    ids = ids.detach().cpu() if _checks.is_torch(ids) else torch.from_numpy(np.array(ids))
    if ids.ndim != 1:
        raise ValueError(f"ids must have one dimension, got shape {tuple(ids.shape)}: score texts one by one")
    if len(ids) and ids.min() < 0:
        raise ValueError(f"ids must not be negative, got {ids.min().item()}")
    return ids


def _causal(model) -> tuple[Callable, torch.nn.Module | None, torch.device]:
    """Return the function from ids to next-token logits, the module behind it, and where its inputs go."""
    function = getattr(model, "next_token_logits", model)
    if not callable(function):
        raise TypeError(f"logits_fn must be callable, got {type(model).__name__}")
    owner = getattr(function, "__self__", function)
    if not isinstance(owner, torch.nn.Module):
        return function, None, torch.device(getattr(owner, "device", "cpu"))
    weight = next(iter(owner.parameters()), None)
    return function, owner, torch.device("cpu") if weight is None else weight.device


@contextmanager
def _evaluating(module: torch.nn.Module | None) -> Iterator[None]:
    """Switch dropout and the like off for a while."""
    training = [] if module is None else [part for part in module.modules() if part.training]
    if module is not None:
        module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _logits(output, shape: torch.Size) -> torch.Tensor:
    logits = getattr(output, "logits", output)
    if not _checks.is_torch(logits):
        raise TypeError(
            f"logits_fn must return a tensor or an object with .logits, got {type(output).__name__}"
        )
    if logits.ndim != 3 or logits.shape[:2] != shape:
        raise ValueError(
            f"logits_fn must return logits of shape ({shape[0]}, {shape[1]}, V) for ids of shape "
            f"{tuple(shape)}, got {tuple(logits.shape)}"
        )
    return logits


def _check_vocabulary(ids: torch.Tensor, logits: torch.Tensor) -> None:
    if ids.max() >= logits.shape[-1]:
        raise ValueError(
            f"ids must be below the model's vocabulary size {logits.shape[-1]}, got {ids.max().item()}: "
            "is this the model's own tokenizer?"
        )


def _documents(documents) -> tuple[list[str], list[str]]:
    """Return names and texts."""
    several: Sequence = (
        [documents] if isinstance(documents, str) or hasattr(documents, "text") else list(documents)
    )
    if not several:
        raise ValueError("documents must hold at least one document, got none")
    names, texts = [], []
    for k, document in enumerate(several):
        text = getattr(document, "text", document)
        if not isinstance(text, str):
            raise TypeError(
                f"documents must be text, or have it as .text; number {k} is {type(text).__name__}"
            )
        names.append(str(getattr(document, "name", k)))
        texts.append(text)
    return names, texts


def encode_document(tokenizer, text: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a document's ids and how many of its bytes each stands for."""
    if hasattr(tokenizer, "encode_with_bytes"):
        ids, sizes = tokenizer.encode_with_bytes(text)
        ids, sizes = np.asarray(ids, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
    elif hasattr(tokenizer, "encode") and hasattr(tokenizer, "n_bytes"):
        ids = np.asarray(tokenizer.encode(text), dtype=np.int64)
        sizes = np.asarray(tokenizer.n_bytes(ids), dtype=np.int64)
    else:
        raise TypeError(
            f"tokenizer must have encode_with_bytes, or encode and n_bytes, got {type(tokenizer).__name__}"
        )
    if sizes.shape != ids.shape:
        raise ValueError(
            f"tokenizer must say the bytes of each of the {len(ids)} tokens, got shape {sizes.shape}"
        )
    n_bytes = len(text.encode("utf-8"))
    if int(sizes.sum()) != n_bytes:
        raise ValueError(
            f"tokenizer's tokens for document {name!r} stand for {int(sizes.sum())} bytes, but the text has "
            f"{n_bytes}: bits per byte would be wrong"
        )
    return ids, sizes


def _characters(raw: bytes) -> int:
    """Count characters by their first byte; what is left of one that was cut counts too."""
    data = np.frombuffer(raw, dtype=np.uint8)
    starts = (data & 0xC0) != 0x80
    return int(starts.sum()) + int(data.size > 0 and not starts[0])
