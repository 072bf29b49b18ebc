"""The command line: ``lossutils perplexity TEXT MODEL``, ``lossutils diagnose LOG``; also ``python -m lossutils``.

A mistake of the reader's, such as a file that is missing, ends with one line on stderr that says what to do, and
with exit code 2.  The output goes to stdout, the progress bar to stderr if that is a terminal.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

import lossutils
from lossutils._cli_diagnose import add_diagnose
from lossutils._cli_numbers import number
from lossutils.checkpoints import load_model
from lossutils.huggingface import BOS, DTYPES, load_causal_lm
from lossutils.intervals import METHODS, MIN_GROUPS, perplexity_interval
from lossutils.text import Document, read_documents
from lossutils.training import pick_device
from lossutils.windows import DEFAULT_LENGTH, TextScore, encode_document, score_text, window_limit

__all__ = ["main"]

# With fewer documents than this, blocks of the text are the groups of the interval.
MIN_DOCUMENTS = 10
DEFAULT_BLOCKS = 30
LOGITS_AT_ONCE = 2**26  # of a batch of windows: 256 MB in float32
MIN_BLOCK = 50  # tokens; a text that is too short for so many blocks gets fewer

_positive = number(int, lambda value: value >= 1, "a whole number of at least 1")
_level = number(float, lambda value: 0 < value < 1, "between 0 and 1, as 0.95")

UNITS = {  # what is reported: of which count, in which unit
    "perplexity_per_token": ("token", "perplexity"),
    "perplexity_per_word": ("word", "perplexity"),
    "perplexity_per_byte": ("byte", "perplexity"),
    "bits_per_byte": ("byte", "bits"),
    "nats_per_token": ("token", "nats"),
}


class ReaderError(Exception):
    """A mistake that one line can explain."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Use it to call the command line from Python.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments, without the program's name; by default those of the process.

    Returns
    -------
    int
        0, or 2 after a mistake that was explained on stderr.

    Raises
    ------
    SystemExit
        As argparse does: after ``--help`` and ``--version`` (code 0) and arguments that cannot be read (2).

    Examples
    --------
    >>> main(["perplexity", "no-such.txt", "no-such-model", "--quiet"])  # says so on stderr
    2
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not hasattr(arguments, "run"):
        _print(_overview(parser))
        return 0
    try:
        _print(arguments.run(arguments))
    except (ReaderError, ValueError, OSError, ImportError) as error:
        return _fail(_one_line(error))
    except torch.OutOfMemoryError:
        return _fail("out of memory: give a smaller --window or --batch-size, or --device cpu")
    except KeyboardInterrupt:
        _fail("interrupted")
        return 130
    return 0


# ------------------------------------------------------------------------------------------------ perplexity


