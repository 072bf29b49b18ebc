"""Where all answers can be listed: the best policy, and exact divergences."""

from __future__ import annotations

from itertools import product

import numpy as np
from torch import nn

from .. import _checks
from .._checks import count
from .._training_options import positive
from ..information import kl_divergence
from ..instruction_world import PAD, InstructionWorld
from ..logspace import logsumexp, softmax
from .responses import response_logprobs

__all__ = [
    "all_responses",
    "exact_kl",
    "exact_optimum",
    "optimal_value",
    "regularised_value",
    "response_table",
]

MOST = 300_000  # responses that are listed without complaint


def exact_optimum(pi_ref, rewards, beta: float) -> np.ndarray:
    r"""Return the policy with the highest E[r] − β KL(π ‖ π_ref), where all answers are listed.

    Use it as the target that policy gradients and DPO both aim at.

    .. math:: \pi^*(y) = \frac{\pi_\text{ref}(y) \, e^{r(y) / \beta}}{\sum_{y'} \pi_\text{ref}(y') \, e^{r(y') / \beta}}

    Parameters
    ----------
    pi_ref : (..., K) array_like
        The reference's probability of each answer, summing to one.
    rewards : (..., K) array_like
        The reward of each answer.
    beta : float
        The price of a nat of KL, positive.

    Returns
    -------
    (..., K) float64

    Raises
    ------
    ValueError
        Probabilities that are negative or do not sum to one, shapes that differ, β ≤ 0, a row without a possible
        answer.
    TypeError
        Arrays that hold no numbers.

    Notes
    -----
    Computed from log π_ref + r/β, so a small β does no harm: the limit is π_ref among the best answers. What the
    reference rules out stays ruled out.

    Examples
    --------
    >>> exact_optimum([0.9, 0.1], [0.0, 1.0], beta=1 / np.log(9)).round(3)
    array([0.5, 0.5])

    References
    ----------
    Rafailov et al. (2023), arXiv:2305.18290, eq. 4 and appendix A.1; Korbak et al. (2022), arXiv:2205.11275.

    See Also
    --------
    optimal_value : what it earns.
    best_of_n_distribution : another way to a high reward.
    """
    return softmax(_tilted(pi_ref, rewards, beta))


def optimal_value(pi_ref, rewards, beta: float) -> np.ndarray:
    r"""Return the highest E[r] − β KL(π ‖ π_ref) that any policy has.

    Use it to say how far a trained policy is from the best one; the difference is β KL(π ‖ π*).

    .. math:: \beta \log \sum_y \pi_\text{ref}(y) \, e^{r(y) / \beta}

    Parameters
    ----------
    pi_ref, rewards, beta
        As in :func:`exact_optimum`.

    Returns
    -------
    (...) float64

    Raises
    ------
    ValueError, TypeError
        As :func:`exact_optimum`.

    Examples
    --------
    >>> reference, rewards = [0.9, 0.1], [0.0, 1.0]
    >>> best = exact_optimum(reference, rewards, 0.5)
    >>> print(f"{optimal_value(reference, rewards, 0.5):.6f}")
    0.247014
    >>> print(f"{regularised_value(best, reference, rewards, 0.5):.6f}")
    0.247014

    See Also
    --------
    regularised_value : the same number for any policy.
    """
    return positive("beta", beta) * logsumexp(_tilted(pi_ref, rewards, beta), axis=-1)


def regularised_value(pi, pi_ref, rewards, beta: float) -> np.ndarray:
    r"""Return E[r] − β KL(π ‖ π_ref) of a policy, where all answers are listed.

    Use it to compare policies at one β: it is what a policy gradient with the KL in the reward maximises.

    .. math:: \sum_y \pi(y) \, r(y) - \beta \sum_y \pi(y) \log \frac{\pi(y)}{\pi_\text{ref}(y)}

    Parameters
    ----------
    pi : (..., K) array_like
        The policy's probabilities.
    pi_ref, rewards, beta
        As in :func:`exact_optimum`; β may be 0 here.

    Returns
    -------
    (...) float64
        −inf where the policy says what the reference rules out, if β > 0.

    Raises
    ------
    ValueError, TypeError
        As :func:`exact_optimum`, and for β < 0.

    Examples
    --------
    >>> print(f"{regularised_value([0.5, 0.5], [0.5, 0.5], [0.0, 1.0], beta=1.0):.2f}")
    0.50

    See Also
    --------
    optimal_value : the highest value.
    """
    beta = _checks.real("beta", beta, 0.0)
    pi, rewards = _distribution("pi", pi, rewards)
    pi_ref, _ = _distribution("pi_ref", pi_ref, rewards)
    price = beta * kl_divergence(pi, pi_ref) if beta else 0.0
    return (pi * rewards).sum(axis=-1) - price


def _tilted(pi_ref, rewards, beta: float) -> np.ndarray:
    """log π_ref + r/β."""
    beta = positive("beta", beta)
    pi_ref, rewards = _distribution("pi_ref", pi_ref, rewards)
    if not np.isfinite(rewards).all():
        raise ValueError("rewards must be finite")
    with np.errstate(divide="ignore"):
        return np.log(pi_ref) + rewards / beta


