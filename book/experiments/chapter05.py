"""The table behind chapter 5: one GPT, three tokenizers, three seeds.

Every stride, every held-out document, and the n-gram models beside them. It writes
chapter05.json, which the notebook reads. The text is what the running Python ships,
so its version is recorded. It takes some ten minutes on one core:

    python book/experiments/chapter05.py
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import torch
from lossutils import cross_entropy
from lossutils.models import GPT, NGramModel
from lossutils.text import (
    encode_documents,
    python_topics,
    remove_duplicates,
    split_documents,
)
from lossutils.tokenizing import BPETokenizer, ByteTokenizer
from lossutils.training import train
from lossutils.windows import sliding_window_nll

# About a minute of computing each: a large vocabulary makes a step dearer.
STEPS = {"bytes": 2400, "BPE-512": 2400, "BPE-2048": 1700}
STRIDES = (64, 32, 16, 8, 4, 2, 1)
CONTEXT, SEEDS, N_GRAM_ORDER = 64, (0, 1, 2), 6
SHAPE = {"context": CONTEXT, "width": 64, "layers": 2, "heads": 4}


def document_nll(
    model: GPT, texts: list[np.ndarray], stride: int
) -> list[float]:
    """The summed loss of each document (nats), in windows of the whole context."""
    return [
        float(
            sliding_window_nll(
                model,
                ids,
                max_length=CONTEXT,
                stride=stride,
                prefix_token_id=model.start_id,
                prefix_each_window=True,
                batch_size=32,
            ).nll.sum()
        )
        for ids in texts
    ]


def main() -> None:
    torch.set_num_threads(1)
    documents = remove_duplicates(python_topics())
    training, held_out = split_documents(documents, held_out=0.1, seed=0)
    texts = [document.text for document in training]
    tokenizers = {
        "bytes": ByteTokenizer(),
        "BPE-512": BPETokenizer.train(texts, 512),
        "BPE-2048": BPETokenizer.train(texts, 2048),
    }
    table = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "context": CONTEXT,
        "documents": [document.name for document in held_out],
        "bytes": [len(document.text.encode()) for document in held_out],
        "words": [len(document.text.split()) for document in held_out],
        "tokenizers": {},
    }
    for name, tokenizer in tokenizers.items():
        ids = [tokenizer.encode(document.text) for document in held_out]
        stream = encode_documents(training, tokenizer).ids
        n_grams = NGramModel(
            tokenizer.vocab_size, N_GRAM_ORDER, "kneser-ney"
        )
        n_grams.fit([tokenizer.encode(text) for text in texts])
        row = table["tokenizers"][name] = {
            "vocabulary": tokenizer.vocab_size,
            "steps": STEPS[name],
            "tokens": [len(one) for one in ids],
            "n_gram_nll": [float(n_grams.nll(one).sum()) for one in ids],
            "gpt_nll": [],  # by seed, then by document, stride 32
            "by_stride": {},  # seed 0: all documents together
        }
        for seed in SEEDS:
            model = GPT(tokenizer.vocab_size, **SHAPE, seed=seed)
            train(
                model,
                cross_entropy,
                stream,
                steps=STEPS[name],
                batch_size=16,
                length=CONTEXT,
                learning_rate=4e-3,
                seed=seed,
            )
            row["gpt_nll"].append(document_nll(model, ids, CONTEXT // 2))
            if seed == 0:
                row["by_stride"] = {
                    str(stride): sum(document_nll(model, ids, stride))
                    for stride in STRIDES
                }
    path = Path(__file__).with_suffix(".json")
    path.write_text(
        json.dumps(rounded(table), indent=1) + "\n", encoding="utf-8"
    )


def rounded(thing):
    """Two decimals of a nat are enough for a document, and keep the file small."""
    if isinstance(thing, float):
        return round(thing, 2)
    if isinstance(thing, dict):
        return {key: rounded(value) for key, value in thing.items()}
    return (
        [rounded(value) for value in thing]
        if isinstance(thing, list)
        else thing
    )


if __name__ == "__main__":
    main()