def _add_perplexity(commands) -> None:
    command = commands.add_parser(
        "perplexity",
        help="perplexity and bits per byte of a model on a text, with intervals",
        description="Score a text with a language model, each token once, and print its perplexity and bits per byte "
        "with intervals.",
        epilog="A perplexity per token depends on the tokenizer, the window and the stride, bits per byte only on the "
        "last two.",
    )
    add = command.add_argument
    add("text", metavar="TEXT", help="a text file, or a folder whose files are the documents")
    add("model", metavar="MODEL", help="a checkpoint of lossutils, or the folder of a Hugging Face model")
    add(
        "--window",
        type=_positive,
        metavar="N",
        help="tokens that the model reads at once (default: its own, <= 2048)",
    )
    add(
        "--stride",
        type=_positive,
        metavar="N",
        help="tokens that each window scores (default: half the window)",
    )
    add("--bos", choices=BOS, default="auto", help="a start token before each document (default: as trained)")
    add(
        "--blocks",
        type=_positive,
        metavar="N",
        help="blocks of the text, for the interval (default: documents, or 30)",
    )
    add("--level", type=_level, default=0.95, metavar="P", help="coverage of the intervals (default: 0.95)")
    add("--method", choices=METHODS, default="percentile", help="of the intervals (default: percentile)")
    add("--resamples", type=_positive, default=9999, metavar="N", help="of the bootstrap (default: 9999)")
    add("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    add("--json", action="store_true", help="print everything as JSON, with all digits")
    add("--encoding", default="utf-8", metavar="NAME", help="of the text (default: utf-8)")
    add("--pattern", default="*.txt", metavar="GLOB", help="files of a folder to read (default: *.txt)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add(
        "--dtype",
        choices=DTYPES,
        default="float32",
        help="of a Hugging Face model's weights (default: float32)",
    )
    add(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="windows at once (default: 1 to 8, as memory allows)",
    )
    add("--quiet", action="store_true", help="no progress bar")
    command.set_defaults(run=_perplexity)


def _perplexity(arguments) -> str:
    documents = _read(arguments)
    model, tokenizer, about = _load(arguments)
    with _Progress(arguments.quiet) as progress:
        score = _score(arguments, model, tokenizer, documents, progress)
    report = _report(arguments, score, about, tokenizer)
    if arguments.json:
        return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    return _as_text(report)


def _read(arguments) -> list[Document]:
    try:
        documents = read_documents(arguments.text, encoding=arguments.encoding, pattern=arguments.pattern)
    except FileNotFoundError as error:
        if Path(arguments.text).is_dir():
            raise ReaderError(
                f"folder {arguments.text!r} holds no file like {arguments.pattern!r}: give another --pattern"
            ) from error
        raise ReaderError(
            f"text {arguments.text!r} does not exist: give a text file or a folder of them"
        ) from error
    except PermissionError as error:
        raise ReaderError(f"text {error.filename!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ReaderError(str(error).replace("encoding='latin-1'", "--encoding latin-1")) from error
    for document in documents:
        if "\0" in document.text:
            raise ReaderError(
                f"file {document.name!r} holds NUL bytes: it is not text, or in another encoding (utf-16?)"
            )
    return documents


def _load(arguments):
    """Return model, tokenizer and what a report says about them."""
    path = Path(arguments.model)
    if not path.exists():
        raise ReaderError(
            f"model {arguments.model!r} does not exist: give a checkpoint of lossutils or the folder of a Hugging Face "
            "model on this machine (nothing is downloaded)"
        )
    if path.is_dir():
        model, tokenizer = load_causal_lm(
            path, device=arguments.device, dtype=arguments.dtype, bos=arguments.bos
        )
        kind, dtype, device = type(model.module).__name__, model.module.dtype, model.device
    else:
        model, tokenizer, _ = load_model(path)
        if tokenizer is None:
            raise ReaderError(
                f"model {arguments.model!r} holds no tokenizer: save it with save_model(..., tokenizer=tokenizer)"
            )
        kind, dtype, device = type(model).__name__, torch.float64, torch.device("cpu")
        if isinstance(model, torch.nn.Module):
            device = pick_device(arguments.device)
            dtype = next(model.to(device).parameters()).dtype
    about = {
        "path": str(arguments.model),
        "kind": kind,
        "vocabulary": int(tokenizer.vocab_size),
        "dtype": str(dtype).removeprefix("torch."),
        "device": str(device),
    }
    return model, tokenizer, about


def _score(arguments, model, tokenizer, documents, progress) -> TextScore:
    # Once: their number chooses the window, and the scoring takes the same tokens.
    encoded = {
        document.text: encode_document(tokenizer, document.text, document.name) for document in documents
    }
    longest = max(len(ids) for ids, _ in encoded.values())
    limit = window_limit(model)
    window = arguments.window or min(limit or longest, DEFAULT_LENGTH)
    if limit and window > limit:
        raise ReaderError(
            f"--window {window} is more than the {limit} tokens that the model can read at once"
        )
    if 0 < longest < window:
        what = f"text {arguments.text!r} has" if len(documents) == 1 else "the longest document has"
        whose = "" if arguments.window else ", the model's own"
        raise ReaderError(
            f"{what} {longest} tokens, less than one window of {window}{whose}: give a longer text, or --window "
            f"{longest} (or less)"
        )
    if arguments.stride and arguments.stride > window:
        raise ReaderError(
            f"--stride {arguments.stride} is more than the window of {window}: tokens would be missed"
        )
    return score_text(
        model,
        documents,
        SimpleNamespace(encode_with_bytes=encoded.__getitem__),
        max_length=window,
        stride=arguments.stride,
        prefix_token_id=None if arguments.bos == "never" else "auto",
        batch_size=arguments.batch_size or max(1, min(8, LOGITS_AT_ONCE // (window * model.vocab_size))),
        progress=progress,
    )


def _groups(arguments, score: TextScore) -> tuple[np.ndarray | None, str]:
    """Return the groups of the interval and what they are, or None and why there are none."""
    n, n_documents = score.count(), len(score.names)
    if not np.isfinite(score.nll).all():
        return None, f"{int((~np.isfinite(score.nll)).sum())} tokens have a probability of 0"
    if arguments.blocks is None and n_documents >= MIN_DOCUMENTS:
        return score.document, f"{n_documents} documents"
    blocks = arguments.blocks or min(DEFAULT_BLOCKS, n // MIN_BLOCK)
    if arguments.blocks and not MIN_GROUPS <= blocks <= n:
        raise ReaderError(f"--blocks {blocks} must be in [{MIN_GROUPS}, {n}], the number of tokens")
    if blocks < MIN_GROUPS:
        return (
            None,
            f"{n} tokens are too few for {MIN_GROUPS} blocks of {MIN_BLOCK}: give a longer text, or --blocks",
        )
    return np.arange(n) * blocks // n, f"{blocks} blocks of about {n // blocks} tokens"


def _report(arguments, score: TextScore, about: dict, tokenizer) -> dict:
    groups, grouping = _groups(arguments, score)
    notes = []
    if groups is None:
        notes.append(f"no intervals: {grouping}")
    elif groups is not score.document:
        notes.append("blocks show how the text varies within itself, not how other texts would differ")
    unknown = getattr(tokenizer, "unknown_id", None)
    if unknown is not None and (score.ids == unknown).any():
        notes.append(
            f"{int((score.ids == unknown).sum())} tokens are unknown ones: bits per byte are too low"
        )
    if score.prefix_token_id is None:
        notes.append(
            "no start token: the first token of each document is not scored, nor are its bytes counted"
        )
    results = {}
    for name, (per, unit) in UNITS.items():
        results[name] = _result(arguments, score, groups, per, unit)
    return {
        "lossutils": lossutils.__version__,
        "command": "perplexity",
        "model": about,
        "text": {"path": str(arguments.text), "encoding": arguments.encoding, "documents": list(score.names)},
        "scored": {
            "documents": len(score.names),
            **{f"{per}s": score.count(per) for per in ("token", "word", "char", "byte")},
            "nll_sum_nats": _finite(score.nll_sum),
        },
        "windows": {
            "max_length": score.max_length,
            "stride": score.stride,
            "least_context": score.max_length - score.stride + 1,
            "mean_context": float(score.context.mean()),
            "prefix_token_id": score.prefix_token_id,
            "prefix_each_window": score.prefix_each_window,
        },
        "interval": None
        if groups is None
        else {
            "level": arguments.level,
            "method": arguments.method,
            "groups": grouping,
            "n_groups": int(groups.max()) + 1,
            "n_resamples": arguments.resamples,
            "seed": arguments.seed,
        },
        "results": results,
        "notes": notes,
    }


def _result(arguments, score: TextScore, groups, per: str, unit: str) -> dict | None:
    """One number with its interval; None where there is nothing to divide by."""
    if score.count(per) == 0:
        return None
    if unit == "perplexity":
        estimate = score.perplexity(per)
    else:
        estimate = score.bits_per_byte if unit == "bits" else score.nll_sum / score.count()
    found = {"estimate": _finite(estimate), "low": None, "high": None}
    if groups is None:
        return found
    nll, counts = score.nll, score.token_bytes if per == "byte" else None
    if per == "word":  # words are counted by document, not by token
        if groups is not score.document or not score.n_words.all():
            return found
        nll, counts, groups = score.document_nll, score.n_words, np.arange(len(score.names))
    if per == "byte" and not np.bincount(groups, counts).all():
        return found  # a block of tokens without a byte of their own
    interval = perplexity_interval(
        nll,
        groups,
        arguments.level,
        counts=counts,
        unit=unit,
        method=arguments.method,
        n_resamples=arguments.resamples,
        seed=arguments.seed,
    )
    return {**found, "low": _finite(interval.low), "high": _finite(interval.high)}


def _finite(x: float) -> float | None:
    """JSON has no infinity."""
    return float(x) if math.isfinite(x) else None


def _as_text(report: dict) -> str:
    model, scored, windows, interval = (report[key] for key in ("model", "scored", "windows", "interval"))
    start = "no start token"
    if windows["prefix_token_id"] is not None:
        where = "window" if windows["prefix_each_window"] else "document"
        start = f"start token {windows['prefix_token_id']} before each {where}"
    rows = [
        (
            "model",
            f"{model['path']} ({model['kind']}, {model['vocabulary']} tokens, {model['dtype']}, {model['device']})",
        ),
        ("text", report["text"]["path"]),
        (
            "scored",
            ", ".join(_many(scored[f"{unit}s"], unit) for unit in ("document", "token", "word", "byte")),
        ),
        ("windows", f"{windows['max_length']} tokens, stride {windows['stride']}, {start}"),
        (
            "context",
            f"at least {windows['least_context']} tokens beyond the first window, "
            f"{windows['mean_context']:.1f} on average",
        ),
    ]
    if interval:
        what = "Student's t" if interval["method"] == "t" else f"bootstrap ({interval['method']})"
        rows.append(("interval", f"{100 * interval['level']:.4g} %, {what} over {interval['groups']}"))
    rows += [("note", note) for note in report["notes"]]
    lines = [f"{name:9} {words}" for name, words in rows] + [""]
    for name in UNITS:
        if (found := report["results"][name]) is not None:
            ends = "" if found["low"] is None else f"   [{_number(found['low'])}, {_number(found['high'])}]"
            lines.append(f"{name.replace('_', ' '):20} {_number(found['estimate']):>10}{ends}")
    return "\n".join(lines)


def _many(n: int, unit: str) -> str:
    return f"{n:,} {unit}{'s' * (n != 1)}"


def _number(x: float | None) -> str:
    if x is None:
        return "inf"
    return f"{x:.4f}" if abs(x) < 10 else f"{x:,.2f}" if abs(x) < 1e6 else f"{x:.4g}"


# ---------------------------------------------------------------------------------------------- the program


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lossutils", description="Loss functions for language models.")
    parser.add_argument("--version", action="version", version=f"lossutils {lossutils.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_perplexity(commands)
    add_diagnose(commands)
    return parser


def _overview(parser: argparse.ArgumentParser) -> str:
    """What there is: the commands, the modules with the first line of their docstrings, and the book."""
    folder = Path(lossutils.__file__).parent
    modules = []
    for module in sorted(pkgutil.iter_modules([str(folder)]), key=lambda module: module.name):
        if not module.name.startswith("_") and module.name not in ("cli", "figures"):
            file = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
            words = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            modules.append((module.name, words.split("\n\n")[0].replace("\n", " ")))
    width = max(len(name) for name, _ in modules)
    return "\n".join(
        [
            f"lossutils {lossutils.__version__}: loss functions for language models",
            "",
            parser.format_help().strip(),
            "",
            "modules (import lossutils.NAME, then help(lossutils.NAME)):",
            *(f"  {name:{width}}  {words}" for name, words in modules),
            "",
            "The book that derives all this is The Compass of Training. It stands beside the library, in the folder "
            "book;",
            "`make book` there builds its pages.",
        ]
    )


class _Progress:
    """A bar on stderr, made at the first call, if stderr is a terminal."""

    def __init__(self, quiet: bool):
        self.disable, self.bar = quiet or not sys.stderr.isatty(), None

    def __enter__(self) -> _Progress:
        return self

    def __call__(self, done: int, total: int) -> None:
        if self.bar is None:
            from tqdm import tqdm

            self.bar = tqdm(total=total, unit=" tokens", unit_scale=True, leave=False, disable=self.disable)
        self.bar.update(done - self.bar.n if not self.disable else 0)

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _fail(message: str) -> int:
    sys.stderr.write(f"lossutils: error: {message}\n")
    return 2


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
