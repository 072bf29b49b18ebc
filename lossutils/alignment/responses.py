"""What a model says in answer to a question: draw answers, and score given ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .. import _checks
from .._checks import count
from .._training_options import positive
from .._training_run import mode
from ..cross_entropy import cross_entropy
from ..information import kl_divergence
from ..instruction_world import PAD, InstructionWorld
from ..logspace import softmax
from ..preference import sequence_logprobs

__all__ = ["kl_to_reference", "response_logprobs", "sample_responses", "sampler"]

ROWS_AT_ONCE = 4096  # on the way through a model without gradients


class Rows(NamedTuple):
    """Prompts joined with their responses: `ids` is what a model reads, `labels` what counts (PAD elsewhere)."""

    ids: Tensor
    labels: Tensor


def join(prompts: Any, responses: Any) -> Rows:
    """Return rows (N, P + R) of prompts (N, P) with their responses (N, R), on the CPU."""
    prompts, responses = (as_tensor(name, x) for name, x in (("prompts", prompts), ("responses", responses)))
    if prompts.ndim != 2 or responses.ndim != 2 or len(prompts) != len(responses):
        raise ValueError(
            "prompts and responses must have shapes (N, P) and (N, R), "
            f"got {tuple(prompts.shape)} and {tuple(responses.shape)}"
        )
    both = torch.cat([prompts, responses], dim=1)
    labels = torch.cat([torch.full_like(prompts, PAD), responses], dim=1)
    return Rows(both.clamp(min=0), labels)


def as_tensor(name: str, ids: Any) -> Tensor:
    return torch.as_tensor(_checks.as_integer(name, ids)).cpu()


def row_logprobs(model: nn.Module, rows: Rows, *, average: bool = False) -> Tensor:
    """Log-probability (N,) of what counts in each row; gradients flow. Rows may be on any device: the model's."""
    return sequence_logprobs(model(rows.ids), rows.labels, shift=False, average=average)


def mean_nll(model: nn.Module, labels: Tensor) -> Tensor:
    """Nats per token over documents (N, T) filled with PAD; gradients flow."""
    return mean_row_nll(model, Rows(labels.clamp(min=0), labels))


