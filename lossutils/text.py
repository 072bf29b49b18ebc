"""Real text: what every Python ships, or your own files; without its duplicates, split by document.

A loss on held-out text means something only if the text was really held out. Two things spoil that without a word:
paragraphs that stand in several documents, and excerpts that reach over the border. So duplicates go first, the split
is between documents, and a stream of tokens is made of one side only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._checks import real

# Here too, so that one import serves a chapter; they are documented where they are defined.
from .tokenizing import BPETokenizer as BPETokenizer
from .tokenizing import ByteTokenizer as ByteTokenizer
from .tokenizing import load_tokenizer as load_tokenizer

__all__ = [
    "Document",
    "TokenStream",
    "duplicate_share",
    "encode_documents",
    "python_topics",
    "read_documents",
    "remove_duplicates",
    "split_documents",
]

_BLANK_LINES = re.compile(r"(\n\s*\n)")


class Document(NamedTuple):
    """A text with a name: one topic, one file.

    Attributes
    ----------
    name : str
        What it is called in a table.
    text : str
        The text itself.
    """

    name: str
    text: str


class TokenStream(NamedTuple):
    """Documents as one stream of tokens: what :func:`encode_documents` returns.

    Attributes
    ----------
    ids : int64 array, shape (N,)
        Token ids.
    document : int64 array, shape (N,)
        Index of the document that each token is from: the groups for an interval.
    """

    ids: np.ndarray
    document: np.ndarray


def python_topics() -> list[Document]:
    """The help topics that every Python ships: real English prose about Python, with no download.

    Use it where an experiment needs text that nobody has made for it.

    Returns
    -------
    list of Document
        In the order of their names.

    Notes
    -----
    Some 80 topics and 460 000 characters; the exact text belongs to the Python that runs, so nothing may depend on it
    to the letter. About a fifth of it stands there more than once: see :func:`remove_duplicates`.

    Examples
    --------
    >>> from lossutils.text import python_topics
    >>> dict(python_topics())["lambda"].split()[0]
    'Lambdas'

    References
    ----------
    The Python Language Reference, from which the module ``pydoc_data.topics`` is made.
    """
    from pydoc_data.topics import topics

    return [Document(name, text) for name, text in sorted(topics.items())]


def read_documents(path: str | Path, *, encoding: str = "utf-8", pattern: str = "*.txt") -> list[Document]:
    """Read a text file, or all the text files of a folder.

    Use it to bring your own text.

    Parameters
    ----------
    path : str or Path
        A file, read whatever it is called, or a folder.
    encoding : str
        How the files are written.
    pattern : str
        Which files of a folder are read; ``"**/*.txt"`` goes into folders inside it.

    Returns
    -------
    list of Document
        Sorted by path; a name is the path inside the folder, with forward slashes, or the file's name.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`, or no file in the folder fits `pattern`.
    ValueError
        If a file is empty or is not written in `encoding`: the message names the file, and the offset of the first byte
        that does not fit. If `encoding` is unknown.

    Notes
    -----
    Line ends are left as they are, so that bytes can be counted. With "utf-8" a byte order mark stays in the text as
    U+FEFF; "utf-8-sig" takes it away.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from lossutils.text import read_documents
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "one.txt").write_text("A line.", encoding="utf-8")
    ...     read_documents(folder)
    [Document(name='one.txt', text='A line.')]
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(
            (file for file in path.glob(pattern) if file.is_file()),
            key=lambda file: file.relative_to(path).parts,
        )
        names = [file.relative_to(path).as_posix() for file in files]
        if not files:
            raise FileNotFoundError(f"path {str(path)!r} is a folder without a file that fits {pattern!r}")
    elif path.exists():
        files, names = [path], [path.name]
    else:
        raise FileNotFoundError(f"path {str(path)!r} does not exist")
    return [Document(name, _read(file, encoding)) for name, file in zip(names, files, strict=True)]


def duplicate_share(documents: Iterable[Document]) -> float:
    r"""The share of the characters that :func:`remove_duplicates` would remove.

    Use it before a split: what stands on both sides is not held out.

    Parameters
    ----------
    documents : iterable of Document
        Or of (name, text) pairs.

    Returns
    -------
    float in [0, 1]; 0 for no text.

    Raises
    ------
    TypeError
        If an item is no (name, text) pair of strings.

    Examples
    --------
    >>> from lossutils.text import duplicate_share
    >>> duplicate_share([("one", "Hello.\n\nMore."), ("two", "Hello.\n\n")])
    0.38095238095238093

    See Also
    --------
    remove_duplicates : removes them.
    """
    documents = _documents(documents)
    kept = sum(len(document.text) for document in remove_duplicates(documents))
    return 1 - kept / max(1, sum(len(document.text) for document in documents)) if documents else 0.0


