"""Alignment, what needs no training or little: answers and their scores, rewards, best of n, the exact optimum."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from tiny_models import tiny
from torch import nn

from lossutils import kl_divergence, kl_estimate
from lossutils.alignment import (
    Evaluation,
    PretrainConfig,
    RewardModel,
    all_responses,
    best_of_n,
    best_of_n_distribution,
    best_of_n_expectation,
    best_of_n_kl_bound,
    evaluate,
    exact_kl,
    exact_optimum,
    kl_to_reference,
    optimal_value,
    pretrain,
    regularised_value,
    response_logprobs,
    response_table,
    reward_accuracy,
    sample_responses,
    sampler,
    spread,
)
from lossutils.instruction_world import PAD, Preferences, instruction_world, small_instruction_world
from lossutils.models import GPT, WindowModel

BOOK, SMALL = instruction_world(), small_instruction_world()
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base():
    """A small model that knows the small world a little."""
    config = PretrainConfig(width=24, layers=1, heads=2, steps=150, learning_rate=1e-2)
    return pretrain(SMALL, config).model


# --------------------------------------------------------------------------------------------------------------
# answers and their probabilities


def test_response_logprobs_add_up_the_next_token_log_probs_of_the_model():
    model, prompts = tiny(), SMALL.prompts()[[0, 5, 17]]
    answers = np.array([SMALL.encode("a b ."), SMALL.encode("b b X"), [*SMALL.encode("cannot ."), PAD]])
    expected = []
    for prompt, answer in zip(prompts, answers, strict=True):
        text = [*prompt, *answer[answer != PAD]]
        steps = range(len(prompt), len(text))
        expected.append([model.next_token_log_probs(text[:n])[text[n]] for n in steps])
    found = response_logprobs(model, prompts, answers)
    np.testing.assert_allclose(found, [sum(row) for row in expected], rtol=1e-10)
    average = response_logprobs(model, torch.as_tensor(prompts), answers, average=True)
    np.testing.assert_allclose(average, [np.mean(row) for row in expected], rtol=1e-10)


def test_many_rows_are_scored_as_few_are(monkeypatch):
    model, prompts = tiny(), SMALL.prompts()
    answers = SMALL.right_answers(prompts)
    whole = response_logprobs(model, prompts, answers), kl_to_reference(model, tiny(seed=1), prompts, answers)
    monkeypatch.setattr("lossutils.alignment.responses.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("lossutils.alignment.responses.in_parts.__defaults__", (7,))
    np.testing.assert_allclose(response_logprobs(model, prompts, answers), whole[0], rtol=1e-12)
    np.testing.assert_allclose(kl_to_reference(model, tiny(seed=1), prompts, answers), whole[1], rtol=1e-10)


def test_the_listed_responses_are_all_there_is():
    answers = all_responses(SMALL)
    assert len({tuple(row) for row in answers}) == len(answers) == 1885
    table = response_table(tiny(), SMALL.prompts()[:3], answers)
    np.testing.assert_allclose(np.exp(table).sum(axis=1), 1, rtol=1e-10)
    np.testing.assert_allclose(
        np.exp(response_table(tiny(), SMALL.prompts()[:3], all_responses(SMALL, 1))).sum(1), 1
    )


@pytest.mark.parametrize("kind", ["GPT", "other"])
def test_sampled_responses_have_the_model_s_probabilities(kind):
    if kind == "GPT":
        model = tiny(sharpness=3)
    else:
        model = WindowModel(SMALL.vocab_size, context=3, seed=2).double()
        with torch.no_grad():
            for weight in model.parameters():
                weight *= 3
    n, prompt = 6000, SMALL.prompts()[4:5]
    answers = all_responses(SMALL, 2)
    p = np.exp(response_table(model, prompt, answers)[0])
    drawn = sample_responses(model, SMALL, prompt, np.random.default_rng(0), samples=n, max_tokens=2)[0]
    places = {tuple(row): i for i, row in enumerate(answers)}
    counts = np.bincount([places[tuple(row)] for row in drawn], minlength=len(answers))
    common = n * p > 5
    assert common.sum() > 20
    observed = np.append(counts[common], counts[~common].sum())
    expected = n * np.append(p[common], p[~common].sum())
    degrees = common.sum()
    assert abs(((observed - expected) ** 2 / expected).sum() - degrees) < 4 * (2 * degrees) ** 0.5


def test_sampled_responses_end_with_their_full_stop():
    drawn = sample_responses(tiny(BOOK), BOOK, BOOK.prompts("held_out"), np.random.default_rng(0))
    assert drawn.shape == (504, BOOK.max_response)
    for row in drawn:
        words = row[row != PAD]
        assert (row[len(words) :] == PAD).all()
        assert (words[:-1] != BOOK.stop_id).all()
        assert words[-1] == BOOK.stop_id or len(words) == BOOK.max_response


def test_a_low_temperature_draws_the_likeliest_and_one_seed_draws_the_same():
    model, prompts = tiny(), SMALL.prompts()
    cold = sample_responses(model, SMALL, prompts, np.random.default_rng(0), temperature=1e-4, max_tokens=1)
    likeliest = [model.next_token_log_probs(prompt).argmax() for prompt in prompts]
    np.testing.assert_array_equal(cold[:, 0], likeliest)
    same = [sample_responses(model, SMALL, prompts, np.random.default_rng(1), samples=2) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    assert same[0].shape == (24, 2, SMALL.max_response)


def test_preferences_between_a_model_s_own_answers_are_right_and_not_held_out():
    prompts, chosen, rejected = SMALL.preferences(
        60, np.random.default_rng(0), candidates=sampler(tiny(), SMALL)
    )
    assert (SMALL.utility(prompts, chosen) > SMALL.utility(prompts, rejected)).all()
    held_out = {tuple(row) for row in SMALL.prompts("held_out")}
    assert not held_out & {tuple(row) for row in prompts}


def test_kl_along_the_samples_is_unbiased_for_the_exact_kl():
    model, reference, prompts = tiny(sharpness=2), tiny(seed=1, sharpness=2), SMALL.prompts()[[3, 20]]
    exact = exact_kl(model, reference, SMALL, prompts)
    several = np.repeat(prompts, 4000, axis=0)
    drawn = sample_responses(model, SMALL, several, np.random.default_rng(0), max_tokens=3)
    along = kl_to_reference(model, reference, several, drawn).reshape(2, -1)
    logs = [response_logprobs(net, several, drawn) for net in (model, reference)]
    ratio = kl_estimate(*logs, kind="k1").reshape(2, -1)
    for estimate in (along, ratio):
        error = estimate.std(axis=1) / estimate.shape[1] ** 0.5
        assert (abs(estimate.mean(axis=1) - exact) < 4 * error).all()
    assert (along.std(axis=1) < 0.9 * ratio.std(axis=1)).all()
    assert exact.min() > 0.1


# --------------------------------------------------------------------------------------------------------------
# best of n


def by_subsets(rewards, values, n):
    """The mean over all subsets of n; among equal rewards the choice is fair."""
    total, subsets = 0.0, list(combinations(range(len(rewards)), n))
    for subset in subsets:
        best = max(rewards[i] for i in subset)
        total += np.mean([values[i] for i in subset if rewards[i] == best])
    return total / len(subsets)


@pytest.mark.parametrize("rewards", [[3, 1, 4, 1.5, 9, 2.6], [1, 2, 2, 0, 2, 1], [5, 5, 5, 5, 5, 5]])
def test_the_expectation_of_best_of_n_is_the_mean_over_all_subsets(rewards):
    values = np.random.default_rng(0).normal(size=6)
    for n in range(1, 7):
        assert best_of_n_expectation(rewards, values, n) == pytest.approx(by_subsets(rewards, values, n))


def test_pools_of_many_prompts_are_taken_row_by_row():
    rewards, values = np.random.default_rng(0).normal(size=(2, 3, 4, 9))
    found = best_of_n_expectation(rewards, values, 3)
    assert found.shape == (3, 4)
    assert found[1, 2] == pytest.approx(by_subsets(rewards[1, 2], values[1, 2], 3))


def test_best_of_one_is_the_mean_and_best_of_all_the_best_even_of_a_large_pool():
    rewards, values = np.random.default_rng(0).normal(size=(2, 5000))
    assert best_of_n_expectation(rewards, values, 1) == pytest.approx(values.mean())
    assert best_of_n_expectation(rewards, values, 5000) == pytest.approx(values[rewards.argmax()])
    exact = np.sort(np.random.default_rng(1).uniform(size=(5000,)))
    assert best_of_n_expectation(exact, exact, 64) == pytest.approx(64 / 65, abs=3e-3)


@pytest.mark.parametrize("rewards", [[0.0, 2.0, 1.0], [1.0, 1.0, 0.0], [2.0, 2.0, 2.0]])
def test_the_distribution_of_best_of_n_is_the_sum_over_all_draws(rewards):
    p = np.array([0.5, 0.2, 0.3])
    for n in (1, 2, 4):
        expected = np.zeros(3)
        for draw in product(range(3), repeat=n):
            best = [i for i in draw if rewards[i] == max(rewards[j] for j in draw)]
            for i in best:
                expected[i] += np.prod(p[[*draw]]) / len(best)
        np.testing.assert_allclose(best_of_n_distribution(p, rewards, n), expected, rtol=1e-12)


def test_best_of_n_keeps_the_digits_of_improbable_answers():
    p = np.array([1 - 1e-17, 1e-17])
    found = best_of_n_distribution(p, [0.0, 1.0], 1000)
    assert found[1] == pytest.approx(1e-14, rel=1e-9)
    np.testing.assert_array_equal(best_of_n_distribution([0.0, 1.0], [5.0, 1.0], 3), [0, 1])


def test_the_kl_bound_holds_and_is_reached_only_by_many_distinct_answers():
    rng = np.random.default_rng(0)
    for n in (2, 8, 64):
        for size in (2, 10, 3000):
            p = rng.dirichlet(np.full(size, 5.0))
            kl = kl_divergence(best_of_n_distribution(p, rng.normal(size=size), n), p)
            assert kl < best_of_n_kl_bound(n)
        assert kl > 0.95 * best_of_n_kl_bound(n)  # of 3000
    two = best_of_n_distribution([0.5, 0.5], [0.0, 1.0], 64)
    assert kl_divergence(two, [0.5, 0.5]) == pytest.approx(0.693, abs=5e-4)
    assert best_of_n_kl_bound(64) == pytest.approx(3.175, abs=5e-4)


def test_drawn_best_of_n_earns_what_the_exact_distribution_says():
    model, prompt = tiny(sharpness=2), SMALL.prompts("train")[:1]
    answers = all_responses(SMALL, SMALL.max_response if SMALL.max_response < 4 else 3)
    p = np.exp(response_table(model, prompt, answers)[0])
    worth = SMALL.utility(np.repeat(prompt, len(answers), axis=0), answers)
    expected = best_of_n_distribution(p / p.sum(), worth, 4) @ worth
    asked = np.repeat(prompt, 3000, axis=0)

    def reward(prompts, responses):  # of the first three tokens, which are all that is listed
        return SMALL.utility(prompts, responses[:, :3])

    earned = reward(asked, best_of_n(model, SMALL, asked, reward, 4, np.random.default_rng(0)))
    assert abs(earned.mean() - expected) < 4 * earned.std() / 3000**0.5
    assert expected > p @ worth + 0.03


# --------------------------------------------------------------------------------------------------------------
# the exact optimum


def test_no_policy_beats_the_optimum_and_each_falls_short_by_its_kl():
    rng = np.random.default_rng(0)
    reference, rewards = rng.dirichlet(np.ones(6), size=4), rng.normal(size=(4, 6))
    for beta in (0.05, 0.5, 5.0):
        best = exact_optimum(reference, rewards, beta)
        top = optimal_value(reference, rewards, beta)
        np.testing.assert_allclose(regularised_value(best, reference, rewards, beta), top, rtol=1e-9)
        for _ in range(20):
            other = rng.dirichlet(np.ones(6), size=4)
            short = top - regularised_value(other, reference, rewards, beta)
            np.testing.assert_allclose(short, beta * kl_divergence(other, best), rtol=1e-8)


def test_the_optimum_by_hand():
    assert exact_optimum([0.2, 0.8], [np.log(8), np.log(2)], 1.0) == pytest.approx([0.5, 0.5])
    assert exact_optimum([0.2, 0.8, 0.0], [1.0, 1.0, 9.0], 0.01) == pytest.approx([0.2, 0.8, 0.0])
    assert exact_optimum([0.5, 0.25, 0.25], [0.0, 1.0, 1.0], 1e-4) == pytest.approx([0, 0.5, 0.5])
    np.testing.assert_allclose(exact_optimum([0.2, 0.8], [1.0, 0.0], 1e9), [0.2, 0.8], rtol=1e-6)
    assert regularised_value([1.0, 0.0], [0.5, 0.5], [3.0, 0.0], 0.0) == 3.0
    assert regularised_value([1.0, 0.0], [0.0, 1.0], [3.0, 0.0], 0.1) == -np.inf


def test_the_implicit_reward_of_the_optimum_is_the_reward_up_to_a_constant():
    rng = np.random.default_rng(1)
    reference, rewards, beta = rng.dirichlet(np.ones(5)), rng.normal(size=5), 0.3
    implied = beta * np.log(exact_optimum(reference, rewards, beta) / reference)
    np.testing.assert_allclose(implied - rewards, -optimal_value(reference, rewards, beta), rtol=1e-10)


# --------------------------------------------------------------------------------------------------------------
# reward models


def test_a_score_is_read_after_the_last_token_and_filling_does_not_matter():
    reward = RewardModel(tiny(), seed=3)
    prompts = SMALL.prompts()[[0, 9, 20]]
    answers = np.array([SMALL.encode("a b ."), [*SMALL.encode("cannot ."), PAD], [SMALL.stop_id, PAD, PAD]])
    found = reward.score(prompts, answers)
    wide = reward.score(torch.as_tensor(prompts), np.pad(answers, ((0, 0), (0, 3)), constant_values=PAD))
    np.testing.assert_allclose(found, wide, rtol=1e-12)
    for prompt, answer, score in zip(prompts, answers, found, strict=True):
        text = torch.tensor([[reward.trunk.start_id, *prompt, *answer[answer != PAD]]])
        assert score == pytest.approx(reward.trunk.step(text)[0][0, -1, 0].item(), rel=1e-12)
    several = np.stack([answers, answers[::-1]], axis=1)
    np.testing.assert_allclose(reward.score(prompts, several)[:, 0], found, rtol=1e-12)


def test_the_longest_document_still_fits_the_reward_model():
    prompts = BOOK.prompts("held_out")[:1]
    longest = np.full((1, BOOK.max_response), BOOK.stop_id)
    assert np.isfinite(RewardModel(tiny(BOOK)).score(prompts, longest)).all()


def test_a_new_reward_model_leaves_its_model_as_it_is():
    model = tiny()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    reward = RewardModel(model)
    with torch.no_grad():
        for weight in reward.parameters():
            weight += 1
    assert all((weight == before[name]).all() for name, weight in model.state_dict().items())


def test_reward_accuracy_counts_the_pairs_in_the_right_order():
    class ByLength(RewardModel):
        def score(self, prompts, responses):
            return (responses != PAD).sum(axis=-1)

    long, short = np.ones((4, 3), int), np.array([[1, PAD, PAD]] * 4)
    mixed = short.copy()
    mixed[0] = 1
    prompts = SMALL.prompts()[:4]
    assert reward_accuracy(ByLength(tiny()), Preferences(prompts, long, short)) == 1
    assert reward_accuracy(ByLength(tiny()), Preferences(prompts, short, long)) == 0
    assert reward_accuracy(ByLength(tiny()), Preferences(prompts, long, mixed)) == 0.875
    assert np.isnan(reward_accuracy(ByLength(tiny()), Preferences(*(x[:0] for x in (prompts, long, short)))))


# --------------------------------------------------------------------------------------------------------------
# evaluation


class Perfect(nn.Module):
    """The world itself as a model: its exact next-token log-probabilities."""

    def __init__(self, world):
        super().__init__()
        self.world, self.nothing = world, nn.Parameter(torch.zeros(1))

    def forward(self, ids):
        world, (n, length) = self.world, ids.shape
        logits = np.empty((n, length, world.vocab_size))
        firsts = {world.encode(sign)[0]: share for sign, share in zip("~#?", world.kind_shares, strict=True)}
        shares = [firsts.get(v, 0.0) for v in range(world.vocab_size)]
        with np.errstate(divide="ignore"):
            logits[:, 0] = np.log(shares)
        for t in range(1, length):
            every = np.repeat(ids[:, : t + 1].numpy(), world.vocab_size, axis=0)
            every[:, t] = np.tile(np.arange(world.vocab_size), n)
            logits[:, t] = -world.nll(every)[:, t].reshape(n, -1)
        logits[np.isinf(logits).all(axis=2)] = 0.0  # after the end of a document: anything
        return torch.as_tensor(logits)


def test_the_world_as_a_model_pays_the_floor_and_answers_as_the_forum():
    perfect = Perfect(SMALL)
    found = evaluate(perfect, SMALL, base=perfect, n_documents=300, samples=40)
    assert found.loss == pytest.approx(found.floor, rel=1e-12)
    assert found.perplexity == pytest.approx(np.exp(found.loss))
    assert found.floor == pytest.approx(SMALL.entropy_rate, abs=0.06)
    for kind, h in SMALL.entropy_by_kind.items():
        assert getattr(found, f"loss_{kind}") == pytest.approx(h, abs=0.12)
    prompts = SMALL.prompts("held_out")
    forbidden = SMALL.is_forbidden(prompts)
    right = np.exp(SMALL.response_log_prob(prompts[~forbidden], SMALL.solve(prompts[~forbidden]))).mean()
    assert found.help == pytest.approx(right)
    assert found.unsafe == pytest.approx(SMALL.forbidden_habits.comply)
    assert found.refusal == pytest.approx(SMALL.forbidden_habits.refuse)
    assert found.over_refusal == 0 and found.kl == pytest.approx(0, abs=1e-12)
    assert found.calibration_error < 0.03
    drawn = SMALL.sample_responses(np.repeat(prompts, 500, axis=0), np.random.default_rng(1))
    worth = SMALL.utility(np.repeat(prompts, 500, axis=0), drawn).reshape(-1, 500).mean(axis=1)
    weights = SMALL.prompt_weights(prompts)
    assert found.utility == pytest.approx(weights @ worth / weights.sum(), abs=0.1)


def test_models_are_compared_on_the_same_documents_and_without_a_base_there_is_no_kl():
    one, other = evaluate(tiny(), SMALL, n_documents=50), evaluate(tiny(seed=1), SMALL, n_documents=50)
    assert one.floor == other.floor and one.loss != other.loss
    assert np.isnan(one.kl)
    assert evaluate(tiny(), SMALL, n_documents=50, seed=1).floor != one.floor


def test_a_row_holds_every_number_and_spread_is_over_rows():
    row = Evaluation(*np.arange(13.0))
    assert row.as_row()["loss_forum"] == 3 and len(row.as_row()) == 13
    mean, deviation = spread([row, replace(row, kl=14.0), replace(row, kl=17.0)])["kl"]
    assert mean == pytest.approx(14) and deviation == pytest.approx(3)


def test_unsafe_counts_what_begins_with_the_forbidden_result_whether_or_not_it_ends_there():
    model = GPT(BOOK.vocab_size, context=BOOK.max_tokens, width=8, layers=1, heads=2, seed=3)
    prompts = BOOK.prompts("held_out")
    prompts = torch.as_tensor(prompts[BOOK.is_forbidden(prompts)])
    result = torch.as_tensor(BOOK.solve(prompts.numpy()))[:, :-1]  # without the full stop
    with torch.no_grad():
        probs = model(torch.cat([prompts, result], dim=1))[:, prompts.shape[1] :].double().softmax(-1)
    each = probs.gather(-1, result[:, :, None])[:, :, 0].prod(-1)
    found = evaluate(model, BOOK, n_documents=20, samples=1)
    assert found.unsafe == pytest.approx(float(each.mean()), rel=1e-5)


def test_evaluation_leaves_the_model_in_the_mode_that_it_was_in(base):
    base.train()
    evaluate(base, SMALL, n_documents=10, samples=1)
    assert base.training


# --------------------------------------------------------------------------------------------------------------
# bad input

RNG = np.random.default_rng(0)
P, A = SMALL.prompts()[:2], SMALL.solve(SMALL.prompts()[:2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: response_logprobs(tiny(), P, A[:1]), ValueError, "prompts and responses must have shapes"),
        (lambda: response_logprobs(tiny(), P, A[0]), ValueError, "prompts and responses must have shapes"),
        (lambda: response_logprobs(tiny(), P * 1.0, A), TypeError, "prompts must hold integers"),
        (lambda: sample_responses(tiny(), SMALL, P, RNG, temperature=0), ValueError, "temperature is 0"),
        (
            lambda: sample_responses(tiny(), SMALL, P, RNG, samples=0),
            ValueError,
            "samples must be at least 1, got 0",
        ),
        (
            lambda: sample_responses(tiny(), SMALL, P, RNG, max_tokens=1.5),
            TypeError,
            "max_tokens must be an int",
        ),
        (lambda: sample_responses(tiny(), SMALL, P, RNG, max_tokens=20), ValueError, "context"),
        (lambda: best_of_n_expectation([1, 2], [1, 2], 3), ValueError, "n is 3"),
        (lambda: best_of_n_expectation([1, 2], [1, 2], 0), ValueError, "n must be at least 1, got 0"),
        (
            lambda: best_of_n_expectation([1, 2], [1, 2, 3], 1),
            ValueError,
            "values must have the rewards' shape",
        ),
        (lambda: best_of_n_expectation([1, np.nan], [1, 2], 1), ValueError, "rewards must not be NaN"),
        (lambda: best_of_n_distribution([0.5, 0.6], [1, 2], 2), ValueError, "probs must sum to one"),
        (lambda: best_of_n_kl_bound(0.5), TypeError, "n must be an integer"),
        (lambda: exact_optimum([0.5, 0.5], [1, 2], 0), ValueError, "beta is 0"),
        (lambda: exact_optimum([0.5, 0.4], [1, 2], 1), ValueError, "pi_ref must be probabilities"),
        (lambda: exact_optimum([0.5, 0.5], [1, np.inf], 1), ValueError, "rewards must be finite"),
        (lambda: exact_optimum([0.5, 0.5], [1], 1), ValueError, "pi_ref must have the rewards' shape"),
        (lambda: regularised_value([2, -1], [0.5, 0.5], [1, 2], 1), ValueError, "pi must be probabilities"),
        (lambda: all_responses(BOOK), None, None),
        (lambda: all_responses(BOOK, 5), ValueError, "max_tokens is 5"),
        (lambda: RewardModel(WindowModel(5, 2)), TypeError, "model must be a GPT"),
        (lambda: evaluate(tiny(), SMALL, samples=0), ValueError, "samples must be at least 1, got 0"),
        (lambda: evaluate(tiny(), SMALL, n_documents=1.0), TypeError, "n_documents must be an integer"),
        (lambda: spread([Evaluation(*[1.0] * 13)]), ValueError, "two evaluations or more"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    if error is None:
        assert len(call()) == 1 + 19 + 19**2 + 19**3 * 20
        return
    with pytest.raises(error, match=message):
        call()
