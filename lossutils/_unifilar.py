"""Arithmetic of unifilar sources: the arrays behind `lossutils.worlds`, with nothing about words or grammar.

A source has S states and V tokens. `emission` (S, V) holds the probability of each token in each state,
`successor` (S, V) the one state that follows, or -1 where the token is impossible. That there is one is what
"unifilar" means. A belief is a distribution over states: what a reader of the past can know about where the
source is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

# Beliefs that agree to this many digits are one: coarser than rounding, far finer than a real difference.
_MERGE_DIGITS = 13
# The rarest beliefs, together at most this likely, are counted as if they knew the state. A sum of
# probabilities in float64 does not resolve less.
_NEGLIGIBLE = 1e-15


def compile_rules(
    rules: Mapping[str, Sequence[tuple[str, float, str]]], vocabulary: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Turn `state -> ((word, probability, next state), ...)` into `emission` and `successor`, checked."""
    if not rules:
        raise ValueError("rules must hold at least one state, got none")
    for word in vocabulary:
        if not isinstance(word, str) or word.split() != [word]:
            raise ValueError(f"vocabulary must hold words without spaces, got {word!r}")
    if len(set(vocabulary)) != len(vocabulary):
        raise ValueError(f"vocabulary must hold each word once, got {tuple(vocabulary)!r}")
    row = {state: i for i, state in enumerate(rules)}
    column = {word: i for i, word in enumerate(vocabulary)}
    emission = np.zeros((len(row), len(column)))
    successor = np.full(emission.shape, -1, dtype=np.int64)
    for state, ways in rules.items():
        for word, probability, next_state in ways:
            if word not in column:
                raise ValueError(f"rules[{state!r}] says {word!r}, which is not in the vocabulary")
            if next_state not in row:
                raise ValueError(f"rules[{state!r}] leads to {next_state!r}, which is not a state")
            if not 0 < probability <= 1:
                raise ValueError(
                    f"rules[{state!r}] gives {word!r} probability {probability!r}: must be in (0, 1]"
                )
            here = row[state], column[word]
            if successor[here] >= 0:
                raise ValueError(
                    f"rules[{state!r}] says {word!r} in two ways: the source would not be unifilar"
                )
            emission[here], successor[here] = probability, row[next_state]
        total = emission[row[state]].sum()
        if abs(total - 1) > 1e-12:
            raise ValueError(f"rules[{state!r}] has probabilities that sum to {total}: must be 1")
    reach = np.eye(len(row), dtype=bool) | (state_matrix(emission, successor) > 0)
    for _ in range(len(row).bit_length()):
        reach = reach @ reach
    if not reach.all():
        a, b = np.argwhere(~reach)[0]
        raise ValueError(
            "rules must let every state reach every other, "
            f"but {list(row)[a]!r} never reaches {list(row)[b]!r}"
        )
    return emission, successor


def state_matrix(emission: np.ndarray, successor: np.ndarray) -> np.ndarray:
    """Probability of going from state s to state t in one token, (S, S)."""
    matrix = np.zeros((len(emission), len(emission)))
    s, v = np.nonzero(emission)
    np.add.at(matrix, (s, successor[s, v]), emission[s, v])
    return matrix


def stationary_distribution(emission: np.ndarray, successor: np.ndarray) -> np.ndarray:
    """The distribution over states that a step leaves unchanged: pi P = pi, sum 1, by one linear solve."""
    n = len(emission)
    system = state_matrix(emission, successor).T - np.eye(n)
    system[-1] = 1.0  # the n balance equations are dependent, so one makes room for "the sum is one"
    return np.linalg.solve(system, np.eye(n)[-1])


def entropy_rows(p: np.ndarray) -> np.ndarray:
    """Entropy in nats of each row, with 0 log 0 = 0."""
    return -(p * np.log(p, out=np.zeros_like(p), where=p > 0)).sum(axis=-1)


def _advance(emission: np.ndarray, successor: np.ndarray, belief: np.ndarray, tokens: np.ndarray):
    """One Bayes step for each row: P(token | past) and the belief (B, S) after it, zeros if impossible."""
    n_rows, n_states = belief.shape
    joint = belief * emission[:, tokens].T
    target = np.arange(n_rows)[:, None] * n_states + np.maximum(successor[:, tokens].T, 0)
    moved = np.bincount(target.ravel(), joint.ravel(), n_rows * n_states).reshape(n_rows, n_states)
    p = moved.sum(axis=1)
    return p, moved / np.where(p > 0, p, 1.0)[:, None]


