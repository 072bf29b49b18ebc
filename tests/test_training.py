"""The training loop reaches what can be reached, reproducibly, and stops for good reasons."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from backends import DEVICES

from lossutils import _checkpoint_file as file
from lossutils import cross_entropy
from lossutils._training_run import interrupts
from lossutils.checkpoints import CheckpointError, load_model, load_weights, save_model
from lossutils.models import WindowModel
from lossutils.text import ByteTokenizer
from lossutils.training import (
    Excerpts,
    History,
    TrainingDiverged,
    pick_device,
    train,
    train_batches,
    warm_up_cosine,
)

TEXT = np.array([0, 1, 2, 1] * 50)
NOISE = np.random.default_rng(0).integers(0, 3, 400)


def window(seed=0, context=2):
    return WindowModel(3, context, width=8, embedding=4, seed=seed)


def fit(model=None, ids=NOISE, **options):
    """A short run on a text that cannot be learned, so that each batch's loss is its own."""
    model = window() if model is None else model
    settings = {"steps": 12, "batch_size": 4, "length": 8} | options
    return train(model, cross_entropy, ids, **settings), model


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def stop_at(step):
    """A stop request that comes true before update number ``step``."""
    asked = iter(range(step + 1))
    return lambda: next(asked) == step


# It learns.


def test_a_deterministic_text_is_learned_to_nearly_nothing():
    model = WindowModel(3, 2, width=16, seed=0)
    history = train(model, cross_entropy, TEXT, steps=150, length=16, learning_rate=2e-2)
    with torch.no_grad():
        logits = model(torch.as_tensor(TEXT))[2:]
    assert history.losses[0] == pytest.approx(np.log(3), abs=0.05)
    assert cross_entropy(logits, torch.as_tensor(TEXT)[2:]).item() < 0.02


def test_a_window_of_one_ends_at_the_conditional_entropy_and_not_below():
    # After 1 comes 0 or 2, each half of the time; after 0 or 2 comes 1. H(next | last) = ½ ln 2.
    rng = np.random.default_rng(0)
    text = np.stack([rng.integers(0, 2, 4000) * 2, np.ones(4000, dtype=int)], axis=1).ravel()
    model = WindowModel(3, 1, width=16, seed=0)
    train(model, cross_entropy, text, steps=200, learning_rate=1e-2)
    with torch.no_grad():
        loss = cross_entropy(model(torch.as_tensor(text)), torch.as_tensor(text)).item()
    assert loss == pytest.approx(np.log(2) / 2, abs=0.01)


def by_hand(model, ids, *, steps, batch_size, length, learning_rate, seed):
    """The loop as it would be written out once, for one set of options."""
    ids = torch.as_tensor(ids)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    rise, losses = max(1, steps // 20), []
    for step in range(steps):
        share = 0.1 + 0.45 * (1 + np.cos(np.pi * (step - rise) / (steps - rise)))
        optimizer.param_groups[0]["lr"] = learning_rate * ((step + 1) / rise if step < rise else share)
        starts = torch.randint(0, len(ids) - length + 1, (batch_size,), generator=generator)
        batch = torch.stack([ids[start : start + length] for start in starts])
        loss = cross_entropy(model(batch).reshape(-1, 3), batch.reshape(-1))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return losses


def test_the_defaults_are_adamw_with_warm_up_a_cosine_and_clipping_bit_for_bit():
    options = {"steps": 45, "batch_size": 3, "length": 9, "learning_rate": 0.05, "seed": 4}
    one, other = window(), window()
    assert fit(one, **options)[0].losses == by_hand(other, NOISE, **options)
    assert same_weights(one, other)


def test_the_same_seed_gives_the_same_history_and_another_seed_does_not():
    runs = [train(WindowModel(3, 1, seed=5), cross_entropy, TEXT, steps=8, seed=s).losses for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


class Dropping(torch.nn.Module):
    """A model that draws from the global generator."""

    def __init__(self, device="cpu"):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(3, device=device))
        self.seen = []

    def forward(self, ids):
        self.seen.append(self.training)
        kept = torch.nn.functional.dropout(torch.ones((*ids.shape, 3), device=ids.device), 0.5, self.training)
        return self.bias + torch.arange(3.0, device=ids.device) * kept


@pytest.mark.parametrize("device", DEVICES)
def test_the_seed_holds_for_dropout_too(device):
    first, again, other = (fit(Dropping(device), seed=seed)[0].losses for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_training_leaves_the_global_random_state_alone():
    for model in (WindowModel(3, 1), Dropping()):
        state = torch.random.get_rng_state()
        fit(model, evaluate=lambda model: torch.rand(()), evaluate_every=3)
        assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_trains_in_training_mode_and_gets_its_mode_back(training):
    model = Dropping().train(training)
    fit(model)
    assert all(model.seen)
    assert model.training == training


def test_a_part_that_was_in_evaluation_mode_gets_it_back():
    model = torch.nn.Sequential(Dropping(), torch.nn.Dropout().eval()).train()
    model[1].eval()
    fit(model, evaluate=lambda model: 0.0)
    assert (model.training, model[0].training, model[1].training) == (True, True, False)


def test_dropout_does_not_draw_the_numbers_that_chose_the_excerpts():
    drawn = []

    def batches(step, generator):
        drawn.append(torch.rand(4, generator=generator))
        return torch.zeros(1, 1)

    def loss(model, batch):
        drawn.append(torch.rand(4))
        return model.weight.sum()

    train_batches(torch.nn.Linear(1, 1), loss, batches, steps=1, seed=5)
    assert not torch.equal(drawn[0], drawn[1])


# The schedule.


def test_the_schedule_rises_in_a_line_and_falls_in_half_a_cosine():
    shares = [warm_up_cosine(n, 100, warm_up=10, final_share=0.2) for n in range(100)]
    assert shares[:11] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0])
    assert shares[55] == pytest.approx(0.6)  # half-way: the mean of 1 and 0.2
    assert shares[40] == pytest.approx(0.6 + 0.4 * np.cos(np.pi / 3))
    assert shares[99] == pytest.approx(0.6 - 0.4 * np.cos(np.pi / 90))
    assert shares[99] > 0.2
    assert np.all(np.diff(shares[10:]) < 0)


