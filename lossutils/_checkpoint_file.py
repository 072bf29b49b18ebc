"""The file under a checkpoint: tensors and one JSON document in safetensors form, checked whole, replaced in one step.

Safetensors holds numbers and names and nothing that could run. The document stands in its header, under the key
``lossutils``, with a SHA-256 of itself and of every tensor: a file that reads is the file that was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

FORMAT_VERSION = 1
KEY = "lossutils"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: missing, damaged, of a newer format, or of something else.

    The message names the file and says what to do.

    Examples
    --------
    >>> from lossutils.checkpoints import load_model
    >>> load_model("no-such-file")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    lossutils.checkpoints.CheckpointError: no-such-file does not exist: ...
    """


def write(path: str | os.PathLike, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a checkpoint so that at each moment ``path`` is the old file, whole, or the new one, whole."""
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    document = {"format_version": FORMAT_VERSION, **document}
    header = json.dumps({"sha256": _digest(document, own), **document}, sort_keys=True)
    replace_file(path, safetensors.torch.save(own, {KEY: header}))


def read(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the document and the tensors of a checkpoint; anything but what `write` wrote is a CheckpointError."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist: check the name, or train and save a model first"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): it must be a readable file"
        ) from error
    damaged = "restore it from a copy, or train again"
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{path} ({len(data)} bytes) is no checkpoint, or one that was cut short or damaged ({error}): {damaged}"
        ) from error
    text = header.get("__metadata__", {}).get(KEY)
    if text is None:
        raise CheckpointError(
            f"{path} holds tensors but was not written by lossutils: give a file made by save_model or train"
        )
    try:
        document = json.loads(text)
        digest, version = document.pop("sha256"), document["format_version"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged header: {damaged}") from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format {version!r}, and this lossutils reads up to {FORMAT_VERSION}: install a newer lossutils"
        )
    if digest != _digest(document, tensors):
        raise CheckpointError(
            f"{path} does not match its checksum, it was damaged after it was written: {damaged}"
        )
    return document, tensors


def replace_file(path: str | os.PathLike, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step: into a new file in the same folder, onto the disk, then renamed."""
    target = Path(os.path.realpath(path))  # what a link points to is replaced, not the link
    name = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(name, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            os.chmod(name, target.stat().st_mode & 0o777)
        os.replace(name, target)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    # The rename itself must outlive a power failure too. Windows has no such call for folders.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _digest(document: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    sha = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if tensor.numel():
            sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
