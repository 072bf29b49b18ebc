"""Causal language models of the Hugging Face format, from a folder on this machine.

Needs the ``transformers`` package: ``pip install "lossutils[huggingface]"``.  It is imported when a model is
loaded, not before, as that takes seconds.  Nothing is downloaded, and no code from the folder is run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from lossutils import _checks
from lossutils.logspace import log_softmax
from lossutils.training import pick_device
from lossutils.windows import sliding_window_nll

__all__ = ["HuggingFaceModel", "HuggingFaceTokenizer", "load_causal_lm"]

DTYPES = ("float32", "float64", "bfloat16", "float16", "auto")
BOS = ("auto", "always", "never")
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_sequence_length",
    "n_ctx",
)


class HuggingFaceModel:
    """A causal model behind the interface of this library's own (:class:`lossutils.models.LanguageModel`).

    Made by :func:`load_causal_lm`.

    Attributes
    ----------
    module : torch.nn.Module
        The model itself.
    vocab_size : int
        The number V of logits at a position; the tokenizer may use fewer.
    max_length : int or None
        How many tokens the model can read at once, a start token included; None if it has no limit.
    start_id : int or None
        The token that stands before a text.
    start_each_window : bool
        False: the start token stands before the text, not before each window.
    device : torch.device
        Where it is.
    """

    start_each_window = False

    def __init__(self, module: torch.nn.Module, *, max_length: int | None, start_id: int | None):
        self.module, self.max_length, self.start_id = module.eval(), max_length, start_id
        self.vocab_size = int(module.get_output_embeddings().weight.shape[0])

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    @torch.no_grad()
    def next_token_logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V) for ids (B, T): position t predicts token t + 1."""
        return self.module(input_ids=ids.to(self.device), use_cache=False).logits

    __call__ = next_token_logits

    def next_token_log_probs(self, prefix) -> np.ndarray:
        """Log-probabilities (V,), float64, of the token after a text that begins with `prefix`."""
        prefix = np.asarray(prefix, dtype=np.int64).reshape(-1)
        seen = prefix if self.start_id is None else np.concatenate([[self.start_id], prefix])
        if len(seen) == 0:
            raise ValueError("prefix must hold a token, as this model has no start token; got none")
        seen = torch.from_numpy(seen[-self.max_length :] if self.max_length else seen)
        return log_softmax(self.next_token_logits(seen[None])[0, -1].cpu().double().numpy())

    def nll(self, ids) -> np.ndarray:
        """Nats, float64, of each token of a text; without a start token the first is left out."""
        length = self.max_length or len(ids) + 1
        return sliding_window_nll(self, ids, max_length=length, prefix_token_id=self.start_id).nll


class HuggingFaceTokenizer:
    """A tokenizer that also says which bytes of the text each token stands for.

    Made by :func:`load_causal_lm`.  No special token is added; one that is spelled out in the text, such as
    ``<s>``, becomes what the tokenizer makes of it.

    Attributes
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        The tokenizer itself.
    vocab_size : int
        Number of tokens, added ones included.
    unknown_id : int or None
        The token for what the tokenizer cannot spell.  Where it is used, bits per byte are too low.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.vocab_size = len(tokenizer)
        self.unknown_id = tokenizer.unk_token_id

    def encode(self, text: str) -> np.ndarray:
        """The tokens of a text, int64 (N,)."""
        return self.encode_with_bytes(text)[0]

    def encode_with_bytes(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a text and how many bytes (UTF-8) each stands for, int64 (N,) both.

        A character that is cut into several tokens counts with the first of them, and what the tokenizer drops
        (a space before a word, say) with the token after it, or at the end with the last.
        """
        found = self.tokenizer(
            text,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            truncation=False,
            verbose=False,
        )
        ids = np.array(found["input_ids"], dtype=np.int64)
        if len(ids) == 0:
            return ids, ids.copy()
        ends = np.array(found["offset_mapping"], dtype=np.int64)[:, 1]
        # byte position of the end of each character
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        widths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
        position = np.concatenate([[0], np.cumsum(widths)])
        reached = np.maximum.accumulate(position[ends])
        reached[-1] = position[-1]
        return ids, np.diff(reached, prepend=0)

    def decode(self, ids) -> str:
        """The text of tokens, as the tokenizer spells it."""
        return self.tokenizer.decode(list(map(int, ids)), clean_up_tokenization_spaces=False)