def _distribution(name: str, p, rewards) -> tuple[np.ndarray, np.ndarray]:
    p, rewards = _checks.as_float(name, p), _checks.as_float("rewards", rewards)
    p, rewards = (x.detach().cpu().numpy() if _checks.is_torch(x) else x for x in (p, rewards))
    p, rewards = p.astype(np.float64), rewards.astype(np.float64)
    if p.shape != rewards.shape or p.ndim == 0:
        raise ValueError(f"{name} must have the rewards' shape (..., K), got {p.shape} and {rewards.shape}")
    total = p.sum(axis=-1)
    if not (p >= 0).all() or not (np.abs(total - 1) <= 1e-5).all():
        raise ValueError(
            f"{name} must be probabilities that sum to one, got sums from {total.min()} to {total.max()}"
        )
    return p, rewards


def all_responses(world: InstructionWorld, max_tokens: int | None = None) -> np.ndarray:
    """Return every response that a model can give: all sequences up to the first full stop, or up to a length.

    Use it in :func:`small_instruction_world`, to turn expectations over answers into sums.

    Parameters
    ----------
    world : InstructionWorld
        Its words.
    max_tokens : int, optional
        R, where responses are cut off; the length of a right answer if None.

    Returns
    -------
    (K, R) int64, filled with `PAD`
        Any model's probabilities of these K sum to one: those without a full stop stand for all that begin so.

    Raises
    ------
    ValueError
        More than 300 000 responses, or a length less than 1.
    TypeError
        A length that is not an integer.

    Examples
    --------
    >>> from lossutils.instruction_world import small_instruction_world
    >>> all_responses(small_instruction_world()).shape  # 1 + 12 + 12² · 13
    (1885, 3)

    See Also
    --------
    response_table : their probabilities.
    """
    longest = world.length + 1 if max_tokens is None else count("max_tokens", max_tokens)
    words = [i for i in range(world.vocab_size) if i != world.stop_id]
    total = sum(len(words) ** n for n in range(longest + 1))
    if total > MOST:
        raise ValueError(f"max_tokens is {longest}: that makes {total} responses, more than {MOST}")
    rows = [
        (*said, world.stop_id, *[PAD] * (longest - n - 1))
        for n in range(longest)
        for said in product(words, repeat=n)
    ]
    return np.array([*rows, *product(words, repeat=longest)], dtype=np.int64)


def response_table(model: nn.Module, prompts, responses) -> np.ndarray:
    """Return the log-probability of each of K responses after each of N prompts.

    Use it with :func:`all_responses` for a model's whole distribution over answers.

    Parameters
    ----------
    model : torch module
        As in :func:`response_logprobs`.
    prompts : (N, P) integer array
        What is given.
    responses : (K, R) integer array
        What may follow.

    Returns
    -------
    (N, K) float64, in nats

    Raises
    ------
    ValueError, TypeError
        As :func:`response_logprobs`.

    Examples
    --------
    >>> from lossutils import logsumexp
    >>> from lossutils.instruction_world import small_instruction_world
    >>> from lossutils.models import GPT
    >>> world = small_instruction_world()
    >>> model = GPT(world.vocab_size, context=world.max_tokens, width=8, layers=1)
    >>> table = response_table(model, world.prompts()[:1], all_responses(world))
    >>> bool(abs(logsumexp(table[0])) < 1e-5)  # they sum to one
    True

    See Also
    --------
    exact_kl : between two models.
    """
    prompts, responses = np.asarray(prompts), np.asarray(responses)
    n, k = len(prompts), len(responses)
    return response_logprobs(model, np.repeat(prompts, k, axis=0), np.tile(responses, (n, 1))).reshape(n, k)


def exact_kl(
    model: nn.Module, reference: nn.Module, world: InstructionWorld, prompts, *, max_tokens: int | None = None
) -> np.ndarray:
    """Return KL(model ‖ reference) of the responses to each prompt, summed over all of them.

    Use it where responses can be listed, to check estimates from samples.

    Parameters
    ----------
    model, reference : torch module
        As in :func:`response_logprobs`.
    world : InstructionWorld
        A small one.
    prompts : (N, P) integer array
        What is given.
    max_tokens : int, optional
        Where responses are cut off, as in :func:`all_responses`.

    Returns
    -------
    (N,) float64 in nats a response

    Raises
    ------
    ValueError, TypeError
        As :func:`all_responses` and :func:`response_logprobs`.

    Examples
    --------
    >>> from lossutils.instruction_world import small_instruction_world
    >>> from lossutils.models import GPT
    >>> world = small_instruction_world()
    >>> one, other = (GPT(world.vocab_size, context=world.max_tokens, width=8, layers=1, seed=s) for s in (0, 1))
    >>> bool(exact_kl(one, other, world, world.prompts()[:2]).min() > 0)
    True

    See Also
    --------
    kl_to_reference : an estimate from samples, anywhere.
    """
    responses = all_responses(world, max_tokens)
    p, q = (softmax(response_table(net, prompts, responses)) for net in (model, reference))
    return kl_divergence(p, q)
