"""Alignment, the stages: their losses by hand, their gradients by enumeration, what they teach, and resuming them."""

import inspect
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from tiny_models import tiny

from lossutils import alignment, softmax
from lossutils.alignment import (
    DPOConfig,
    PolicyConfig,
    PretrainConfig,
    RewardConfig,
    SFTConfig,
    all_responses,
    best_of_n_expectation,
    dpo,
    evaluate,
    optimal_value,
    policy_gradient,
    pretrain,
    regularised_value,
    response_logprobs,
    response_table,
    reward_accuracy,
    sample_responses,
    sampler,
    sft,
    train_reward_model,
)
from lossutils.alignment.policy import reinforce
from lossutils.alignment.responses import Rows, join, row_logprobs
from lossutils.instruction_world import PAD, Preferences, instruction_world, small_instruction_world
from lossutils.models import GPT

SMALL = small_instruction_world()
torch.set_num_threads(1)

DEMONSTRATIONS = SMALL.demonstrations(12, np.random.default_rng(0))
PREFERENCES = SMALL.preferences(40, np.random.default_rng(1))
PLAIN_SFT = SFTConfig(corpus_weight=0.0, epochs=1, batch_size=12)
PLAIN_DPO = DPOConfig(corpus_weight=0.0, nll_weight=0.0, epochs=1, batch_size=40)


@pytest.fixture(scope="module")
def base():
    """A model that knows the small world."""
    config = PretrainConfig(width=32, layers=1, heads=4, steps=250, learning_rate=1e-2)
    return pretrain(SMALL, config).model


def weights(model):
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def first_loss(trained):
    return trained.history.losses[0]


# --------------------------------------------------------------------------------------------------------------
# losses by hand, at the first step


def mean_token_nll(model, prompts, answers):
    n = (answers != PAD).sum(axis=1)
    return -response_logprobs(model, prompts, answers).sum() / n.sum()


def test_pretraining_begins_at_the_loss_of_an_untrained_model_and_ends_near_the_floor(base):
    short = pretrain(SMALL, PretrainConfig(width=8, layers=1, heads=2, steps=1))
    assert first_loss(short) == pytest.approx(np.log(SMALL.vocab_size), abs=0.05)
    found = evaluate(base, SMALL, n_documents=500)
    assert found.floor < found.loss < found.floor + 0.06


def test_pretraining_reads_each_token_of_a_document_once_and_no_filling():
    model = tiny()
    seen = []

    def watch(current):  # called before the first step, with the model that it begins with
        seen.append(weights(current).clone())
        return 0.0

    trained = pretrain(SMALL, PretrainConfig(steps=1, batch_size=64), model=model, evaluate=watch)
    torch.testing.assert_close(seen[0], weights(model))
    generator = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    documents = SMALL.sample(64, rng)
    nats = np.concatenate([model.nll(row[row != PAD]) for row in documents])
    assert first_loss(trained) == pytest.approx(nats.mean())


def test_fine_tuning_counts_the_answers_tokens_and_not_the_prompts():
    expected = mean_token_nll(tiny(), *DEMONSTRATIONS)
    assert first_loss(sft(tiny(), SMALL, DEMONSTRATIONS, PLAIN_SFT)) == pytest.approx(expected)


def test_the_corpus_is_added_with_its_weight():
    base = tiny()
    by_weight = [
        first_loss(sft(base, SMALL, DEMONSTRATIONS, replace(PLAIN_SFT, corpus_weight=w))) for w in (0, 0.5, 2)
    ]
    assert by_weight[2] - by_weight[0] == pytest.approx(4 * (by_weight[1] - by_weight[0]))
    loss = evaluate(base, SMALL).loss
    assert 2 * (by_weight[1] - by_weight[0]) == pytest.approx(loss, rel=0.1)


def log_ratios(model, reference):
    prompts, *answers = PREFERENCES
    a, b = (
        response_logprobs(model, prompts, answer) - response_logprobs(reference, prompts, answer)
        for answer in answers
    )
    return a, b


