"""Arithmetic whose rounding errors are kept: a number as an unevaluated sum hi + lo of twice the working precision.

The functions of `lossutils.preference` are built from these. Differences of log-probabilities are exact here, so is
their product with beta, and what follows is written as a sum of terms of one sign. Nothing in it knows of preferences.
"""

from __future__ import annotations

import decimal
import functools
import math

import numpy as np
import torch


def two_sum(a, b):
    """Return fl(a + b) and its exact error (Knuth)."""
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


def clean(error):
    """Return the error with 0 where an infinity made it NaN: there is nothing to correct."""
    return torch.nan_to_num(error, nan=0.0, posinf=0.0, neginf=0.0)


class _Total(torch.autograd.Function):
    """The signed sum of tensors of one shape as hi + lo, exact to about twice the working precision."""

    @staticmethod
    def forward(ctx, signs, *terms):
        ctx.signs = signs
        signed = [t if sign > 0 else -t for sign, t in zip(signs, terms, strict=True)]
        plain = sum(signed[1:], start=signed[0])
        # each pass moves what the sum so far could not hold one place down (Ogita, Rump & Oishi 2005)
        for _ in range(len(signed) - 1):
            for i in range(1, len(signed)):
                signed[i], signed[i - 1] = two_sum(signed[i], signed[i - 1])
        hi, lo = two_sum(signed[-1], sum(signed[1:-1], start=signed[0]))
        finite = torch.isfinite(plain)
        hi, lo = torch.where(finite, hi, plain), torch.where(finite, lo, 0.0)
        ctx.mark_non_differentiable(lo)
        return hi, lo

    @staticmethod
    def backward(ctx, upstream, _):
        return (None, *(upstream if sign > 0 else -upstream for sign in ctx.signs))


def exact_sum(*terms, signs):
    return _Total.apply(signs, *terms)


def _halves(x, splitter: float):
    c = x * splitter
    high = c - (c - x)
    return high, x - high


def scaled(hi, lo, factor: float):
    """Return (hi + lo) * factor as a pair again."""
    product = hi * factor
    with torch.no_grad():
        splitter = 4097.0 if hi.dtype == torch.float32 else 134217729.0
        a, b = _halves(hi, splitter)
        c, d = _halves(torch.tensor(factor, dtype=hi.dtype).item(), splitter)
        error = ((a * c - product) + a * d + b * c) + b * d
        return product, clean(error + lo * factor)


def shifted(hi, lo, shift: float):
    """Return (hi + lo) + shift as a pair again."""
    moved = hi + shift
    with torch.no_grad():
        _, error = two_sum(hi, torch.full_like(hi, shift))
        return moved, clean(error) + lo


# ----------------------------------------------------------------------------------------------------------
# functions of x = hi + lo


def _decay(hi, lo):
    """Return exp(-|hi + lo|)."""
    e = torch.exp(-hi.abs())
    return e - e * (lo * hi.sign())


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hi, lo):
        ctx.save_for_backward(hi, lo)
        e = _decay(hi, lo)
        return torch.where(hi >= 0, 1 / (1 + e), e / (1 + e))

    @staticmethod
    def backward(ctx, upstream):
        return upstream * _Slope.apply(*ctx.saved_tensors), None


class _Slope(torch.autograd.Function):
    """sigmoid(x) sigmoid(-x)."""

    @staticmethod
    def forward(ctx, hi, lo):
        ctx.save_for_backward(hi, lo)
        e = _decay(hi, lo)
        total = 1 + e
        lost = e - (total - 1)  # the rounding of 1 + e, which the square would double
        slope = e / total / total
        return slope - slope * (2 * lost / total)

    @staticmethod
    def backward(ctx, upstream):
        hi, lo = ctx.saved_tensors
        return upstream * _Slope.apply(hi, lo) * (1 - 2 * _Sigmoid.apply(hi, lo)), None


