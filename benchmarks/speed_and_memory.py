"""Time and peak memory of lossutils' losses beside what people use, forward and backward, on one CPU thread.

Two tables.  `linear_cross_entropy` beside the full logits, beside torch's own chunked function, beside Liger,
and beside a floor: the three matrix products that any method needs, and nothing else.  `cross_entropy` beside
torch's, in several dtypes.  Peers that are not installed are named as such.

Times are CPU seconds of one process in which all ways take turns: medians, and medians of the ratios within a
round.  Peak memory is the growth of resident memory beyond the inputs, of one way alone in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import _measure
import torch
import torch.nn.functional as F
from report import header, write

from lossutils.cross_entropy import cross_entropy
from lossutils.linear_cross_entropy import linear_cross_entropy

SHAPES = ((2048, 256, 32768), (4096, 512, 50304), (2048, 512, 128256))  # tokens, width, vocabulary
QUICK_SHAPES = ((512, 64, 8192),)
TABLE = (1024, 32768)  # rows, classes
QUICK_TABLE = (256, 32768)
DTYPES = ("float64", "float32", "bfloat16")
QUICK_DTYPES = ("float32",)
OURS, PLAIN, FLOOR, TORCH, LIGER = "lossutils", "plain", "floor", "torch, chunked", "Liger"
NAMES = {
    "linear": {
        PLAIN: "F.cross_entropy(F.linear(h, W), y)",
        FLOOR: "the three matrix products alone, in the same chunks",
        TORCH: "F.linear_cross_entropy with its default chunks",
        LIGER: "Liger's fused linear cross-entropy",
        OURS: "lossutils.linear_cross_entropy",
    },
    "table": {
        PLAIN: "F.cross_entropy(z, y)",
        LIGER: "Liger's cross-entropy",
        OURS: "lossutils.cross_entropy",
    },
}
# What the two functions are to hold: figure, its name, and the most it may be.
BARS = {
    "linear": (
        ("to_plain", "time × plain", 0.85),
        ("to_floor", "time × floor", 1.15),
        ("memory_to_plain", "memory × plain's", 0.15),
        ("loss_error", "loss error", 2e-7),
    ),
    "table": (("to_plain", "time × plain", 1.0),),
}


# ----------------------------------------------------------------------------------------------------------
# the ways: each takes the inputs, leaves gradients in .grad and returns the loss


def inputs(job: dict) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the leaves and the targets of a job, the same in every process."""
    g = torch.Generator().manual_seed(0)
    dtype = getattr(torch, job["dtype"])
    if job["kind"] == "linear":
        tokens, width, words = job["shape"]
        leaves = [
            torch.randn(tokens, width, generator=g),
            torch.randn(words, width, generator=g) / width**0.5,
        ]
    else:
        tokens, words = job["shape"]
        leaves = [torch.randn(tokens, words, generator=g) * 2]
    target = torch.randint(words, (tokens,), generator=g)
    return [leaf.to(dtype).requires_grad_() for leaf in leaves], target


def _liger_linear():
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    return lambda h, w, y: liger_fused_linear_cross_entropy(h, w, y)


def _liger_table():
    from liger_kernel.transformers.functional import liger_cross_entropy

    return liger_cross_entropy


def _torch_chunked():
    options = torch.nn.LinearCrossEntropyOptions()
    return lambda h, w, y: F.linear_cross_entropy(h, w, y, options=options)


def _floor():
    def products(h, w, y):
        with torch.no_grad():
            rows = 256
            z, of_h, of_w = h.new_empty(rows, len(w)), torch.empty_like(h), torch.empty_like(w)
            for start in range(0, len(h), rows):
                some = h[start : start + rows]
                part = torch.mm(some, w.t(), out=z[: len(some)])
                torch.mm(part, w, out=of_h[start : start + rows])
                of_w.addmm_(part.t(), some, beta=int(start > 0))
            h.grad, w.grad = of_h, of_w

    return products


MAKERS: dict[str, dict[str, Callable[[], Callable]]] = {
    "linear": {
        PLAIN: lambda: lambda h, w, y: F.cross_entropy(F.linear(h, w), y),
        FLOOR: _floor,
        TORCH: _torch_chunked,
        LIGER: _liger_linear,
        OURS: lambda: linear_cross_entropy,
    },
    "table": {PLAIN: lambda: F.cross_entropy, LIGER: _liger_table, OURS: lambda: cross_entropy},
}


def absent(kind: str, name: str, dtype: str) -> str | None:
    """Return why a way cannot be measured here, or None if it can."""
    try:
        way = MAKERS[kind][name]()
    except ImportError:
        return "not installed"
    except AttributeError:
        return f"not in torch {torch.__version__}"
    if name in (OURS, PLAIN, FLOOR):
        return None
    leaves, target = inputs(
        {"kind": kind, "dtype": dtype, "shape": (4, 8, 16) if kind == "linear" else (4, 16)}
    )
    try:
        way(*leaves, target).backward()
    except Exception as error:  # whatever a peer raises on a CPU is its answer
        return f"does not run here ({type(error).__name__})"
    return None


