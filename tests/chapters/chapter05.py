"""Chapter 5, May I compare these two numbers?"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from lossutils import bits_per_byte, perplexity
from lossutils.intervals import compare_models

TEXT = "losses on the text that the running Python ships"

MAY_VARY = {
    "the-text": "sizes of the text that the running Python ships",
    "three-tokenizers": "tokens learned from the text that the running Python ships",
    "three-perplexities": TEXT,
    "two-ratios": TEXT,
    "two-rulers": f"a figure of {TEXT}",
    "factors": TEXT,
    "one-total": TEXT,
    "a-small-gpt": "losses of a trained network",
    "by-context": "a figure and losses of a trained network",
    "strides": "losses of a trained network",
    "how-to": TEXT,
    "start-tokens": "losses of a trained network",
    "leak-lzma": "sizes of the text that the running Python ships",
    "leak-models": TEXT,
    "standard-errors": TEXT,
    "documents": f"a figure of {TEXT}",
    "intervals": TEXT,
    "paired": TEXT,
    "a-real-file": "the size of a file of the text that the running Python ships",
    "ledger": TEXT,
    "the-gpt-as-a-file": "the size of a file, by a trained network",
    "lab-score-your-own-text": f"a picture of {TEXT}",
}

SOURCED = {
    "3.11": "the version of Python that the page was made with",
    "3.13": "a version of Python, whose topics the chapter was run on as well",
    "5.47": "Llama-2-7B on WikiText-2 per token: lm-evaluation-harness issue 2301",
    "0.5865": "lm-evaluation-harness pull request 833",
    "13.0065": "lm-evaluation-harness issue 806",
    "15.055": "lm-evaluation-harness issue 1833",
    "19.44": "the transformers documentation on perplexity: GPT-2 large, no overlap",
    "16.44": "the same with a stride of 512",
}

NAMES = {"a": "bytes", "b": "BPE-512", "c": "BPE-2048"}


@lru_cache
def stored():
    path = Path(__file__).parents[2] / "book" / "experiments" / "chapter05.json"
    return json.loads(path.read_text(encoding="utf-8"))


def reported(key, ruler, stride):
    row = stored()["tokenizers"][NAMES[key]]
    nll = row["by_stride"][str(int(stride))]
    if ruler == "bits per byte":
        return float(bits_per_byte(nll, sum(stored()["bytes"])))
    count = {
        "perplexity per token": sum(row["tokens"]),
        "perplexity per word": sum(stored()["words"]),
        "perplexity per byte": sum(stored()["bytes"]),
    }[ruler]
    return float(perplexity(nll, count))


def ratio(ruler, stride):
    values = [reported(key, ruler, stride) for key in NAMES]
    return max(values) / min(values)


@lru_cache
def comparison(pair):
    rows = stored()["tokenizers"]
    first = {name: row["gpt_nll"][0] for name, row in rows.items()}
    a, b = {
        "GPT, 6-grams": (first["BPE-512"], rows["BPE-512"]["n_gram_nll"]),
        "GPTs: bytes, BPE-512": (first["bytes"], first["BPE-512"]),
        "GPTs: bytes, BPE-2048": (first["bytes"], first["BPE-2048"]),
        "one GPT, two seeds": (first["BPE-512"], rows["BPE-512"]["gpt_nll"][1]),
    }[pair]
    n_bytes = stored()["bytes"]
    found = compare_models(np.array(a), np.array(b), np.arange(len(a)), counts=n_bytes, n_resamples=100)
    errors = found.standard_error, found.unpaired_standard_error
    return tuple(abs(x) / np.log(2) for x in (found.difference, *errors))


def half_width(pair, size, which):
    return 1.96 * comparison(pair)[which] * (sum(stored()["bytes"]) / (1000 * float(size))) ** 0.5


def verdict(pair, size):
    told = [half_width(pair, size, which) < comparison(pair)[0] for which in (1, 2)]
    return {(False, False): "not yet", (True, False): "only paired", (True, True): "either way"}[tuple(told)]


READOUTS = {
    "pick-a-ruler": {
        **{
            key: lambda ruler, stride, key=key: f"{reported(key, ruler, stride):,.3f}"
            for key in NAMES
        },
        "ratio": lambda ruler, stride: f"{ratio(ruler, stride):,.3g}",
    },
    "telling-apart": {
        "difference": lambda pair, size: f"{comparison(pair)[0]:.4f} bits per byte",
        "paired": lambda pair, size: f"{half_width(pair, size, 1):.4f} bits per byte",
        "unpaired": lambda pair, size: f"{half_width(pair, size, 2):.4f} bits per byte",
        "verdict": verdict,
    },
}  # fmt: skip