class _Softplus(torch.autograd.Function):
    """log(1 + exp(x)), that is -log(sigmoid(-x))."""

    @staticmethod
    def forward(ctx, hi, lo):
        ctx.save_for_backward(hi, lo)
        tail = torch.log1p(_decay(hi, lo))
        return torch.where(hi > 0, hi + (lo + tail), tail)

    @staticmethod
    def backward(ctx, upstream):
        hi, lo = ctx.saved_tensors
        return upstream * _Sigmoid.apply(hi, lo), None


def sigmoid(x):
    return _Sigmoid.apply(*x)


def softplus(x):
    return _Softplus.apply(*x)


def negative(x):
    return -x[0], -x[1]


# 1 / (k + 2)!: the series of (exp(d) - 1 - d) / d**2, which 24 terms settle for |d| <= 2
_K3_SERIES = tuple(1.0 / math.factorial(k + 2) for k in range(24))


class ExcessExp(torch.autograd.Function):
    """exp(d) - 1 - d."""

    @staticmethod
    def forward(ctx, hi, lo):
        ctx.save_for_backward(hi, lo)
        series = torch.zeros_like(hi)
        for coefficient in reversed(_K3_SERIES):
            series = series * hi + coefficient
        plain = torch.where(hi == torch.inf, torch.inf, torch.expm1(hi) - hi)
        value = torch.where(hi.abs() <= 2, hi * hi * series, plain)
        return value + clean(torch.expm1(hi) * lo)

    @staticmethod
    def backward(ctx, upstream):
        hi, lo = ctx.saved_tensors
        slope = torch.expm1(hi)
        return upstream * (slope + clean((slope.detach() + 1) * lo)), None


@functools.lru_cache
def _logit_of_rest(eps: float) -> tuple[float, float]:
    """Return log((1 - eps) / eps) as hi + lo."""
    with decimal.localcontext() as context:
        context.prec = 60
        exact = decimal.Decimal(eps)
        value = ((1 - exact) / exact).ln()
        hi = float(value)
        return hi, float(value - decimal.Decimal(hi))


_REACH = 8.0  # up to this distance 32 nodes leave an error below 2**-60


@functools.lru_cache
def _taylor_rule(n: int = 32) -> tuple[list[float], list[float]]:
    """Return nodes s and weights for the integral of (1 - s) f(s) over [0, 1], after Gauss and Legendre.

    In decimal arithmetic, as those of ``numpy.polynomial.legendre.leggauss`` are up to 6e-14 off at the ends.
    """
    nodes, weights = [], []
    with decimal.localcontext() as context:
        context.prec = 40
        for guess in np.polynomial.legendre.leggauss(n)[0].tolist():
            z = decimal.Decimal(guess)
            for _ in range(3):  # Newton: 15, 30, 60 digits, and then the slope at the root
                before, here = decimal.Decimal(1), z
                for k in range(2, n + 1):
                    before, here = here, ((2 * k - 1) * z * here - (k - 1) * before) / k
                slope = n * (z * here - before) / (z * z - 1)
                z -= here / slope
            nodes.append(float((1 + z) / 2))
            weights.append(float((1 - z) / (2 * (1 - z * z) * slope * slope)))
    return nodes, weights


