"""The clinic: training runs that are ill in a known way, each a configuration of the book's one training loop.

:func:`patients` lists them, :func:`run` trains one. What is wrong with a patient is known, because it was done on
purpose: so :func:`lossutils.curves.diagnose` can be examined on them, and so can a reader.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from . import _checks, _clinic_subjects, curves
from .training import History, Progress, TrainingDiverged, train_batches

__all__ = ["Patient", "patients", "run"]

SUBJECTS = ("world", "topics", "source", "pieces", "parity")
MODELS = ("gpt", "window")


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One way to train a small model, healthy unless something is changed.

    Use it through :func:`patients` and :func:`run`; ``dataclasses.replace(patient, steps=600)`` makes another one.

    Attributes
    ----------
    name : str
        Its key in :func:`patients`.
    kind : str
        What :func:`lossutils.curves.diagnose` ought to call it; "healthy" too where a curve cannot show what is wrong.
    story : str
        What was done to it, in a sentence.
    subject : {"world", "topics", "source", "pieces", "parity"}
        The known world in words; the topics of Python's help in bytes; source text of Python's standard library in
        bytes ("source") or in 512 pieces of it (byte-pair encoding); or the parity of some of many signs.
    model : {"gpt", "window"}
        For the texts. A parity is learned by a network with one hidden layer.
    width, layers, heads : int
        Of the model.
    length, batch_size, steps, learning_rate, clip, warm_up, final_share, optimizer, accumulate
        As in :func:`lossutils.training.train_batches`.
    sequences : int, optional
        How many windows of ``length`` tokens there are to train on; None for thousands.
    garbage : int
        How many batches of random tokens come, from half of the run on.
    unshifted : bool
        Each position is asked for the token that it has just read.
    leaky_validation : bool
        Whether the validation loss has the same mistake.
    head_scale : float
        What the weights of the last layer are multiplied by before the first step.
    ragged : bool
        Micro-batches have lengths from 2 to ``length``.
    mean_of_means : bool
        Whether ragged micro-batches count the same, whatever their number of tokens.
    parity : (int, int)
        n signs, of which k are multiplied.
    """

    name: str = "healthy"
    kind: str = "healthy"
    story: str = "A small transformer on a text that it can learn."
    subject: str = "world"
    model: str = "gpt"
    width: int = 32
    layers: int = 1
    heads: int = 4
    length: int = 32
    batch_size: int = 16
    steps: int = 300
    learning_rate: float = 3e-3
    clip: float | None = 1.0
    warm_up: int | None = None
    final_share: float = 0.1
    optimizer: str = "adamw"
    accumulate: int = 1
    sequences: int | None = None
    garbage: int = 0
    unshifted: bool = False
    leaky_validation: bool = False
    head_scale: float = 1.0
    ragged: bool = False
    mean_of_means: bool = False
    parity: tuple[int, int] = (30, 3)

    def __post_init__(self) -> None:
        _checks.choice("subject", self.subject, SUBJECTS)
        _checks.choice("model", self.model, MODELS)
        _checks.choice("kind", self.kind, curves.KINDS)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, or of classes."""
        return _clinic_subjects.vocab_size(self)

    @property
    def floor(self) -> float | None:
        """The lowest expected loss of any model, in nats; None for real text, where nobody knows it."""
        return _clinic_subjects.floor(self)

    @property
    def pass_steps(self) -> float:
        """Steps of one pass over the training text; infinite where no example comes twice."""
        return _clinic_subjects.pass_steps(self)

    def as_run(self, history: History) -> curves.Run:
        """The curve of a history of this patient, with all that is known about it."""
        return curves.Run.from_history(
            history,
            vocab_size=self.vocab_size,
            floor=self.floor,
            pass_steps=self.pass_steps,
            name=self.name,
        )


PATIENTS = (
    Patient(),
    Patient(
        name="divergence",
        kind="divergence",
        story="A learning rate of 1 without clipping, and it stays there.",
        learning_rate=1.0,
        clip=None,
        final_share=1.0,
    ),
    Patient(
        name="late recovery",
        kind="divergence",
        story="The same, but the cosine brings the learning rate down: the curve comes back, the run is lost.",
        learning_rate=1.0,
        clip=None,
        final_share=0.0,
    ),
    Patient(
        name="spike", kind="spike", story="Ten batches of random tokens in the middle of the run.", garbage=10
    ),
    Patient(
        name="plateau",
        kind="plateau",
        story="The product of 3 signs out of 30: there is nothing to gain before all three are found.",
        subject="parity",
        width=256,
        batch_size=64,
        steps=500,
        learning_rate=8e-3,
    ),
    Patient(
        name="stuck",
        kind="plateau",
        story="A learning rate a thousand times too small: the loss stays at ln V.",
        learning_rate=3e-6,
    ),
    Patient(
        name="overfitting",
        kind="overfitting",
        story="A text of 24 windows, read two hundred times.",
        sequences=24,
    ),
    Patient(
        name="underfitting",
        kind="underfitting",
        story="A transformer of width 4.",
        width=4,
    ),
    Patient(
        name="unshifted",
        kind="leak",
        story="The targets are not shifted: each position is asked for the token that it has just read.",
        unshifted=True,
    ),
    Patient(
        name="leaky validation",
        kind="leak",
        story="The targets are not shifted, and the validation loss is computed by the same code.",
        unshifted=True,
        leaky_validation=True,
    ),
    Patient(
        name="bad start",
        kind="bad_start",
        story="The last layer's first weights are 50 times too large.",
        head_scale=50.0,
    ),
    Patient(
        name="too noisy",
        kind="noise",
        story="One example a step and few steps: what is learned is smaller than the noise.",
        subject="parity",
        width=64,
        batch_size=1,
        steps=100,
        learning_rate=0.1,
        clip=None,
        optimizer="sgd",
    ),
    Patient(
        name="mean of means",
        kind="healthy",
        story="Gradients are accumulated over sequences of 2 to 32 tokens, and each sequence counts the same.",
        batch_size=2,
        accumulate=8,
        ragged=True,
        mean_of_means=True,
    ),
)


def patients() -> dict[str, Patient]:
    """Return the patients by name, the healthy one first.

    Use it to see what can go wrong and how each mistake is made.

    Returns
    -------
    dict of str to Patient

    Examples
    --------
    >>> from lossutils import clinic
    >>> list(clinic.patients())[:4]
    ['healthy', 'divergence', 'late recovery', 'spike']
    >>> clinic.patients()["spike"].garbage
    10
    """
    return {patient.name: patient for patient in PATIENTS}


def run(patient: str | Patient, *, seed: int = 0, progress: Progress = None, **changes: Any) -> History:
    """Train a patient and return what was recorded; a few seconds on one thread.

    Use it to get a curve whose illness is known.

    Parameters
    ----------
    patient : str or Patient
        A name of :func:`patients`, or one of your own.
    seed : int
        Decides the text, the first weights and the batches. The same seed, machine and number of threads give the
        same history.
    progress : callable or bool, optional
        As in :func:`lossutils.training.train`.
    **changes
        Attributes of the patient to change: ``steps=600``.

    Returns
    -------
    History
        With a validation loss at the start, every tenth of the run, and the end. If the loss stops being a number, the
        last entry is that step, with a loss of NaN, and ``stopped`` is true.

    Raises
    ------
    ValueError
        An unknown name; a setting out of its range.
    TypeError
        A change that names no attribute.

    Examples
    --------
    >>> from lossutils import clinic
    >>> history = clinic.run("healthy", seed=3, steps=20)
    >>> len(history.losses), round(history.losses[0], 1)
    (20, 3.8)

    See Also
    --------
    lossutils.curves.diagnose : says what is wrong.
    """
    if not isinstance(patient, Patient):
        _checks.choice("patient", patient, tuple(patients()))
        patient = patients()[patient]
    unknown = changes.keys() - {field.name for field in dataclasses.fields(Patient)}
    if unknown:
        raise TypeError(
            f"{sorted(unknown)[0]!r} is no attribute of a patient; see help(lossutils.clinic.Patient)"
        )
    patient = dataclasses.replace(patient, **changes)
    subject = _clinic_subjects.make(patient, seed)
    try:
        return train_batches(
            subject.model,
            subject.batch_loss,
            subject.batches,
            steps=patient.steps,
            learning_rate=patient.learning_rate,
            seed=seed,
            optimizer=patient.optimizer,
            warm_up=patient.warm_up,
            final_share=patient.final_share,
            clip=patient.clip,
            accumulate=patient.accumulate,
            evaluate=subject.evaluate,
            progress=progress,
        )
    except TrainingDiverged as error:
        return _with_the_last_step(error.history)


def _with_the_last_step(history: History) -> History:
    """The loop keeps what was finite; a curve should show that it ended in NaN."""
    history.steps.append(len(history.steps))
    history.losses.append(math.nan)
    history.learning_rates.append(math.nan)
    history.gradient_norms.append(math.nan)
    history.tokens.append(history.tokens[-1] if history.tokens else 0)
    history.stopped = True
    return history
