"""The file of a coded text: a header with counts, fingerprints and checksums, and how it is written whole."""

from __future__ import annotations

import hashlib
import os
import platform
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .worlds import KnownWorld

MAGIC, VERSION = b"LOSS", 1
_FIXED = struct.Struct("<4sBB16s8s16sQQQI")  # see pack


def model_fingerprint(model) -> bytes:
    """16 bytes that depend on every weight of the model and on its configuration."""
    digest = hashlib.sha256(type(model).__name__.encode())
    if isinstance(model, KnownWorld):
        _feed(digest, [model.vocabulary, model.emission, model.successor])
    else:
        _feed(digest, getattr(model, "config", None))
        weights = next((name for name in ("state_dict", "to_arrays") if hasattr(model, name)), None)
        _feed(digest, getattr(model, weights)() if weights else vars(model))
    return digest.digest()[:16]


def tokenizer_fingerprint(tokenizer) -> bytes:
    """8 bytes that depend on everything that the tokenizer does."""
    digest = hashlib.sha256(type(tokenizer).__name__.encode())
    _feed(digest, tokenizer.vocabulary if isinstance(tokenizer, KnownWorld) else tokenizer.to_json())
    return digest.digest()[:8]


def _feed(digest, x: Any) -> None:
    """Add a nested value of arrays, tensors, numbers and strings so that no other value adds the same bytes."""
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu().contiguous()
        digest.update(f"tensor {x.dtype} {tuple(x.shape)};".encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy())
    elif isinstance(x, np.ndarray):
        digest.update(f"array {x.dtype.str} {x.shape};".encode())
        digest.update(np.ascontiguousarray(x).reshape(-1).view(np.uint8))
    elif isinstance(x, Mapping):
        digest.update(f"mapping {len(x)};".encode())
        for key in sorted(x, key=repr):
            _feed(digest, key)
            _feed(digest, x[key])
    elif isinstance(x, (list, tuple)):
        digest.update(f"list {len(x)};".encode())
        for item in x:
            _feed(digest, item)
    elif x is None or isinstance(x, (bool, int, float, str, bytes, np.generic)):
        text = repr(x.item() if isinstance(x, np.generic) else x)
        digest.update(f"{type(x).__name__} {len(text)} {text};".encode())
    else:
        raise TypeError(
            f"model must be made of arrays, numbers and strings to have a fingerprint, got a {type(x)}"
        )


def text_digest(data: bytes) -> bytes:
    """16 bytes that tell a text from any other."""
    return hashlib.sha256(data).digest()[:16]


def versions() -> str:
    """What a model's last bits depend on, besides its weights."""
    return f"torch {torch.__version__}, NumPy {np.__version__}, {platform.machine()}"


def pack(model, tokenizer, raw: bytes, n_tokens: int, payload: bytes) -> bytes:
    """The header that belongs to a coded text."""
    made_with = versions().encode()[:255]
    fixed = _FIXED.pack(
        MAGIC, VERSION, len(made_with),
        model_fingerprint(model), tokenizer_fingerprint(tokenizer), text_digest(raw),
        n_tokens, len(raw), len(payload), 0,
    )  # fmt: skip
    check = zlib.crc32(payload, zlib.crc32(made_with, zlib.crc32(fixed)))
    return fixed[:-4] + struct.pack("<I", check) + made_with


def unpack(path: Path) -> tuple[dict[str, Any], bytes]:
    """A file's header and its coded text, after every check that needs no decoding."""
    data = path.read_bytes()
    if data[:4] != MAGIC:
        raise ValueError(f"{path} must be a file that compress_file wrote; it begins with {data[:4]!r}")
    if len(data) > 4 and data[4] != VERSION:
        raise ValueError(f"{path} has version {data[4]}; this library reads version {VERSION}")
    if len(data) < _FIXED.size:
        raise ValueError(f"{path} is cut off: {len(data)} bytes, and the header alone needs {_FIXED.size}")
    _, _, n_made, model, tokenizer, text, n_tokens, n_bytes, n_payload, check = _FIXED.unpack_from(data)
    made_with, payload = data[_FIXED.size :][:n_made], data[_FIXED.size + n_made :]
    if len(payload) != n_payload:
        raise ValueError(
            f"{path} is cut off or has grown: {len(payload)} bytes of text, {n_payload} announced"
        )
    fixed = data[: _FIXED.size - 4] + bytes(4)
    if zlib.crc32(payload, zlib.crc32(made_with, zlib.crc32(fixed))) != check:
        raise ValueError(f"{path} is damaged: its checksum is wrong")
    return {
        "model": model, "tokenizer": tokenizer, "text": text, "n_tokens": n_tokens, "n_bytes": n_bytes,
        "made_with": made_with.decode("utf-8", "replace"),
    }, payload  # fmt: skip


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the place and move there: a reader never sees half a file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        beside.write_bytes(data)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