class BernoulliKL(torch.autograd.Function):
    """KL(sigmoid(x) || 1 - eps) of two coins; with y = logit(1 - eps) and d = y - x it is 0 at d = 0.

    Near d = 0 the textbook formula has terms of size d that must cancel to d**2.  The remainder of Taylor's
    theorem has one sign instead: d**2 times the integral over s in [0, 1] of (1 - s) sigmoid'(x + s d).
    """

    @staticmethod
    def forward(ctx, hi, lo, eps):
        ctx.save_for_backward(hi, lo)
        ctx.eps = eps
        y_hi, y_lo = _logit_of_rest(eps)
        # mirrored where needed, so that y lies below x: that costs nothing, as KL treats both sides alike
        sign = torch.where(hi >= y_hi, 1.0, -1.0).to(hi.dtype)
        x, x_lo = sign * hi, sign * lo
        d, error = two_sum(sign * y_hi, -x)
        d_lo = clean(error) + (sign * y_lo - x_lo)
        d, d_lo = d + d_lo, d_lo - ((d + d_lo) - d)

        s, w = (torch.tensor(v, dtype=hi.dtype, device=hi.device) for v in _taylor_rule())
        near_d = torch.where(d >= -_REACH, d, 0.0).unsqueeze(-1)
        t, error = two_sum(x.unsqueeze(-1).expand(*x.shape, len(s)), s * near_d)
        e = _decay(t, clean(error) + x_lo.unsqueeze(-1) + s * d_lo.unsqueeze(-1))
        near = d * (d + 2 * d_lo) * (w * (e / (1 + e).square())).sum(-1)

        p, rest = _Sigmoid.apply(x, x_lo), _Sigmoid.apply(-x, -x_lo)
        from_below = torch.log1p(p * torch.expm1(d)) - p * d
        likely, rare = (torch.full_like(hi, v) for v in (-math.log1p(-eps), -math.log(eps)))
        cost_yes = torch.where(sign > 0, likely, rare)  # softplus(-y) and softplus(y)
        cost_no = torch.where(sign > 0, rare, likely)
        gap = torch.where(rest == 0, 0.0, cost_no - _Softplus.apply(x, x_lo))
        from_above = p * cost_yes + (rest * gap - p * _Softplus.apply(-x, -x_lo))
        far = torch.where(x > 0, from_above, from_below)
        return torch.where(d >= -_REACH, near, far)

    @staticmethod
    def backward(ctx, upstream):
        hi, lo = ctx.saved_tensors
        y_hi, y_lo = _logit_of_rest(ctx.eps)
        distance, distance_lo = shifted(hi, lo, -y_hi)
        slope = _Slope.apply(hi, lo) * (distance + (distance_lo - y_lo))
        return upstream * torch.where(torch.isinf(hi), 0.0, slope), None, None


class OddsLoss(torch.autograd.Function):
    """softplus(logit(exp(r)) - logit(exp(c))) for c, r <= 0, from the ratio q of the odds themselves."""

    @staticmethod
    def _ratio(c, r):
        down, error = two_sum(r, -c)
        lo = clean(error.detach())
        e = torch.exp(down)
        e = e + torch.where(torch.isinf(e), 0.0, e * lo)
        # above 0 there are no odds: NaN rather than a number that looks right
        not_c, not_r = (torch.where(x > 0, torch.nan, torch.expm1(x).abs()) for x in (c, r))
        return down, lo, e, not_c, not_r

    @staticmethod
    def forward(ctx, c, r):
        ctx.save_for_backward(c, r)
        down, lo, e, not_c, not_r = OddsLoss._ratio(c, r)
        ratio = not_c / not_r
        q = e * ratio
        # where q is huge, or overflows, the 1 beside it no longer matters
        log_ratio = torch.where(torch.isinf(ratio), not_c.log() - not_r.log(), ratio.log())
        return torch.where(q < 1e30, torch.log1p(q), down + (lo + log_ratio))

    @staticmethod
    def backward(ctx, upstream):
        c, r = ctx.saved_tensors
        _, _, e, not_c, not_r = OddsLoss._ratio(c, r)
        q = e * (not_c / not_r)
        small = q <= 1
        # sigmoid of the log of q over (1 - exp(c)), which q contains: the quotient has a limit at c = 0
        by_c = torch.where(small, e / not_r / (1 + q), 1 / (1 + 1 / q) / not_c)
        weight = torch.where(small, q / (1 + q), 1 / (1 + 1 / q))
        return -upstream * by_c, upstream * (weight / not_r)