def load_causal_lm(
    folder: str | os.PathLike, *, device: str = "auto", dtype: str = "float32", bos: str = "auto"
) -> tuple[HuggingFaceModel, HuggingFaceTokenizer]:
    """Return a causal language model and its tokenizer from a folder of the Hugging Face format.

    Use it to score a text (:func:`lossutils.windows.score_text`) with a model that others have trained.

    Parameters
    ----------
    folder : str or path
        What ``save_pretrained`` wrote for a model and its tokenizer, or a clone of a model's repository.
    device : str
        "auto" takes a CUDA GPU, then Apple's MPS, then the CPU: see :func:`lossutils.training.pick_device`.
    dtype : {"float32", "float64", "bfloat16", "float16", "auto"}
        Of the weights; "auto" leaves them as they were saved.
    bos : {"auto", "always", "never"}
        The start token.  "auto": the tokenizer's BOS, if it puts one before a text by itself, as Llama's
        does and GPT-2's does not.  "always": the BOS, or the end token of a tokenizer without one, which is
        what lm-evaluation-harness does.  "never": none; the first token of a text is not scored.

    Returns
    -------
    model : HuggingFaceModel
    tokenizer : HuggingFaceTokenizer

    Raises
    ------
    ImportError
        ``transformers`` is not installed.
    FileNotFoundError
        No such folder, or no ``config.json`` in it.  Names on the Hub are not looked up.
    ValueError
        A folder that cannot be loaded: weights that are missing, code that would have to be run, a tokenizer
        that cannot say where its tokens lie ("slow"), a model that sees the token that it predicts; an
        unknown dtype or bos, a device that this machine lacks.

    Notes
    -----
    Whether the model is causal is tried out: a change of the last token must not change an earlier
    prediction.  The same class names load masked models, whose losses would be far too good.

    float16 and bfloat16 change a loss in the third or fourth digit; the loss itself is computed in float32.

    Examples
    --------
    >>> load_causal_lm("no/such/folder")
    Traceback (most recent call last):
        ...
    FileNotFoundError: folder 'no/such/folder' does not exist: give the folder of a model on this machine (nothing
    is downloaded)

    References
    ----------
    Wolf et al. (2020), "Transformers: state-of-the-art natural language processing", EMNLP demos.

    See Also
    --------
    lossutils.checkpoints.load_model : for models that this library trained.
    """
    _checks.choice("dtype", dtype, DTYPES)
    _checks.choice("bos", bos, BOS)
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(
            f"folder {str(folder)!r} does not exist: give the folder of a model on this machine (nothing is "
            "downloaded)"
        )
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"folder {str(folder)!r} holds no config.json: it is not a Hugging Face model"
        )
    transformers = _transformers()
    target = pick_device(device)
    with _quiet(transformers):
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
            module, info = transformers.AutoModelForCausalLM.from_pretrained(
                path,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **{_dtype_argument(transformers): dtype if dtype == "auto" else getattr(torch, dtype)},
            )
        except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, AttributeError) as error:
            raise ValueError(f"folder {str(folder)!r} cannot be loaded: {_first_line(error)}") from error
    missing = sorted(info.get("missing_keys", ())) + sorted(map(str, info.get("mismatched_keys", ())))
    if missing:
        raise ValueError(
            f"folder {str(folder)!r} lacks {len(missing)} of the model's weights, such as {missing[0]!r}: they "
            "would be random"
        )
    if (
        not tokenizer("a")["input_ids"] and not tokenizer("The.")["input_ids"]
    ):  # what transformers makes of no files
        raise ValueError(f"folder {str(folder)!r} holds no tokenizer: save it there with save_pretrained")
    if not tokenizer.is_fast:
        raise ValueError(
            f"folder {str(folder)!r} has a tokenizer that cannot say which bytes its tokens stand for: save it as "
            "tokenizer.json (a fast tokenizer)"
        )
    model = HuggingFaceModel(
        module.to(target),
        max_length=_max_length(module.config, tokenizer),
        start_id=_start_id(tokenizer, bos),
    )
    if len(tokenizer) > model.vocab_size:
        raise ValueError(
            f"folder {str(folder)!r} has a tokenizer of {len(tokenizer)} tokens for a model of {model.vocab_size}"
        )
    _require_causal(model, folder)
    return model, HuggingFaceTokenizer(tokenizer)


# ----------------------------------------------------------------------------------------------------------


def _transformers():
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            'Hugging Face models need the transformers package: pip install "lossutils[huggingface]"'
        ) from error
    return transformers


def _dtype_argument(transformers) -> str:
    """The argument was renamed in 4.56."""
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


@contextmanager
def _quiet(transformers) -> Iterator[None]:
    """No progress bars and no advice while loading; what matters is checked here and raised."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _max_length(config, tokenizer) -> int | None:
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    for name in _LENGTHS:
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    length = getattr(tokenizer, "model_max_length", None)  # 1e30 stands for "none"
    return int(length) if length and length < 1e9 else None


def _start_id(tokenizer, bos: str) -> int | None:
    if bos == "never":
        return None
    if bos == "always":
        found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if found is None:
            raise ValueError("bos is 'always', but the tokenizer has neither a BOS nor an end token")
        return found
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    dressed = tokenizer("a")["input_ids"]
    adds = len(dressed) > len(bare) and dressed[0] == tokenizer.bos_token_id
    return tokenizer.bos_token_id if adds else None


def _require_causal(model: HuggingFaceModel, folder) -> None:
    n = min(8, model.max_length or 8)
    if n < 2 or model.vocab_size < 2:
        return
    ids = torch.arange(n) % model.vocab_size
    other = ids.clone()
    other[-1] = (ids[-1] + 1) % model.vocab_size
    before, after = (model.next_token_logits(x[None])[0, :-1].float() for x in (ids, other))
    tolerance = 1e-4 if model.module.dtype in (torch.float32, torch.float64) else 2e-2
    if not (before - after).abs().max() <= tolerance * before.abs().max():
        raise ValueError(
            f"folder {str(folder)!r} is no causal model: its predictions depend on the tokens that they predict"
        )
