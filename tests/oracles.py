"""Reference values: mpmath with enough digits, and the distance to them in units in the last place.

mpmath works on the exact values of the inputs (a float32 logit is a rational number), so what is left is the
error of the method alone.
"""

from __future__ import annotations

import math

import mpmath
import numpy as np

# mpmath's numbers float, so a tiny exp costs no digits; only cancellation does.  400 digits leave room for
# the 1 inside log(1 + S) to swallow 380 of S: a gap of 870 nats between the largest logit and the next.
DIGITS = 400
MANTISSA = {"float32": 24, "float64": 53}
MIN_EXPONENT = {"float32": -149, "float64": -1074}


def exact(x) -> list:
    """Return the numbers of an array or tensor, exactly, as mpmath numbers in a flat list."""
    x = x.detach().cpu().double().numpy() if hasattr(x, "detach") else np.asarray(x, dtype=np.float64)
    return [mpmath.mpf(float(v)) for v in x.reshape(-1)]


def ulp(value, dtype: str):
    """Return the gap between neighbouring numbers of ``dtype`` around an mpmath value."""
    if value == 0:
        return mpmath.ldexp(1, MIN_EXPONENT[dtype])
    _, exponent = mpmath.frexp(abs(value))
    return mpmath.ldexp(1, max(int(exponent) - MANTISSA[dtype], MIN_EXPONENT[dtype]))


def ulp_distance(got, want, dtype: str) -> float:
    """Return |got - want| in ULPs of ``want``; infinities must agree, and NaN is infinitely far from all."""
    got = float(got)
    if math.isnan(got):
        return math.inf
    if mpmath.isinf(want) or math.isinf(got):
        limit = float(np.finfo(dtype).max)
        same = mpmath.isinf(want) or abs(want) >= limit
        return 0.0 if same and math.isinf(got) and (got > 0) == (want > 0) else math.inf
    with mpmath.workdps(DIGITS):
        return float(abs(mpmath.mpf(got) - want) / ulp(want, dtype))


def worst_ulp(got, want: list, dtype: str) -> float:
    """Return the largest ULP distance between an array or tensor and a flat list of mpmath numbers."""
    values = got.detach().cpu().double().numpy() if hasattr(got, "detach") else np.asarray(got, np.float64)
    values = values.reshape(-1)
    assert len(values) == len(want)
    return max((ulp_distance(g, w, dtype) for g, w in zip(values, want, strict=True)), default=0.0)


def _exps(z: list) -> list:
    m = max(z)
    return [mpmath.mpf(0) if mpmath.isinf(v) else mpmath.exp(v - m) for v in z]


def logsumexp(z) -> object:
    with mpmath.workdps(DIGITS):
        z = exact(z)
        return max(z) + mpmath.log(mpmath.fsum(_exps(z)))


def log_softmax(z) -> list:
    with mpmath.workdps(DIGITS):
        z = exact(z)
        m, log_total = max(z), mpmath.log(mpmath.fsum(_exps(z)))
        return [mpmath.mpf("-inf") if mpmath.isinf(v) else (v - m) - log_total for v in z]


def softmax(z) -> list:
    with mpmath.workdps(DIGITS):
        e = _exps(exact(z))
        total = mpmath.fsum(e)
        return [v / total for v in e]


def cross_entropy(z, target, weight=None) -> object:
    """Return sum_c w_c t_c (lse - z_c) for an integer target or a list of probabilities; 0 * inf is 0."""
    with mpmath.workdps(DIGITS):
        logp = log_softmax(z)
        w = exact(weight) if weight is not None else [mpmath.mpf(1)] * len(logp)
        if np.ndim(target) == 0:
            return -w[int(target)] * logp[int(target)]
        terms = [-wc * t * lp for wc, t, lp in zip(w, exact(target), logp, strict=True) if wc * t != 0]
        return mpmath.fsum(terms)


def cross_entropy_grad(z, y: int) -> list:
    with mpmath.workdps(DIGITS):
        return [p - (1 if j == y else 0) for j, p in enumerate(softmax(z))]


def log1mexp(x) -> list:
    with mpmath.workdps(DIGITS):
        return [mpmath.log(1 - mpmath.exp(v)) if v < 0 else mpmath.mpf("-inf") for v in exact(x)]


def log_expit(x) -> list:
    with mpmath.workdps(DIGITS):
        return [-mpmath.log(1 + mpmath.exp(-v)) for v in exact(x)]


def bregman_kl(p, q) -> object:
    """Return sum p log(p/q) - p + q: the KL divergence when both sum to exactly one."""
    with mpmath.workdps(DIGITS):
        total = mpmath.mpf(0)
        for a, b in zip(exact(p), exact(q), strict=True):
            total += (a * mpmath.log(a / b) if a else 0) - a + b
        return total


def entropy(p) -> object:
    with mpmath.workdps(DIGITS):
        return -mpmath.fsum(v * mpmath.log(v) for v in exact(p) if v)


def torch_samples(name: str) -> list:
    """Return the float64 inputs on which torch tests its own function ``name``, the same at every call."""
    import torch
    from torch.testing._internal.common_methods_invocations import op_db

    (operation,) = (op for op in op_db if op.name == name and not op.variant_test_name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return list(operation.sample_inputs("cpu", torch.float64, requires_grad=False))
