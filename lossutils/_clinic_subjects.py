"""What a patient of the clinic is trained on, and with which model: the known world, real texts, a parity of bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from .cross_entropy import cross_entropy
from .models import GPT, WindowModel
from .text import (
    BPETokenizer,
    ByteTokenizer,
    Document,
    encode_documents,
    python_topics,
    remove_duplicates,
    split_documents,
)
from .worlds import known_world

POOL = 8192  # windows of training text, if the patient gets all of it
HELD_OUT = 64  # windows that the validation loss is measured on
PARITY_EXAMPLES = 1024
PIECES = 512  # of the vocabulary that is learned from the sources
# Modules of the standard library that are written in Python, each a document.
SOURCES = """
argparse ast calendar cmd configparser copy csv dataclasses datetime difflib doctest enum filecmp
fractions ftplib functools glob gzip heapq inspect ipaddress locale mailbox mimetypes optparse pdb
pickle platform pprint random sched shlex shutil smtplib socketserver statistics string subprocess
tarfile textwrap threading timeit tokenize traceback types uuid weakref zipfile
"""


class Subject(NamedTuple):
    """What :func:`lossutils.training.train_batches` is given."""

    model: nn.Module
    batch_loss: Callable[[nn.Module, Any], Any]
    batches: Callable[[int, torch.Generator], Any]
    evaluate: Callable[[nn.Module], float]


def vocab_size(patient) -> int:
    sizes = {"world": known_world().vocab_size, "topics": 256, "source": 256, "pieces": PIECES, "parity": 2}
    return sizes[patient.subject]


def floor(patient) -> float | None:
    """The lowest expected loss of any model, where somebody knows it."""
    if patient.subject == "world":
        return world_floor(patient.length)
    return 0.0 if patient.subject == "parity" else None


def pass_steps(patient) -> float:
    """Steps until as many windows were drawn as there are; a parity draws new signs for ever."""
    if patient.subject == "parity":
        return float("inf")
    windows = POOL if patient.sequences is None else min(POOL, patient.sequences)
    return windows / (patient.batch_size * patient.accumulate)


@cache
def world_floor(length: int) -> float:
    return float(known_world().floor(length).mean())


def make(patient, seed: int) -> Subject:
    return parity(patient, seed) if patient.subject == "parity" else text(patient, seed)


# -------------------------------------------------------------------------------------------------------- text


def text(patient, seed: int) -> Subject:
    V = vocab_size(patient)
    windows, held_out = WINDOWS[patient.subject](patient.length, seed)
    if patient.sequences is not None:
        windows = windows[: patient.sequences]
    sizes = {"context": patient.length, "width": patient.width, "seed": seed}
    if patient.model == "gpt":
        model = GPT(V, layers=patient.layers, heads=patient.heads, **sizes)
        last = model.head.weight
    else:
        model = WindowModel(V, **sizes | {"context": 4})
        last = model.out_weight
    with torch.no_grad():
        last.mul_(patient.head_scale)
    garbage = range(patient.steps // 2, patient.steps // 2 + patient.garbage)

    def batches(step: int, generator: torch.Generator) -> Tensor:
        length = patient.length
        if patient.ragged:
            length = int(torch.randint(2, length + 1, (), generator=generator))
        shape = (patient.batch_size, length)
        if step in garbage:
            return torch.randint(0, V, shape, generator=generator)
        rows = torch.randint(0, len(windows), shape[:1], generator=generator)
        return windows[rows, :length]

    def nll(model: nn.Module, ids: Tensor, unshifted: bool, reduction: str) -> Tensor:
        # Unshifted, position t has read token t already and is asked for it once more.
        logits = model.next_token_logits(ids) if unshifted else model(ids)
        return cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction=reduction)

    def batch_loss(model: nn.Module, ids: Tensor) -> Any:
        if patient.ragged and not patient.mean_of_means:
            return nll(model, ids, patient.unshifted, "sum"), ids.numel()
        return nll(model, ids, patient.unshifted, "mean")

    def evaluate(model: nn.Module) -> float:
        return nll(model, held_out, patient.unshifted and patient.leaky_validation, "mean").item()

    return Subject(model, batch_loss, batches, evaluate)


def world_windows(length: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng([5, seed])
    rows = known_world().sample(length, rng, n_sequences=POOL + HELD_OUT)
    return torch.as_tensor(rows[:POOL]), torch.as_tensor(rows[POOL:])


def stream_windows(subject: str, length: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng([6, seed])
    found = []
    for ids, n in zip(streams(subject), (POOL, HELD_OUT), strict=True):
        starts = rng.integers(0, len(ids) - length + 1, n)
        found.append(torch.as_tensor(ids[starts[:, None] + np.arange(length)]))
    return found[0], found[1]


@cache
def streams(subject: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens to train on and tokens of other documents, without the paragraphs that several documents share."""
    documents = python_topics() if subject == "topics" else python_sources()
    train, held_out = split_documents(remove_duplicates(documents), held_out=0.1, seed=0)
    tokenizer = ByteTokenizer()
    if subject == "pieces":
        tokenizer = BPETokenizer.train([document.text for document in train], PIECES)
    return encode_documents(train, tokenizer).ids, encode_documents(held_out, tokenizer).ids


def python_sources() -> list[Document]:
    """Source text of the standard library, as this Python has it; a module that it lacks is left out."""
    found = []
    for name in SOURCES.split():
        spec = find_spec(name)
        if spec is not None and spec.has_location:
            found.append(Document(name, Path(spec.origin).read_text(encoding="utf-8")))
    return found


WINDOWS = {
    "world": world_windows,
    **{subject: partial(stream_windows, subject) for subject in ("topics", "source", "pieces")},
}


# ------------------------------------------------------------------------------------------------------ parity


class Parity(nn.Module):
    """One hidden layer over n signs; two logits: is the product of some of them +1?"""

    def __init__(self, n: int, width: int, generator: torch.Generator):
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(width, n, generator=generator) / (3 * n) ** 0.5)
        self.hidden_bias = nn.Parameter(torch.zeros(width))
        self.out = nn.Parameter(torch.randn(2, width, generator=generator) / (3 * width) ** 0.5)
        self.out_bias = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        return relu(x @ self.hidden.T + self.hidden_bias) @ self.out.T + self.out_bias


def parity(patient, seed: int) -> Subject:
    """Learn which k of n random signs are multiplied: nothing to gain until all k are found."""
    n, k = patient.parity
    generator = torch.Generator().manual_seed(seed)
    model = Parity(n, patient.width, generator)
    with torch.no_grad():
        model.out.mul_(patient.head_scale)
    chosen = torch.randperm(n, generator=generator)[:k]

    def draw(size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randint(0, 2, (size, n), generator=generator) * 2.0 - 1.0
        return x, (x[:, chosen].prod(dim=1) > 0).long()

    held_out = draw(PARITY_EXAMPLES, generator)

    def batch_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(model(batch[0]), batch[1])

    return Subject(
        model,
        batch_loss,
        lambda step, generator: draw(patient.batch_size, generator),
        lambda model: batch_loss(model, held_out).item(),
    )
