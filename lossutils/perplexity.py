"""What a loss means per token, per word, per byte: perplexity and bits.

All take a *sum* of losses and a count, never a mean of means: the mean over unequal batches is not the mean
of their means, and the mean of perplexities is not the perplexity of the mean.

float64 for Python numbers, NumPy integers and float64; float32 for narrower tensors and arrays.  Everything
is computed in float64 where the device has it.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from lossutils import _checks
from lossutils.logspace import result_dtype, working_dtype

__all__ = ["bits_per_byte", "bits_per_token", "perplexity"]

_LN2 = math.log(2.0)


def perplexity(nll_sum, n_tokens, *, validate: bool | None = None):
    """Return exp(nll_sum / n_tokens): how many equally likely tokens would be as hard to guess.

    Use it to report a language model on a text.  It is the reciprocal of the geometric mean of the
    probabilities that the model gave to the tokens.  With a count of words in place of tokens it is the
    perplexity per word, which models with different tokenizers can share.

    ::

        perplexity = exp( nll_sum / n_tokens )

    Parameters
    ----------
    nll_sum : array_like or torch.Tensor, any shape
        The sum of negative log-likelihoods (nats), such as a cross-entropy with ``reduction="sum"``.
    n_tokens : integer, array_like or torch.Tensor
        How many tokens are in that sum: at least 1; a shape that broadcasts with `nll_sum`.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor
        A number of tokens, >= 1.  float64 if `nll_sum` is a number or float64, else float32.

    Raises
    ------
    ValueError
        A count below 1; a sum that is negative by more than rounding: under -1e-6, -1e-5, -5e-3, -1e-2 nats
        per token for float64, float32, float16, bfloat16 (log-probabilities rather than losses, or a wrong
        sign); shapes that do not broadcast; devices that differ.
    TypeError
        A count that is not an integer; integer, boolean or complex `nll_sum` tensors; a tensor with an array
        (a plain integer count goes with either).

    Notes
    -----
    Limits.  A mean above 709.78 nats per token (88.7 for float32) gives inf, not an exception; a sum of inf
    gives inf, NaN gives NaN.  A sum within the tolerance below 0 is used as it is, and gives slightly less
    than 1.  Unchecked counts of 0 give what division by 0 gives: inf or NaN.

    Accuracy: at most 4 ULP at any size, for counts up to 2**53.  ``exp(total / n)`` turns the rounding of the
    quotient into hundreds of ULP at a mean of 700 nats; here the remainder of the division is carried along.
    torch: differentiable in `nll_sum`.

    Examples
    --------
    >>> f"{perplexity(10 * np.log(50.0), 10):.6f}"  # as hard as a die with 50 sides
    '50.000000'
    >>> print(perplexity(1e6, 10))
    inf

    References
    ----------
    Jelinek et al. (1977), "Perplexity: a measure of the difficulty of speech recognition tasks".

    See Also
    --------
    bits_per_byte : independent of the tokenizer.
    lossutils.token_mean.TokenMean : collects sum and count over batches.
    """
    total, n, dtype = _checked(nll_sum, n_tokens, "n_tokens", validate)
    with np.errstate(all="ignore"):
        mean = total / n
        xp = torch if _checks.is_torch(mean) else np
        e = xp.exp(mean)
        rest = xp.where(xp.isfinite(e), _division_error(total, n, mean), 0.0)  # inf is inf already
        return _cast(xp.where(rest == 0, e, e + e * rest), dtype)


def bits_per_byte(nll_sum, n_bytes, *, validate: bool | None = None):
    """Return nll_sum / (n_bytes log 2): how many bits the model needs for a byte of text.

    Use it to compare models with different tokenizers.  Say which bytes: of the original text or of the
    detokenised one, with or without special tokens.  With a count of characters it is bits per character.

    ::

        bits_per_byte = nll_sum / (n_bytes * log(2))

    Parameters
    ----------
    nll_sum : array_like or torch.Tensor, any shape
        The sum of negative log-likelihoods over the text's tokens (nats).
    n_bytes : integer, array_like or torch.Tensor
        The text's length in bytes (UTF-8): at least 1; a shape that broadcasts with `nll_sum`.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor
        Bits per byte.  float64 if `nll_sum` is a number or float64, else float32.

    Raises
    ------
    ValueError, TypeError
        As :func:`perplexity`, with bytes for tokens in the tolerances.

    Notes
    -----
    Limits.  A sum of inf gives inf, NaN gives NaN; unchecked counts of 0 give inf or NaN.

    Accuracy: at most 2 ULP, for counts up to 2**53.  torch: differentiable in `nll_sum`.

    Examples
    --------
    >>> f"{bits_per_byte(1000 * np.log(2.0), 4000):.4f}"  # a bit a token, four bytes a token
    '0.2500'

    References
    ----------
    Biderman et al. (2024), arXiv:2405.14782, on why reports differ.

    See Also
    --------
    bits_per_token : the same with tokens.
    lossutils.information.nats_to_bits : without a count.
    """
    return _bits(nll_sum, n_bytes, "n_bytes", validate)


def bits_per_token(nll_sum, n_tokens, *, validate: bool | None = None):
    """Return nll_sum / (n_tokens log 2): the mean loss in bits, the base-2 logarithm of the perplexity.

    Use it where halvings of a probability are easier to read than nats.

    ::

        bits_per_token = nll_sum / (n_tokens * log(2)) = log2(perplexity)

    Parameters
    ----------
    nll_sum : array_like or torch.Tensor, any shape
        The sum of negative log-likelihoods (nats).
    n_tokens : integer, array_like or torch.Tensor
        How many tokens are in that sum: at least 1; a shape that broadcasts with `nll_sum`.
    validate : bool, optional
        Whether to check the values.  None checks on the CPU only, as a check on an accelerator waits for it.

    Returns
    -------
    array or torch.Tensor
        Bits per token.  float64 if `nll_sum` is a number or float64, else float32.

    Raises
    ------
    ValueError, TypeError
        As :func:`perplexity`.

    Notes
    -----
    Limits and accuracy as :func:`bits_per_byte`.

    Examples
    --------
    >>> f"{bits_per_token(30 * np.log(8.0), 30):.6f}"
    '3.000000'

    References
    ----------
    Shannon (1948), "A mathematical theory of communication".

    See Also
    --------
    perplexity : two to this power.
    """
    return _bits(nll_sum, n_tokens, "n_tokens", validate)


def _bits(nll_sum, count, name, validate):
    total, n, dtype = _checked(nll_sum, count, name, validate)
    with np.errstate(all="ignore"):
        return _cast(total / n / _LN2, dtype)


def _checked(nll_sum, count, name, validate):
    """Return the sum and the count in the working dtype, and the dtype of the result."""
    total = _checks.as_float("nll_sum", nll_sum)
    n = _checks.as_integer(name, count)
    if _checks.is_torch(total) and isinstance(count, (int, np.integer)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
        n = torch.tensor(int(count), device=total.device)
    elif _checks.is_torch(n) and not _checks.is_torch(nll_sum):
        raise TypeError(
            f"nll_sum must be a torch tensor as {name} is, got {type(nll_sum).__name__}: or pass int({name})"
        )
    _checks.same_kind(nll_sum=total, **{name: n})
    try:
        np.broadcast_shapes(tuple(total.shape), tuple(n.shape))
    except ValueError as error:
        raise ValueError(
            f"{name} must have a shape that broadcasts with nll_sum's {tuple(total.shape)}, "
            f"got {tuple(n.shape)}"
        ) from error
    if _checks.may_read(n, validate):
        if (n < 1).any():
            raise ValueError(f"{name} must be at least 1, got {n[n < 1].reshape(-1)[0].item()}")
        tolerance = _checks.SUM_TOLERANCE[_checks.dtype_name(total)]
        values = total.detach() if _checks.is_torch(total) else total
        low = values < -tolerance * n
        if low.any():
            raise ValueError(
                f"nll_sum must not be negative (beyond {tolerance:g} a unit of {name}), "
                f"got {(values + 0 * n)[low].reshape(-1)[0].item()!r}: a loss is minus the log-probability"
            )
    dtype = result_dtype(total)
    if _checks.is_torch(total):
        work = torch.float64 if dtype == torch.float64 else working_dtype(total)
        return total.to(work), n.to(work), dtype
    return total.astype(np.float64), n.astype(np.float64), dtype


def _division_error(total, n, quotient):
    """Return total / n - quotient, from the exact product of quotient and n (Dekker); 0 at infinities."""
    values = (v.detach() for v in (total, n, quotient)) if _checks.is_torch(total) else (total, n, quotient)
    total, n, quotient = values
    splitter = 4097.0 if _checks.dtype_name(total) == "float32" else 134217729.0
    product = quotient * n
    c, d = quotient * splitter, n * splitter
    c, d = c - (c - quotient), d - (d - n)
    error = ((c * d - product) + c * (n - d) + (quotient - c) * d) + (quotient - c) * (n - d)
    rest = ((total - product) - error) / n
    xp = torch if _checks.is_torch(total) else np
    return xp.where(xp.isfinite(rest), rest, xp.zeros_like(rest))


def _cast(x, dtype):
    return x.to(dtype) if _checks.is_torch(x) else np.asarray(x).astype(dtype)[()]