def run(way: Callable, leaves: list[torch.Tensor], target: torch.Tensor) -> float | None:
    for leaf in leaves:
        leaf.grad = None
    loss = way(*leaves, target)
    if loss is None:
        return None
    loss.backward()
    return loss.item()


# ----------------------------------------------------------------------------------------------------------
# the two kinds of measurement, each in a process of its own


def measure_time(job: dict) -> dict:
    """Return seconds a round, ratios, and the loss's relative error, for all ways of a job in turns."""
    leaves, target = inputs(job)
    ways = {name: MAKERS[job["kind"]][name]() for name in job["ways"]}
    losses: dict[str, float | None] = {}

    def timed(name: str) -> Callable[[], None]:
        def once() -> None:
            losses[name] = run(ways[name], leaves, target)

        return once

    taken = _measure.cpu_seconds({name: timed(name) for name in ways}, job["rounds"])
    exact = exact_loss(job["kind"], leaves, target)
    return {
        name: {
            "seconds": statistics.median(taken[name]),
            "to_plain": _measure.ratio(taken, name, PLAIN),
            "to_floor": _measure.ratio(taken, name, FLOOR) if FLOOR in taken else None,
            "loss_error": None if losses[name] is None else abs(losses[name] / exact - 1),
        }
        for name in ways
    }


@torch.no_grad()
def exact_loss(kind: str, leaves: list[torch.Tensor], target: torch.Tensor) -> float:
    """Return the mean loss of these very inputs in float64, a few rows at a time."""
    weight = leaves[1].double() if kind == "linear" else None
    total = 0.0
    for part, y in zip(leaves[0].split(64), target.split(64), strict=True):
        z = part.double() if weight is None else part.double() @ weight.T
        total += F.cross_entropy(z, y, reduction="sum").item()
    return total / len(target)


def measure_peak(job: dict) -> dict:
    """Return the growth of memory (bytes) over one forward and backward pass of one way, and the gradients' size."""
    way = MAKERS[job["kind"]][job["way"]]()
    small = job | {"shape": (32, 16, 512) if job["kind"] == "linear" else (32, 512)}
    run(way, *inputs(small))  # so that libraries, kernels and their buffers are there already
    leaves, target = inputs(job)
    peak = _measure.peak_bytes(lambda: run(way, leaves, target))
    gradients = sum(leaf.grad.numel() * leaf.grad.element_size() for leaf in leaves)
    return {"peak": peak, "gradients": gradients}


def compare(kind: str, shape: tuple[int, ...], dtype: str, rounds: int) -> dict:
    """Return the figures of all ways for one shape and dtype; a way that cannot run has its reason instead."""
    reasons = {name: absent(kind, name, dtype) for name in MAKERS[kind]}
    ways = [name for name, reason in reasons.items() if reason is None]
    job = {"kind": kind, "shape": shape, "dtype": dtype, "rounds": rounds}
    script = str(Path(__file__))
    times = _measure.in_its_own_process(script, job | {"task": "time", "ways": ways})
    figures: dict[str, dict] = {}
    for name, reason in reasons.items():
        if reason is None and "error" in times:
            reason = times["error"]
        if reason is not None:
            figures[name] = {"absent": reason}
            continue
        memory = _measure.in_its_own_process(script, job | {"task": "peak", "way": name})
        figures[name] = {"absent": memory["error"]} if "error" in memory else times[name] | memory
    if "absent" in figures[PLAIN]:
        raise RuntimeError(f"the plain way failed at {shape}, {dtype}: {figures[PLAIN]['absent']}")
    for figure in figures.values():
        if "peak" in figure:
            figure["memory_to_plain"] = _beyond(figure) / max(1, _beyond(figures[PLAIN]))
    result = {"kind": kind, "shape": list(shape), "dtype": dtype, "rounds": rounds, "ways": figures}
    return result | {"bars": bars(result)}


def _beyond(figure: dict) -> int:
    """Return the peak beyond inputs and gradients: what the method itself needs."""
    return max(0, figure["peak"] - figure["gradients"])


# ----------------------------------------------------------------------------------------------------------
# the report


