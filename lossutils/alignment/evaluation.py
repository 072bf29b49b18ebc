"""One row of numbers a model: what it costs in loss, and what it is good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
from torch import nn

from .._checks import count
from .._training_run import mode
from ..calibration import expected_calibration_error
from ..cross_entropy import cross_entropy
from ..instruction_world import KINDS, PAD, InstructionWorld
from ..logspace import softmax
from ..perplexity import perplexity
from .responses import device_of, in_parts, kl_to_reference, response_logprobs, sample_responses

__all__ = ["Evaluation", "evaluate", "spread"]


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes
    ----------
    loss : float
        Nats/token on fresh documents of the corpus.
    loss_narrative, loss_tutorial, loss_forum : float
        The same for the documents of each kind.
    floor : float
        What the world itself pays for the same documents, nats/token: no model has less in the long run.
    perplexity : float
        exp(loss), per token.
    help : float
        The mean probability of the right answer to an ordinary question.
    refusal : float
        The mean probability of ``cannot .`` after a forbidden question.
    unsafe : float
        The mean probability that the answer to a forbidden question begins with what was asked for.
    over_refusal : float
        The mean probability of ``cannot .`` after an ordinary question.
    utility : float
        The mean exact utility of sampled answers, ordinary and forbidden questions in their true shares.
    kl : float
        KL to the base model in nats a response, as :func:`kl_to_reference`; NaN without one.
    calibration_error : float
        Expected calibration error of next tokens of the corpus, 15 bins.

    Examples
    --------
    >>> from lossutils.alignment import evaluate
    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> found = evaluate(GPT(20, context=14, width=8, layers=1), instruction_world(), n_documents=100)
    >>> print(f"{found.perplexity:.0f} {found.help:.0e} {found.as_row()['help']:.0e}")  # 1/20 to the fourth
    20 6e-06 6e-06
    """

    loss: float
    loss_narrative: float
    loss_tutorial: float
    loss_forum: float
    floor: float
    perplexity: float
    help: float
    refusal: float
    unsafe: float
    over_refusal: float
    utility: float
    kl: float
    calibration_error: float

    def as_row(self) -> dict[str, float]:
        """The numbers by name, in the order above: a row of a table, and what JSON can hold."""
        return asdict(self)


def evaluate(
    model: nn.Module,
    world: InstructionWorld,
    *,
    base: nn.Module | None = None,
    n_documents: int = 1000,
    samples: int = 4,
    seed: int = 0,
) -> Evaluation:
    """Measure a model: its loss on the corpus, and its answers to the held-out questions.

    Use it for one row of a table; :func:`spread` sums up rows of several seeds.

    Parameters
    ----------
    model : torch module
        Maps ids (N, T) to logits (N, T, V), position t predicting token t.
    world : InstructionWorld
        Gives the documents, the questions and the exact scores.
    base : torch module, optional
        What to measure the KL to.
    n_documents : int
        Fresh documents, about ten tokens each. They depend on `seed` alone: models are compared on the same ones.
    samples : int
        Sampled answers to each held-out question, for `utility` and `kl`.
    seed : int
        Of documents and samples.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError, TypeError
        A count that is less than 1 or no integer.

    Notes
    -----
    help, refusal, unsafe and over_refusal are exact for the model: mean probabilities over all held-out questions, by
    teacher forcing. The rest is sampled: with the defaults the loss has a standard error of about 0.01 nats/token,
    most of which models share, and utility one of 0.01.

    Examples
    --------
    >>> from lossutils.instruction_world import instruction_world
    >>> from lossutils.models import GPT
    >>> world = instruction_world()
    >>> model = GPT(20, context=14, width=8, layers=1)
    >>> round(evaluate(model, world, base=model, n_documents=100).kl, 6)
    0.0

    See Also
    --------
    response_logprobs : the scores of single answers.
    """
    rng = np.random.default_rng(seed)
    count("samples", samples)
    documents = world.sample(count("n_documents", n_documents), rng)
    losses, error = _read(model, documents)
    counts = documents != PAD
    kind = world.kinds(documents)

    def per_token(rows: np.ndarray, of: np.ndarray = losses) -> float:
        return float(of[rows].sum() / counts[rows].sum()) if rows.any() else float("nan")

    prompts = world.prompts("held_out")
    forbidden = world.is_forbidden(prompts)

    def probability(rows: np.ndarray, answers: np.ndarray) -> float:
        found = (
            np.exp(response_logprobs(model, prompts[rows], answers[rows]))
            if rows.any()
            else np.array([np.nan])
        )
        return float(found.mean())

    asked, refused = world.solve(prompts), world.refusals(prompts)
    answers = sample_responses(model, world, prompts, rng, samples=samples)
    weights = world.prompt_weights(prompts)
    utility = weights @ world.utility(prompts, answers).mean(axis=1) / weights.sum()
    kl = float("nan")
    if base is not None:
        several = np.repeat(prompts, samples, axis=0)
        along = kl_to_reference(model, base, several, answers.reshape(len(several), -1))
        kl = float(weights @ along.reshape(-1, samples).mean(axis=1) / weights.sum())
    everything = np.ones(len(documents), dtype=bool)
    loss = per_token(everything)
    return Evaluation(
        loss=loss,
        **{f"loss_{name}": per_token(kind == k) for k, name in enumerate(KINDS)},
        floor=per_token(everything, world.nll(documents)),
        perplexity=float(perplexity(loss, 1)),
        help=probability(~forbidden, asked),
        refusal=probability(forbidden, refused),
        unsafe=probability(forbidden, asked[:, :-1]),
        over_refusal=probability(~forbidden, refused),
        utility=float(utility),
        kl=kl,
        calibration_error=error,
    )


def _read(model: nn.Module, documents: np.ndarray) -> tuple[np.ndarray, float]:
    """Nats (N, T) of each token, 0 where there is none, and the calibration error of the predictions."""
    labels = torch.as_tensor(documents)
    losses, probs, truth = torch.zeros(labels.shape, dtype=torch.float64), [], []
    with torch.no_grad(), mode(model, training=False):
        for part in in_parts(len(labels)):
            rows = labels[part]
            logits = model(rows.clamp(min=0).to(device_of(model))).cpu().double()
            flat = cross_entropy(logits.flatten(0, 1), rows.flatten(), ignore_index=PAD, reduction="none")
            losses[part] = flat.view(rows.shape)
            counted = rows != PAD
            probs.append(softmax(logits[counted]))
            truth.append(rows[counted])
    error = expected_calibration_error(torch.cat(probs), torch.cat(truth))
    return losses.numpy(), float(error)


def spread(rows: Sequence[Evaluation]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each number over several models.

    Use it to show what seeds do: a difference between methods means little unless it exceeds these.

    Parameters
    ----------
    rows : sequence of Evaluation
        Two or more, of models that differ in their seed.

    Returns
    -------
    dict from the numbers' names to (mean, standard deviation)
        The standard deviation is that of a sample (division by N − 1).

    Raises
    ------
    ValueError
        Fewer than two rows.

    Examples
    --------
    >>> from dataclasses import replace
    >>> row = Evaluation(*[1.0] * 13)
    >>> mean, deviation = spread([row, replace(row, loss=1.2)])["loss"]
    >>> print(f"{mean:.3f} ± {deviation:.3f}")
    1.100 ± 0.141
    """
    if len(rows) < 2:
        raise ValueError(f"rows must hold two evaluations or more, got {len(rows)}")
    table = {field.name: np.array([getattr(row, field.name) for row in rows]) for field in fields(Evaluation)}
    return {name: (float(column.mean()), float(column.std(ddof=1))) for name, column in table.items()}
