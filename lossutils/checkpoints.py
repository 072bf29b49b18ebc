"""Models in files: numbers and names, no code, written in one step and checked when they are read.

A checkpoint is a safetensors file. Its tensors are the weights, its header holds what is needed to build the model and
the tokenizer again. Nothing in it is executed, so a checkpoint from a stranger can do no more than be wrong.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import models
from ._checkpoint_file import CheckpointError, read, write

__all__ = ["CheckpointError", "load_model", "load_weights", "save_model"]

CheckpointError.__module__ = __name__  # where its readers find it

# What a file may name. A class that is not here is never looked up.
MODELS = ("GPT", "NGramModel", "WindowModel")


def save_model(
    path: str | os.PathLike,
    model: Any,
    *,
    tokenizer: Any = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write a model to a file, with its tokenizer if you have one.

    Use it to keep a trained model, to score it from the command line, or to give it away.

    Parameters
    ----------
    path : str or path
        The file. If it exists it is replaced in one step: whoever reads it, and whatever happens meanwhile, finds the
        old checkpoint or the new one, never half of one.
    model : GPT, WindowModel or NGramModel
        A model of `lossutils.models`, on any device. Weights keep their dtype.
    tokenizer : ByteTokenizer or BPETokenizer, optional
        What made the model's ids from text.
    metadata : dict, optional
        Anything that JSON can hold: where the text came from, a loss, a date.

    Raises
    ------
    TypeError
        A model of another class, or metadata that JSON cannot hold.
    OSError
        The file cannot be written; the old one stands.

    Notes
    -----
    The file holds no pickled objects. A process that is killed while it writes may leave a file
    ``.NAME.xxxx.tmp`` beside the checkpoint, which may be removed.

    Examples
    --------
    >>> import tempfile, os
    >>> from lossutils.models import WindowModel
    >>> path = os.path.join(tempfile.mkdtemp(), "window.safetensors")
    >>> save_model(path, WindowModel(46, context=2), metadata={"text": "none yet"})
    >>> model, tokenizer, metadata = load_model(path)
    >>> model.context, tokenizer, metadata
    (2, None, {'text': 'none yet'})

    References
    ----------
    The form of the file: https://huggingface.co/docs/safetensors

    See Also
    --------
    lossutils.training.train : ``checkpoint=`` keeps the whole state of a run in such a file.
    """
    name = type(model).__name__
    if _model_class(name) is not type(model):
        raise TypeError(f"model must be one of {', '.join(MODELS)} of lossutils.models, got {type(model)!r}")
    write(path, describe(model, tokenizer, metadata), weights(model))


def load_model(path: str | os.PathLike) -> tuple[Any, Any, dict[str, Any]]:
    """Build the model, and the tokenizer, that a file holds.

    Use it on what :func:`save_model` wrote, and on the checkpoints of :func:`lossutils.training.train`.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    model
        On the CPU, in evaluation mode, its weights in the dtype that they were saved in.
    tokenizer
        None if none was saved.
    metadata : dict
        What was given to :func:`save_model`, empty if nothing was. For a checkpoint of a training run, the number of
        updates made is ``metadata["training"]["step"]``, and its settings stand beside it.

    Raises
    ------
    CheckpointError
        A ValueError: the file is missing, cut short, damaged (each byte counts), not a checkpoint, of a newer format,
        or holds a model that this version cannot build. The message names the file and says what to do.

    Examples
    --------
    >>> import tempfile, os
    >>> from lossutils.models import WindowModel
    >>> path = os.path.join(tempfile.mkdtemp(), "window.safetensors")
    >>> save_model(path, WindowModel(46, context=2))
    >>> load_model(path)[0].vocab_size
    46

    See Also
    --------
    load_weights : into a model that you built yourself.
    """
    document, tensors = read(path)
    try:
        name, config = document["model"]["class"], document["model"]["config"]
        metadata = dict(document["metadata"] or {})
        if document.get("training"):
            metadata["training"] = {key: document["training"][key] for key in ("step", "settings")}
        tokenizer = document["tokenizer"]
        if tokenizer is not None:
            from .text import load_tokenizer

            tokenizer = load_tokenizer(tokenizer)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} lacks a part of what it should hold ({error!r}): save the model again"
        ) from error
    kind = _model_class(name)
    if kind is None or config is None:
        raise CheckpointError(
            f"{path} holds a {name}, which is none of the models that lossutils can build ({', '.join(MODELS)}): "
            "build it yourself and use load_weights(path, model)"
        )
    arrays = model_tensors(tensors)
    try:
        if not issubclass(kind, nn.Module):
            model = kind.from_arrays({key: tensor.numpy() for key, tensor in arrays.items()})
        else:
            model = kind(**config)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} describes a {name} that cannot be built ({error}): save it again with this version of lossutils"
        ) from error
    if isinstance(model, nn.Module):
        put_weights(path, model, arrays)
        model.eval()
    return model, tokenizer, metadata


