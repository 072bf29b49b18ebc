"""Tokenizers: text to token ids and back, without loss. Bytes, and byte-pair encoding over bytes.

Both give back every text exactly and know how many bytes each token stands for, so that a loss per token can be turned
into bits per byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ._checks import as_integer, choice, is_torch

__all__ = ["BPETokenizer", "ByteTokenizer", "load_tokenizer"]


class _ByteLevel:
    """What the tokenizers here share: each token is a string of bytes."""

    kind: str
    _bytes: list[bytes]  # by token id

    @property
    def vocab_size(self) -> int:
        """Number of tokens V."""
        return len(self._bytes)

    def pieces(self, ids) -> list[bytes]:
        """The bytes of each token of ids (N,). One character may be spread over several tokens.

        Raises
        ------
        TypeError
            If the ids are not integers.
        ValueError
            If an id is outside [0, V) or the ids are not one-dimensional.
        """
        return [self._bytes[i] for i in self._checked(ids)]

    def decode(self, ids, *, errors: str = "replace") -> str:
        """The text of ids (N,): the inverse of `encode`.

        Ids that no text gives, such as those that a model samples, may hold bytes that are no UTF-8. By default each
        such stretch becomes U+FFFD; ``errors="strict"`` raises UnicodeDecodeError, a ValueError, instead.

        Raises
        ------
        TypeError
            If the ids are not integers.
        ValueError
            If an id is outside [0, V), the ids are not one-dimensional, or `errors` is neither of the two.
        """
        choice("errors", errors, ("replace", "strict"))
        return b"".join(self.pieces(ids)).decode("utf-8", errors)

    def n_bytes(self, ids) -> np.ndarray:
        """How many bytes (UTF-8) each token of ids (N,) stands for, int64 (N,). Errors are those of `pieces`."""
        return np.array([len(piece) for piece in self._bytes])[self._checked(ids)]

    def _checked(self, ids) -> np.ndarray:
        if not hasattr(ids, "dtype") and len(ids) == 0:
            return np.zeros(0, dtype=np.int64)
        ids = as_integer("ids", ids)
        ids = ids.cpu().numpy() if is_torch(ids) else ids
        if ids.ndim != 1:
            raise ValueError(f"ids must have shape (N,), got shape {ids.shape}")
        outside = (ids < 0) | (ids >= self.vocab_size)
        if outside.any():
            where = int(outside.argmax())
            raise ValueError(f"ids must be in [0, {self.vocab_size}), got {ids[where]} at position {where}")
        return ids

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size})"


class ByteTokenizer(_ByteLevel):
    """Each byte of the text's UTF-8 is a token: 256 tokens, nothing to train, nothing that it cannot write.

    Use it where models with different tokenizers are to be compared: its loss per token is a loss per byte.

    Examples
    --------
    >>> from lossutils.tokenizing import ByteTokenizer
    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("né")
    array([110, 195, 169])
    >>> tokenizer.decode([110, 195, 169])
    'né'

    See Also
    --------
    BPETokenizer : several bytes a token.
    """

    kind = "byte"

    def __init__(self) -> None:
        self._bytes = [bytes([b]) for b in range(256)]

    def encode(self, text: str) -> np.ndarray:
        """Token ids (N,), int64, of a text.

        Raises
        ------
        TypeError
            If `text` is not a str.
        ValueError
            If it holds a lone surrogate, which no UTF-8 can write.
        """
        return np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int64)

    def to_json(self) -> str:
        """The tokenizer as a JSON text, for `from_json` or `load_tokenizer`."""
        return json.dumps({"kind": self.kind})

    @classmethod
    def from_json(cls, text: str) -> ByteTokenizer:
        """Rebuild a tokenizer from `to_json`; ValueError if `text` is something else."""
        _described(text, cls.kind)
        return cls()


class BPETokenizer(_ByteLevel):
    """Byte-pair encoding over bytes, as GPT-2 has it: frequent neighbours are merged into one token.

    Use `BPETokenizer.train` to make one from a text; the constructor takes a ``tokenizers.Tokenizer`` of this form.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        A byte-level BPE without normaliser, post-processor and special tokens, with all 256 bytes in its vocabulary.

    Raises
    ------
    TypeError
        If `tokenizer` is something else.
    ValueError
        If it could lose or add text.

    Notes
    -----
    All 256 bytes are tokens, so every text can be written: there is no unknown token. Words are split off as in GPT-2
    (a word takes the space before it along) and merges stay inside them. The same texts give the same tokenizer.

    Examples
    --------
    >>> from lossutils.tokenizing import BPETokenizer
    >>> tokenizer = BPETokenizer.train(["the cat and the hat and the bat"], vocab_size=262)
    >>> tokenizer.pieces(tokenizer.encode("the rat"))
    [b'the', b' ', b'r', b'at']

    References
    ----------
    Sennrich, Haddow & Birch (2016), arXiv:1508.07909; Radford et al. (2019), "Language models are unsupervised
    multitask learners", section 2.2, for bytes.

    See Also
    --------
    ByteTokenizer : one byte a token.
    """

    kind = "bpe"

    def __init__(self, tokenizer: Tokenizer):
        if not isinstance(tokenizer, Tokenizer):
            raise TypeError(f"tokenizer must be a tokenizers.Tokenizer, got {type(tokenizer).__name__}")
        self._tokenizer = tokenizer
        self._bytes = _lossless_pieces(tokenizer)

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int) -> BPETokenizer:
        """Merge the most frequent neighbours of some texts until there are `vocab_size` tokens.

        Parameters
        ----------
        texts : str or iterable of str
            What to count in: the training texts only, or the held-out text is not held out.
        vocab_size : int
            At least 256. A short text runs out of pairs that occur twice, and the vocabulary is then smaller.

        Raises
        ------
        TypeError
            If a text is not a str or `vocab_size` is not an int.
        ValueError
            If `vocab_size` is less than 256 or a text holds a lone surrogate.
        """
        if isinstance(vocab_size, bool) or not isinstance(vocab_size, (int, np.integer)):
            raise TypeError(f"vocab_size must be an integer, got {vocab_size!r}")
        if vocab_size < 256:
            raise ValueError(f"vocab_size must be at least 256, the number of bytes, got {vocab_size}")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            _utf8(text)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=int(vocab_size),
            min_frequency=2,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    def encode(self, text: str) -> np.ndarray:
        """Token ids (N,), int64, of a text.

        Raises
        ------
        TypeError
            If `text` is not a str.
        ValueError
            If it holds a lone surrogate, which no UTF-8 can write.
        """
        _utf8(text)
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def to_json(self) -> str:
        """The tokenizer as a JSON text, for `from_json` or `load_tokenizer`. Under "tokenizer" stands the file that the
        ``tokenizers`` package would write."""
        return json.dumps({"kind": self.kind, "tokenizer": json.loads(self._tokenizer.to_str())})

    @classmethod
    def from_json(cls, text: str) -> BPETokenizer:
        """Rebuild a tokenizer from `to_json`; ValueError if `text` is something else."""
        described = _described(text, cls.kind)
        try:
            tokenizer = Tokenizer.from_str(json.dumps(described["tokenizer"]))
        except Exception as error:  # the package raises plain exceptions
            raise ValueError(
                f"text holds no tokenizer that the tokenizers package can read: {error}"
            ) from error
        return cls(tokenizer)


def load_tokenizer(text: str) -> ByteTokenizer | BPETokenizer:
    """Rebuild a tokenizer of either kind from its `to_json`.

    Use it where a tokenizer was stored beside a model.

    Parameters
    ----------
    text : str
        What `to_json` gave: the JSON itself, not a path.

    Returns
    -------
    ByteTokenizer or BPETokenizer

    Raises
    ------
    TypeError
        If `text` is not a str.
    ValueError
        If it is no JSON, or does not describe a tokenizer of this library.

    Examples
    --------
    >>> from lossutils.tokenizing import ByteTokenizer, load_tokenizer
    >>> load_tokenizer(ByteTokenizer().to_json())
    ByteTokenizer(vocab_size=256)
    """
    kinds = {cls.kind: cls for cls in (ByteTokenizer, BPETokenizer)}
    return kinds[_described(text, *kinds)["kind"]].from_json(text)


# ----------------------------------------------------------------------------------------------------------


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text has a lone surrogate, {text[error.start]!r}, at position {error.start}: no UTF-8 can write it"
        ) from error


def _described(text: str, *kinds: str) -> dict:
    """What `to_json` wrote, of one of these kinds."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}")
    try:
        described = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"text must be the JSON of a tokenizer, got {text[:40]!r}: {error}") from error
    kind = described.get("kind") if isinstance(described, dict) else None
    if kind not in kinds:
        raise ValueError(f'text must have "kind": {" or ".join(map(repr, kinds))}, got {kind!r}')
    if kind == "bpe" and "tokenizer" not in described:
        raise ValueError('text must have the tokenizer under "tokenizer", got none')
    return described


