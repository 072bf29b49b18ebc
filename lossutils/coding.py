"""The loss as a file: lossless compression of text by a language model and an arithmetic coder.

A model that gives the tokens of a text the probabilities p can store that text in Σ −log₂ p bits, and no
coder can do better with those probabilities. The coder here, the range coder of the ``constriction`` package, comes
within a few bytes of that sum. So a loss is not like the size of a file, it is one.

What decoding needs is the very same probabilities, to the last bit. Therefore both directions run one code
path here: one token at a time, prefixes of the same lengths, on one thread, the probabilities rounded to the
same integers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ._checks import as_integer
from ._coding_file import (
    model_fingerprint,
    pack,
    text_digest,
    tokenizer_fingerprint,
    unpack,
    versions,
    write_whole,
)
from .information import nats_to_bits
from .logspace import logsumexp, softmax
from .models import GPT, LanguageModel, NGramModel, Reader
from .worlds import KnownWorld

__all__ = ["CompressedIds", "FileAccount", "compress", "compress_file", "decompress", "decompress_file"]

PRECISION = 24  # bits of a probability, the coder's own: all tokens share 2**24 parts, each gets at least one
PARTS = 1 << PRECISION


class CompressedIds(bytes):
    """What `compress` returns: bytes, and the account of what they cost.

    Use its attributes to set the real size beside the loss. Apart from them it is a plain ``bytes``.

    Attributes
    ----------
    n_tokens : int
        How many tokens it holds.
    ideal_bits : float
        The sum of −log₂ p over the tokens: the loss.
    rounded_bits : float
        The same sum with the probabilities as the coder has them, in parts of 2⁻²⁴.
    coded_bits : int
        8 times the length of the coder's output: what the file needs, less the count of tokens.

    Examples
    --------
    >>> from lossutils.worlds import known_world
    >>> world = known_world()
    >>> data = compress(world, world.encode("a proud king loves the path ."))
    >>> f"{data.ideal_bits:.2f} bits ideal, {data.coded_bits} bits coded, {len(data)} bytes in all"
    '18.50 bits ideal, 32 bits coded, 5 bytes in all'

    See Also
    --------
    compress : makes it.
    """

    n_tokens: int
    ideal_bits: float
    rounded_bits: float
    coded_bits: int


@dataclass(frozen=True)
class FileAccount:
    """What a file written by `compress_file` costs, part by part.

    Use it to set the size of the file beside the loss. ``coded_bytes + header_bytes`` is the file's size.

    Parameters
    ----------
    n_bytes, n_tokens : int
        The length of the text, in bytes of UTF-8 and in tokens.
    ideal_bits : float
        The sum of −log₂ p over the tokens: the loss.
    rounded_bits : float
        The same sum with the probabilities as the coder has them, in parts of 2⁻²⁴.
    coded_bytes : int
        The coder's output.
    header_bytes : int
        What stands before it: counts, fingerprints and checksums.

    Examples
    --------
    >>> FileAccount(3000, 1500, 7200.0, 7200.4, 902, 96).bits_per_byte
    2.4

    See Also
    --------
    compress_file : returns it.
    """

    n_bytes: int
    n_tokens: int
    ideal_bits: float
    rounded_bits: float
    coded_bytes: int
    header_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """``ideal_bits`` per byte of text: what the loss promises."""
        return self.ideal_bits / self.n_bytes if self.n_bytes else math.nan

    @property
    def coded_bits_per_byte(self) -> float:
        """Bits of the coder's output per byte of text: what the file keeps of the promise."""
        return 8 * self.coded_bytes / self.n_bytes if self.n_bytes else math.nan


# ------------------------------------------------------------------------------------------ token ids and bytes


