"""How wrong is each library's cross-entropy? A table in units in the last place (ULP), against 400-digit truth.

Run with ``make bench``, or ``python benchmarks/accuracy.py --out benchmarks/results``. A peer that is not installed is
named as such. One ULP is the gap between neighbouring float32 numbers around the true value: a perfectly rounded result
is at most 0.5 ULP off.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
import torch
from report import header, write

import lossutils

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import oracles

F = torch.nn.functional
Loss = Callable[[np.ndarray, int], float]


def tensors(z: np.ndarray, y: int):
    return torch.as_tensor(z)[None], torch.tensor([y])


def ours(z, y):
    return lossutils.cross_entropy(*tensors(z, y)).item()


def torch_cross_entropy(z, y):
    return F.cross_entropy(*tensors(z, y)).item()


def torch_lse_minus_logit(z, y):
    z = torch.as_tensor(z)
    return (torch.logsumexp(z, 0) - z[y]).item()


def numpy_softmax_then_log(z, y):
    with np.errstate(all="ignore"):
        e = np.exp(z)
        return float(-np.log(e[y] / e.sum()))


def numpy_clipped_log(z, y):
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max())
        return float(-np.log(e[y] / e.sum() + np.float32(1e-9)))


def peers() -> dict[str, Loss | None]:
    """Every way of computing the loss; None for a library that is not installed."""
    found: dict[str, Loss | None] = {
        "NumPy: log of softmax": numpy_softmax_then_log,
        "NumPy: log(p + 1e-9)": numpy_clipped_log,
        "torch: logsumexp(z) − z[y]": torch_lse_minus_logit,
        "torch: F.cross_entropy": torch_cross_entropy,
        "scipy: log_softmax": None,
        "sklearn: log_loss of softmax": None,
        "optax": None,
        "lossutils": ours,
    }
    try:
        from scipy.special import log_softmax

        found["scipy: log_softmax"] = lambda z, y: float(-log_softmax(z)[y])
    except ImportError:
        pass
    try:
        from scipy.special import softmax
        from sklearn.metrics import log_loss

        found["sklearn: log_loss of softmax"] = lambda z, y: float(
            log_loss([y], softmax(z)[None], labels=np.arange(z.size))
        )
    except ImportError:
        pass
    try:
        import optax

        found["optax"] = lambda z, y: float(optax.softmax_cross_entropy_with_integer_labels(z, y))
    except ImportError:
        pass
    return found


def cases() -> dict[str, tuple[np.ndarray, int]]:
    """Name -> (float32 logits, target). Random ones are drawn from a fixed generator."""
    rng = np.random.default_rng(0)
    wide = rng.normal(size=32768)
    confident = wide.copy()
    confident[7] = 20.0
    masked = np.where(np.arange(1000) % 2, -np.inf, rng.normal(size=1000) * 3)
    raw = {
        "ten logits of size 1": (rng.normal(size=10), 3),
        "V = 32768, a guess": (wide, 7),
        "offset 1e6": (rng.normal(size=10) + 1e6, 3),
        "scale 1e3": (rng.normal(size=10) * 1e3, 3),
        "half masked with −inf": (masked, 4),
        "[10, 0], right": (np.array([10.0, 0.0]), 0),
        "[17, 0], right": (np.array([17.0, 0.0]), 0),
        "[100, 0], right": (np.array([100.0, 0.0]), 0),
        "V = 32768, right at 20": (confident, 7),
        "[0, 100], wrong": (np.array([0.0, 100.0]), 0),
    }
    return {name: (z.astype(np.float32), y) for name, (z, y) in raw.items()}


def truth(z: np.ndarray, y: int):
    with mpmath.workdps(oracles.DIGITS):
        numbers = [mpmath.mpf(float(v)) for v in z if v != -np.inf]
        m = max(numbers)
        others = sum(mpmath.exp(v - m) for v in numbers) - mpmath.exp(mpmath.mpf(float(z[y])) - m)
        return mpmath.log1p(others / mpmath.exp(mpmath.mpf(float(z[y])) - m))


def cell(got: float, want) -> str:
    """The error of one result in words or ULP."""
    if math.isnan(got):
        return "NaN"
    if math.isinf(got):
        return "∞" if got > 0 else "−∞"
    if got == 0 and want > 0:
        return "0 (lost)"
    distance = oracles.ulp_distance(np.float32(got), want, "float32")
    return f"{distance:.1f}" if distance < 100 else f"{distance:.0e}"


def loss_table() -> list[list[str]]:
    methods = peers()
    rows = [["case (float32)", "true loss, nats", *methods]]
    for name, (z, y) in cases().items():
        want = truth(z, y)
        row = [name, mpmath.nstr(want, 4)]
        row += [
            "not installed" if method is None else cell(method(z, y), want) for method in methods.values()
        ]
        rows.append(row)
    return rows


def gradient_table() -> list[list[str]]:
    """The gradient with respect to the right token's logit, −(1 − p), where p is nearly one."""
    rows = [["case (float32)", "true gradient", "torch: F.cross_entropy", "lossutils"]]
    for name in ("[10, 0], right", "[17, 0], right", "[100, 0], right", "V = 32768, right at 20"):
        z, y = cases()[name]
        with mpmath.workdps(oracles.DIGITS):
            want = -mpmath.expm1(-truth(z, y))
        row = [name, mpmath.nstr(-want, 4)]
        for loss in (F.cross_entropy, lossutils.cross_entropy):
            logits = torch.as_tensor(z)[None].requires_grad_()
            loss(logits, torch.tensor([y])).backward()
            row.append(cell(-logits.grad[0, y].item(), want))
        rows.append(row)
    return rows


def random_bound(rows: int = 300) -> float:
    """Our worst error in ULP over random logits: offset to ±1e6, scale to 1e3, gap to 120, masks and ties."""
    rng = np.random.default_rng(1)
    worst = 0.0
    for _ in range(rows):
        classes = int(rng.integers(2, 40))
        z = rng.normal(size=classes) * 10 ** rng.uniform(-3, 3) + rng.choice([0.0, 1.0]) * rng.uniform(
            -1e6, 1e6
        )
        y = int(rng.integers(classes))
        z[y] += rng.choice([0.0, 1.0]) * rng.uniform(0, 120)
        z[rng.random(classes) < 0.1 * (np.arange(classes) != y)] = -np.inf
        z = z.astype(np.float32)
        worst = max(worst, oracles.ulp_distance(np.float32(ours(z, y)), truth(z, y), "float32"))
    return worst


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, help="folder for accuracy.md; without it the tables are only printed"
    )
    options = parser.parse_args(argv)
    parts = [
        header("scipy", "scikit-learn", "optax"),
        "**The loss.** Error in ULP of the true value; 0.5 is perfect rounding.",
        loss_table(),
        "**The gradient at the right token.** Error in ULP.",
        gradient_table(),
        f"Over 300 random rows (offset to ±1e6, scale to 1e3, gap to 120, −inf masks) the worst error of "
        f"`lossutils.cross_entropy` is {random_bound():.2f} ULP in float32. The bar is 4.",
    ]
    write("accuracy", parts, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