@pytest.mark.parametrize(
    ("options", "by_hand"),
    [
        ({"beta": 0.3}, lambda a, b: np.log1p(np.exp(-0.3 * (a - b)))),
        (
            {"beta": 0.3, "label_smoothing": 0.2},
            lambda a, b: 0.8 * np.log1p(np.exp(-0.3 * (a - b))) + 0.2 * np.log1p(np.exp(0.3 * (a - b))),
        ),
        ({"beta": 0.3, "loss_type": "ipo"}, lambda a, b: (a - b - 1 / 0.6) ** 2),
        ({"beta": 0.3, "loss_type": "hinge"}, lambda a, b: np.maximum(0, 1 - 0.3 * (a - b))),
    ],
)
def test_dpo_begins_with_the_loss_by_hand_against_another_reference(options, by_hand):
    model, reference = tiny(seed=0), tiny(seed=1)
    trained = dpo(model, SMALL, PREFERENCES, replace(PLAIN_DPO, **options), reference=reference)
    assert first_loss(trained) == pytest.approx(by_hand(*log_ratios(model, reference)).mean())


@pytest.mark.parametrize(
    "loss_type",
    ["sigmoid", "robust", "exo_pair", "hinge", "ipo", "sppo_hard", "nca_pair", "apo_zero", "apo_down"],
)
def test_every_loss_type_of_dpo_widens_the_margin(loss_type):
    config = replace(PLAIN_DPO, loss_type=loss_type, epochs=6, learning_rate=3e-3)
    config = replace(config, label_smoothing=1e-3 if loss_type == "exo_pair" else 0.0)
    model = tiny()
    a, b = log_ratios(dpo(model, SMALL, PREFERENCES, config).model, model)
    assert (a - b).mean() > 0.05


def test_dpo_against_itself_begins_at_log_two():
    assert first_loss(dpo(tiny(), SMALL, PREFERENCES, PLAIN_DPO)) == pytest.approx(np.log(2), abs=1e-12)


def test_the_chosen_answer_s_nll_is_added_with_its_weight():
    found = first_loss(dpo(tiny(), SMALL, PREFERENCES, replace(PLAIN_DPO, nll_weight=0.7)))
    nll = mean_token_nll(tiny(), PREFERENCES.prompts, PREFERENCES.chosen)
    assert found == pytest.approx(np.log(2) + 0.7 * nll)


def test_averaged_log_probabilities_reach_the_loss_when_asked_for():
    model, reference = tiny(seed=0), tiny(seed=1)
    config = replace(PLAIN_DPO, loss_type="ipo", average=True)
    prompts, *answers = PREFERENCES
    a, b = (
        response_logprobs(model, prompts, answer, average=True)
        - response_logprobs(reference, prompts, answer, average=True)
        for answer in answers
    )
    found = first_loss(dpo(model, SMALL, PREFERENCES, config, reference=reference))
    assert found == pytest.approx(((a - b - 5.0) ** 2).mean())


def test_dpo_asks_the_reference_before_the_first_step_only(monkeypatch):
    asked = []
    original = alignment.dpo.__globals__["response_logprobs"]
    monkeypatch.setitem(
        alignment.dpo.__globals__, "response_logprobs", lambda *a, **k: asked.append(1) or original(*a, **k)
    )
    dpo(tiny(), SMALL, PREFERENCES, replace(PLAIN_DPO, epochs=5))
    assert len(asked) == 2  # chosen and rejected


def test_the_reward_model_begins_with_the_loss_of_bradley_and_terry():
    config = RewardConfig(epochs=1, batch_size=40, held_out=0.0)
    fresh = alignment.RewardModel(tiny(), seed=0)
    margin = fresh.score(PREFERENCES.prompts, PREFERENCES.chosen)
    margin = margin - fresh.score(PREFERENCES.prompts, PREFERENCES.rejected)
    found = train_reward_model(tiny(), PREFERENCES, config)
    assert first_loss(found) == pytest.approx(np.log1p(np.exp(-margin)).mean())
    assert np.isnan(found.held_out_accuracy) and not found.history.validation_losses