def compress(model: LanguageModel | KnownWorld, ids) -> CompressedIds:
    r"""Return the token ids as bytes, about as many bits as the model's loss on them.

    Use it to see a loss as a length. It carries no checks; `compress_file` makes files that know their model.

    ::

        8 * len(compress(model, ids))  ~  sum over t of -log2 p(ids[t] | ids[:t]),     ids: (N,)

    Parameters
    ----------
    model : LanguageModel or KnownWorld
        Whose next-token probabilities are used. A model with a context of its own, such as `GPT`, sees at least
        the last half of its context and at most all of it (see Notes).
    ids : (N,) integers
        Token ids in [0, V). N may be 0.

    Returns
    -------
    CompressedIds
        The bytes, with ``ideal_bits``, ``rounded_bits`` and ``coded_bits`` as attributes: the count N in one to nine
        bytes of 7 bits each, then the coder's output.

    Raises
    ------
    ValueError
        Ids that are no row of numbers or lie outside [0, V); a token that a known world makes impossible; a model
        whose probabilities are NaN or do not sum to one.
    TypeError
        Ids that are not integers; a model without ``next_token_log_probs``.
    ImportError
        Without the ``constriction`` package: ``pip install "lossutils[coding]"``.

    Notes
    -----
    **Rounding.** The coder needs integers. With V tokens, a token of probability p gets
    1 + floor(p (2²⁴ − V)) of 2²⁴ parts, and the likeliest token what is left. Every token can be coded, at
    24 bits at most, also one of probability 0. The price is at most −log₂(1 − V/2²⁴) bits per token: 0.0002 for
    V = 2,048, 0.0043 for V = 50,257. A token of probability under 2⁻²⁴ costs less than its surprisal.

    **The end.** The coder's last word and the count add a few bytes, once.

    **What the model sees.** Encoder and decoder ask for one token at a time. An n-gram or a window model looks
    at its last tokens. A `GPT` reads into a cache until its context is full, then starts again from the last half of
    it, so a token's window depends on its position, the same on both sides. The ideal bits are those of these windows.

    **Determinism.** The same machine, library versions and weights give the same probabilities to the last bit,
    which decoding needs; work is done on one thread, whatever torch is set to. Another processor or another version of
    torch may round differently. The one differing probability that moves a boundary in the coder turns
    everything after it into other tokens: `decompress` cannot notice, `decompress_file` does.

    Examples
    --------
    >>> from lossutils.worlds import known_world
    >>> world = known_world()
    >>> ids = world.sample(1000, np.random.default_rng(0))
    >>> data = compress(world, ids)
    >>> bool((decompress(world, data) == ids).all()), data.coded_bits / data.ideal_bits < 1.01
    (True, True)

    References
    ----------
    Martin (1979), "Range encoding: an algorithm for removing redundancy from a digitised message". Bamler (2022),
    "Understanding entropy coding with asymmetric numeral systems (ANS): a statistician's perspective",
    arXiv:2201.01741, on the ``constriction`` package.

    See Also
    --------
    decompress : the way back.
    compress_file : text to a file with checksums.
    lossutils.perplexity.bits_per_byte : the same number without a file.
    """
    ids = _checked_ids(ids, _vocab_size(model))
    payload, ideal, rounded = _encode(model, ids)
    data = CompressedIds(_varint(ids.size) + payload)
    data.n_tokens, data.ideal_bits, data.rounded_bits, data.coded_bits = (
        int(ids.size),
        ideal,
        rounded,
        8 * len(payload),
    )
    return data


