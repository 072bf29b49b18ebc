"""Best of n: draw n answers, keep the one with the highest reward; what it earns, and how far it moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from .. import _checks
from .._checks import count
from ..instruction_world import InstructionWorld
from .responses import sample_responses

__all__ = ["best_of_n", "best_of_n_distribution", "best_of_n_expectation", "best_of_n_kl_bound"]


def best_of_n(
    model: nn.Module,
    world: InstructionWorld,
    prompts,
    reward: Callable[[np.ndarray, np.ndarray], np.ndarray],
    n: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw n responses to each prompt and return the one with the highest reward.

    Use it to optimise at the time of asking, without training. For a curve over n draw one pool of responses instead,
    and ask :func:`best_of_n_expectation`.

    Parameters
    ----------
    model : torch module
        As in :func:`sample_responses`.
    world : InstructionWorld
        Knows the full stop that ends a response.
    prompts : (N, P) integer array or tensor
        Questions.
    reward : callable
        ``reward(prompts (M, P), responses (M, R))`` returns M numbers: ``world.utility``, or a reward model's `score`.
    n : int
        How many to choose from.
    rng : numpy Generator
        The source of chance.

    Returns
    -------
    (N, R) int64 array, filled with `PAD`

    Raises
    ------
    ValueError, TypeError
        As :func:`sample_responses`.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> world, rng = instruction_world(), np.random.default_rng(0)
    >>> model, prompts = GPT(20, context=14, width=8, layers=1), world.prompts("held_out")
    >>> best = [best_of_n(model, world, prompts, world.utility, n, rng) for n in (1, 8)]
    >>> bool(world.utility(prompts, best[0]).mean() < world.utility(prompts, best[1]).mean())
    True
    """
    answers = sample_responses(model, world, prompts, rng, samples=n)
    several, width = answers.shape[1:]
    flat = np.repeat(np.asarray(prompts), several, axis=0)
    scores = np.asarray(reward(flat, answers.reshape(-1, width))).reshape(-1, several)
    return answers[np.arange(len(answers)), scores.argmax(axis=1)]


def best_of_n_expectation(rewards, values, n: int) -> np.ndarray:
    r"""Return what the best of n is worth on average, from a pool of M samples: all choices of n at once.

    Use it for the whole curve from n = 1 to M out of one pool, with the proxy as `rewards` and the true utility as
    `values`. Pass the rewards themselves as `values` for what the proxy says.

    .. math:: \sum_{k=n}^{M} v_{(k)} \, \binom{k-1}{n-1} \Big/ \binom{M}{n}

    with the values in the order of their rewards: the average over all subsets of n, exact and not sampled.

    Parameters
    ----------
    rewards : (..., M) array_like
        What the choice is made by.
    values : (..., M) array_like
        What is wanted of the chosen one.
    n : int
        From 1 to M.

    Returns
    -------
    (...) float64

    Raises
    ------
    ValueError
        Shapes that differ, NaN in the rewards, n outside [1, M].
    TypeError
        An n that is not an integer, arrays that hold no numbers.

    Notes
    -----
    An unbiased estimate for the model that the pool was drawn from. Among equal rewards each is as likely to be chosen.
    Close to n = M few subsets are left and the estimate is noisy: draw a pool several times as large as the largest n.

    Examples
    --------
    The best of two dice, from a pool of all six faces (two different ones):

    >>> faces = np.arange(1, 7)
    >>> print(best_of_n_expectation(faces, faces, 2).round(4))
    4.6667

    References
    ----------
    Nakano et al. (2021), arXiv:2112.09332, appendix I.

    See Also
    --------
    best_of_n_distribution : for probabilities that are known.
    """
    rewards, values = _pair("values", values, rewards)
    m = rewards.shape[-1]
    if count("n", n) > m:
        raise ValueError(f"n is {n}; it must be at most the {m} samples of the pool")
    # C(k, n) / C(M, n): the probability that all n are among the k lowest.
    k = np.arange(m + 1)
    below = np.prod([np.clip(k - j, 0, None) / (m - j) for j in range(n)], axis=0)
    weights = np.array([_weights(row, below) for row in rewards.reshape(-1, m)]).reshape(rewards.shape)
    return (weights * values).sum(axis=-1)