def load_weights(path: str | os.PathLike, model: nn.Module) -> None:
    """Put the weights of a file into a model that you built.

    Use it for a model of your own class, whose training checkpoint :func:`load_model` cannot build.

    Parameters
    ----------
    path : str or path
        A file of :func:`save_model` or :func:`lossutils.training.train`.
    model : torch module
        It has the same names and shapes of weights. They are changed in place, and take the dtype of the file.

    Raises
    ------
    CheckpointError
        As :func:`load_model`, or names or shapes that differ; then the model is left as it was.

    Examples
    --------
    >>> import tempfile, os
    >>> from lossutils.models import WindowModel
    >>> path = os.path.join(tempfile.mkdtemp(), "window.safetensors")
    >>> save_model(path, WindowModel(46, context=2, seed=1))
    >>> model = WindowModel(46, context=2, seed=2)
    >>> load_weights(path, model)
    >>> bool((model.embed == WindowModel(46, context=2, seed=1).embed).all())
    True

    See Also
    --------
    load_model : builds the model too.
    """
    put_weights(path, model, model_tensors(read(path)[1]))


# What lossutils.training shares: a run's checkpoint is a model's, with more in it.


def describe(model: Any, tokenizer: Any, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """The document of a model: its class, what to call it with, its tokenizer."""
    try:
        metadata = json.loads(json.dumps({} if metadata is None else metadata))
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must hold what JSON can hold, got {metadata!r} ({error})") from error
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata must be a dict, got {metadata!r}")
    name = type(model).__name__
    ours = _model_class(name) is type(model)
    return {
        "lossutils_version": _version(),
        "model": {"class": name, "config": json.loads(json.dumps(model.config)) if ours else None},
        "tokenizer": None if tokenizer is None else tokenizer.to_json(),
        "metadata": metadata,
    }


def weights(model: Any) -> dict[str, Tensor]:
    """The tensors of a model under the names that they have in the file."""
    if isinstance(model, nn.Module):
        found = model.state_dict()
    else:
        found = {key: torch.as_tensor(np.asarray(array)) for key, array in model.to_arrays().items()}
    return {f"model.{name}": tensor for name, tensor in found.items()}


def model_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")
    }


def put_weights(path: str | os.PathLike, model: nn.Module, found: dict[str, Tensor]) -> None:
    """Copy tensors into a model, in their own dtype; if a name or a shape differs, change nothing."""
    wanted = model.state_dict(keep_vars=True)
    for name in sorted(wanted.keys() | found.keys()):
        here = tuple(wanted[name].shape) if name in wanted else "nothing of this name"
        there = tuple(found[name].shape) if name in found else "nothing of this name"
        if here != there:
            raise CheckpointError(
                f"{path} does not fit the model: for {name} the file has {there} and the model has {here}; "
                "build the model with the settings that it was saved with"
            )
    for name, tensor in wanted.items():  # .data, so that tied weights stay tied
        tensor.data = tensor.data.to(found[name].dtype)
    model.load_state_dict(found)


def _model_class(name: Any) -> type | None:
    return getattr(models, name, None) if name in MODELS else None


def _version() -> str:
    from . import __version__  # not while lossutils itself is being imported

    return __version__
