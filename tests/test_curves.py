"""Training curves: files of every kind, smoothing, and what a diagnosis says of curves whose truth is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossutils.curves import KINDS, Diagnosis, Run, diagnose, read_run, smooth
from lossutils.training import History

V = 46
LN_V = math.log(V)


def healthy(n=300, *, noise=0.05, end=1.6, seed=0):
    """From ln V down to `end`, with the noise of a batch."""
    steps = np.arange(n)
    curve = end + (LN_V - end) * np.exp(-steps / (n / 8))
    return steps, curve + noise * np.random.default_rng(seed).standard_normal(n)


def kinds(steps, loss, **known):
    return diagnose(Run(steps, loss, vocab_size=V, **known)).kinds


# ------------------------------------------------------------------------------------------------- smoothing


@given(
    st.floats(-5, 5),
    st.floats(-2, 2),
    st.lists(st.floats(0.1, 30), min_size=1, max_size=60),
    st.floats(0.5, 500),
)
def test_a_straight_line_stays_one_up_to_both_ends_whatever_the_spacing(intercept, slope, gaps, span):
    x = np.concatenate([[0.0], np.cumsum(gaps)])
    y = intercept + slope * x
    assert np.allclose(smooth(x, y, span=span), y, atol=1e-8 * (1 + np.abs(y).max()))


def test_a_straight_line_of_many_points_stays_one():
    x = np.arange(5000.0)
    assert np.allclose(smooth(x, 3 - 0.001 * x), 3 - 0.001 * x, atol=1e-9)


def test_smoothing_equals_a_weighted_least_squares_fit():
    x, y = healthy(80)
    s, h = 41.0, 10.0
    weight = np.clip(1 - np.abs((x - s) / h) ** 3, 0, None) ** 3
    slope_and_value = np.polyfit(x - s, y, 1, w=np.sqrt(weight))
    assert smooth(x, y, span=2 * h)[41] == pytest.approx(slope_and_value[1], rel=1e-10)


def test_smoothing_removes_noise_and_does_not_lag_at_the_end():
    steps = np.arange(400)
    truth = 3 - 0.005 * steps
    noisy = truth + 0.1 * np.random.default_rng(0).standard_normal((200, 400))
    ends = np.array([smooth(steps, row)[-1] for row in noisy])
    # The mean error over 200 curves is within 4 standard errors of none; a running mean of 40 would be 0.1 too high.
    assert abs(ends.mean() - truth[-1]) < 4 * ends.std() / math.sqrt(200)
    assert ends.std() < 0.05


def test_smoothing_leaves_out_what_is_not_a_number():
    x = np.arange(30.0)
    y = 2 - 0.01 * x
    y[[3, 17, 29]] = [math.nan, math.inf, math.nan]
    assert np.allclose(smooth(x, y), 2 - 0.01 * x)
    assert np.isnan(smooth(x, np.full(30, math.nan))).all()


# ---------------------------------------------------------------------------------------------- the diagnosis


def test_a_healthy_curve_is_called_healthy():
    diagnosis = diagnose(Run(*healthy(), vocab_size=V, name="mine"))
    assert diagnosis.healthy
    assert str(diagnosis).startswith("mine: healthy")


def test_healthy_curves_of_many_noises_and_lengths_are_hardly_ever_called_ill():
    flagged = [
        (n, noise, seed)
        for n in (40, 300, 3000)
        for noise in (0.0, 0.02, 0.15)
        for seed in range(20)
        if kinds(*healthy(n, noise=noise, seed=seed)) != ("healthy",)
    ]
    assert len(flagged) <= 3, flagged  # of 180


def test_the_noise_is_estimated_whatever_the_trend_and_the_jumps():
    steps, loss = healthy(2000, noise=0.08)
    loss[1000:1010] += 5
    facts = diagnose(Run(steps, loss)).facts
    # The curve is averaged over blocks of two first, as it has more than 1000 points.
    assert facts["noise"] == pytest.approx(0.08 / math.sqrt(2), rel=0.1)


def test_a_spike_is_found_at_its_steps():
    steps, loss = healthy()
    loss[150:160] += 6
    (finding,) = diagnose(Run(steps, loss, vocab_size=V)).findings
    assert (finding.kind, finding.first_step, finding.last_step) == ("spike", 150, 159)
    assert finding.numbers["peak"] == pytest.approx(loss[150:160].max())


def test_one_odd_batch_is_no_spike_and_two_in_a_row_are():
    steps, loss = healthy()
    loss[150] += 0.35  # 7 sd of the noise
    assert kinds(steps, loss) == ("healthy",)
    loss[151] += 0.35
    assert kinds(steps, loss) == ("spike",)


def test_a_loss_that_climbs_and_stays_is_a_divergence():
    steps, loss = healthy()
    loss[150:] = 9 + np.random.default_rng(1).standard_normal(150)
    (finding,) = diagnose(Run(steps, loss, vocab_size=V)).findings
    assert (finding.kind, finding.first_step, finding.last_step) == ("divergence", 150, 299)


def test_a_loss_that_needs_half_the_run_to_come_back_is_a_divergence_too():
    steps, loss = healthy()
    loss[20:170] += 20
    (finding,) = diagnose(Run(steps, loss, vocab_size=V)).findings
    assert finding.kind == "divergence"
    assert "50 % of the run to come back" in finding.evidence


def test_a_jump_at_the_very_end_cannot_be_told():
    steps, loss = healthy()
    loss[292:] += 5
    assert kinds(steps, loss) == ("unknown",)


def test_a_loss_that_only_rises_is_never_healthy():
    steps = np.arange(300)
    loss = 2 + 0.0008 * steps + 0.1 * np.random.default_rng(0).standard_normal(300)
    assert kinds(steps, loss) == ("divergence",)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_a_divergence_from_that_step_on(value):
    steps, loss = healthy()
    loss[200:] = value
    (finding,) = diagnose(Run(steps, loss, vocab_size=V)).findings
    assert (finding.kind, finding.first_step, finding.last_step) == ("divergence", 200, 299)


def test_a_zero_beside_a_gradient_that_is_no_number_is_a_divergence():
    steps, loss = healthy()
    norms = np.ones(300)
    loss[200:], norms[200:] = 0.0, math.nan
    (finding,) = diagnose(Run(steps, loss, gradient_norm=norms)).findings
    assert (finding.kind, finding.first_step) == ("divergence", 200)


def test_the_gradient_norm_before_a_jump_is_evidence():
    steps, loss = healthy()
    norms = np.ones(300)
    loss[150:160] += 6
    norms[148:150] = 8
    (finding,) = diagnose(Run(steps, loss, gradient_norm=norms)).findings
    assert "from 1 to 8 in the five points before" in finding.evidence


def test_a_flat_stretch_before_a_fall_is_a_plateau():
    steps = np.arange(400)
    loss = 3.6 - 2 / (1 + np.exp(-(steps - 200) / 12.0))
    loss += 0.03 * np.random.default_rng(0).standard_normal(400)
    (finding,) = diagnose(Run(steps, loss, vocab_size=V)).findings
    assert finding.kind == "plateau"
    assert 100 < finding.last_step < 210


def test_the_flat_end_of_a_converged_curve_is_no_plateau():
    steps = np.arange(1000)
    loss = 1.6 + 2.2 * np.exp(-steps / 20)
    assert kinds(steps, loss + 0.03 * np.random.default_rng(0).standard_normal(1000)) == ("healthy",)


def test_a_loss_that_stays_at_ln_v_has_learned_nothing():
    steps = np.arange(300)
    loss = LN_V + 0.01 * np.random.default_rng(0).standard_normal(300)
    assert kinds(steps, loss) == ("plateau",)
    # Without ln V nobody knows whether that level is the start or the goal.
    assert diagnose(Run(steps, loss)).kinds == ("noise",)


def test_a_long_noisy_run_that_learned_nothing_is_a_plateau_and_a_short_one_cannot_tell():
    rng = np.random.default_rng(0)
    loss = math.log(2) + 0.4 * rng.standard_normal(30_000)
    when, held_out = [0, 50, 100], [0.70, 0.69, 0.69]
    known = {"vocab_size": 2, "floor": 0.0, "validation_steps": when, "validation": held_out}
    assert diagnose(Run(np.arange(100), loss[:100], **known)).kinds == ("noise",)
    assert diagnose(Run(np.arange(30_000), loss, **known)).kinds == ("plateau",)


def test_a_hump_on_the_way_does_not_make_underfitting_of_a_run_that_learned_nothing():
    """Between the fog and a certain level the validation loss decides."""
    steps = np.arange(1000)
    loss = math.log(2) + 0.5 * np.exp(-steps / 200) + 0.3 * np.random.default_rng(0).standard_normal(1000)
    loss[:10] -= 0.5
    known = {"vocab_size": 2, "validation_steps": [0, 500, 1000], "validation": [0.70, 0.80, 0.69]}
    (finding,) = diagnose(Run(steps, loss, floor=0.0, **known)).findings
    assert (finding.kind, "next to nothing" in finding.evidence) == ("plateau", True)


def test_validation_that_turns_while_training_falls_is_overfitting():
    steps, loss = healthy(end=0.1)
    when = np.arange(0, 301, 30)
    held_out = np.array([3.8, 2.9, 2.5, 2.6, 2.9, 3.1, 3.4, 3.6, 3.8, 3.9, 4.0])
    (finding,) = diagnose(Run(steps, loss, when, held_out, vocab_size=V)).findings
    assert (finding.kind, finding.first_step, finding.numbers["best_step"]) == ("overfitting", 60, 60)
    assert "keep the checkpoint of step 60" in finding.advice


def test_validation_that_wobbles_is_no_overfitting():
    steps, loss = healthy()
    when = np.arange(0, 301, 30)
    held_out = 1.7 + 2.1 * np.exp(-when / 40) + 0.02 * np.random.default_rng(3).standard_normal(11)
    assert kinds(steps, loss, validation_steps=when, validation=held_out) == ("healthy",)


def test_training_that_falls_while_validation_never_gains_is_a_leak():
    steps, loss = healthy(end=0.0, noise=0.001)
    when = np.arange(0, 301, 30)
    held_out = np.linspace(3.8, 11, 11)
    (finding,) = diagnose(Run(steps, loss, when, held_out, vocab_size=V)).findings
    assert finding.kind == "leak"


def leaking():
    """As targets that are not shifted look on a text whose tokens are not equally frequent: validation falls first."""
    steps, loss = healthy(end=0.0, noise=0.001)
    when = np.arange(0, 301, 30)
    return steps, loss, when, np.array([3.8, 2.6, 2.9, 4.2, 5.3, 6.2, 6.9, 7.4, 7.8, 8.1, 8.3])


def test_a_gap_in_the_first_pass_is_a_leak_and_the_same_curve_on_a_small_text_overfitting():
    steps, loss, when, held_out = leaking()

    def said(pass_steps):
        return diagnose(Run(steps, loss, when, held_out, vocab_size=V, pass_steps=pass_steps))

    for pass_steps in (math.inf, 5000, 300, 100):
        (finding,) = said(pass_steps).findings
        assert finding.kind == "leak"
        assert "within the first pass" in finding.evidence
        assert finding.numbers["step"] == min(pass_steps, 300) // 30 * 30
    assert said(5).kinds == ("overfitting",)  # read sixty times


def test_without_the_length_of_a_pass_it_is_said_that_a_leak_cannot_be_told_from_overfitting():
    steps, loss, when, held_out = leaking()
    diagnosis = diagnose(Run(steps, loss, when, held_out, vocab_size=V))
    assert diagnosis.kinds == ("overfitting",)
    assert "steps of one pass" in diagnosis.cannot_tell["leak or overfitting"]


def test_a_small_text_that_teaches_nothing_is_overfitting_if_it_is_known_to_be_small():
    steps, loss = healthy(end=0.0, noise=0.001)
    when, held_out = np.arange(0, 301, 30), np.linspace(3.8, 11, 11)
    held_out[1] = 3.5  # it gains less than a tenth of what training gains
    small = Run(steps, loss, when, held_out, vocab_size=V, pass_steps=2)
    diagnosis = diagnose(small)
    assert diagnosis.kinds == ("overfitting",)
    assert "within the first pass" in diagnosis.cannot_tell["leak or overfitting"]
    assert diagnose(Run(steps, loss, when, held_out, vocab_size=V)).kinds == ("leak",)


def test_other_documents_that_cost_a_little_more_are_no_leak():
    steps, loss = healthy()
    when = np.arange(0, 301, 30)
    held_out = 2.2 + 1.6 * np.exp(-when / 37)  # 0.6 above training, of 2.2 that it gained
    assert kinds(steps, loss, validation_steps=when, validation=held_out, pass_steps=math.inf) == ("healthy",)


def test_validation_that_turns_within_the_first_pass_is_no_overfitting():
    steps, loss = healthy(end=1.6)
    when = np.arange(0, 301, 30)
    held_out = 1.7 + 2.1 * np.exp(-when / 37) + 0.4 * (when / 300) ** 2
    known = {"validation_steps": when, "validation": held_out}
    assert kinds(steps, loss, **known) == ("overfitting",)
    (finding,) = diagnose(Run(steps, loss, vocab_size=V, pass_steps=400, **known)).findings
    assert (finding.kind, "nothing was read twice" in finding.evidence) == ("unknown", True)


def test_a_climb_that_the_first_record_has_missed_is_a_divergence_and_a_bad_start_is_none():
    """A log of means of five: the loss was at ln V for a step or two, then far above it for half of the run."""
    steps = np.arange(5, 301, 5)
    rng = np.random.default_rng(0)
    storm = LN_V + 30 * np.clip(1 - steps / 180, 0, None) + 0.1 * rng.standard_normal(60)
    diagnosis = diagnose(Run(steps, storm, vocab_size=V))
    assert diagnosis.kinds == ("divergence",)
    assert "worse than a blind guess" in diagnosis.findings[0].evidence
    soon = 1.8 + 9 * np.exp(-steps / 12) + 0.05 * rng.standard_normal(60)
    assert kinds(steps, soon) == ("bad_start",)
    # From its very first step on it only comes down: slow, but no climb.
    every = np.arange(300)
    slow = 1.8 + 9 * np.exp(-every / 100) + 0.05 * rng.standard_normal(300)
    assert kinds(every, slow) == ("bad_start",)


@pytest.mark.parametrize("floor", [None, 1.5])
def test_a_validation_loss_below_what_any_text_costs_is_a_leak(floor):
    steps, loss = healthy(end=0.002, noise=0.0001)
    when = np.arange(0, 301, 30)
    held_out = 0.002 + 3.8 * np.exp(-when / 37)
    assert kinds(steps, loss, validation_steps=when, validation=held_out, floor=floor) == ("leak",)


def test_below_the_floor_without_validation_nobody_can_tell_a_leak_from_memory():
    steps, loss = healthy(end=0.5)
    (finding,) = diagnose(Run(steps, loss, vocab_size=V, floor=1.5)).findings
    assert finding.kind == "unknown"
    assert "learned by heart" in finding.evidence


def test_a_task_without_uncertainty_may_reach_zero():
    steps, loss = healthy(end=0.001, noise=0.0005)
    assert kinds(steps, loss, floor=0.0) == ("healthy",)


def test_underfitting_is_only_seen_against_a_floor_or_a_bigger_run():
    steps, loss = healthy(end=2.6)
    alone = diagnose(Run(steps, loss, vocab_size=V))
    assert alone.healthy
    assert "floor" in alone.cannot_tell["underfitting"]
    assert kinds(steps, loss, floor=1.5) == ("underfitting",)
    bigger = Run(*healthy(end=1.7), vocab_size=V)
    assert diagnose(Run(steps, loss, vocab_size=V), bigger=bigger).kinds == ("underfitting",)
    assert diagnose(bigger, bigger=Run(steps, loss, vocab_size=V)).healthy


def test_a_first_loss_far_above_ln_v_is_a_bad_start():
    steps, loss = healthy()
    loss[:20] += np.linspace(8, 0, 20)
    diagnosis = diagnose(Run(steps, loss, vocab_size=V))
    assert diagnosis.kinds == ("bad_start",)
    assert diagnosis.findings[0].numbers["excess"] == pytest.approx(loss[0] - LN_V)
    assert "ln V" in diagnose(Run(steps, loss)).cannot_tell["bad_start"]


def test_the_start_is_not_judged_by_a_late_first_record():
    steps, loss = healthy()
    assert "step 100" in diagnose(Run(steps + 100, loss + 5, vocab_size=V)).cannot_tell["bad_start"]


def test_half_a_nat_above_ln_v_is_the_line():
    steps, loss = healthy(noise=0.01)
    for excess, expected in ((0.45, ("healthy",)), (0.55, ("bad_start",))):
        loss[0] = LN_V + excess
        assert kinds(steps, loss) == expected


def test_noise_that_hides_the_change_is_said():
    steps = np.arange(60)
    loss = 2.0 - 0.001 * steps + 0.5 * np.random.default_rng(0).standard_normal(60)
    assert kinds(steps, loss) == ("noise",)


@pytest.mark.parametrize("n", [1, 2, 4, 19])
def test_few_points_cannot_tell_and_the_reason_is_given(n):
    steps, loss = healthy(n, noise=0.0)
    diagnosis = diagnose(Run(steps, loss, vocab_size=V))
    assert diagnosis.kinds == ("unknown",)
    assert f"{n} finite loss" in diagnosis.findings[0].evidence
    assert json.loads(diagnosis.to_json())["kinds"] == ["unknown"]


def test_few_points_still_show_a_bad_start_and_a_loss_that_is_no_number():
    assert kinds([0, 1, 2], [9.0, 4.0, 3.0]) == ("bad_start",)
    assert kinds([0, 1, 2], [3.8, 3.7, math.nan]) == ("divergence",)


def test_a_long_curve_is_judged_as_quickly_and_the_same():
    steps, loss = healthy(200_000, noise=0.2)
    assert kinds(steps, loss) == ("healthy",)
    loss[120_000:121_000] += 4
    assert kinds(steps, loss) == ("spike",)


def test_the_most_severe_finding_comes_first():
    steps, loss = healthy()
    loss[:20] += np.linspace(8, 0, 20)
    loss[150:] += 8
    severities = [finding.severity for finding in diagnose(Run(steps, loss, vocab_size=V)).findings]
    assert severities == ["severe", "warning"]


def test_the_report_as_json_has_no_infinity_and_every_kind_is_known():
    diagnosis = diagnose(Run([0, 1], [math.inf, 3.0]))
    report = json.loads(diagnosis.to_json())
    assert report["facts"]["noise"] is None
    assert set(report["kinds"]) <= set(KINDS)
    assert isinstance(diagnosis, Diagnosis)


# ---------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], []), "steps must be one row"),
        (([0, 1], [1.0]), "train has 1 numbers and steps has 2"),
        (([0, 0], [1.0, 2.0]), "steps must increase, got 0 and then 0"),
        (([1, 0], [1.0, 2.0]), "steps must increase, got 1 and then 0"),
        (([0, math.nan], [1.0, 2.0]), "steps must be finite"),
        (([0, 1], [math.nan, math.inf]), "no finite loss"),
        (([[0, 1]], [[1.0, 2.0]]), "one row"),
    ],
)
def test_a_run_refuses_numbers_that_are_no_curve(arguments, words):
    with pytest.raises(ValueError, match=words):
        Run(*arguments)


@pytest.mark.parametrize(
    ("known", "error", "words"),
    [
        ({"vocab_size": 1}, ValueError, "vocab_size"),
        ({"vocab_size": 2.5}, ValueError, "whole number"),
        ({"vocab_size": "46"}, TypeError, "vocab_size"),
        ({"floor": -1.0}, ValueError, "floor"),
        ({"pass_steps": 0.0}, ValueError, "pass_steps"),
        ({"pass_steps": math.nan}, ValueError, "pass_steps"),
        ({"pass_steps": "all"}, TypeError, "pass_steps"),
        ({"validation": [1.0]}, ValueError, "together"),
        ({"validation": [1.0], "validation_steps": [0, 1]}, ValueError, "validation has 1"),
        ({"gradient_norm": [1.0]}, ValueError, "gradient_norm"),
    ],
)
def test_a_run_refuses_what_cannot_be_known(known, error, words):
    with pytest.raises(error, match=words):
        Run([0, 1], [2.0, 1.0], **known)


def test_a_diagnosis_needs_runs():
    with pytest.raises(TypeError, match=r"Run\.from_history makes one"):
        diagnose(History())
    with pytest.raises(TypeError, match="bigger"):
        diagnose(Run([0], [1.0]), bigger=[1.0])
    with pytest.raises(ValueError, match="no step"):
        Run.from_history(History())


@pytest.mark.parametrize(
    ("arguments", "known"),
    [(([0, 1], [1.0]), {}), (([1, 0], [1.0, 1.0]), {}), (([0, 1], [1.0, 1.0]), {"span": -1.0})],
)
def test_smoothing_refuses_what_is_no_curve(arguments, known):
    with pytest.raises(ValueError):
        smooth(*arguments, **known)


# -------------------------------------------------------------------------------------------------------- files


@pytest.fixture
def history():
    steps, loss = healthy(40)
    return History(
        steps=steps.tolist(),
        losses=loss.tolist(),
        learning_rates=[0.01] * 40,
        gradient_norms=[1.5] * 40,
        tokens=list(range(100, 4100, 100)),
        validation_steps=[0, 20, 40],
        validation_losses=[3.8, 2.0, 1.7],
        stopped=True,
    )


def same(a: Run, b: Run) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("steps", "train", "validation_steps", "validation", "learning_rate", "gradient_norm")
    )


def test_our_own_files_hold_what_the_history_holds(history, tmp_path):
    want = Run.from_history(history)
    history.to_csv(tmp_path / "run.csv")
    history.to_jsonl(tmp_path / "run.jsonl")
    for name in ("run.csv", "run.jsonl"):
        assert same(read_run(tmp_path / name), want)
    assert read_run(tmp_path / "run.csv", vocab_size=V, floor=1.0).vocab_size == V


def test_tensorboard_events_are_read_as_torch_writes_them(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    steps, loss = healthy(1200)
    writer = SummaryWriter(str(tmp_path / "run"))
    for step, value in zip(steps, loss, strict=True):
        writer.add_scalar("train/loss", value, step)
        if step % 400 == 0:
            writer.add_scalar("eval/loss", value, step)
        writer.add_scalar("train/learning_rate", 1e-3, step)
    writer.close()
    run = read_run(tmp_path / "run")
    assert np.array_equal(run.steps, steps)
    assert np.array_equal(run.train, loss.astype(np.float32))  # events hold float32
    assert run.validation_steps.tolist() == [0, 400, 800]
    assert run.name == "run"
    (file,) = (tmp_path / "run").iterdir()
    assert same(read_run(file), run)
    with pytest.raises(ValueError, match=r"no tag 'loss/none'; it has 'train/loss'"):
        read_run(tmp_path / "run", columns={"train": "loss/none"})
    with pytest.raises(ValueError, match=r"these do: .*run"):
        read_run(tmp_path)


def test_a_trainers_state_is_read_and_its_closing_mean_left_out(tmp_path):
    rows = [{"epoch": step / 50, "grad_norm": 1.0, "learning_rate": 1e-4, "loss": 4 - step / 100, "step": step}
            for step in range(10, 110, 10)]  # fmt: skip
    rows.insert(5, {"epoch": 1.0, "eval_loss": 3.6, "eval_runtime": 1.0, "step": 50})
    rows.append({"epoch": 2.0, "eval_loss": 3.2, "eval_runtime": 1.0, "step": 100})
    rows.append({"epoch": 2.0, "step": 100, "train_loss": 3.45, "train_runtime": 9.0, "total_flos": 1e9})
    state = {"global_step": 100, "log_history": rows, "max_steps": 100}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    for path in (tmp_path, tmp_path / "trainer_state.json"):
        run = read_run(path)
        assert run.steps.tolist() == list(range(10, 110, 10))
        assert run.train[-1] == 3.0
        assert run.validation.tolist() == [3.6, 3.2]
        assert run.gradient_norm.tolist() == [1.0] * 10
        assert run.pass_steps == 50


def test_a_real_trainers_state_is_read(tmp_path):
    """The file as Hugging Face writes it, with the very class that it keeps its state in."""
    transformers = pytest.importorskip("transformers")
    state = transformers.TrainerState(global_step=2, max_steps=2)
    state.log_history = [{"loss": 3.5, "step": 1}, {"loss": 3.25, "step": 2}, {"train_loss": 3.4, "step": 2}]
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    assert read_run(tmp_path).train.tolist() == [3.5, 3.25]


@pytest.mark.parametrize(
    ("text", "steps", "loss"),
    [
        ("step,loss\n0,3.5\n1,3.25\n", [0, 1], [3.5, 3.25]),
        ("\ufeffStep;Train Loss\n0;3.5\n1;3.25\n", [0, 1], [3.5, 3.25]),
        ("iteration\ttrain/loss\tval_loss\n0\t3.5\t\n10\t3.25\t3.3\n", [0, 10], [3.5, 3.25]),
        ('"Step","run - train/loss"\n"0","3.5"\n"1","3.25"\n', [0, 1], [3.5, 3.25]),
        ("step,loss\n0,3.5\n1,nan\n", [0, 1], [3.5, math.nan]),
        ("epoch,step,train_loss,val_loss\n0,0,3.5,\n0,1,,3.4\n0,2,3.25,\n", [0, 2], [3.5, 3.25]),
    ],
)
def test_csv_files_of_many_hands_are_read(text, steps, loss, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    run = read_run(path)
    assert run.steps.tolist() == steps
    assert np.array_equal(run.train, loss, equal_nan=True)
    assert run.notes == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("step,loss\n", "no line of numbers"),
        (
            "step,accuracy\n0,1\n",
            r"no column for the training loss; it has 'step', 'accuracy'.*--loss-column",
        ),
        ("loss\n1\n", "no column for the step"),
        ("step,loss\n0,\n1,\n", "nothing in its column 'loss'"),
        ("step,loss\n0,nan\n1,nan\n", "none of the 2 training losses is a finite number"),
        ("step,loss\n0,three\n", "line 2: loss is 'three'"),
        ("step,loss\n,3\n", "line 2, has a 'loss' and no 'step'"),
        ("step,loss\n0,1,2\n", "line 2, has more fields"),
        ("step,a - loss,b - loss\n0,1,2\n", "several columns for the training loss: 'a - loss', 'b - loss'"),
    ],
)
def test_a_csv_file_that_cannot_be_read_says_why(text, words, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_run(path)


def test_columns_can_be_named(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,a - loss,b - loss\n0,1,2\n1,1,2\n")
    run = read_run(path, columns={"step": "epoch", "train": "b - loss"})
    assert run.train.tolist() == [2, 2]
    with pytest.raises(ValueError, match="no column 'c'"):
        read_run(path, columns={"train": "c", "step": "epoch"})
    with pytest.raises(ValueError, match="columns must be one of"):
        read_run(path, columns={"loss": "b - loss"})


@pytest.mark.parametrize(
    ("rows", "steps"),
    [
        ("0,0.0,3.9\n10,0.25,3.5\n20,0.5,3.2\n", 40),  # fractions, as Trainer's
        ("0,0,3.9\n10,0,3.5\n20,1,3.2\n30,1,3.1\n40,2,3.1\n", 20),  # passes that are over
        ("0,1,3.9\n10,1,3.5\n20,2,3.2\n30,2,3.1\n40,3,3.1\n", 20),  # the pass that runs
        ("0,0,3.9\n10,0,3.5\n", None),
        ("0,one,3.9\n10,,3.5\n", None),
        ("20,1,3.9\n10,0,3.5\n", None),
    ],
)
def test_the_length_of_a_pass_is_read_from_epochs_where_they_tell(rows, steps, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,epoch,loss\n" + rows)
    assert read_run(path).pass_steps == steps
    assert read_run(path, pass_steps=7).pass_steps == 7


def csv_of(tmp_path: Path, pairs) -> Path:
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n" + "".join(f"{step},{loss}\n" for step, loss in pairs))
    return path


def test_steps_out_of_order_are_sorted_and_it_is_said(tmp_path):
    run = read_run(csv_of(tmp_path, [(2, 3.2), (0, 3.9), (1, 3.5)]))
    assert run.train.tolist() == [3.9, 3.5, 3.2]
    assert "sorted" in run.notes[0]
    assert "sorted" in str(diagnose(run))


def test_a_resumed_run_replaces_what_was_undone(tmp_path):
    first = [(step, 1.0) for step in range(10)]
    again = [(step, 2.0) for step in range(6, 9)]
    run = read_run(csv_of(tmp_path, first + again))
    assert run.steps.tolist() == list(range(9))  # step 9 of the abandoned branch is gone too
    assert run.train.tolist() == [1.0] * 6 + [2.0] * 3
    assert "resumed at step 6; 4 earlier values" in run.notes[0]


def test_micro_batches_of_one_step_are_averaged_and_it_is_said(tmp_path):
    run = read_run(csv_of(tmp_path, [(0, 4.0), (0, 2.0), (1, 1.0)]))
    assert run.train.tolist() == [3.0, 1.0]
    assert "averaged" in run.notes[0]


def test_several_runs_in_one_file_are_refused(tmp_path):
    pairs = [(step, 1.0) for step in (5, 9, 1, 8, 2, 7, 5, 3, 0, 9, 1)]
    with pytest.raises(ValueError, match="several runs"):
        read_run(csv_of(tmp_path, pairs))


def test_a_line_cut_off_by_a_crash_is_left_out_and_a_broken_one_is_not(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 0, "loss": 3.9}\n{"step": 1, "loss": 3.5}\n{"step": 2, "lo')
    run = read_run(path)
    assert (len(run), "cut off" in run.notes[0]) == (2, True)
    path.write_text('{"step": 0, "lo\n{"step": 1, "loss": 3.5}\n')
    with pytest.raises(ValueError, match="line 1, is no JSON"):
        read_run(path)


def test_a_file_that_is_no_log_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_run(tmp_path / "none.csv")
    for name, content, words in (
        ("log.xyz", b"", "tells no format"),
        ("log.csv", b"\xff\xfe\x00", "no UTF-8"),
        ("log.json", b"{}", "no log_history"),
        ("log.json", b"{", "is no JSON"),
        ("log.jsonl", b"[1]\n", "no JSON object"),
        ("log.jsonl", b'{"step": 0, "loss": true}\n', "loss is True"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_run(tmp_path / name)
    with pytest.raises(ValueError, match="format must be one of"):
        read_run(tmp_path / "log.csv", format="parquet")


# ------------------------------------------------------------------------------------------------------ pictures


def test_the_picture_names_every_finding_over_its_steps():
    from lossutils.plotting import plot_diagnosis

    steps, loss = healthy()
    loss[:20] += np.linspace(8, 0, 20)
    loss[150:160] += 6
    run = Run(steps, loss, [0, 150, 300], [3.8, 2.0, 1.7], vocab_size=V, floor=1.5)
    ax = plot_diagnosis(run, diagnose(run), bigger=Run(*healthy()))
    texts = [text.get_text() for text in ax.texts]
    for name in (
        "spike (warning)",
        "bad start (warning)",
        "training",
        "validation",
        "bigger",
        "floor",
        "ln V",
    ):
        assert name in texts
    spans = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in ax.patches)
    assert spans[-1][0] < 150 < 159 < spans[-1][1] < 165


def test_a_curve_that_explodes_is_drawn_on_a_logarithmic_axis_and_a_long_one_lightly():
    from lossutils.plotting import plot_diagnosis

    steps, loss = healthy(20_000)
    run = Run(steps, loss)
    ax = plot_diagnosis(run, diagnose(run))
    assert ax.get_yscale() == "linear"
    assert max(len(line.get_xdata()) for line in ax.lines) <= 20_000
    loss[10_000:] = 100
    assert plot_diagnosis(Run(steps, loss), diagnose(Run(steps, loss))).get_yscale() == "log"


def test_tensors_are_taken_as_arrays_are():
    steps, loss = healthy()
    assert diagnose(Run(torch.as_tensor(steps), torch.as_tensor(loss), vocab_size=V)).healthy