# --------------------------------------------------------------------------------------------------------------
# the policy gradient, against the sum over all answers


def exact_value(model, reference, prompts, answers, worth, beta):
    """E[r] - beta KL of listed answers, mean over prompts, differentiable in the model."""
    n, k = len(prompts), len(answers)
    rows = join(np.repeat(prompts, k, axis=0), np.tile(answers, (n, 1)))
    logp = row_logprobs(model, rows).view(n, k)
    logq = torch.as_tensor(response_table(reference, prompts, answers))
    p = softmax(logp)  # they sum to one already
    return ((p * torch.as_tensor(worth)).sum(1) - beta * (p * (logp - logq)).sum(1)).mean()


def test_the_mean_policy_gradient_is_the_gradient_of_the_exact_value():
    model, reference, beta = tiny(seed=0), tiny(seed=1), 0.2
    prompts = SMALL.prompts("train")[[0, 9]]
    longest = 3
    answers = all_responses(SMALL, longest)

    def reward(prompts, responses):  # of the first words, so that longer answers need not be listed
        return SMALL.utility(prompts, responses[:, :longest])

    worth = reward(np.repeat(prompts, len(answers), axis=0), np.tile(answers, (2, 1))).reshape(2, -1)
    value = exact_value(model, reference, prompts, answers, worth, beta)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])
    config = PolicyConfig(samples=500, beta=beta)
    cut = CutOff(SMALL, longest)
    found = []
    for seed in range(40):
        model.zero_grad()
        rng = np.random.default_rng(seed)
        earned = reinforce(model, reference, cut, reward, torch.as_tensor(prompts), rng, config)
        earned.loss.backward()
        found.append(-torch.cat([w.grad.flatten() for w in model.parameters()]))
    found = torch.stack(found)
    error = found.std(0) / len(found) ** 0.5
    used = error > 1e-12
    z = ((found.mean(0) - expected) / error)[used]
    assert used.sum() > 500
    assert z.square().mean() == pytest.approx(1, abs=0.35) and z.abs().max() < 5.5
    assert torch.cosine_similarity(found.mean(0), expected, dim=0) > 0.99


class CutOff:
    """A world whose answers are cut off early."""

    def __init__(self, world, longest):
        self.max_response, self.stop_id = longest, world.stop_id


def test_the_loss_shown_is_what_is_maximised_with_its_sign_turned():
    model, reference = tiny(seed=0), tiny(seed=1)
    prompts = torch.as_tensor(SMALL.prompts("train")[:4])
    earned = reinforce(
        model, reference, SMALL, SMALL.utility, prompts, np.random.default_rng(0), PolicyConfig(beta=0.5)
    )
    assert earned.loss.item() == pytest.approx(-(earned.reward - 0.5 * earned.kl))


