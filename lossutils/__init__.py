"""lossutils: loss functions for language models, computed so that they are never silently wrong.

The functions here take NumPy arrays and torch tensors alike. Losses are in nats unless a name says otherwise. The book
*The Compass of Training* derives each of them; the modules beside them hold what the chapters demonstrate with:

- `lossutils.worlds`: a small language whose entropy is exactly known
- `lossutils.models`, `lossutils.training`: models small enough to train in a chapter, and their training loop
- `lossutils.explore`, `lossutils.labs`, `lossutils.exercises`: what the reader moves, runs and answers
- `lossutils.plotting`: the book's figure style
"""

from importlib.metadata import PackageNotFoundError, version

from .cross_entropy import cross_entropy
from .information import (
    bits_to_nats,
    distribution_cross_entropy,
    entropy,
    kl_divergence,
    nats_to_bits,
    surprisal,
)
from .logspace import log1mexp, log_expit, log_softmax, logsumexp, softmax

try:
    __version__ = version("lossutils")
except PackageNotFoundError:  # used from a folder, not installed
    __version__ = "0+unknown"

__all__ = [
    "bits_to_nats",
    "cross_entropy",
    "distribution_cross_entropy",
    "entropy",
    "kl_divergence",
    "log1mexp",
    "log_expit",
    "log_softmax",
    "logsumexp",
    "nats_to_bits",
    "softmax",
    "surprisal",
]