def filter_beliefs(
    emission: np.ndarray, successor: np.ndarray, belief: np.ndarray, ids: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each position of ids (B, T) yield P(ids[:, t] | ids[:, :t]), (B,), and the belief then, (B, S)."""
    for tokens in ids.T:
        p, belief = _advance(emission, successor, belief, tokens)
        yield p, belief


def token_probs(
    emission: np.ndarray, successor: np.ndarray, belief: np.ndarray, ids: np.ndarray
) -> np.ndarray:
    """P(ids[:, t] | ids[:, :t]), (B, T): the filter, a table look-up as soon as every state is known."""
    out = np.zeros(ids.shape)
    state = None
    for t, tokens in enumerate(ids.T):
        if state is None:
            out[:, t], belief = _advance(emission, successor, belief, tokens)
            if (np.count_nonzero(belief, axis=1) == 1).all():
                state = belief.argmax(axis=1)
        else:
            out[:, t], state = emission[state, tokens], successor[state, tokens]
        if not out[
            :, t
        ].all():  # an impossible token: the caller reports it, and nothing after it has a meaning
            break
    return out


def conditional_entropies(
    emission: np.ndarray, successor: np.ndarray, belief: np.ndarray, n: int
) -> np.ndarray:
    """H(X_t | X_1 .. X_{t-1}) for t = 1..n from one starting belief (S,), by going over all distinct beliefs.

    A context matters only through the belief it leaves, so contexts with the same belief are counted
    together, and a belief that knows its state needs no list at all: from there on the chain of states
    carries its weight.
    """
    n_states = len(emission)
    step, state_entropy = state_matrix(emission, successor), entropy_rows(emission)
    labels = np.random.default_rng(0).random((n_states, 2)) @ np.array(
        [1, 1j]
    )  # equal label <=> equal belief
    known, beliefs, weights = np.zeros(n_states), belief[None], np.ones(1)
    out = np.empty(n)
    for t in range(n):
        out[t] = weights @ entropy_rows(beliefs @ emission) + known @ state_entropy
        known = known @ step
        grown, mass = [], []
        for v in range(emission.shape[1]):
            source = np.flatnonzero(emission[:, v])
            joint = beliefs[:, source] * emission[source, v]
            p = joint.sum(axis=1)
            alive = p > 0
            push = np.eye(n_states)[successor[source, v]]
            grown.append((joint[alive] / p[alive, None]) @ push)
            mass.append(weights[alive] * p[alive])
        beliefs, weights = np.concatenate(grown), np.concatenate(mass)
        _, first, which = np.unique(
            np.round(beliefs @ labels, _MERGE_DIGITS), return_index=True, return_inverse=True
        )
        beliefs, weights = beliefs[first], np.bincount(which.ravel(), weights)
        order = np.argsort(weights)
        rare = np.empty(len(weights), dtype=bool)
        rare[order] = np.cumsum(weights[order]) <= _NEGLIGIBLE
        settled = rare | (np.count_nonzero(beliefs, axis=1) == 1)
        known += weights[settled] @ beliefs[settled]
        beliefs, weights = beliefs[~settled], weights[~settled]
    return out


def sample_paths(
    emission: np.ndarray,
    successor: np.ndarray,
    belief: np.ndarray,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw token ids of the given (B, T) shape, each row from its own state drawn from `belief`."""
    n_rows, n_tokens = shape
    width = int((emission > 0).sum(axis=1).max())
    words = np.argsort(emission == 0, axis=1, kind="stable")[:, :width]  # possible tokens first, in order
    cumulative = np.cumsum(np.take_along_axis(emission, words, axis=1), axis=1)
    full = np.arange(width) >= (emission > 0).sum(axis=1, keepdims=True) - 1
    cumulative[full] = 1.0  # rounding must not leave a gap under 1 into which a uniform number could fall
    following = np.take_along_axis(successor, words, axis=1)
    start = np.cumsum(belief)
    start[np.flatnonzero(belief)[-1] :] = 1.0
    state = np.searchsorted(start, rng.random(n_rows), side="right")
    uniform = rng.random(shape)
    out = np.empty(shape, dtype=np.int64)
    if n_rows == 1:  # one long text: plain lists are some ten times faster than arrays of length one
        cut, word, nxt, s = cumulative.tolist(), words.tolist(), following.tolist(), int(state[0])
        for t, u in enumerate(uniform[0].tolist()):
            k = bisect_right(cut[s], u)
            out[0, t], s = word[s][k], nxt[s][k]
        return out
    for t in range(n_tokens):
        k = (cumulative[state] <= uniform[:, t, None]).sum(axis=1)
        out[:, t], state = words[state, k], following[state, k]
    return out