def test_an_answer_s_own_reward_is_not_in_its_baseline():
    # With two samples the advantages are +- the difference; with equal rewards there is nothing to learn.
    model = tiny()
    prompts = torch.as_tensor(SMALL.prompts("train")[:4])
    config = PolicyConfig(samples=2, beta=0.0)

    def gradient(reward):
        model.zero_grad()
        rng = np.random.default_rng(0)
        reinforce(model, model, SMALL, reward, prompts, rng, config).loss.backward()
        return torch.cat([w.grad.flatten() for w in model.parameters()])

    def first_is_better(prompts, responses):
        return np.tile([1.0, 0.0], len(prompts) // 2)

    assert gradient(lambda p, r: np.full(len(p), 7.0)).abs().max() < 1e-12
    rows = sample_responses(model, SMALL, np.repeat(prompts.numpy(), 2, axis=0), np.random.default_rng(0))
    logp = row_logprobs(model, Rows(*join(np.repeat(prompts.numpy(), 2, axis=0), rows)))
    model.zero_grad()
    (-(logp[0::2] - logp[1::2]).sum() / 8).backward()
    by_hand = torch.cat([w.grad.flatten() for w in model.parameters()])
    torch.testing.assert_close(gradient(first_is_better), by_hand)


def test_a_policy_gradient_comes_near_the_exact_optimum(base):
    beta = 0.3
    start = sft(base, SMALL, DEMONSTRATIONS, SFTConfig(epochs=2)).model
    prompts, answers = SMALL.prompts("train"), all_responses(SMALL)
    worth = SMALL.utility(prompts, np.broadcast_to(answers, (len(prompts), *answers.shape)))
    config = PolicyConfig(steps=60, prompts=8, beta=beta, corpus_weight=0.0, learning_rate=3e-3)
    trained = policy_gradient(start, SMALL, SMALL.utility, config)
    table = [softmax(response_table(model, prompts, answers)) for model in (start, trained.model)]
    top = optimal_value(table[0], worth, beta)
    before, after = (regularised_value(p, table[0], worth, beta) for p in table)
    assert (top - after).mean() < 0.35 * (top - before).mean()
    assert (top - after).mean() > 0
    assert np.mean(trained.rewards[-10:]) > np.mean(trained.rewards[:10])


def test_a_high_price_keeps_the_policy_near_its_reference(base):
    free, dear = (
        policy_gradient(base, SMALL, SMALL.utility, PolicyConfig(steps=25, beta=beta, corpus_weight=0.0))
        for beta in (0.0, 3.0)
    )
    assert np.mean(dear.kls[-5:]) < 0.3 * np.mean(free.kls[-5:])


# --------------------------------------------------------------------------------------------------------------
# what the stages teach


def test_fine_tuning_elicits_what_pretraining_taught_and_fails_without_it(base):
    config = SFTConfig(epochs=15, learning_rate=3e-3)
    before = evaluate(base, SMALL, n_documents=300)
    after = evaluate(sft(base, SMALL, DEMONSTRATIONS, config).model, SMALL, n_documents=300)
    nothing = evaluate(sft(GPT(**base.config), SMALL, DEMONSTRATIONS, config).model, SMALL, n_documents=300)
    assert after.refusal > 0.3 > 3 * before.refusal
    assert after.help > 2 * before.help
    assert nothing.help < 0.5 * after.help
    assert before.loss < after.loss < nothing.loss


def test_dpo_lets_the_chosen_answer_fall_and_its_likelihood_in_the_loss_repairs_that(base):
    pairs = SMALL.preferences(120, np.random.default_rng(2), candidates=sampler(base, SMALL))
    config = replace(PLAIN_DPO, batch_size=16, epochs=4, learning_rate=3e-3)
    moved = []
    for nll_weight in (0.0, 0.5):
        model = dpo(base, SMALL, pairs, replace(config, nll_weight=nll_weight)).model
        before = response_logprobs(base, pairs.prompts, pairs.chosen)
        moved.append(response_logprobs(model, pairs.prompts, pairs.chosen) - before)
    assert (moved[0] < 0).mean() > 0.3
    assert (moved[1] < 0).mean() < 0.7 * (moved[0] < 0).mean()
    assert moved[1].mean() > moved[0].mean() + 1


def test_a_reward_model_learns_the_order_that_it_is_shown(base):
    pairs = SMALL.preferences(150, np.random.default_rng(3))
    turned = Preferences(pairs.prompts, pairs.rejected, pairs.chosen)
    found = train_reward_model(base, pairs, RewardConfig(learning_rate=3e-3))
    assert found.accuracy > 0.9 and found.held_out_accuracy > 0.8
    assert reward_accuracy(found.model, turned) == pytest.approx(1 - reward_accuracy(found.model, pairs))
    assert found.history.validation_losses[-1] < found.history.validation_losses[0]


def test_held_out_pairs_share_no_question_with_the_others(base, monkeypatch):
    parts = []
    accuracy = alignment.train_reward_model.__globals__["reward_accuracy"]
    monkeypatch.setitem(
        alignment.train_reward_model.__globals__,
        "reward_accuracy",
        lambda reward, part: parts.append({tuple(row) for row in part.prompts}) or accuracy(reward, part),
    )
    train_reward_model(base, PREFERENCES, RewardConfig(epochs=1, held_out=0.3))
    assert parts[0] and parts[1] and not parts[0] & parts[1]


# --------------------------------------------------------------------------------------------------------------
# runs: pure, repeatable, resumable


def stages():
    """Each stage as a function of a seed, and what it takes for a run."""
    reward = RewardConfig(epochs=3, batch_size=8)
    return {
        "pretrain": lambda seed, **run: pretrain(
            SMALL, PretrainConfig(width=8, layers=1, heads=2, steps=6, batch_size=4, seed=seed), **run
        ),
        "sft": lambda seed, **run: sft(
            tiny(), SMALL, DEMONSTRATIONS, SFTConfig(seed=seed, batch_size=5, epochs=2), **run
        ),
        "dpo": lambda seed, **run: dpo(
            tiny(), SMALL, PREFERENCES, DPOConfig(seed=seed, batch_size=9, epochs=1), **run
        ),
        "reward": lambda seed, **run: train_reward_model(
            tiny(), PREFERENCES, replace(reward, seed=seed), **run
        ),
        "policy": lambda seed, **run: policy_gradient(
            tiny(), SMALL, SMALL.utility, PolicyConfig(steps=5, prompts=3, samples=2, seed=seed), **run
        ),
    }


@pytest.mark.parametrize("name", list(stages()))
def test_the_same_seed_gives_the_same_model_and_another_seed_another(name):
    stage = stages()[name]
    one, again, other = stage(1), stage(1), stage(2)
    assert one.history.losses == again.history.losses != other.history.losses
    torch.testing.assert_close(weights(one.model), weights(again.model), rtol=0, atol=0)
    assert not torch.equal(weights(one.model), weights(other.model))


@pytest.mark.parametrize("name", list(stages()))
def test_a_run_that_was_stopped_and_resumed_is_as_one_that_was_not(name, tmp_path):
    stage, steps = stages()[name], iter(range(100))
    whole = stage(1)
    file = tmp_path / "run.safetensors"
    stopped = stage(1, checkpoint=file, stop=lambda: next(steps) == 3)
    assert stopped.history.stopped and len(stopped.history.losses) == 3
    resumed = stage(1, checkpoint=file, resume=True)
    assert resumed.history.losses == whole.history.losses
    torch.testing.assert_close(weights(resumed.model), weights(whole.model), rtol=0, atol=0)


def test_no_stage_changes_the_model_that_it_is_given():
    model = tiny()
    before = weights(model).clone()
    trained = [
        pretrain(SMALL, PretrainConfig(steps=2), model=model),
        sft(model, SMALL, DEMONSTRATIONS),
        dpo(model, SMALL, PREFERENCES, DPOConfig(epochs=1)),
        train_reward_model(model, PREFERENCES, RewardConfig(epochs=1)),
        policy_gradient(model, SMALL, SMALL.utility, PolicyConfig(steps=2)),
    ]
    assert torch.equal(weights(model), before)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(torch.equal(weights(found.model)[:50], before[:50]) for found in trained)


def test_each_demonstration_is_seen_once_an_epoch():
    from lossutils.alignment._stages import Epochs

    epochs = Epochs(10, 4, 2, seed=0)
    assert epochs.steps == 5
    seen = torch.cat([epochs(step) for step in range(5)])
    for epoch in (seen[:10], seen[10:]):
        assert sorted(epoch.tolist()) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()
    assert Epochs(3, 16, 1, seed=0)(0).sort().values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("config", [PretrainConfig, SFTConfig, DPOConfig, RewardConfig, PolicyConfig])
def test_configurations_are_frozen_and_document_each_field(config):
    with pytest.raises(FrozenInstanceError):
        config().seed = 3
    text = inspect.getdoc(config)
    lines = [line.split(" : ")[0] for line in text.splitlines() if " : " in line]
    described = {name for line in lines for name in line.split(", ")}
    assert set(vars(config())) <= described


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: sft(tiny(), SMALL, DEMONSTRATIONS, SFTConfig(corpus_weight=-1)),
            ValueError,
            "corpus_weight",
        ),
        (lambda: sft(tiny(), SMALL, DEMONSTRATIONS, seed=3), TypeError, r"SFTConfig\(seed=...\)"),
        (
            lambda: sft(tiny(), SMALL, DEMONSTRATIONS, SFTConfig(learning_rate=0)),
            ValueError,
            "learning_rate is 0",
        ),
        (
            lambda: sft(tiny(), SMALL, DEMONSTRATIONS, SFTConfig(device="abacus")),
            ValueError,
            "device is 'abacus'",
        ),
        (
            lambda: sft(tiny(), SMALL, DEMONSTRATIONS, SFTConfig(batch_size=0)),
            ValueError,
            "batch_size must be at least 1",
        ),
        (lambda: sft(tiny(), SMALL, DEMONSTRATIONS, SFTConfig(epochs=0)), ValueError, "epochs is 0"),
        (lambda: pretrain(SMALL, PretrainConfig(steps=0)), ValueError, "steps must be at least 1"),
        (lambda: pretrain(SMALL, PretrainConfig(batch_size=0)), ValueError, "batch_size must be at least 1"),
        (lambda: dpo(tiny(), SMALL, PREFERENCES, DPOConfig(beta=0)), ValueError, "beta must be positive"),
        (
            lambda: dpo(tiny(), SMALL, PREFERENCES, DPOConfig(loss_type="dpo")),
            ValueError,
            "loss_type must be one",
        ),
        (lambda: dpo(tiny(), SMALL, PREFERENCES, DPOConfig(nll_weight=-1)), ValueError, "nll_weight"),
        (
            lambda: train_reward_model(tiny(), PREFERENCES, RewardConfig(held_out=1.0)),
            ValueError,
            "leaves no pair",
        ),
        (
            lambda: policy_gradient(tiny(), SMALL, SMALL.utility, PolicyConfig(samples=1)),
            ValueError,
            "samples must be at least 2",
        ),
        (
            lambda: policy_gradient(tiny(), SMALL, SMALL.utility, PolicyConfig(kl_kind="k4")),
            ValueError,
            "kl_kind must be one of",
        ),
        (
            lambda: policy_gradient(tiny(), SMALL, lambda p, r: 1.0, PolicyConfig(steps=1)),
            ValueError,
            "reward must return shape",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --------------------------------------------------------------------------------------------------------------
# all of it, in the book's world


@pytest.mark.slow
def test_the_aligned_model_has_the_higher_loss_and_is_far_more_useful():
    world, rng = instruction_world(), np.random.default_rng(0)
    base, _ = pretrain(world)
    helper, _ = sft(base, world, world.demonstrations(192, rng))
    pairs = world.preferences(384, rng, candidates=sampler(helper, world))
    aligned, _ = dpo(helper, world, pairs)
    rows = [evaluate(model, world, base=base) for model in (base, helper, aligned)]
    assert rows[0].loss < rows[0].floor + 0.05
    for row in rows[1:]:
        assert row.loss > rows[0].loss + 0.05
        assert row.help > 5 * rows[0].help and row.utility > rows[0].utility + 0.4
        assert row.unsafe < 0.5 * rows[0].unsafe
    weak, _ = sft(base, world, world.demonstrations(48, rng), SFTConfig(epochs=2))
    shown = world.preferences(384, rng, candidates=sampler(weak, world))
    reward = train_reward_model(base, shown).model
    prompts = world.prompts("held_out")[::3]  # of all four operations
    pool = sample_responses(weak, world, prompts, rng, samples=128)
    proxy, truth = reward.score(prompts, pool), world.utility(prompts, pool)
    curve = [
        [best_of_n_expectation(proxy, values, n).mean() for n in (1, 4, 64)] for values in (proxy, truth)
    ]
    assert curve[0] == sorted(curve[0])
    assert curve[1][1] > curve[1][0] + 0.05 and curve[1][1] > curve[1][2] + 0.03  # up, then down
