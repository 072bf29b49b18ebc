"""The state of a training run: one update, and the whole of it to a file and back."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import checkpoints
from ._checkpoint_file import CheckpointError, read, write
from ._checks import count
from ._history import COLUMNS, History
from ._processes import World, map_tensors, own_rows

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("float32", "bfloat16")
SERIES = {"steps": int, **dict.fromkeys(COLUMNS.values(), float), "tokens": int} | {
    "validation_steps": int,
    "validation_losses": float,
}
SCHEDULE = ("steps", "learning_rate", "warm_up", "final_share")


class TrainingDiverged(FloatingPointError):
    """The loss or the gradient of a training run was not finite.

    The message names the step, what was not finite, the learning rate, and the last checkpoint.

    Attributes
    ----------
    history : History
        The steps before, whose losses were finite.
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


class _NotFinite(Exception):
    """What was not finite, before it is known what the run will say of it."""


class Run:
    """A model in training: what an update changes, and what a checkpoint must hold to go on from there."""

    def __init__(
        self,
        model: nn.Module,
        batch_loss: Callable[[nn.Module, Any], Any],
        batches: Callable[[int, torch.Generator], Any],
        schedule: Callable[[int], float],
        settings: dict[str, Any],
        device: torch.device,
        path: Path | None,
        world: World,
    ) -> None:
        self.world = world
        self.model, self.batch_loss, self.batches, self.schedule = model, batch_loss, batches, schedule
        self.settings, self.device, self.path = settings, device, path
        self.history = History()
        self.generator = torch.Generator().manual_seed(settings["seed"])
        self.optimizer = make_optimizer(model, settings)
        self.autocast = (
            torch.autocast(device.type, dtype=torch.bfloat16)
            if settings["precision"] == "bfloat16"
            else contextlib.nullcontext()
        )
        self.whole = True  # not in the middle of an update
        self.kept: tuple[int, str] | None = None  # step and path of the last checkpoint
        self.extra: dict[str, Any] = {}  # what the checkpoint says of the model besides

    def update(self, step: int) -> None:
        """Make update number ``step``, or raise and be as before it."""
        states = self.generator.get_state(), random_states(self.device)
        rate = self.settings["learning_rate"] * self.schedule(step)
        if not self.world.alone:  # other rows, other dropout; and no state of each process to keep
            key = np.random.SeedSequence([self.settings["seed"] % 2**64, step, self.world.rank])
            seed_global(self.device, int(key.generate_state(1, np.uint64)[0] >> 1))
        try:
            loss, norm, tokens = self._gradient(step)
        except BaseException as error:
            self.generator.set_state(states[0])
            set_random_states(self.device, states[1])
            if isinstance(error, _NotFinite):
                raise self._diverged(str(error), step, rate) from None
            raise
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.whole = False
        self.optimizer.step()
        history = self.history
        history.steps.append(step)
        history.losses.append(loss)
        history.learning_rates.append(rate)
        history.gradient_norms.append(norm)
        history.tokens.append((history.tokens[-1] if history.tokens else 0) + tokens)
        self.whole = True

    def _gradient(self, step: int) -> tuple[float, float, int]:
        """Leave the clipped gradient in the weights; return the loss, the gradient's norm and how many tokens."""
        self.optimizer.zero_grad(set_to_none=True)
        total, count, tokens = 0.0, 0, 0
        kinds = set()
        for _ in range(self.settings["accumulate"]):
            batch = self.batches(step, self.generator)
            if not self.world.alone:
                batch, some = own_rows(batch, self.world.rank, self.world.size)
                if not some:
                    continue
            batch = to_device(batch, self.device)
            with self.autocast:
                result = self.batch_loss(self.model, batch)
            loss, n = sum_and_count(result)
            kinds.add(isinstance(result, tuple))
            if not (self.world.alone or isinstance(result, tuple)):
                raise TypeError(
                    "batch_loss must return (sum, n_tokens) in several processes, where a mean of means would weigh "
                    f"tokens differently; got {result!r}"
                )
            value = loss.item()
            if not math.isfinite(value):  # the other processes must hear of it
                total = value
                break
            if n > 0:
                if not loss.requires_grad:
                    raise ValueError(
                        "the loss must depend on the model's parameters, and no gradient flows to them"
                    )
                loss.backward()
            total, count, tokens = total + value, count + n, tokens + n_tokens(result, n, batch)
        total, count, tokens = self.world.add(total, count, tokens)
        count, tokens = int(count), int(tokens)
        if not math.isfinite(total):
            raise _NotFinite(f"the loss is {total}")
        if len(kinds) > 1:
            raise TypeError(
                "batch_loss must return a mean for each batch, or (sum, n_tokens) for each, got both"
            )
        if count == 0:
            raise ValueError(f"batches gave no token to train on at step {step}: n_tokens is 0")
        self.world.add_gradients(self.model.parameters())
        # The gradients of the sums were added up. Dividing once, by what was counted, gives each token the same
        # weight, whichever micro-batch and process it came in.
        if count != 1:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.div_(count)
        clip = math.inf if self.settings["clip"] is None else self.settings["clip"]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip).item()
        if not math.isfinite(norm):
            raise _NotFinite(f"the gradient norm is {norm} (the loss is {total / count:g})")
        return total / count, norm, tokens

    def _diverged(self, what: str, step: int, rate: float) -> TrainingDiverged:
        # An earlier checkpoint is worth more than this one; without it this is all there is.
        if self.path is not None and self.kept is None and step > 0 and self._is_finite():
            self.save(self.path, step)
        norms = self.history.gradient_norms
        before = (
            f"the gradient norm of the step before was {norms[-1]:.3g}" if norms else "it is the first step"
        )
        kept = (
            "No checkpoint was kept."
            if self.kept is None
            else f"The checkpoint of step {self.kept[0]} stands: {self.kept[1]}."
        )
        return TrainingDiverged(
            f"{what} at step {step}; the learning rate was {rate:.3g} and {before}. Try a smaller learning_rate, "
            f"a longer warm_up or a smaller clip, and look for bad values in the batch. {kept}",
            self.history,
        )

    def _is_finite(self) -> bool:
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters())

    def evaluate(self, function: Callable[[nn.Module], float], step: int) -> None:
        """Record what ``function`` says of the model; the run goes on as if it had not been asked."""
        if self.history.validation_steps[-1:] == [step]:
            return
        states = random_states(self.device)
        try:
            with mode(self.model, training=False), torch.no_grad():
                value = float(function(self.model))
        finally:
            set_random_states(self.device, states)
        value = self.world.first(value)
        self.history.validation_steps.append(step)
        self.history.validation_losses.append(value)

    def save(self, path: str | os.PathLike, step: int) -> None:
        """Write all that the rest of the run depends on, once for all processes."""
        if not self.world.writes:
            self.kept = step, os.fspath(path)
            return
        document = checkpoints.describe(self.model, None, None) | self.extra
        document["training"] = {"step": step, "settings": self.settings}
        tensors = checkpoints.weights(self.model)
        for (name, _), state in zip(trainable(self.model), self._states(), strict=True):
            for key, value in state.items():
                if value is not None:
                    tensors[f"optimizer.{name}.{key}"] = torch.as_tensor(value)
        tensors["generator"] = self.generator.get_state()
        for kind, state in random_states(self.device).items():
            tensors[f"random.{kind}"] = state
        for name, kind in SERIES.items():
            tensors[f"history.{name}"] = torch.from_numpy(np.array(getattr(self.history, name), dtype=kind))
        write(path, document, tensors)
        self.kept = step, os.fspath(path)

    def restore(self, path: str | os.PathLike) -> int:
        """Go back to where a checkpoint was written, and return the number of updates made."""
        document, tensors = read(path)
        if not document.get("training"):
            raise CheckpointError(
                f"{path} holds a model and no training run: load it with load_model and start a new run"
            )
        try:
            self._same_run(path, document)
            checkpoints.put_weights(path, self.model, checkpoints.model_tensors(tensors))
            places = {name: place for place, (name, _) in enumerate(trainable(self.model))}
            states: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith("optimizer."):
                    weight, key = name.removeprefix("optimizer.").rsplit(".", 1)
                    states.setdefault(places[weight], {})[key] = tensor
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": states, "param_groups": groups})
            self.generator.set_state(tensors["generator"])
            random = {
                key.removeprefix("random."): t for key, t in tensors.items() if key.startswith("random.")
            }
            set_random_states(self.device, random)
            for name in SERIES:
                setattr(self.history, name, tensors[f"history.{name}"].tolist())
            for key in ("tokenizer", "metadata", "model"):  # the model's own seed says where the run began
                self.extra.setdefault(key, document[key])
            step = document["training"]["step"]
        except KeyError as error:
            raise CheckpointError(
                f"{path} lacks {error}, which a training run needs: begin the run again"
            ) from error
        self.kept = step, os.fspath(path)
        return step

    def _same_run(self, path: str | os.PathLike, document: dict[str, Any]) -> None:
        """Require the model and the settings that the run in the file began with."""
        here, there = checkpoints.describe(self.model, None, None)["model"], document["model"]
        if here["class"] != there["class"]:
            raise ValueError(f"model is a {here['class']}, and the run in {path} trains a {there['class']}")
        pairs = [
            ("model." + key, (here["config"] or {}).get(key), (there["config"] or {}).get(key))
            for key in sorted({*(here["config"] or {}), *(there["config"] or {})} - {"seed"})
        ]
        old = document["training"]["settings"]
        pairs += [(key, self.settings.get(key), old.get(key)) for key in sorted({*old, *self.settings})]
        for name, new, was in pairs:
            if new != was:
                why = (
                    "it may not change because the learning rate of every step depends on it"
                    if name in SCHEDULE
                    else "a run goes on with what it began with"
                )
                raise ValueError(
                    f"{name} is {new!r}, and the run in {path} began with {was!r}; {why}. "
                    "Give the old value, or start a new run (from load_model, if you like)"
                )

    def _states(self) -> list[dict[str, Any]]:
        return [self.optimizer.state.get(parameter, {}) for _, parameter in trainable(self.model)]


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The parameters that the optimizer holds, in its order: those that decay (matrices), then the others."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [pair for pair in named if pair[1].ndim >= 2] + [pair for pair in named if pair[1].ndim < 2]


