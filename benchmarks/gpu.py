"""`linear_cross_entropy` on a GPU, beside the full logits, torch's own chunked function and Liger, in bfloat16.

All ways run in one process and take turns, forward and backward. Times are medians, ratios are medians within a
round; the share is that of the rate at which this GPU multiplies the same matrices, measured in the same run. Without
a GPU nothing is measured: the page says so, or keeps what was measured before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from _measure import ratio
from report import header, write
from speed_and_memory import FLOOR, MAKERS, NAMES, PLAIN, exact_loss, run

SHAPE = (8192, 4096, 128256)  # tokens, width, vocabulary
NOT_MEASURED = (
    "**Not measured.** No GPU was at hand when this page was made. "
    "`make bench` on a machine that has one fills it in."
)


def inputs(shape: tuple[int, int, int], device: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The hidden states and the matrix, leaves in bfloat16, and the targets."""
    tokens, width, words = shape
    g = torch.Generator(device).manual_seed(0)
    leaves = [
        torch.randn(tokens, width, generator=g, device=device),
        torch.randn(words, width, generator=g, device=device) / width**0.5,
    ]
    target = torch.randint(words, (tokens,), generator=g, device=device)
    return [leaf.bfloat16().requires_grad_() for leaf in leaves], target


def seconds(once: Callable[[], object], device: str) -> float:
    """What a call takes on the clock, with all that it started on the device."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    once()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(once: Callable[[], object], device: str) -> int | None:
    """By how many bytes the device's memory grows at most; None where it does not tell."""
    if device != "cuda":
        return None
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    once()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def product_rate(leaves: list[torch.Tensor], rounds: int, device: str) -> float:
    """Operations a second of the product that makes the logits, a multiplication and an addition counted as two."""
    hidden, weight = (leaf.detach() for leaf in leaves)
    rows = hidden[: max(1, len(hidden) // 4)]
    taken = [seconds(lambda: rows @ weight.T, device) for _ in range(rounds + 1)]
    return 2 * rows.numel() * len(weight) / statistics.median(taken[1:])


def prepared(make: Callable[[], Callable], leaves, target) -> tuple[str, Callable | None]:
    """A way that has run once, so that its kernels are compiled and chosen, or the reason why there is none."""
    try:
        way = make()
        run(way, leaves, target)
    except ImportError:
        return "not installed", None
    except AttributeError:
        return f"not in torch {torch.__version__}", None
    except Exception as error:  # whatever a peer raises on this device is its answer
        return f"does not run here ({type(error).__name__})", None
    return "", lambda: run(way, leaves, target)


def measure(shape: tuple[int, int, int], rounds: int, device: str) -> dict:
    """The figures of all ways; a way that cannot run has its reason instead."""
    leaves, target = inputs(shape, device)
    exact = exact_loss("linear", leaves, target)
    rate = product_rate(leaves, rounds, device)
    ways: dict[str, Callable[[], float | None]] = {}
    figures: dict[str, dict] = {}
    for name, make in MAKERS["linear"].items():
        reason, way = prepared(make, leaves, target)
        if way is None:
            figures[name] = {"absent": reason}
        else:
            ways[name] = way
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):  # they take turns, so that a warmer device meets all of them
        for name, way in ways.items():
            taken[name].append(seconds(way, device))
    operations = 6 * shape[0] * shape[1] * shape[2]  # three products
    for name, way in ways.items():
        for leaf in leaves:
            leaf.grad = None
        grown, loss = peak(way, device), way()
        median = statistics.median(taken[name])
        figures[name] = {
            "seconds": median,
            "to_plain": ratio(taken, name, PLAIN) if PLAIN in taken else None,
            "share_of_rate": operations / median / rate,
            "peak": grown,
            "loss_error": None if loss is None else abs(loss / exact - 1),
        }
    ordered = {name: figures[name] for name in MAKERS["linear"]}
    return {"shape": list(shape), "rounds": rounds, "rate": rate, "ways": ordered}


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "the processor"


def report(record: dict) -> list[str | list[list[str]]]:
    """The paragraphs and the table of the page."""
    result = record["result"]
    rows = [["way", "s", "× plain", "share of the product's rate", "peak GB", "loss error"]]
    for name, f in result["ways"].items():
        if "absent" in f:
            rows.append([name, f["absent"], "", "", "", ""])
            continue
        rows.append(
            [
                name,
                f"{f['seconds']:.4f}",
                "" if f["to_plain"] is None else f"{f['to_plain']:.3f}",
                f"{f['share_of_rate']:.0%}",
                "" if f["peak"] is None else f"{f['peak'] / 1e9:.2f}",
                "" if f["loss_error"] is None else f"{f['loss_error']:.0e}",
            ]
        )
    shape = " × ".join(f"{n:,}" for n in result["shape"])
    ways = "\n".join(f"- {name}: {what}" for name, what in NAMES["linear"].items() if name != FLOOR)
    return [
        f"{record['measured']} Device: {record['device']}.",
        "Forward and backward, mean loss, bfloat16. The share is that of the rate at which this device makes the "
        f"logits' product ({result['rate'] / 1e12:.3g} · 10¹² operations a second), for three products. Peak memory "
        "is what is allocated beyond the inputs, gradients included. The loss error is relative to float64 on the "
        "same inputs.",
        f"{ways}\n- {FLOOR}: {NAMES['linear'][FLOOR]}",
        f"{shape} (tokens × width × vocabulary), {result['rounds']} rounds:",
        rows,
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to see that it works")
    parser.add_argument(
        "--shape", type=int, nargs=3, default=SHAPE, metavar=("TOKENS", "WIDTH", "VOCABULARY")
    )
    parser.add_argument("--rounds", type=int, default=10, help="rounds that count (10)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write gpu.md and gpu.json there")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # peers'; ours has none
    stored = options.out / "gpu.json" if options.out else None
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU on this machine: nothing was measured", file=sys.stderr)
        if stored is None or not stored.exists():
            write("gpu", [NOT_MEASURED], options.out)
        return 0
    result = measure(tuple(options.shape), options.rounds, options.device)
    record = {"measured": header("liger-kernel"), "device": device_name(options.device), "result": result}
    write("gpu", report(record), options.out)
    if stored is not None:
        stored.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