def mean_row_nll(model: nn.Module, rows: Rows) -> Tensor:
    """Nats per token over what counts in the rows; gradients flow."""
    return cross_entropy(model(rows.ids).flatten(0, 1), rows.labels.flatten(), ignore_index=PAD)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def in_parts(n: int, size: int = ROWS_AT_ONCE) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def seeded(rng: np.random.Generator, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator whose seed was drawn from `rng`."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))


def response_logprobs(model: nn.Module, prompts, responses, *, average: bool = False) -> np.ndarray:
    r"""Return the log-probability of each response given its prompt, by teacher forcing.

    Use it to ask how likely an answer is without drawing any: exact helpfulness is the mean of ``exp`` of this for
    the right answers, and differences of two models' are the implicit rewards of DPO.

    .. math:: \log \pi(y \mid x) = \sum_t \log \pi(y_t \mid x, y_{<t})

    Parameters
    ----------
    model : torch module
        Maps ids (N, T) to logits (N, T, V), position t predicting token t. It is asked on its own device.
    prompts : (N, P) integer array or tensor
        What is given.
    responses : (N, R) integer array or tensor
        What follows, filled with `PAD`. Without its full stop, it is the probability that the answer begins so.
    average : bool
        Divide by the number of tokens.

    Returns
    -------
    (N,) float64 array in nats, at most 0

    Raises
    ------
    ValueError
        Shapes that do not fit, an id out of range.
    TypeError
        Ids that are no integers.

    Notes
    -----
    No gradient flows: this is for reports. The logits have the model's precision (float32 as a rule), their sum is
    kept in float64.

    Examples
    --------
    A model that has learned nothing says each of 20 words with probability 1/20:

    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> world = instruction_world()
    >>> prompts = world.prompts("held_out")[:2]
    >>> logp = response_logprobs(GPT(20, context=14, width=8, layers=1), prompts, world.solve(prompts))
    >>> (logp / np.log(20)).round(0)
    array([-4., -4.])

    See Also
    --------
    lossutils.preference.sequence_logprobs : the same for logits, with gradients.
    """
    rows = join(prompts, responses)
    out = np.empty(len(rows.ids))
    with torch.no_grad(), mode(model, training=False):
        for part in in_parts(len(out)):
            here = Rows(*(x[part].to(device_of(model)) for x in rows))
            logits = model(here.ids).cpu().double()
            found = sequence_logprobs(logits, here.labels.cpu(), shift=False, average=average)
            out[part] = found.numpy()
    return out


def kl_to_reference(model: nn.Module, reference: nn.Module, prompts, responses) -> np.ndarray:
    r"""Return, for responses drawn from a model, the KL divergence to a reference summed along each of them.

    Use it to estimate how far a policy has moved, in nats a response. The mean over responses that were drawn from
    `model` is an unbiased estimate of KL(model ‖ reference) for whole responses, with less variance than the
    log-ratio itself, as the next token is summed over and not drawn.

    .. math:: \sum_t \mathrm{KL}\big(\pi(\cdot \mid x, y_{<t}) \,\|\, \pi_\text{ref}(\cdot \mid x, y_{<t})\big)

    Parameters
    ----------
    model, reference : torch module
        Each on its own device.
    prompts : (N, P) integer array or tensor
        What is given.
    responses : (N, R) integer array or tensor
        Drawn from `model`, filled with `PAD`.

    Returns
    -------
    (N,) float64 array in nats, at least 0

    Raises
    ------
    ValueError
        Shapes that do not fit.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> world, model = instruction_world(), GPT(20, context=14, width=8, layers=1)
    >>> prompts = world.prompts("held_out")[:2]
    >>> kl_to_reference(model, model, prompts, world.solve(prompts))
    array([0., 0.])

    See Also
    --------
    exact_kl : the sum over all responses, where they can be listed.
    lossutils.preference.kl_estimate : from the log-probabilities of the sample alone.
    """
    rows = join(prompts, responses)
    out = np.empty(len(rows.ids))
    with torch.no_grad(), mode(model, training=False), mode(reference, training=False):
        for part in in_parts(len(out)):
            ids, counts = rows.ids[part], rows.labels[part] != PAD
            p, q = (softmax(net(ids.to(device_of(net))).cpu().double()) for net in (model, reference))
            out[part] = (kl_divergence(p, q) * counts).sum(1).numpy()
    return out


def sample_responses(
    model: nn.Module,
    world: InstructionWorld,
    prompts,
    rng: np.random.Generator,
    *,
    samples: int | None = None,
    temperature: float = 1.0,
    max_tokens: int | None = None,
) -> np.ndarray:
    """Draw a model's responses to many prompts at once.

    Use it to see what a model says, and for rewards, best-of-n and policy gradients.

    Parameters
    ----------
    model : GPT or other torch module
        A `GPT` reads with a cache; another module maps ids (N, T) to logits (N, T, V), position t predicting token t.
    world : InstructionWorld
        Knows the full stop that ends a response.
    prompts : (N, P) integer array or tensor
        Questions.
    rng : numpy Generator
        The source of chance.
    samples : int, optional
        Responses to each prompt.
    temperature : float
        Positive. Below one likely tokens become likelier.
    max_tokens : int, optional
        The length at which a response is cut off; the longest of the world's own if None.

    Returns
    -------
    (N, R) int64 array, or (N, samples, R)
        Up to and with the first full stop, filled with `PAD`; R is `max_tokens`.

    Raises
    ------
    ValueError
        A count or a temperature out of range; prompts and responses longer than the model's context.
    TypeError
        A count that is not an integer.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> world = instruction_world()
    >>> model = GPT(20, context=14, width=8, layers=1)
    >>> prompts = world.prompts("held_out")
    >>> sample_responses(model, world, prompts, np.random.default_rng(0), samples=4).shape
    (504, 4, 7)

    See Also
    --------
    lossutils.models.generate : one text, from any of the models.
    """
    longest = world.max_response if max_tokens is None else count("max_tokens", max_tokens)
    positive("temperature", temperature)
    prompts = as_tensor("prompts", prompts)
    if samples is not None:
        prompts = prompts.repeat_interleave(count("samples", samples), dim=0)
    device = device_of(model)
    generator = seeded(rng, device)
    out = torch.empty((len(prompts), longest), dtype=torch.long)
    with torch.no_grad(), mode(model, training=False):
        for part in in_parts(len(prompts)):
            out[part] = _draw(model, prompts[part].to(device), longest, temperature, world.stop_id, generator)
    found = out.numpy()
    return found if samples is None else found.reshape(-1, samples, longest)


def _draw(model, prompts: Tensor, longest: int, temperature: float, stop: int, generator) -> Tensor:
    """Responses (N, longest) to prompts (N, P), on the CPU."""
    drawn = prompts.new_full((len(prompts), longest), PAD)
    open_ = torch.ones(len(prompts), dtype=torch.bool, device=prompts.device)
    asks = _reader(model, prompts)
    token = None
    for t in range(longest):
        # Sampling wants probabilities that sum to one to float32's precision, and no finer.
        p = softmax(asks(token).float() / temperature)
        token = torch.multinomial(p, 1, generator=generator)
        drawn[:, t] = torch.where(open_, token[:, 0], PAD)
        open_ = open_ & (token[:, 0] != stop)
        if t + 1 < longest and prompts.device.type == "cpu" and not open_.any():
            break  # on an accelerator looking would cost more than drawing
    return drawn.cpu()


def _reader(model: nn.Module, prompts: Tensor) -> Callable[[Tensor | None], Tensor]:
    """Return a function from the last token (N, 1) to the logits (N, V) of the next."""
    if hasattr(model, "step"):
        start = prompts.new_full((len(prompts), 1), model.start_id)
        state = {"new": torch.cat([start, prompts], dim=1), "cache": None}

        def ask(token: Tensor | None) -> Tensor:
            new = state["new"] if token is None else token
            logits, state["cache"] = model.step(new, state["cache"])
            return logits[:, -1]

        return ask

    seen = prompts

    def ask_afresh(token: Tensor | None) -> Tensor:
        nonlocal seen
        seen = seen if token is None else torch.cat([seen, token], dim=1)
        # The last position's input is a placeholder: no logit at a position looks at its own token.
        return model(torch.nn.functional.pad(seen, (0, 1)))[:, -1]

    return ask_afresh


def sampler(
    model: nn.Module, world: InstructionWorld, *, temperature: float = 1.0
) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Return a function that draws two responses of a model to each prompt.

    Use it as the `candidates` of :meth:`InstructionWorld.preferences`, for preferences between a model's own answers.

    Parameters
    ----------
    model : torch module
        As in :func:`sample_responses`.
    world : InstructionWorld
        Knows the full stop that ends a response.
    temperature : float
        As in :func:`sample_responses`.

    Returns
    -------
    callable
        ``candidates(prompts, rng)`` → (N, 2, R) int64.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> world = instruction_world()
    >>> candidates = sampler(GPT(20, context=14, width=8, layers=1), world)
    >>> world.preferences(10, np.random.default_rng(0), candidates=candidates).chosen.shape
    (10, 7)
    """

    def candidates(prompts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return sample_responses(model, world, prompts, rng, samples=2, temperature=temperature)

    return candidates