def _weights(rewards: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The probability that each is chosen, if the k lowest hold the best with probability below[k]."""
    _, group, sizes = np.unique(rewards, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    return ((below[ends] - below[ends - sizes]) / sizes)[group]


def best_of_n_distribution(probs, rewards, n: int) -> np.ndarray:
    r"""Return the exact distribution of the best of n answers, where all answers are listed.

    Use it to compute the reward and the KL of best-of-n without sampling.

    .. math:: \pi_n(y) = \frac{\pi(y)}{\pi(r = r_y)} \big( F(r_y)^n - F(r_y^-)^n \big)

    with F(r) the probability of a reward of at most r, and F(r⁻) of less than r.

    Parameters
    ----------
    probs : (..., K) array_like
        The probability of each answer, summing to one.
    rewards : (..., K) array_like
        The reward of each answer.
    n : int
        How many are drawn, independently.

    Returns
    -------
    (..., K) float64

    Raises
    ------
    ValueError
        Shapes that differ, NaN in the rewards, probabilities that do not sum to one, n < 1.
    TypeError
        An n that is not an integer, arrays that hold no numbers.

    Notes
    -----
    The difference of powers is taken as F^n (1 − (1 − g/F)^n) by expm1 and log1p, so answers of tiny probability keep
    their digits. Equal rewards share in proportion to their probability.

    Examples
    --------
    Two answers at even odds: the better one is missed only if both draws miss it.

    >>> best_of_n_distribution([0.5, 0.5], [0.0, 1.0], 2)
    array([0.25, 0.75])

    See Also
    --------
    best_of_n_kl_bound : how far from π that can be.
    exact_optimum : what is best for the same KL.
    """
    rewards, probs = _pair("probs", probs, rewards)
    _checks.distribution("probs", probs, -1)
    count("n", n)
    flat = zip(probs.reshape(-1, probs.shape[-1]), rewards.reshape(-1, rewards.shape[-1]), strict=True)
    return np.array([_best_distribution(p, r, n) for p, r in flat]).reshape(probs.shape)


def _best_distribution(p: np.ndarray, rewards: np.ndarray, n: int) -> np.ndarray:
    _, group = np.unique(rewards, return_inverse=True)
    mass = np.bincount(group, p)
    up_to = np.cumsum(mass) / mass.sum()
    share = np.divide(mass, np.cumsum(mass), out=np.zeros_like(mass), where=mass > 0)
    with np.errstate(divide="ignore"):
        chosen = -(up_to**n) * np.expm1(n * np.log1p(-share))
    return np.divide(p, mass[group], out=np.zeros_like(p), where=p > 0) * chosen[group]


def best_of_n_kl_bound(n: int) -> float:
    r"""Return the largest KL that best-of-n can have to the policy it draws from, in nats.

    Use it as a bound, not as the KL: it is reached only where no two answers have the same reward and each is
    improbable.

    .. math:: \mathrm{KL}(\pi_n \,\|\, \pi) \le \log n - \frac{n - 1}{n}

    Parameters
    ----------
    n : int
        How many are drawn.

    Returns
    -------
    float

    Raises
    ------
    ValueError, TypeError
        An n that is less than 1 or no integer.

    Examples
    --------
    Two answers at even odds: best-of-64 has a KL of log 2.

    >>> from lossutils import kl_divergence
    >>> best = best_of_n_distribution([0.5, 0.5], [0.0, 1.0], 64)
    >>> print(f"{kl_divergence(best, [0.5, 0.5]):.3f} of at most {best_of_n_kl_bound(64):.3f}")
    0.693 of at most 3.175

    References
    ----------
    Beirami et al. (2024), arXiv:2401.01879.
    """
    n = count("n", n)
    return float(np.log(n) - (n - 1) / n)


def _pair(name: str, x, rewards) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and what goes with them, as float64 arrays of one shape."""
    arrays = []
    for title, array in (("rewards", rewards), (name, x)):
        array = _checks.as_float(title, array)
        array = array.detach().cpu().numpy() if _checks.is_torch(array) else array
        arrays.append(array.astype(np.float64))
    rewards, x = arrays
    if x.shape != rewards.shape or rewards.ndim == 0 or rewards.shape[-1] == 0:
        raise ValueError(f"{name} must have the rewards' shape (..., K), got {x.shape} and {rewards.shape}")
    if np.isnan(rewards).any():
        raise ValueError("rewards must not be NaN")
    return rewards, x