def make_optimizer(model: nn.Module, settings: dict[str, Any]) -> torch.optim.Optimizer:
    named = trainable(model)
    groups = [
        {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": settings["weight_decay"]},
        {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings["optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=settings["learning_rate"])
    return torch.optim.AdamW(groups, lr=settings["learning_rate"], betas=tuple(settings["betas"]))


def sum_and_count(result: Any) -> tuple[Tensor, int]:
    """The loss to differentiate and what to divide by: a mean counts as one."""
    loss, n = result if isinstance(result, tuple) and len(result) == 2 else (result, 1)
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
        raise TypeError(f"the loss must be a scalar tensor, or a pair (sum, n_tokens), got {got}")
    n = count("n_tokens", n, 0)
    if n == 0 and loss.item() != 0:
        raise ValueError(f"the loss must be 0 where n_tokens is 0, got {loss.item()}")
    return loss, n


def n_tokens(result: Any, n: int, batch: Any) -> int:
    """How many tokens a batch trained on: as it was counted, else the ids in it, else unknown and so 0."""
    if isinstance(result, tuple):
        return n
    return batch.numel() if isinstance(batch, Tensor) and not batch.is_floating_point() else 0


def to_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on the device: a tensor, or tuples, lists and dicts of them."""
    return map_tensors(lambda tensor: tensor.to(device), batch)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the global generators, which dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(device: torch.device, states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def seed_global(device: torch.device, seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextlib.contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation mode for a while; afterwards each part has its own again."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, was in before.items():
            module.training = was


@contextlib.contextmanager
def own_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Dropout draws from the run's seed, and the global generators are left as they were found."""
    states = random_states(device)
    try:
        seed_global(device, seed ^ 0x5DEECE66D)  # not the numbers again that choose the batches
        yield
    finally:
        set_random_states(device, states)


@contextlib.contextmanager
def interrupts(catch: bool, *, terminate: bool = False) -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event that is looked at between steps; a second one interrupts as ever.

    With ``terminate``, SIGTERM does the same, each time: it is how a launcher asks its processes to end.
    """
    requested = threading.Event()
    if not catch or threading.current_thread() is not threading.main_thread():
        yield requested
        return
    usual = signal.getsignal(signal.SIGINT)
    before: dict[signal.Signals, Any] = {}

    def interrupted(number: int, frame: Any) -> None:
        if requested.is_set():
            usual(number, frame)
        requested.set()

    # A process that was started in the background may be told to ignore Ctrl-C; then it goes on ignoring it.
    if callable(usual):
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupted)
    if terminate and signal.getsignal(signal.SIGTERM) is not None:  # None: set by other code than Python's
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, lambda *_: requested.set())
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def digest(ids: Tensor) -> str:
    """What identifies a text in a checkpoint."""
    return hashlib.sha256(ids.contiguous().numpy().data).hexdigest()