def decompress(model: LanguageModel | KnownWorld, data: bytes) -> np.ndarray:
    """Return the token ids that `compress` was given.

    Use it with the model that compressed. With another model, or on damaged bytes, it returns other ids or
    raises; `decompress_file` checks.

    ::

        decompress(model, compress(model, ids)) == ids

    Parameters
    ----------
    model : LanguageModel or KnownWorld
        The model that compressed, with the same weights, on the same machine with the same library versions.
    data : bytes
        What `compress` returned.

    Returns
    -------
    (N,) int64 array
        The ids.

    Raises
    ------
    ValueError
        Bytes that end within the count, or that the coder can tell to be impossible.
    TypeError
        `data` that are not bytes; a model without ``next_token_log_probs``.
    ImportError
        Without the ``constriction`` package: ``pip install "lossutils[coding]"``.

    Notes
    -----
    Takes as long as `compress`: one prediction per token, in order.

    Examples
    --------
    >>> from lossutils.worlds import known_world
    >>> world = known_world()
    >>> world.decode(decompress(world, compress(world, world.encode("the king fears a path ."))))
    'the king fears a path .'

    References
    ----------
    Martin (1979), "Range encoding: an algorithm for removing redundancy from a digitised message".

    See Also
    --------
    compress : the way there, with the notes on rounding and determinism.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data must be bytes, got {type(data).__name__}")
    n_tokens, payload = _read_varint(bytes(data))
    return _decode(model, payload, n_tokens)


# ---------------------------------------------------------------------------------------------- text and files


def compress_file(
    path: str | os.PathLike, text: str, model: LanguageModel | KnownWorld, tokenizer
) -> FileAccount:
    """Write a text to a file of about the size that the model's loss promises.

    Use it to show what a loss is worth: set ``coded_bytes`` beside what gzip or lzma need.

    ::

        8 * coded_bytes  ~  sum over t of -log2 p(ids[t] | ids[:t]),     ids = tokenizer.encode(text)

    Parameters
    ----------
    path : path
        The file to write. It appears whole or not at all; one that is there is replaced.
    text : str
        Any text, an empty one too.
    model : LanguageModel or KnownWorld
        Whose probabilities are used.
    tokenizer : object with encode and decode
        Its ids are the model's. It must bring the text back exactly, which is checked before anything is written.

    Returns
    -------
    FileAccount
        Sizes in bits and bytes, part by part.

    Raises
    ------
    ValueError
        A text that the tokenizer does not bring back; ids outside the model's vocabulary; a text that is not
        UTF-8 (a lone surrogate).
    TypeError
        A text that is no string; a model without ``next_token_log_probs``.
    OSError
        A file that cannot be written.
    ImportError
        Without the ``constriction`` package: ``pip install "lossutils[coding]"``.

    Notes
    -----
    The header holds the counts of tokens and bytes, fingerprints of the model (its weights) and of the
    tokenizer, a checksum of the text and one of the file, and the versions of Python's torch and NumPy that predicted.
    It is reported apart from the coder's output, as gzip's own header should be when the two are compared.

    The model is not in the file. A size that is to be compared with gzip's, which needs no model, counts only
    where the reader has the model already.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from lossutils.worlds import known_world
    >>> world = known_world()
    >>> text = world.decode(world.sample(2000, np.random.default_rng(0)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "king.loss"
    ...     account = compress_file(path, text, world, world)
    ...     decompress_file(path, world, world) == text
    True
    >>> account.coded_bits_per_byte / account.bits_per_byte < 1.01
    True

    References
    ----------
    Delétang et al. (2024), "Language modeling is compression", arXiv:2309.10668.

    See Also
    --------
    decompress_file : the way back.
    compress : ids to bytes, without header.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    try:
        raw = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"text must be encodable as UTF-8, got {error.object[error.start]!r}") from error
    ids = tokenizer.encode(text) if text else np.zeros(0, dtype=np.int64)
    ids = _checked_ids(ids, _vocab_size(model))
    if ids.size and tokenizer.decode(ids) != text:
        raise ValueError(
            "tokenizer must bring the text back exactly, and decode(encode(text)) differs from text: "
            "a byte-level tokenizer loses nothing"
        )
    payload, ideal, rounded = _encode(model, ids)
    header = pack(model, tokenizer, raw, int(ids.size), payload)
    write_whole(Path(path), header + payload)
    return FileAccount(len(raw), int(ids.size), ideal, rounded, len(payload), len(header))


def decompress_file(path: str | os.PathLike, model: LanguageModel | KnownWorld, tokenizer) -> str:
    """Return the text of a file that `compress_file` wrote.

    Use it with the model and the tokenizer that compressed. Anything else is an error, never another text.

    ::

        decompress_file(path, model, tokenizer) == text    after    compress_file(path, text, model, tokenizer)

    Parameters
    ----------
    path : path
        The file.
    model : LanguageModel or KnownWorld
        The model that compressed, with the same weights.
    tokenizer : object with encode and decode
        The tokenizer that compressed.

    Returns
    -------
    str
        The text.

    Raises
    ------
    ValueError
        A file that is not ours, is cut off or damaged; another model or tokenizer; probabilities that are
        not those of the encoder (another machine or version): the message names both.
    OSError
        A file that cannot be read.
    ImportError
        Without the ``constriction`` package: ``pip install "lossutils[coding]"``.

    Notes
    -----
    A damaged file and a wrong model are found before decoding starts. Different rounding on another machine can only
    be found afterwards, by the checksum of the text.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from lossutils.worlds import known_world
    >>> world = known_world()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "king.loss"
    ...     _ = compress_file(path, "the king fears a path .", world, world)
    ...     decompress_file(path, world, world)
    'the king fears a path .'

    References
    ----------
    Delétang et al. (2024), "Language modeling is compression", arXiv:2309.10668.

    See Also
    --------
    compress_file : the way there.
    """
    header, payload = unpack(Path(path))
    for what, made, mine in (
        ("model", header["model"], model_fingerprint(model)),
        ("tokenizer", header["tokenizer"], tokenizer_fingerprint(tokenizer)),
    ):
        if made != mine:
            raise ValueError(
                f"{what} must be the one that compressed {path}: its fingerprint is {mine.hex()}, "
                f"the file's is {made.hex()}"
            )
    problem = None
    try:
        ids = _decode(model, payload, header["n_tokens"])
        text = tokenizer.decode(ids) if ids.size else ""
        raw = text.encode("utf-8", "surrogatepass")
        if len(raw) != header["n_bytes"] or text_digest(raw) != header["text"]:
            problem = "the checksum of the text is wrong"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ValueError(
            f"{path} is whole and the model is right, but decoding went wrong ({problem}): the probabilities "
            f"differ in their last bits. It was made with {header['made_with']}; here is {versions()}"
        )
    return text


# ------------------------------------------------------------------------------------------------ the one path


def _encode(model, ids: np.ndarray) -> tuple[bytes, float, float]:
    """Return the coder's bytes, Σ −log₂ p, and the same with the rounded probabilities."""
    stream = _constriction().stream
    encoder = stream.queue.RangeEncoder()
    ideal, rounded = [], []
    with _one_thread():
        reader = _reader(model)
        for token in ids.tolist():
            log_p = reader.log_probs()
            parts = _share_out(log_p)
            ideal.append(-log_p[token])
            rounded.append(PRECISION - math.log2(parts[token]))
            if parts.size > 1:  # the only token there is needs no bits
                encoder.encode(token, _coder_model(stream, parts))
            reader.append(token)
    # Big-endian: a word's bytes then stand in the order of their weight, and zeros at the end may be left out.
    payload = encoder.get_compressed().astype(">u4").tobytes().rstrip(b"\0")
    return payload, float(nats_to_bits(math.fsum(ideal))), math.fsum(rounded)


def _decode(model, payload: bytes, n_tokens: int) -> np.ndarray:
    stream = _constriction().stream
    padded = payload + bytes(-len(payload) % 4 + 8)  # the zeros that were left out, and never too few
    decoder = stream.queue.RangeDecoder(np.frombuffer(padded, dtype=">u4").astype(np.uint32))
    ids = np.empty(n_tokens, dtype=np.int64)
    with _one_thread():
        reader = _reader(model)
        for t in range(n_tokens):
            parts = _share_out(reader.log_probs())
            token = 0
            if parts.size > 1:
                try:
                    token = int(decoder.decode(_coder_model(stream, parts)))
                except (AssertionError, ValueError, RuntimeError) as error:
                    raise ValueError(
                        f"data cannot come from this model: token {t} of {n_tokens} fits no probability"
                    ) from error
            ids[t] = token
            reader.append(token)
    return ids


def _share_out(log_p: np.ndarray) -> np.ndarray:
    """Return integers of at least 1 that sum to 2**24, close to 2**24 p. Pure arithmetic: equal in, equal out."""
    total = float(logsumexp(log_p))
    if not abs(total) < 1e-4:  # written so that NaN counts as bad
        raise ValueError(
            f"model must give log-probabilities whose probabilities sum to one; got a sum of {math.exp(total)!r}"
        )
    parts = 1 + np.floor(softmax(log_p) * (PARTS - log_p.size)).astype(np.int64)
    parts[int(parts.argmax())] += PARTS - int(parts.sum())
    return parts


def _coder_model(stream, parts: np.ndarray):
    # The package rounds weights itself: cumulative weight × (2**24 − V) / total, plus one for each token. Given
    # our parts less that one, every number in this is an integer below 2**24, exact in float32, and the factor is 1.
    # So the coder works with exactly our integers, whatever its own rounding is.
    return stream.model.Categorical((parts - 1).astype(np.float32), lazy=True, perfect=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A matrix product over several threads may sum in another order, so the number of threads is fixed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


# -------------------------------------------------------------------------------------- one token after another


class _PrefixReader:
    """Any language model: it is asked anew for each prefix, of which an n-gram model gets what it can see."""

    def __init__(self, model) -> None:
        self.model, self.n = model, 0
        self.ids = np.zeros(64, dtype=np.int64)  # grows by doubling: no copy of the text for each token
        self.seen = model.order - 1 if isinstance(model, NGramModel) else None

    def log_probs(self) -> np.ndarray:
        begin = 0 if self.seen is None else max(0, self.n - self.seen)
        log_p = self.model.next_token_log_probs(self.ids[begin : self.n])
        return np.asarray(log_p, dtype=np.float64)

    def append(self, token: int) -> None:
        if self.n == self.ids.size:
            self.ids = np.concatenate([self.ids, np.zeros_like(self.ids)])
        self.ids[self.n] = token
        self.n += 1


class _WorldReader:
    """A known world: the Bayes filter, one step at a time."""

    def __init__(self, world: KnownWorld) -> None:
        self.world, self.belief = world, world.stationary.copy()

    def log_probs(self) -> np.ndarray:
        self.p = self.belief @ self.world.emission
        with np.errstate(divide="ignore"):
            return np.log(self.p)

    def append(self, token: int) -> None:
        weights = self.belief * self.world.emission[:, token]
        total = weights.sum()
        if not total > 0:
            raise ValueError(f"the token {self.world.vocabulary[token]!r} is impossible here in this world")
        possible = weights > 0
        successor = self.world.successor[possible, token]
        self.belief = np.bincount(successor, weights[possible] / total, minlength=self.world.n_states)


def _reader(model):
    """What reads along with a text: a GPT keeps its cache, a world its belief."""
    if isinstance(model, KnownWorld):
        return _WorldReader(model)
    if isinstance(model, GPT):
        return Reader(model)
    if not hasattr(model, "next_token_log_probs"):
        raise TypeError(f"model must have next_token_log_probs, as our models do; got {type(model).__name__}")
    return _PrefixReader(model)


def _varint(n: int) -> bytes:
    """7 bits a byte, the low ones first; the high bit says that more follow."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _read_varint(data: bytes) -> tuple[int, bytes]:
    n = 0
    for k, byte in enumerate(data[:9]):
        n |= (byte & 127) << 7 * k
        if byte < 128:
            return n, data[k + 1 :]
    raise ValueError(f"data must begin with a count of tokens, got {data[:9]!r}")


# --------------------------------------------------------------------------------------------------- the checks


def _vocab_size(model) -> int:
    if not hasattr(model, "vocab_size"):
        raise TypeError(f"model must have a vocab_size, as our models do; got {type(model).__name__}")
    return int(model.vocab_size)


def _checked_ids(ids, vocab_size: int) -> np.ndarray:
    if not torch.is_tensor(ids) and np.size(ids) == 0 and np.ndim(ids) == 1:
        return np.zeros(0, dtype=np.int64)  # an empty list has no dtype to speak of
    ids = as_integer("ids", ids)
    ids = ids.cpu().numpy() if torch.is_tensor(ids) else ids
    if ids.ndim != 1:
        raise ValueError(f"ids must be one row of token ids, got shape {ids.shape}")
    bad = (ids < 0) | (ids >= vocab_size)
    if bad.any():
        raise ValueError(f"ids must be in [0, {vocab_size}), got {int(ids[bad][0])}")
    return ids


def _constriction():
    try:
        import constriction
    except ImportError as error:
        raise ImportError(
            'arithmetic coding needs the constriction package: pip install "lossutils[coding]"'
        ) from error
    return constriction