def _byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    GPT-2's table: bytes that print stand for themselves, the others for the characters from 256 on, in order.
    """
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printing]
    return {chr(b): b for b in printing} | {chr(256 + n): b for n, b in enumerate(others)}


def _lossless_pieces(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each token, by id, of a tokenizer that is checked to keep every text."""
    form = json.loads(tokenizer.to_str())
    split = form["pre_tokenizer"] or {}
    if form["model"]["type"] != "BPE" or split.get("type") != "ByteLevel" or split.get("add_prefix_space"):
        raise ValueError("tokenizer must be a BPE with a ByteLevel pre-tokenizer that adds no space")
    for part in ("normalizer", "post_processor", "added_tokens", "truncation", "padding"):
        if form[part]:
            raise ValueError(
                f"tokenizer must have no {part}, which could change the text, got {form[part]!r}"
            )
    byte = _byte_of_character()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if [i for _, i in vocabulary] != list(range(len(vocabulary))):
        raise ValueError("tokenizer must have the ids 0 ... V - 1, got gaps")
    if not byte.keys() <= {token for token, _ in vocabulary}:
        raise ValueError("tokenizer must have all 256 bytes in its vocabulary")
    try:
        return [bytes(byte[character] for character in token) for token, _ in vocabulary]
    except KeyError as error:
        raise ValueError(f"tokenizer must hold bytes only, got a token with {error.args[0]!r}") from error