def remove_duplicates(documents: Iterable[Document]) -> list[Document]:
    r"""Keep each paragraph only where it stands first.

    Use it before a split: a paragraph on both sides is a leak, and the loss on it says how well a model remembers.

    Parameters
    ----------
    documents : iterable of Document
        Or of (name, text) pairs. Their order decides who keeps a paragraph.

    Returns
    -------
    list of Document
        Without documents of which nothing is left. What is left is unchanged to the letter.

    Raises
    ------
    TypeError
        If an item is no (name, text) pair of strings.

    Notes
    -----
    Paragraphs are what blank lines separate. Two are the same if they agree once each run of white space counts as one
    space; so a paragraph that is indented or wrapped differently is a duplicate too. One that differs in a letter is
    not.

    Examples
    --------
    >>> from lossutils.text import Document, remove_duplicates
    >>> remove_duplicates([Document("one", "Hello.\n\nMore."), Document("two", "Hello.\n\nOther.")])
    [Document(name='one', text='Hello.\n\nMore.'), Document(name='two', text='Other.')]

    References
    ----------
    Lee et al. (2022), arXiv:2107.06499, on what duplicates do to language models and to their evaluation.

    See Also
    --------
    duplicate_share : how much that is.
    """
    seen: set[str] = set()
    left = []
    for name, text in _documents(documents):
        parts = [*_BLANK_LINES.split(text), ""]  # paragraph, blank lines, paragraph, ..., blank lines
        kept = []
        for paragraph, blank in zip(parts[::2], parts[1::2], strict=True):
            words = " ".join(paragraph.split())
            if words not in seen:
                kept.append(paragraph + blank)
            if words:
                seen.add(words)
        if any(part.strip() for part in kept):
            left.append(Document(name, "".join(kept)))
    return left


def split_documents(
    documents: Iterable[Document], *, held_out: float = 0.1, seed: int = 0
) -> tuple[list[Document], list[Document]]:
    """Split whole documents into a training set and a held-out set.

    Use it after :func:`remove_duplicates`, and before anything is counted or trained, a tokenizer included.

    Parameters
    ----------
    documents : iterable of Document
        At least two; or (name, text) pairs.
    held_out : float in (0, 1)
        The share of the characters to hold out.
    seed : int
        Decides which documents.

    Returns
    -------
    (train, held_out) : two lists of Document, both in the order of `documents`, neither empty.

    Raises
    ------
    ValueError
        If there are fewer than two documents, or `held_out` is not strictly between 0 and 1.
    TypeError
        If an item is no (name, text) pair of strings, or `held_out` is no number.

    Notes
    -----
    The documents are shuffled and each goes to the held-out side if it still fits there, so that the share is met from
    below and closely where there are short documents. A document longer than the share never fits. If none does, the
    shortest one is held out.

    Examples
    --------
    >>> from lossutils.text import Document, split_documents
    >>> train, held_out = split_documents([Document(str(n), "word " * 9) for n in range(10)], held_out=0.2)
    >>> len(train), [document.name for document in held_out]
    (8, ['4', '6'])

    See Also
    --------
    encode_documents : makes a stream of one side.
    """
    documents = _documents(documents)
    held_out = real("held_out", held_out, 0, 1)
    if held_out in (0, 1):
        raise ValueError(f"held_out must lie strictly between 0 and 1, got {held_out}")
    if len(documents) < 2:
        raise ValueError(f"documents must be at least two, to have one on each side, got {len(documents)}")
    length = [len(document.text) for document in documents]
    room = held_out * sum(length)
    chosen: set[int] = set()
    for n in np.random.default_rng(seed).permutation(len(documents)).tolist():
        if length[n] <= room and len(chosen) < len(documents) - 1:
            chosen.add(n)
            room -= length[n]
    if not chosen:
        chosen = {int(np.argmin(length))}
    return (
        [document for n, document in enumerate(documents) if n not in chosen],
        [document for n, document in enumerate(documents) if n in chosen],
    )


def encode_documents(documents: Iterable[Document], tokenizer, *, separator: str = "") -> TokenStream:
    """Turn documents into one stream of tokens that knows which document each token is from.

    Use it once for the training documents and once for the held-out ones: excerpts of a stream reach from one document
    into the next, but never from one side of a split to the other.

    Parameters
    ----------
    documents : iterable of Document
        Or of (name, text) pairs.
    tokenizer : ByteTokenizer, BPETokenizer or another with ``encode(text)``
        Each document is encoded by itself, so no token reaches over its end.
    separator : str
        Text that follows each document, such as ``"\\n\\n"``; its tokens belong to the document before it.

    Returns
    -------
    TokenStream
        (ids, document), both int64 (N,).

    Raises
    ------
    TypeError
        If an item is no (name, text) pair of strings.
    ValueError
        If the tokenizer cannot write a text.

    Examples
    --------
    >>> from lossutils.text import ByteTokenizer, Document, encode_documents
    >>> encode_documents([Document("one", "ab"), Document("two", "c")], ByteTokenizer(), separator=".")
    TokenStream(ids=array([97, 98, 46, 99, 46]), document=array([0, 0, 0, 1, 1]))

    See Also
    --------
    lossutils.models.NGramModel.fit : takes documents one by one instead.
    """
    pieces = [np.asarray(tokenizer.encode(text + separator), np.int64) for _, text in _documents(documents)]
    return TokenStream(
        np.concatenate([np.zeros(0, np.int64), *pieces]),
        np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces]),
    )


# ----------------------------------------------------------------------------------------------------------


def _documents(documents: Iterable[Document]) -> list[Document]:
    found = []
    for item in documents:
        if not (isinstance(item, tuple) and len(item) == 2 and all(isinstance(part, str) for part in item)):
            raise TypeError(f"documents must hold Document(name, text), got {item!r:.60}")
        found.append(Document(*item))
    return found


def _read(file: Path, encoding: str) -> str:
    data = file.read_bytes()
    if not data:
        raise ValueError(f"file {str(file)!r} is empty")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"file {str(file)!r} is not written in {encoding}: byte {data[error.start]:#04x} at offset {error.start} "
            f"does not fit ({error.reason}); give its encoding, for example encoding='latin-1'"
        ) from error
    except LookupError as error:
        raise ValueError(f"encoding must be one that Python knows, got {encoding!r}") from error
