"""The book's training loop: warm-up and cosine, clipping, a history, checkpoints, and a stop that loses nothing.

:func:`train` fits a next-token model to one stream of tokens. :func:`train_batches` is the loop under it, for any batch
and any loss. Both can be stopped between two steps and resumed later as if nothing had happened.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from . import _checks, checkpoints
from ._history import History
from ._processes import World
from ._training_options import File, Progress, due, files, name_of, positive, stopper, teller
from ._training_run import (
    OPTIMIZERS,
    PRECISIONS,
    Run,
    TrainingDiverged,
    digest,
    interrupts,
    mode,
    own_random_state,
    trainable,
)

__all__ = [
    "train",
    "train_batches",
    "History",
    "TrainingDiverged",
    "warm_up_cosine",
    "Excerpts",
    "pick_device",
]

# Where their readers find them.
History.__module__ = TrainingDiverged.__module__ = __name__

LossFunction = Callable[[Tensor, Tensor], Tensor]
BatchLoss = Callable[[nn.Module, Any], Any]  # a scalar tensor, or a pair (sum, n_tokens)
Batches = Callable[[int, torch.Generator], Any]


def train(
    model: nn.Module,
    loss_function: LossFunction,
    ids: np.ndarray,
    *,
    steps: int,
    batch_size: int = 16,
    length: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
    progress: Progress = None,
    **options: Any,
) -> History:
    """Train a next-token model on random excerpts of one token stream.

    AdamW (betas 0.9, 0.95, no weight decay), 5 % linear warm-up, then a cosine to a tenth of the learning rate;
    gradients clipped to norm 1. All of it can be changed.

    Parameters
    ----------
    model : torch module
        Maps ids (B, T) to logits (B, T, V), position t predicting token t.
    loss_function : callable
        ``loss_function(logits, target)`` with logits (B·T, V) and target (B·T,), returning a scalar tensor, in nats.
    ids : int array of shape (N,)
        The training text.
    steps, batch_size, length : int
        Number of updates, excerpts a batch, tokens an excerpt.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Seed of the choice of excerpts, and of dropout. The same model, seed and machine give the same history.
    progress : callable or bool, optional
        Called as ``progress(share_done, message)`` before each step; what it raises stops the run. True shows a bar.
    **options
        Everything else that :func:`train_batches` takes, by name: device, precision, schedule, clipping, accumulation,
        evaluation, checkpoint, resume, stop, group.

    Returns
    -------
    History
        One entry a step: the loss of the batch before the update, and more.

    Raises
    ------
    ValueError
        If ``ids`` is not one-dimensional or shorter than ``length``, if a count is less than 1, if the learning
        rate is not positive, or as :func:`train_batches`.
    TypeError
        If ``ids`` holds no integers or a count is not an integer.
    TrainingDiverged
        A FloatingPointError: the loss or the gradient is not finite; the message names the step.

    Notes
    -----
    With ``accumulate=k`` an update sees k · ``batch_size`` excerpts. All have ``length`` tokens, so the mean of their
    means is the mean over tokens.

    Examples
    --------
    >>> import numpy as np
    >>> from lossutils import cross_entropy
    >>> from lossutils.models import WindowModel
    >>> text = np.array([0, 1, 2] * 50)
    >>> history = train(WindowModel(3, context=1), cross_entropy, text, steps=60, learning_rate=2e-2)
    >>> history.losses[0] > 1.0 > 0.3 > history.losses[-1]
    True

    See Also
    --------
    train_batches : other batches, other losses.
    lossutils.models.WindowModel : a model in the layout that it expects.
    """
    excerpts = Excerpts(ids, batch_size=batch_size, length=length)

    def batch_loss(model: nn.Module, batch: Tensor) -> Any:
        loss = loss_function(model(batch).flatten(0, 1), batch.flatten())
        return loss if options.get("group") is None else (loss * batch.numel(), batch.numel())

    batch_loss.__qualname__ = name_of(loss_function)
    return train_batches(
        model, batch_loss, excerpts, steps=steps, learning_rate=learning_rate, seed=seed, progress=progress, **options
    )  # fmt: skip


def train_batches(
    model: nn.Module,
    batch_loss: BatchLoss,
    batches: Batches,
    *,
    steps: int,
    learning_rate: float = 3e-3,
    seed: int = 0,
    optimizer: str = "adamw",
    betas: tuple[float, float] = (0.9, 0.95),
    weight_decay: float = 0.0,
    warm_up: int | None = None,
    final_share: float = 0.1,
    clip: float | None = 1.0,
    accumulate: int = 1,
    device: str | torch.device | None = None,
    precision: str = "float32",
    evaluate: Callable[[nn.Module], float] | None = None,
    evaluate_every: int | None = None,
    checkpoint: File | None = None,
    checkpoint_every: int | None = None,
    resume: bool | File = False,
    tokenizer: Any = None,
    metadata: dict[str, Any] | None = None,
    stop: Callable[[], bool] | threading.Event | None = None,
    progress: Progress = None,
    group: ProcessGroup | None = None,
) -> History:
    """Train a model on batches of any kind with a loss of any kind.

    Use it where :func:`train` does not fit: masked answers, pairs of answers, a data set that is no stream of tokens.

    An update adds up the gradients of its micro-batches and divides once, so that each token counts the same::

        gradient = sum_k grad nll_sum_k / sum_k n_tokens_k          k = 1 ... accumulate

    Parameters
    ----------
    model : torch module
        Parameters that require no gradient stay as they are.
    batch_loss : callable
        ``batch_loss(model, batch)``: a scalar tensor, which is a mean (micro-batches then count the same), or a pair
        ``(nll_sum, n_tokens)`` of a scalar tensor and an int.
    batches : callable
        ``batches(step, generator)``: a tensor, or tuples, lists or dicts of tensors, on the CPU. It must draw from the
        torch generator that it is given and from nothing else. :class:`Excerpts` is one.
    steps : int
        Number of updates.
    learning_rate : float
        The peak of the schedule.
    seed : int
        Seeds ``generator`` and, for dropout, the global generators, which are put back afterwards.
    optimizer : {"adamw", "sgd"}
        sgd is without momentum.
    betas : pair of float
        AdamW's memory of the gradient and of its square.
    weight_decay : float
        Of the parameters with two axes or more.
    warm_up, final_share : int, float, optional
        As in :func:`warm_up_cosine`. ``warm_up=0, final_share=1`` is a constant learning rate.
    clip : float or None
        The largest norm of the gradient over all weights. None leaves gradients as they are.
    accumulate : int
        Micro-batches an update; ``batches`` is called for each, with the same step.
    device : {"auto", "cpu", "cuda", "mps"} or torch.device, optional
        Where to train; the model is moved there and stays. None is where the model is; "auto" as :func:`pick_device`.
    precision : {"float32", "bfloat16"}
        bfloat16 runs model and loss under torch's autocast. Weights and optimizer keep their dtype.
    evaluate : callable, optional
        ``evaluate(model)`` returns a loss. It is called with the model in evaluation mode and without gradients. It
        may draw random numbers: torch's state is put back.
    evaluate_every : int, optional
        Updates between two evaluations, a tenth of the steps if None. The first comes before the first update, the
        last after the last one.
    checkpoint : path, optional
        A file for the whole state of the run: written when it ends, when it is stopped, and when an error ends it
        (the state is then that before the step). :func:`lossutils.checkpoints.load_model` reads it too.
    checkpoint_every : int, optional
        Updates between two writings, as well.
    resume : bool or path
        True goes on from ``checkpoint``, or begins if that does not exist yet. A path goes on from that file, which
        must exist, and keeps writing to it unless ``checkpoint`` is another one.
    tokenizer, metadata : optional
        Kept in the checkpoint, as in :func:`lossutils.checkpoints.save_model`.
    stop : callable or threading.Event, optional
        Asked before each step. Once it says yes (or is set), the run ends with ``history.stopped``.
    progress : callable or bool, optional
        Called as ``progress(share_done, message)`` before each step. True shows a bar.
    group : torch.distributed.ProcessGroup, optional
        The processes that share this run, as :func:`lossutils.parallel.process_group` gives it; each of them calls this
        function with the same arguments. None trains in this process alone.

    Returns
    -------
    History
        From step 0, also when the run was resumed.

    Raises
    ------
    ValueError
        An option out of its range; a checkpoint that exists although `resume` is False; a setting, model or text that
        differs from what the resumed run began with (the message names it with both values); no token in a batch.
    TypeError
        An option or a loss of the wrong kind.
    lossutils.checkpoints.CheckpointError
        A ValueError: the file to resume from is missing, damaged or of something else.
    TrainingDiverged
        A FloatingPointError: the loss or the gradient is not finite. The weights are those before the step, the error's
        `history` holds the steps before, and the last checkpoint is left as it is. If there was none yet, the state
        before the step is written, should its weights be finite.
    lossutils.parallel.ProcessGroupError
        A RuntimeError: another process of the group failed, was killed or did not answer.

    Notes
    -----
    A run that was stopped and resumed, in another process too, has the same weights, optimizer state and history as
    one that was not, to the last bit, on the CPU with the same number of threads. Devices with other orders of
    summation promise less. A run may be resumed on another device; its dropout then begins anew.

    With ``checkpoint`` or ``stop``, Ctrl-C in the main thread counts as a request to stop: the step is finished, and
    the history so far returned. A second Ctrl-C interrupts at once. Without them Ctrl-C is the usual
    KeyboardInterrupt, so that it also ends the loop around the training.

    The length of a run cannot change when it is resumed: each step's learning rate depends on it.

    **Several processes** do together what one would do. Each draws the same batch and keeps its own part of the rows,
    the first axis of each tensor; gradients of sums are added over the processes and divided once by all tokens. So
    history and weights are those of one process, up to rounding, and a run may go on with another number of processes.
    ``batch_loss`` must return ``(nll_sum, n_tokens)``; :func:`train` sees to that itself. All begin with the weights of
    the first process, which also shows the progress and writes the checkpoint; the others must be able to read that.
    ``evaluate`` is called in every process, and the first one's number counts. Dropout is seeded from seed, step and
    process anew. With ``checkpoint`` or ``stop``, SIGTERM is a request to stop as well. A request in one process stops
    all of them. If a process is lost, the others raise, and the state before that step is written.

    The gradient of a batch is checked before it is used, so NaN never reaches the weights through it. ``batches`` and
    ``batch_loss`` are not compared on resuming (functions have no identity that outlives a process) but for their
    names and the text of :class:`Excerpts`.

    Examples
    --------
    Learn that the mean of the numbers 1 and 3 has the lowest squared error:

    >>> import torch
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> data = torch.tensor([[1.0], [3.0]])
    >>> def squared_error(model, batch):
    ...     return ((model(torch.ones(2, 1)) - batch) ** 2).mean()
    >>> history = train_batches(
    ...     model, squared_error, lambda step, generator: data, steps=200, learning_rate=0.1
    ... )
    >>> print(f"{model.weight.item():.3f}, error {history.losses[-1]:.3f}")
    2.000, error 1.000

    References
    ----------
    Loshchilov & Hutter (2019), "Decoupled weight decay regularization", arXiv:1711.05101.

    See Also
    --------
    train : a text and a loss of logits and targets.
    lossutils.token_mean.TokenMean : the same mean, for evaluation.
    """
    steps = _checks.count("steps", steps)
    learning_rate = positive("learning_rate", learning_rate)
    warm_up_cosine(0, steps, warm_up=warm_up, final_share=final_share)  # checks them
    _checks.choice("optimizer", optimizer, OPTIMIZERS)
    _checks.choice("precision", precision, PRECISIONS)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas is {betas}; it must be two numbers from 0 to below 1")
    world = World(group)
    path, source = files(checkpoint, checkpoint_every, resume)
    must_stop = stopper(stop)
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(f"progress must be a function, True, False or None, got {progress!r}")
    settings = {
        "steps": steps,
        "learning_rate": learning_rate,
        "seed": operator.index(seed),
        "optimizer": optimizer,
        "betas": [float(beta) for beta in betas],
        "weight_decay": _checks.real("weight_decay", weight_decay, 0.0),
        "warm_up": None if warm_up is None else operator.index(warm_up),
        "final_share": float(final_share),
        "clip": None if clip is None else positive("clip", clip),
        "accumulate": _checks.count("accumulate", accumulate),
        "precision": precision,
        "loss": name_of(batch_loss),
        "trainable_weights": sum(parameter.numel() for _, parameter in trainable(model)),
    }
    evaluate_every = (
        max(1, steps // 10) if evaluate_every is None else _checks.count("evaluate_every", evaluate_every)
    )
    if not settings["trainable_weights"]:
        raise ValueError("model has no parameter that requires a gradient; there is nothing to train")
    if (path is not None or not world.alone) and isinstance(batches, Excerpts):
        settings |= batches.settings()
    extra = checkpoints.describe(model, tokenizer, metadata)
    place = next(model.parameters()).device if device is None else pick_device(device)
    model.to(place)

    def schedule(step: int) -> float:
        return warm_up_cosine(step, steps, warm_up=warm_up, final_share=final_share)

    run = Run(model, batch_loss, batches, schedule, settings, place, path, world)
    given = {"tokenizer": tokenizer, "metadata": metadata}
    run.extra = {key: extra[key] for key, value in given.items() if value is not None}
    history = run.history
    # A caller who gave a checkpoint or a stop expects runs that end early. For others Ctrl-C stays an error.
    graceful = path is not None or stop is not None
    with (
        own_random_state(place, settings["seed"]),
        mode(model, training=True),
        interrupts(graceful, terminate=not world.alone) as interrupted,
    ):
        start = 0 if source is None else run.restore(source)
        world.meet(settings | {"the number of steps already made": start})
        world.copy_weights(model)
        with teller(progress if world.rank == 0 else None, steps, start) as tell:
            for step in range(start, steps + 1):
                try:
                    world.step = step
                    if step < steps and world.any(interrupted.is_set() or must_stop()):
                        history.stopped = True
                        break
                    if evaluate is not None and due(step, steps, evaluate_every):
                        run.evaluate(evaluate, step)
                    tell(step, history)
                    if step == steps:
                        break
                    if checkpoint_every and step > start and step % checkpoint_every == 0:
                        run.save(path, step)
                    run.update(step)
                except TrainingDiverged:  # has seen to the checkpoint itself
                    raise
                except BaseException as error:
                    interrupt = isinstance(error, KeyboardInterrupt)
                    if not interrupt:  # who interrupts is in a hurry; the others will notice
                        world.fail(error)
                    if interrupt and graceful and run.whole and not interrupted.is_set() and world.alone:
                        history.stopped = step < steps
                        break
                    if path is not None and not interrupt and run.whole and step > start:
                        run.save(path, step)
                        error.add_note(f"The state before step {step} was kept: {path}")
                    if graceful:
                        world.await_launcher(interrupted)
                    raise
        if path is not None:
            run.save(path, step)
        world.any(False)  # nobody goes on before the file is there
    return history


def warm_up_cosine(step: int, steps: int, *, warm_up: int | None = None, final_share: float = 0.1) -> float:
    r"""Return the share of the peak learning rate at a step: a straight rise, then half a cosine.

    Use it to see or draw what :func:`train` does; it is the usual schedule of language models.

    .. math:: s(n) = \frac{n + 1}{w} \text{ for } n < w, \qquad
              s(n) = f + \frac{1 - f}{2} \left(1 + \cos \pi \frac{n - w}{N - w}\right) \text{ else}

    Parameters
    ----------
    step : int
        n, from 0 to N - 1.
    steps : int
        N, the length of the run.
    warm_up : int, optional
        w, the number of steps of the rise, from 0 to N. None is a twentieth of the run, at least 1.
    final_share : float
        f in [0, 1], which the cosine would reach at step N, one after the last. 1 keeps the peak.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    ValueError
        A step, a warm-up or a share outside its range.
    TypeError
        A count that is not an integer.

    Examples
    --------
    >>> [round(warm_up_cosine(n, 10, warm_up=2, final_share=0.2), 3) for n in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.6, 0.23]

    References
    ----------
    Loshchilov & Hutter (2017), "SGDR: stochastic gradient descent with warm restarts", arXiv:1608.03983.
    """
    steps = _checks.count("steps", steps)
    step = _checks.count("step", step, 0)
    warm_up = max(1, steps // 20) if warm_up is None else _checks.count("warm_up", warm_up, 0)
    if step >= steps:
        raise ValueError(f"step is {step}; it must be less than steps = {steps}")
    if warm_up > steps:
        raise ValueError(f"warm_up is {warm_up}; it must be at most steps = {steps}")
    final_share = _checks.real("final_share", final_share, 0.0, 1.0)
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return float(final_share + (1 - final_share) / 2 * (1 + np.cos(np.pi * done)))


class Excerpts:
    """Random excerpts of a token stream, as :func:`train_batches` asks for batches.

    Use it to train on a text with a loss of your own.

    Parameters
    ----------
    ids : int array of shape (N,)
        The text.
    batch_size, length : int
        Excerpts a batch, tokens an excerpt.

    Raises
    ------
    ValueError
        If ``ids`` is not one-dimensional or shorter than ``length``, or if a count is less than 1.
    TypeError
        If ``ids`` holds no integers or a count is not an integer.

    Notes
    -----
    Called with a step, which it does not look at, and a torch generator, it returns int64 (batch_size, length). Each
    of the N - length + 1 starts is equally likely, each time anew.

    Examples
    --------
    >>> import torch
    >>> Excerpts(range(100, 200), batch_size=2, length=4)(0, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 4])
    """

    def __init__(self, ids: Any, *, batch_size: int = 16, length: int = 32) -> None:
        ids = _checks.as_integer("ids", ids)
        if ids.ndim != 1 or len(ids) < length:
            raise ValueError(
                f"ids has shape {tuple(ids.shape)}; it must be one-dimensional with at least length = {length} tokens"
            )
        self.batch_size = _checks.count("batch_size", batch_size)
        self.length = _checks.count("length", length)
        self.ids = torch.as_tensor(ids, dtype=torch.long, device="cpu")

    def __call__(self, step: int, generator: torch.Generator) -> Tensor:
        starts = torch.randint(0, self.ids.numel() - self.length + 1, (self.batch_size,), generator=generator)
        return self.ids[starts[:, None] + torch.arange(self.length)]

    def settings(self) -> dict[str, Any]:
        """What must be the same when a run goes on: the sizes and a SHA-256 of the text."""
        return {"text": digest(self.ids), "batch_size": self.batch_size, "length": self.length}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device that this machine has; "auto" is the first of CUDA, MPS and the CPU.

    Use it where data and model must go to the same place.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda", "mps"} or torch.device
        Also with a number: "cuda:1".

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        A device that this machine lacks, or of another kind.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    has = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": 1 if torch.backends.mps.is_available() else 0,
        "cpu": 1,
    }
    if isinstance(device, str) and device == "auto":
        return torch.device(next(kind for kind, n in has.items() if n))
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {device!r}; it must be 'auto', 'cpu', 'cuda' or 'mps'") from error
    if found.type not in has:
        raise ValueError(f"device is {str(device)!r}; it must be 'auto', 'cpu', 'cuda' or 'mps'")
    if (found.index or 0) >= has[found.type]:
        raise ValueError(f"device is {str(device)!r}, which this machine does not have; try 'auto' or 'cpu'")
    return found