def test_a_twentieth_of_the_steps_but_at_least_one_is_the_usual_warm_up():
    assert [warm_up_cosine(n, 100) for n in (0, 4)] == [1 / 5, 1.0]
    assert warm_up_cosine(0, 1) == warm_up_cosine(0, 19) == 1.0


@pytest.mark.parametrize("warm_up", [0, 3, 7])
def test_a_final_share_of_one_keeps_the_peak(warm_up):
    shares = [warm_up_cosine(n, 7, warm_up=warm_up, final_share=1) for n in range(7)]
    assert shares[max(0, warm_up - 1) :] == [1.0] * (7 - max(0, warm_up - 1))


def test_the_history_holds_the_learning_rates_of_the_schedule():
    history, _ = fit(learning_rate=0.4, warm_up=3, final_share=0.5)
    expected = [0.4 * warm_up_cosine(n, 12, warm_up=3, final_share=0.5) for n in range(12)]
    assert history.learning_rates == expected


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((-1, 5), {}, ValueError, "step must be at least 0, got -1"),
        ((5, 5), {}, ValueError, "step is 5; it must be less than steps = 5"),
        ((0, 0), {}, ValueError, "steps must be at least 1, got 0"),
        ((0, 5), {"warm_up": 6}, ValueError, "warm_up is 6; it must be at most steps = 5"),
        ((0, 5), {"warm_up": -1}, ValueError, "warm_up must be at least 0, got -1"),
        ((0, 5), {"warm_up": 0.5}, TypeError, "warm_up must be an integer, got 0.5"),
        ((0, 5), {"final_share": 1.5}, ValueError, r"final_share must be in \[0, 1\], got 1.5"),
        ((0, 5), {"final_share": float("nan")}, ValueError, r"final_share must be in \[0, 1\], got nan"),
        ((0.0, 5), {}, TypeError, "step must be an integer, got 0.0"),
        ((0, True), {}, TypeError, "steps must be an integer, got True"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_an_error(arguments, options, error, message):
    with pytest.raises(error, match=message):
        warm_up_cosine(*arguments, **options)


# The update: optimizers, clipping, accumulation.


def line(weight=1.0):
    """A model of one number."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, weight)
    return model


def slope(factor):
    """A loss whose gradient is ``factor``, whatever the batch."""
    return lambda model, batch: model.weight.sum() * factor


def nothing(step, generator):
    return torch.zeros(1, 1)


CONSTANT = {"warm_up": 0, "final_share": 1.0}


def test_sgd_goes_down_the_gradient_and_clipping_shortens_it():
    for clip, expected in [(None, 1 - 3 * 0.1 * 40.0), (4.0, 1 - 3 * 0.1 * 4.0), (50.0, 1 - 3 * 0.1 * 40.0)]:
        model = line()
        options = {"steps": 3, "learning_rate": 0.1, "optimizer": "sgd", "clip": clip} | CONSTANT
        history = train_batches(model, slope(40.0), nothing, **options)
        assert model.weight.item() == pytest.approx(expected, rel=1e-5)
        assert history.gradient_norms == pytest.approx([40.0] * 3)  # as it was before it was clipped


def test_the_gradient_norm_is_that_of_all_weights_together():
    model = torch.nn.Linear(2, 1)
    loss = lambda model, batch: model.weight[0, 0] * 2 + model.weight[0, 1] * 3 + model.bias[0] * 6  # noqa: E731
    history = train_batches(model, loss, nothing, steps=1)
    assert history.gradient_norms == pytest.approx([7.0])


def test_weight_decay_shrinks_matrices_and_spares_biases():
    model = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(model.weight)
    torch.nn.init.ones_(model.bias)
    loss = lambda model, batch: (model.weight.sum() + model.bias.sum()) * 0.0  # noqa: E731
    train_batches(model, loss, nothing, steps=2, learning_rate=0.1, weight_decay=0.5, **CONSTANT)
    assert model.weight.item() == pytest.approx(0.95**2)
    assert model.bias.item() == 1.0


def test_the_betas_are_those_of_adamw():
    # One gradient, then none: the second update is what the memory of the first one makes of it.
    def loss(model, batch):
        return model.weight.sum() * (1.0 if batch else 0.0)

    def moved(betas):
        model = line(0.0)
        batches = lambda step, generator: torch.tensor(step == 0)  # noqa: E731
        train_batches(model, loss, batches, steps=2, learning_rate=0.1, betas=betas, **CONSTANT)
        return model.weight.item()

    def expected(a, b):
        second = (a * (1 - a) / (1 - a**2)) / np.sqrt(b * (1 - b) / (1 - b**2))
        return -0.1 - 0.1 * second

    for betas in [(0.9, 0.95), (0.5, 0.99)]:
        assert moved(betas) == pytest.approx(expected(*betas), rel=1e-5)


def masked_loss(model, batch):
    """Sum and count over the tokens that are not masked."""
    logits, target = model(batch.clamp(min=0)), batch.flatten()
    return cross_entropy(logits.flatten(0, 1), target, ignore_index=-1, reduction="sum"), (target >= 0).sum()


def masked_batches(step, generator):
    batch = torch.randint(0, 3, (1, 12), generator=generator)
    kept = torch.randint(1, 13, (), generator=generator)
    return torch.where(torch.arange(12) < kept, batch, -1)


def test_accumulated_micro_batches_weigh_each_token_the_same():
    generator = torch.Generator().manual_seed(0)
    parts = [masked_batches(0, generator) for _ in range(4)]
    counts = [int((part >= 0).sum()) for part in parts]
    assert len(set(counts)) > 1  # else the mean of means would do
    options = {"learning_rate": 0.1, "optimizer": "sgd", "clip": None, "steps": 1} | CONSTANT
    one, other, wrong = window().double(), window().double(), window().double()
    remaining = iter(parts)
    accumulated = train_batches(one, masked_loss, lambda *_: next(remaining), accumulate=4, **options)
    whole = train_batches(other, masked_loss, lambda *_: torch.cat(parts), **options)
    assert accumulated.losses == pytest.approx(whole.losses, rel=1e-12)
    assert accumulated.gradient_norms == pytest.approx(whole.gradient_norms, rel=1e-12)
    assert accumulated.tokens == whole.tokens == [sum(counts)]
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-14)

    def mean_of_means(model, batch):
        total, n = masked_loss(model, batch)
        return total / n

    remaining = iter(parts)
    bent = train_batches(wrong, mean_of_means, lambda *_: next(remaining), accumulate=4, **options)
    assert bent.gradient_norms != pytest.approx(whole.gradient_norms, rel=1e-2)


def test_train_accumulates_excerpts_as_if_they_were_one_batch():
    halves, _ = fit(window().double(), batch_size=3, accumulate=2)
    whole, _ = fit(window().double(), batch_size=6)
    # The same stream of starts, cut into three and three.
    assert halves.losses == pytest.approx(whole.losses, rel=1e-9)
    assert halves.tokens == whole.tokens == [48 * n for n in range(1, 13)]


def test_a_batch_that_is_masked_altogether_counts_nothing_beside_others():
    parts = iter([torch.full((1, 4), -1), torch.tensor([[0, 1, 2, -1]])])
    history = train_batches(window(), masked_loss, lambda *_: next(parts), steps=1, accumulate=2)
    alone = train_batches(window(), masked_loss, lambda *_: torch.tensor([[0, 1, 2, -1]]), steps=1)
    assert history.losses == alone.losses
    assert history.gradient_norms == alone.gradient_norms
    assert history.tokens == [3]


def test_no_token_at_all_is_an_error_that_names_the_step():
    parts = iter([torch.tensor([[0]]), torch.tensor([[-1]])])
    with pytest.raises(ValueError, match="no token to train on at step 1"):
        train_batches(window(), masked_loss, lambda *_: next(parts), steps=3)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda w: 1.0, TypeError, r"the loss must be a scalar tensor, or a pair \(sum, n_tokens\), got 1.0"),
        (lambda w: w.expand(2, 1), TypeError, r"got a tensor of shape \(2, 1\)"),
        (lambda w: (w.sum(), 1.5), TypeError, "n_tokens must be an integer, got 1.5"),
        (lambda w: (w.sum(), -1), ValueError, "n_tokens must be at least 0, got -1"),
        (lambda w: w.detach().sum(), ValueError, "the loss must depend on the model's parameters"),
        (lambda w: (w.sum(), 0), ValueError, "the loss must be 0 where n_tokens is 0, got 1.0"),
    ],
)
def test_a_loss_of_the_wrong_form_is_an_error(result, error, message):
    with pytest.raises(error, match=message):
        train_batches(line(), lambda model, batch: result(model.weight), nothing, steps=1)


def test_means_and_sums_in_one_update_are_an_error():
    results = iter([lambda w: w.sum(), lambda w: (w.sum(), 1)])
    with pytest.raises(TypeError, match="got both"):
        train_batches(
            line(), lambda model, batch: next(results)(model.weight), nothing, steps=1, accumulate=2
        )


def test_batches_may_be_nested_and_each_part_arrives():
    def batches(step, generator):
        return {"x": torch.ones(1), "pair": (torch.ones(2), [torch.ones(3)]), "name": "n"}

    def loss(model, batch):
        x, (two, [three]) = batch["x"], batch["pair"]
        assert batch["name"] == "n"
        return model.weight.sum() * (x.sum() + two.sum() + three.sum())

    assert train_batches(line(), loss, batches, steps=1).losses == [6.0]


def test_what_requires_no_gradient_stays_as_it_is():
    model = window()
    model.embed.requires_grad_(False)
    before = model.embed.clone()
    fit(model, weight_decay=0.5)
    assert torch.equal(model.embed, before)
    assert not same_weights(model, window())


# Devices and precision.


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_device_and_precision_learns_and_keeps_float32_weights(device, precision):
    model = WindowModel(3, 2, width=16, seed=0)
    options = {"steps": 150, "length": 16, "learning_rate": 2e-2, "device": device, "precision": precision}
    history = train(model, cross_entropy, TEXT, **options)
    assert history.losses[0] == pytest.approx(np.log(3), abs=0.05)
    # The first tokens of an excerpt, which cannot be foreseen, are 2/16 of it.
    assert np.mean(history.losses[-20:]) < 0.15
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float32, device)}


def test_bfloat16_computes_logits_in_bfloat16_and_the_loss_in_float32():
    seen = []

    def loss(logits, target):
        value = cross_entropy(logits, target)
        seen.append((logits.dtype, value.dtype))
        return value

    for precision in ("float32", "bfloat16"):
        train(window(), loss, NOISE, steps=1, precision=precision)
    assert seen == [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)]


@pytest.mark.parametrize("device", DEVICES)
def test_excerpts_are_the_same_on_every_device(device):
    here, _ = fit(device=device)
    cpu, _ = fit(device="cpu")
    assert here.losses == pytest.approx(cpu.losses, rel=1e-4)


def test_auto_picks_a_device_that_is_there():
    found = pick_device("auto")
    if torch.cuda.is_available():
        assert found.type == "cuda"
    elif torch.backends.mps.is_available():
        assert found.type == "mps"
    else:
        assert found.type == "cpu"
    torch.zeros(1, device=found)
    assert pick_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device is 'gpu'; it must be 'auto', 'cpu', 'cuda' or 'mps'"),
        ("meta", "device is 'meta'; it must be 'auto', 'cpu', 'cuda' or 'mps'"),
        (None, "device is None; it must be 'auto'"),
        ("cuda:99", "device is 'cuda:99', which this machine does not have; try 'auto' or 'cpu'"),
    ],
)
def test_a_device_that_is_not_there_is_an_error(device, message):
    with pytest.raises(ValueError, match=message):
        pick_device(device)


# What is told while it runs.


def test_progress_is_told_each_step_and_may_stop_the_run():
    seen = []

    def progress(share, message):
        seen.append((share, message))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(WindowModel(3, 1), cross_entropy, TEXT, steps=4, progress=progress)
    assert seen == [(0.0, "step 0 of 4"), (0.25, "step 1 of 4"), (0.5, "step 2 of 4")]


def test_a_bar_shows_how_far_it_is_and_the_loss(capsys):
    history, _ = fit(progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "12/12" in shown.err
    assert f"loss {history.losses[-1]:.3f}" in shown.err


@pytest.mark.parametrize("progress", [None, False])
def test_otherwise_it_is_silent(progress, capsys):
    fit(progress=progress)
    assert capsys.readouterr() == ("", "")


def test_evaluation_is_recorded_between_updates_and_at_both_ends():
    model, weights = window(), []

    def evaluate(asked):
        assert asked is model
        assert not asked.training
        assert not torch.is_grad_enabled()
        weights.append(asked.embed.sum().item())
        return torch.tensor(len(weights) / 2)

    history, _ = fit(model, evaluate=evaluate, evaluate_every=5)
    assert history.validation_steps == [0, 5, 10, 12]
    assert history.validation_losses == [0.5, 1.0, 1.5, 2.0]
    assert weights[0] == window().embed.sum().item()
    assert weights[-1] == model.embed.sum().item()
    assert fit(evaluate=lambda model: 0.0, steps=40)[0].validation_steps == list(range(0, 41, 4))


@pytest.mark.parametrize("device", DEVICES)
def test_evaluation_does_not_disturb_the_run(device):
    def evaluate(model):
        torch.rand(5, device=device)
        torch.rand(3)
        model(torch.zeros(1, 4, dtype=torch.long, device=device))
        return 0.0

    quiet, one = fit(Dropping(device))
    asked, other = fit(Dropping(device), evaluate=evaluate, evaluate_every=1)
    assert quiet.losses == asked.losses
    assert same_weights(one, other)


def test_an_evaluation_that_fails_puts_the_mode_back_and_keeps_the_run(tmp_path):
    model = Dropping()

    def evaluate(model):
        if len(model.seen) > 5:
            raise RuntimeError("no")
        return 0.0

    path = tmp_path / "run"
    with pytest.raises(RuntimeError, match="no"):
        fit(model, evaluate=evaluate, evaluate_every=3, checkpoint=path)
    assert model.training
    resumed, _ = fit(Dropping(), checkpoint=path, resume=True)
    assert resumed.losses == fit(Dropping())[0].losses


# Bad arguments.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": TEXT.reshape(2, -1)}, r"ids has shape \(2, 100\); it must be one-dimensional"),
        ({"ids": TEXT[:5]}, r"ids has shape \(5,\); it must be one-dimensional with at least length = 32"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be positive"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be positive and finite"),
        ({"warm_up": 2}, "warm_up is 2; it must be at most steps = 1"),
        ({"final_share": -0.1}, r"final_share must be in \[0, 1\], got -0.1"),
        ({"clip": 0}, "clip is 0; it must be positive"),
        ({"weight_decay": -1.0}, "weight_decay must be .* at least 0, got -1.0"),
        ({"betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\); it must be two numbers from 0 to below 1"),
        ({"betas": (0.9,)}, "it must be two numbers"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"optimizer": "adam"}, "optimizer must be one of 'adamw', 'sgd', got 'adam'"),
        ({"precision": "float16"}, "precision must be one of 'float32', 'bfloat16', got 'float16'"),
        ({"device": "gpu"}, "device is 'gpu'; it must be"),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1, got 0"),
        ({"checkpoint": "x", "checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        ({"checkpoint_every": 5}, "checkpoint_every is 5, and checkpoint is None; name the file to write"),
        ({"resume": True}, "resume is True, and checkpoint is None; name the file to go on from"),
        ({"checkpoint": "no/such/folder/run"}, "its folder does not exist: make it first"),
        ({"checkpoint": "."}, "it must be a file, not a folder"),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_the_rule(changes, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {"ids": TEXT, "steps": 1} | changes
    with pytest.raises(ValueError, match=message):
        train(WindowModel(3, 1), cross_entropy, arguments.pop("ids"), **arguments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": TEXT * 1.0}, "ids must hold integers, got dtype float64"),
        ({"steps": 2.0}, "steps must be an integer, got 2.0"),
        ({"batch_size": True}, "batch_size must be an integer, got True"),
        ({"stop": 3}, "stop must be a function or a threading.Event, got 3"),
        ({"progress": 1}, "progress must be a function, True, False or None, got 1"),
        ({"metadata": {"a": {1}}}, "metadata must hold what JSON can hold"),
        ({"momentum": 0.9}, "unexpected keyword argument 'momentum'"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_an_error(changes, message):
    arguments = {"ids": TEXT, "steps": 1} | changes
    with pytest.raises(TypeError, match=message):
        train(WindowModel(3, 1), cross_entropy, arguments.pop("ids"), **arguments)


def test_a_model_without_anything_to_train_is_an_error():
    with pytest.raises(ValueError, match="model has no parameter that requires a gradient"):
        fit(window().requires_grad_(False))


# Excerpts.


def test_excerpts_are_consecutive_tokens_and_every_start_comes_as_often():
    excerpts = Excerpts(np.arange(100, 112), batch_size=30_000, length=3)
    batch = excerpts(0, torch.Generator().manual_seed(0))
    assert batch.shape == (30_000, 3)
    assert torch.equal(batch - batch[:, :1], torch.arange(3).expand(30_000, 3))
    counts = np.bincount(batch[:, 0].numpy() - 100)
    assert len(counts) == 10  # the last excerpt ends with the last token
    # A binomial's standard deviation is 52.
    assert np.abs(counts - 3000).max() < 4 * 52


# The loss is not finite.


def nan_from(step):
    """A loss function that is NaN from its call number ``step`` on."""
    calls = iter(range(10_000))
    return lambda logits, target: cross_entropy(logits, target) * (np.nan if next(calls) >= step else 1.0)


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step():
    calls = []

    def breaks_at_the_third_step(logits, target):
        calls.append(1)
        return cross_entropy(logits, target) * (float("nan") if len(calls) == 3 else 1.0)

    with pytest.raises(FloatingPointError, match="the loss is nan at step 2"):
        train(WindowModel(3, 1), breaks_at_the_third_step, TEXT, steps=4)


def test_the_error_says_what_to_try_and_holds_the_history_and_the_model_is_as_before_the_step():
    model, other = window(), window()
    with pytest.raises(TrainingDiverged) as caught:
        train(model, nan_from(4), NOISE, steps=12, learning_rate=0.01)
    whole = train(other, cross_entropy, NOISE, steps=12, learning_rate=0.01, stop=stop_at(4))
    message = str(caught.value)
    rate, norm = 0.01 * warm_up_cosine(4, 12), whole.gradient_norms[3]
    assert (
        f"the learning rate was {rate:.3g} and the gradient norm of the step before was {norm:.3g}."
        in message
    )
    assert "Try a smaller learning_rate" in message
    assert "No checkpoint was kept" in message
    assert caught.value.history.losses == whole.losses
    assert same_weights(model, other)


def test_a_loss_that_is_not_finite_at_once_says_that_it_was_the_first_step():
    with pytest.raises(TrainingDiverged, match=r"the loss is nan at step 0.* it is the first step"):
        train(window(), nan_from(0), NOISE, steps=12)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_never_reaches_the_weights(clip):
    def loss(model, batch):  # sqrt at 0: the value is 0 and the slope inf
        return torch.sqrt(model.weight.sum() - 1.0) + model.weight.sum() * 0.0

    model = line(1.0)
    with pytest.raises(TrainingDiverged, match=r"the gradient norm is inf \(the loss is 0\) at step 0"):
        train_batches(model, loss, nothing, steps=2, clip=clip)
    assert model.weight.item() == 1.0


def test_the_checkpoint_from_before_stands_and_the_error_says_where(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(TrainingDiverged, match=r"The checkpoint of step 6 stands: .*run\."):
        train(window(), nan_from(8), NOISE, steps=12, checkpoint=path, checkpoint_every=3)
    model, _, metadata = load_model(path)
    assert metadata["training"]["step"] == 6
    other = window()
    train(other, cross_entropy, NOISE, steps=12, stop=stop_at(6))
    assert same_weights(model, other)


def test_without_an_earlier_checkpoint_the_state_before_the_step_is_kept(tmp_path):
    path = tmp_path / "run"
    with pytest.raises(TrainingDiverged, match=r"The checkpoint of step 8 stands: .*run\."):
        train(window(), nan_from(8), NOISE, steps=12, checkpoint=path)
    model, _, metadata = load_model(path)
    other = window()
    whole = train(other, cross_entropy, NOISE, steps=12, stop=stop_at(8))
    assert metadata["training"]["step"] == len(whole.losses) == 8
    assert same_weights(model, other)


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    # The first update takes the weight to -inf, so that the next loss is not finite.
    options = {"steps": 3, "learning_rate": 3e38, "optimizer": "sgd", "clip": None} | CONSTANT
    model = line()
    with pytest.raises(TrainingDiverged, match=r"the loss is -inf at step 1.* No checkpoint was kept\."):
        train_batches(model, slope(10.0), nothing, checkpoint=tmp_path / "run", **options)
    assert not torch.isfinite(model.weight).all()
    assert os.listdir(tmp_path) == []


# Stop, keep, go on.


@pytest.mark.parametrize("kind", ["callable", "event"])
def test_a_stop_request_ends_the_run_between_two_steps(kind):
    event = threading.Event()
    stop = event if kind == "event" else event.is_set

    def progress(share, message):
        if message.startswith("step 4 "):  # asked in the middle of step 4, which is finished
            event.set()

    history, model = fit(stop=stop, progress=progress)
    whole, _ = fit()
    assert history.stopped
    assert history.steps == [0, 1, 2, 3, 4]
    assert history.losses == whole.losses[:5]
    assert not whole.stopped
    assert not same_weights(model, window())


def test_a_stop_request_after_the_last_step_is_none():
    history, _ = fit(stop=stop_at(12))
    assert not history.stopped
    assert len(history.losses) == 12


def test_a_request_before_the_first_step_leaves_the_model_as_it_is(tmp_path):
    history, model = fit(stop=lambda: True, checkpoint=tmp_path / "run")
    assert history == History(stopped=True)
    assert same_weights(model, window())
    assert fit(checkpoint=tmp_path / "run", resume=True)[0] == fit()[0]


@pytest.fixture
def ctrl_c():
    """Send what Ctrl-C sends; a process in the background ignores it, so Python's usual handler is put there first."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_an_ignored_ctrl_c_stays_ignored(ctrl_c):
    def loss(logits, target):
        ctrl_c()
        return cross_entropy(logits, target)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    history = train(window(), loss, NOISE, steps=3, stop=lambda: False)
    assert not history.stopped
    assert len(history.losses) == 3


@pytest.mark.parametrize("options", [{"stop": lambda: False}, {"checkpoint": "run"}])
def test_ctrl_c_finishes_the_step_and_returns_what_there_is(options, ctrl_c, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def loss(logits, target):
        if len(calls) == 3:
            ctrl_c()
        calls.append(1)
        return cross_entropy(logits, target)

    calls = []
    history = train(window(), loss, NOISE, steps=12, **options)
    assert history.stopped
    assert history.steps == [0, 1, 2, 3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if "checkpoint" in options:
        assert load_model("run")[2]["training"]["step"] == 4


def test_a_process_that_ignores_ctrl_c_hears_a_launchers_sigterm_all_the_same(ctrl_c):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with interrupts(True, terminate=True) as requested:
        signal.raise_signal(signal.SIGTERM)
        assert requested.is_set()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_twice_interrupts_at_once_and_the_checkpoint_from_before_stands(ctrl_c, tmp_path):
    def loss(logits, target):
        calls.append(1)
        if len(calls) == 4:
            ctrl_c()
            ctrl_c()
        return cross_entropy(logits, target)

    calls = []
    with pytest.raises(KeyboardInterrupt):
        train(window(), loss, NOISE, steps=12, checkpoint=tmp_path / "run", checkpoint_every=2)
    assert load_model(tmp_path / "run")[2]["training"]["step"] == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_stop_and_checkpoint_ctrl_c_is_what_it_always_is(ctrl_c):
    def loss(logits, target):
        ctrl_c()
        return cross_entropy(logits, target)

    with pytest.raises(KeyboardInterrupt):
        train(window(), loss, NOISE, steps=12)


def test_in_another_thread_ctrl_c_is_left_to_the_main_one():
    result = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: result.append(fit(stop=stop_at(3))[0]))
    thread.start()
    thread.join()
    assert result[0].stopped
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_progress_raises_loses_nothing_when_there_is_a_checkpoint(error, tmp_path):
    def progress(share, message):
        if message.startswith("step 5 "):
            raise error("enough")

    path = tmp_path / "run"
    options = {"checkpoint": path, "evaluate": lambda model: model.embed.sum(), "evaluate_every": 5}
    if error is KeyboardInterrupt:  # a request to stop
        assert fit(progress=progress, **options)[0].stopped
    else:
        with pytest.raises(error, match="enough"):
            fit(progress=progress, **options)
    resumed, one = fit(resume=True, **options)
    del options["checkpoint"]
    whole, other = fit(**options)
    assert resumed == whole
    assert same_weights(one, other)


def test_an_error_in_the_loss_keeps_the_state_before_the_step(tmp_path):
    path = tmp_path / "run"

    class Failing(Dropping):
        def forward(self, ids):
            logits = super().forward(ids)
            if len(self.seen) == 11:  # the second micro-batch of step 5, after numbers were drawn
                raise MemoryError("too much")
            return logits

    with pytest.raises(MemoryError, match="too much"):
        fit(Failing(), checkpoint=path, accumulate=2)
    saved, tensors = file.read(path)
    assert saved["training"]["step"] == 5
    assert len(tensors["history.losses"]) == 5
    other = tmp_path / "other"
    fit(Failing(), checkpoint=other, accumulate=2, stop=stop_at(5))
    for name, tensor in file.read(other)[1].items():
        assert torch.equal(tensor, tensors[name]), name


def test_an_error_in_the_first_step_leaves_no_file(tmp_path):
    with pytest.raises(TypeError, match="scalar"):
        train(window(), lambda logits, target: logits, NOISE, steps=3, checkpoint=tmp_path / "run")
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_stays_where_it_was_named_when_the_working_directory_changes(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fit(checkpoint="run", progress=lambda *_: os.chdir(tmp_path / "there"))
    assert os.listdir(tmp_path / "here") == ["run"]
    assert os.listdir(tmp_path / "there") == []


def everything(steps=40):
    """Options that use every kind of state: dropout, decay, accumulation, evaluation."""
    return {
        "steps": steps,
        "batch_size": 2,
        "length": 8,
        "learning_rate": 0.05,
        "seed": 3,
        "weight_decay": 0.1,
        "accumulate": 2,
        "evaluate": lambda model: cross_entropy(model(torch.as_tensor(NOISE)), torch.as_tensor(NOISE)),
        "evaluate_every": 6,
    }


class Noisy(WindowModel):
    """A window model with dropout."""

    def forward(self, ids):
        return torch.nn.functional.dropout(super().forward(ids), 0.2, self.training)


RUN_TO_17 = """
import sys
from test_training import NOISE, Noisy, cross_entropy, everything, stop_at, train

history = train(Noisy(3, 2, width=8, embedding=4), cross_entropy, NOISE, checkpoint=sys.argv[1], stop=stop_at(17),
                **everything())
assert history.stopped and len(history.losses) == 17
"""


def test_a_run_resumed_in_another_process_is_the_run_in_one_go_to_the_last_bit(tmp_path):
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    here = Path(__file__).parent
    subprocess.run(
        [sys.executable, "-c", RUN_TO_17, str(parts)],
        check=True,
        cwd=here.parent,
        env=os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"},
    )
    torch.rand(100)  # a state of the global generator that the run has not left behind
    model = Noisy(3, 2, width=8, embedding=4, seed=99)
    resumed = train(model, cross_entropy, NOISE, checkpoint=parts, resume=True, **everything())
    other = Noisy(3, 2, width=8, embedding=4)
    one_go = train(other, cross_entropy, NOISE, checkpoint=whole, **everything())
    assert resumed == one_go
    assert len(one_go.losses) == 40
    assert one_go.validation_steps == [0, 6, 12, 18, 24, 30, 36, 40]
    assert same_weights(model, other)
    # Optimizer, generators and history too: the files are the same, byte for byte.
    assert {name.split(".")[0] for name in file.read(whole)[1]} == {
        *("model", "optimizer", "generator", "random", "history"),
    }  # fmt: skip
    assert parts.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_stops_at_any_place_change_nothing(optimizer, precision, device, tmp_path):
    options = {"optimizer": optimizer, "precision": precision, "device": device, "weight_decay": 0.1}
    options |= {"evaluate": lambda model: model.embed.sum(), "evaluate_every": 4, "steps": 9}
    whole, other = fit(**options)
    for count in (1, 2):
        path = tmp_path / f"every-{count}"
        for attempt in range(20):
            # The first one begins; the others' own weights must not matter.
            history, model = fit(
                window(attempt), checkpoint=path, resume=True, stop=stop_at(count), **options
            )
            if not history.stopped:
                break
        if device == "cpu":
            assert history == whole
            assert same_weights(model, other)
        else:
            assert history.losses == pytest.approx(whole.losses, rel=1e-4)


def test_periodic_checkpoints_disturb_nothing_and_resume_as_well(tmp_path):
    path, kept = tmp_path / "run", tmp_path / "kept"

    def keep(share, message):
        if message.startswith("step 8 "):
            kept.write_bytes(path.read_bytes())

    whole, other = fit()
    often, one = fit(checkpoint=path, checkpoint_every=3, progress=keep)
    assert often == whole
    assert load_model(kept)[2]["training"]["step"] == 6
    assert load_model(path)[2]["training"]["step"] == 12
    resumed, model = fit(resume=kept)
    assert resumed == whole
    assert same_weights(model, other)
    assert same_weights(one, other)
    assert kept.read_bytes() == path.read_bytes()  # a run that is resumed from a path goes on writing there


def test_a_run_may_go_on_into_another_file(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    fit(checkpoint=first, stop=stop_at(5))
    before = first.read_bytes()
    resumed, _ = fit(resume=first, checkpoint=second)
    assert resumed == fit()[0]
    assert first.read_bytes() == before
    assert load_model(second)[2]["training"]["step"] == 12


def test_resuming_what_is_finished_trains_no_more(tmp_path):
    path = tmp_path / "run"
    done, model = fit(checkpoint=path)
    before = path.read_bytes()
    again, other = fit(window(9), checkpoint=path, resume=True)
    assert again == done
    assert same_weights(model, other)
    assert path.read_bytes() == before


def test_resume_begins_a_run_that_has_no_checkpoint_yet(tmp_path):
    assert fit(checkpoint=tmp_path / "run", resume=True)[0] == fit()[0]


def test_a_checkpoint_is_not_overwritten_by_a_new_run(tmp_path):
    path = tmp_path / "run"
    fit(checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="which exists: resume=True goes on from it, or remove it"):
        fit(checkpoint=path)
    with pytest.raises(ValueError, match="which exists"):
        fit(resume=path, checkpoint=_copy(path, tmp_path / "other"))
    assert path.read_bytes() == before


def _copy(source, target):
    target.write_bytes(source.read_bytes())
    return target


def test_a_file_to_resume_from_must_exist(tmp_path):
    with pytest.raises(
        CheckpointError, match="run does not exist: resume must be the checkpoint of an earlier run"
    ):
        fit(resume=tmp_path / "run")


CHANGES = {
    "steps": (40, 12, "it may not change because the learning rate of every step depends on it"),
    "learning_rate": (0.5, 0.003, "it may not change because the learning rate of every step depends on it"),
    "warm_up": (3, None, "it may not change because"),
    "final_share": (0.5, 0.1, "it may not change because"),
    "seed": (5, 0, "a run goes on with what it began with"),
    "batch_size": (5, 4, "a run goes on with"),
    "length": (5, 8, "a run goes on with"),
    "optimizer": ("sgd", "adamw", "a run goes on with"),
    "betas": ([0.9, 0.99], [0.9, 0.95], "a run goes on with"),
    "weight_decay": (0.5, 0.0, "a run goes on with"),
    "clip": (None, 1.0, "a run goes on with"),
    "accumulate": (2, 1, "a run goes on with"),
    "precision": ("bfloat16", "float32", "a run goes on with"),
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    path = tmp_path_factory.mktemp("begun") / "run"
    fit(checkpoint=path, stop=stop_at(5))
    return path


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_cannot_go_on_with_another_setting(name, begun):
    new, old, why = CHANGES[name]
    before = begun.read_bytes()
    model = window(9)
    with pytest.raises(ValueError) as caught:
        fit(model, resume=begun, **{name: new})
    assert str(caught.value).startswith(
        f"{name} is {new!r}, and the run in {begun} began with {old!r}; {why}"
    )
    assert same_weights(model, window(9))
    assert begun.read_bytes() == before


def test_a_run_cannot_go_on_with_another_text_loss_or_model(begun):
    text = NOISE.copy()
    text[-1] = (text[-1] + 1) % 3
    with pytest.raises(
        ValueError, match=r"text is '[0-9a-f]{64}', and the run in .* began with '[0-9a-f]{64}'"
    ):
        fit(ids=text, resume=begun)
    with pytest.raises(
        ValueError, match=r"loss is '.*lambda>', and the run in .* began with 'cross_entropy'"
    ):
        train(window(), lambda *a: cross_entropy(*a), NOISE, steps=12, batch_size=4, length=8, resume=begun)
    with pytest.raises(ValueError, match=r"model\.context is 3, and the run in .* began with 2"):
        fit(window(context=3), resume=begun)
    with pytest.raises(ValueError, match=r"model is a Dropping, and the run in .* trains a WindowModel"):
        fit(Dropping(), resume=begun)
    frozen = window()
    frozen.embed.requires_grad_(False)
    with pytest.raises(ValueError, match=r"trainable_weights is 99, and the run in .* began with 115"):
        fit(frozen, resume=begun)


def test_what_does_not_change_the_weights_may_change(begun, tmp_path):
    path = _copy(begun, tmp_path / "run")
    options = {
        "evaluate": lambda model: 0.0,
        "evaluate_every": 4,
        "checkpoint_every": 2,
        "stop": lambda: False,
    }
    resumed, _ = fit(window(9), checkpoint=path, resume=True, **options)
    assert resumed.losses == fit()[0].losses
    assert resumed.validation_steps == [8, 12]


def test_a_model_that_was_only_saved_is_no_run(tmp_path):
    save_model(tmp_path / "model", window())
    with pytest.raises(CheckpointError, match="holds a model and no training run: load it with load_model"):
        fit(resume=tmp_path / "model")


@pytest.mark.parametrize("part", ["generator", "random.cpu", "history.losses"])
def test_a_run_that_lacks_a_part_is_an_error(part, begun, tmp_path):
    document, tensors = file.read(begun)
    del tensors[part]
    file.write(tmp_path / "run", document, tensors)
    key = part.removeprefix("random.")
    with pytest.raises(CheckpointError, match=f"lacks '{key}', which a training run needs"):
        fit(resume=tmp_path / "run")


def test_a_damaged_run_is_an_error_that_changes_nothing(begun, tmp_path):
    data = bytearray(begun.read_bytes())
    data[-1] ^= 1
    (tmp_path / "run").write_bytes(data)
    model = window(9)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        fit(model, checkpoint=tmp_path / "run", resume=True)
    assert same_weights(model, window(9))


def test_the_tokenizer_and_the_metadata_stay_in_the_checkpoint(tmp_path):
    path = tmp_path / "run"
    fit(checkpoint=path, tokenizer=ByteTokenizer(), metadata={"about": "noise"}, stop=stop_at(2))
    fit(checkpoint=path, resume=True)
    _, tokenizer, metadata = load_model(path)
    assert isinstance(tokenizer, ByteTokenizer)
    assert metadata["about"] == "noise"
    assert metadata["training"]["step"] == 12
    assert metadata["training"]["settings"]["learning_rate"] == 3e-3
    fit(checkpoint=path, resume=True, metadata={"about": "more noise"})
    assert load_model(path)[2]["about"] == "more noise"


def test_a_model_of_ones_own_can_be_stopped_and_resumed(tmp_path):
    path = tmp_path / "run"
    options = {"steps": 12, "seed": 1}
    whole = train_batches(one := window().double(), masked_loss, masked_batches, **options)
    net = torch.nn.Sequential(window().double())
    stopped = train_batches(net, masked_loss, masked_batches, checkpoint=path, stop=stop_at(5), **options)
    assert stopped.losses == whole.losses[:5]
    resumed = train_batches(net, masked_loss, masked_batches, resume=path, **options)
    assert resumed == whole
    assert same_weights(net, one)
    with pytest.raises(CheckpointError, match="holds a Sequential, which is none of the models"):
        load_model(path)
    other = torch.nn.Sequential(window(3))
    load_weights(path, other)
    assert same_weights(other, one)


# The history.


def test_smoothing_averages_blocks_and_leaves_an_incomplete_one_out():
    history = History(steps=list(range(7)), losses=[1.0, 3.0, 2.0, 4.0, 10.0, 20.0, 99.0])
    steps, losses = history.smoothed(2)
    assert steps.tolist() == [0.5, 2.5, 4.5]
    assert losses.tolist() == [2.0, 3.0, 15.0]


@pytest.mark.parametrize("window", [0, 8])
def test_a_window_that_does_not_fit_is_an_error(window):
    history = History(steps=list(range(7)), losses=[1.0] * 7)
    with pytest.raises(ValueError, match=f"window is {window}; it must lie between 1 and the 7"):
        history.smoothed(window)


def recorded():
    return fit(steps=7, evaluate=lambda model: model.embed.sum() / 3, evaluate_every=3)[0]


HISTORIES = {
    "full": recorded,
    "stopped": lambda: fit(stop=stop_at(3))[0],
    "empty": History,
    "losses only": lambda: History(steps=[0, 1], losses=[0.1, 1 / 3]),
    "not finite": lambda: History(steps=[0, 1], losses=[0.1, float("inf")]),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_json_lines_give_the_history_back_to_the_last_digit(name, tmp_path):
    history = HISTORIES[name]()
    history.to_jsonl(tmp_path / "run.jsonl")
    assert History.from_jsonl(tmp_path / "run.jsonl") == history


def test_json_lines_are_one_object_a_step(tmp_path):
    history = recorded()
    history.to_jsonl(tmp_path / "run.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(8))
    assert rows[1] == {
        "step": 1,
        "loss": history.losses[1],
        "learning_rate": history.learning_rates[1],
        "gradient_norm": history.gradient_norms[1],
        "tokens": 64,
    }
    assert [row["step"] for row in rows if "validation_loss" in row] == [0, 3, 6, 7]
    assert rows[7] == {"step": 7, "validation_loss": history.validation_losses[-1]}


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "3", '{"loss": 1.0}', '{"step": "a"}', '{"step": 0, "accuracy": 1.0}']
)
def test_a_line_that_is_none_of_a_history_is_named(line, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 0, "loss": 1.0}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"run\.jsonl, line 2, is no line of a training history"):
        History.from_jsonl(path)


def test_a_table_has_a_row_a_step_and_blanks_where_nothing_was_recorded(tmp_path):
    history = recorded()
    history.to_csv(tmp_path / "run.csv")
    with open(tmp_path / "run.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = ["step", "loss", "learning_rate", "gradient_norm", "tokens", "validation_loss"]
    assert list(rows[0]) == columns
    assert [float(row["loss"]) for row in rows[:7]] == history.losses
    assert [float(row["learning_rate"]) for row in rows[:7]] == history.learning_rates
    assert [row["validation_loss"] == "" for row in rows] == [n not in (0, 3, 6, 7) for n in range(8)]
    assert [rows[7][name] for name in columns[:5]] == ["7", "", "", "", ""]


def test_columns_of_different_lengths_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="losses has 1 entries and steps has 2"):
        History(steps=[0, 1], losses=[1.0]).to_csv(tmp_path / "run.csv")