def report(results: list[dict]) -> list[str | list[list[str]]]:
    """Return the paragraphs and tables of the page."""
    parts: list[str | list[list[str]]] = [
        "# Speed and memory",
        header("liger-kernel") + " One thread.",
        "Forward and backward, mean loss. CPU seconds are medians; ratios are medians over rounds in which all ways "
        "take turns. Peak memory is the growth of resident memory in a fresh process, in MB (10⁶ bytes), beyond the "
        "inputs; then beyond the gradients too, and that as a share of the plain way's. The loss error is relative to "
        "float64 on the same inputs.",
    ]
    for kind, title in (("linear", "linear_cross_entropy"), ("table", "cross_entropy")):
        some = [result for result in results if result["kind"] == kind]
        ways = "\n".join(f"- {name}: {what}" for name, what in NAMES[kind].items())
        parts += [f"## {title}", ways]
        for result in some:
            shape = " × ".join(map(str, result["shape"]))
            axes = "tokens × width × vocabulary" if kind == "linear" else "rows × classes"
            parts.append(f"### {shape} ({axes}), {result['dtype']}, {result['rounds']} rounds")
            parts.append(_table(result))
            if result["bars"]:
                parts.append("Bars: " + "; ".join(map(_sentence, result["bars"])) + ".")
    return parts


def bars(result: dict) -> list[dict]:
    """Return how each bar fares: for the shapes it is set for, and in float32 where the products dominate."""
    shapes = SHAPES if result["kind"] == "linear" else (TABLE,)
    ours = result["ways"][OURS]
    if tuple(result["shape"]) not in shapes or "absent" in ours:
        return []
    if result["kind"] == "linear" and result["dtype"] != "float32":
        return []
    return [
        {"name": name, "value": ours[key], "most": most, "holds": ours[key] <= most}
        for key, name, most in BARS[result["kind"]]
        if ours.get(key) is not None
    ]


def _sentence(bar: dict) -> str:
    value = f"{bar['value']:.0e}" if bar["most"] < 1e-3 else f"{bar['value']:.3f}"
    return f"{bar['name']} {value}, at most {bar['most']:g}: {'holds' if bar['holds'] else 'MISSED'}"


def _table(result: dict) -> list[list[str]]:
    linear = result["kind"] == "linear"
    floor = ["× floor"] if linear else []
    head = ["way", "CPU s", "× plain", *floor, "peak MB", "without gradients", "× plain's", "loss error"]
    rows = [head]
    for name, f in result["ways"].items():
        if "absent" in f:
            rows.append([name, f["absent"], *[""] * (len(head) - 2)])
            continue
        error = f["loss_error"]
        to_floor = [f"{f['to_floor']:.3f}"] if linear else []
        memory = [f"{f['peak'] / 1e6:.0f}", f"{_beyond(f) / 1e6:.0f}", f"{f['memory_to_plain']:.3f}"]
        cells = [f"{f['seconds']:.3f}", f"{f['to_plain']:.3f}", *to_floor, *memory]
        rows.append([name, *cells, "" if error is None else f"{error:.0e}"])
    return rows


def _shapes(text: str) -> list[tuple[int, int, int]]:
    found = []
    for item in text.split(","):
        try:
            tokens, width, words = (int(n) for n in item.replace("×", "x").split("x"))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{item!r} is not TOKENSxWIDTHxVOCABULARY") from None
        if min(tokens, width, words) < 1:
            raise argparse.ArgumentTypeError(f"{item!r} has a size below 1")
        found.append((tokens, width, words))
    return found


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="The default run takes about 25 minutes; --quick takes about half a minute.",
    )
    parser.add_argument("--quick", action="store_true", help="small shapes: to see that it works")
    parser.add_argument(
        "--shapes",
        type=_shapes,
        metavar="NxDxV,...",
        help="tokens x width x vocabulary of the linear table (default: three, up to 2048x512x128256)",
    )
    parser.add_argument(
        "--rounds", type=_positive, metavar="N", help="rounds that count (default: 5; quick: 3)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write speed_and_memory.md and .json there"
    )
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # peers'; ours has none
    torch.set_num_threads(1)
    if options.worker is not None:
        job = options.worker
        print(json.dumps(measure_time(job) if job["task"] == "time" else measure_peak(job)))
        return 0
    shapes = options.shapes or (QUICK_SHAPES if options.quick else SHAPES)
    rounds = options.rounds or (3 if options.quick else 5)
    jobs = [("linear", shape, "float32") for shape in shapes]
    if not options.quick:
        jobs.append(("linear", shapes[0], "bfloat16"))
    table, dtypes = (QUICK_TABLE, QUICK_DTYPES) if options.quick else (TABLE, DTYPES)
    jobs += [("table", table, dtype) for dtype in dtypes]
    results = []
    for kind, shape, dtype in jobs:
        print(f"measuring: {kind} {'x'.join(map(str, shape))} {dtype}", file=sys.stderr, flush=True)
        results.append(compare(kind, shape, dtype, rounds))
    write("speed_and_memory", report(results), options.out)
    if options.out is not None:
        record = {"measured": header("liger-kernel"), "threads": 1, "results": results}
        path = options.out / "speed_and_memory.json"
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
