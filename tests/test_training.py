"""The training loop reaches what can be reached, reproducibly, and stops for good reasons."""

import numpy as np
import pytest
import torch

from lossutils import cross_entropy
from lossutils.models import WindowModel
from lossutils.training import History, train

TEXT = np.array([0, 1, 2, 1] * 50)


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


def test_the_same_seed_gives_the_same_history_and_another_seed_does_not():
    runs = [train(WindowModel(3, 1, seed=5), cross_entropy, TEXT, steps=8, seed=s).losses for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_training_leaves_the_global_random_state_alone():
    state = torch.random.get_rng_state()
    train(WindowModel(3, 1), cross_entropy, TEXT, steps=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress_is_told_each_step_and_may_stop_the_run():
    seen = []

    def progress(share, message):
        seen.append((share, message))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(WindowModel(3, 1), cross_entropy, TEXT, steps=4, progress=progress)
    assert seen == [(0.0, "step 0 of 4"), (0.25, "step 1 of 4"), (0.5, "step 2 of 4")]


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step():
    calls = []

    def breaks_at_the_third_step(logits, target):
        calls.append(1)
        return cross_entropy(logits, target) * (float("nan") if len(calls) == 3 else 1.0)

    with pytest.raises(FloatingPointError, match="the loss is nan at step 2"):
        train(WindowModel(3, 1), breaks_at_the_third_step, TEXT, steps=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": TEXT.reshape(2, -1)}, r"ids has shape \(2, 100\); it must be one-dimensional"),
        ({"ids": TEXT[:5]}, r"ids has shape \(5,\); it must be one-dimensional with at least length = 32"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"length": 0}, "length is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be positive"),
    ],
)
def test_a_bad_argument_is_named_with_its_value_and_the_rule(changes, message):
    arguments = {"ids": TEXT, "steps": 1} | changes
    with pytest.raises(ValueError, match=message):
        train(WindowModel(3, 1), cross_entropy, arguments.pop("ids"), **arguments)


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
