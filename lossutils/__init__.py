"""lossutils: loss functions for language models, computed so that they are never silently wrong.

The functions here take NumPy arrays and torch tensors alike. Losses are in nats unless a name says otherwise. The book
*The Compass of Training* derives each of them; the modules beside them hold what the chapters demonstrate with:

- `lossutils.worlds`: a small language whose entropy is exactly known
- `lossutils.text`, `lossutils.tokenizing`: real text, and tokenizers for it
- `lossutils.models`, `lossutils.training`, `lossutils.checkpoints`: models small enough to train in a chapter
- `lossutils.windows`, `lossutils.intervals`: a long text scored, and how sure the number is
- `lossutils.coding`: a text as a file as small as the loss says
- `lossutils.huggingface`, `lossutils.cli`: other people's models, and the command line
- `lossutils.explore`, `lossutils.labs`, `lossutils.exercises`: what the reader moves, runs and answers
- `lossutils.plotting`: the book's figure style
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from .calibration import brier_score, expected_calibration_error, log_score, spherical_score
from .cross_entropy import cross_entropy
from .information import (
    bits_to_nats,
    distribution_cross_entropy,
    entropy,
    kl_divergence,
    nats_to_bits,
    surprisal,
)
from .linear_cross_entropy import linear_cross_entropy
from .logspace import log1mexp, log_expit, log_softmax, logsumexp, softmax
from .perplexity import bits_per_byte, bits_per_token, perplexity
from .preference import (
    bradley_terry_loss,
    dpo_loss,
    kl_estimate,
    kto_loss,
    orpo_loss,
    sequence_logprobs,
    simpo_loss,
)
from .token_mean import TokenMean

try:
    __version__ = version("lossutils")
except PackageNotFoundError:  # used from a folder, not installed
    __version__ = "0+unknown"

# Imported at first use: they bring scipy's statistics along, which takes as long as all the rest.
_AT_FIRST_USE = {
    "compare_models": "intervals",
    "perplexity_interval": "intervals",
    "score_text": "windows",
    "sliding_window_nll": "windows",
}


def __getattr__(name: str):
    if name in _AT_FIRST_USE:
        return getattr(import_module(f".{_AT_FIRST_USE[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "TokenMean",
    "bits_per_byte",
    "bits_per_token",
    "bits_to_nats",
    "bradley_terry_loss",
    "brier_score",
    "compare_models",
    "cross_entropy",
    "distribution_cross_entropy",
    "dpo_loss",
    "entropy",
    "expected_calibration_error",
    "kl_divergence",
    "kl_estimate",
    "kto_loss",
    "linear_cross_entropy",
    "log1mexp",
    "log_expit",
    "log_score",
    "log_softmax",
    "logsumexp",
    "nats_to_bits",
    "orpo_loss",
    "perplexity",
    "perplexity_interval",
    "score_text",
    "sequence_logprobs",
    "simpo_loss",
    "sliding_window_nll",
    "softmax",
    "spherical_score",
    "surprisal",
]
