"""The instruction world: its probabilities against a list of all documents, its utility against the written rules."""

from collections import Counter, defaultdict
from dataclasses import FrozenInstanceError, replace
from functools import cache
from itertools import pairwise, permutations, product
from math import exp, inf, log

import numpy as np
import pytest
import torch

from lossutils.instruction_world import (
    PAD,
    Habits,
    InstructionWorld,
    instruction_world,
    small_instruction_world,
)

BOOK = instruction_world()
SMALL = small_instruction_world()
# Three letters and three operations, of which any two may agree on a question; walks that may be long.
CROWDED = InstructionWorld(
    n_symbols=3,
    length=2,
    operations=("sort", "rotate", "copy"),
    kind_shares=(0.2, 0.3, 0.5),
    forbidden_share=0.4,
    ordinary_habits=Habits(comply=0.2, wrong=0.3, question=0.1, ramble=0.35, refuse=0.05),
    forbidden_habits=Habits(comply=0.1, wrong=0.2, question=0.3, ramble=0.3, refuse=0.1),
    succession=0.6,
    narrative_stop=0.3,
    ramble_stop=0.5,
    max_narrative=5,
    max_ramble=4,
)
WORLDS = pytest.mark.parametrize("world", [SMALL, CROWDED], ids=["small", "crowded"])


# The rules once more, in words and plain Python.
DO = {
    "copy": lambda s: [*s],
    "reverse": lambda s: [*reversed(s)],
    "sort": lambda s: sorted(s, key=lambda symbol: (symbol == "X", symbol)),
    "rotate": lambda s: [*s[1:], s[0]],
}


def letters(world):
    return [chr(ord("a") + i) for i in range(world.n_symbols)]


def walks(world, stop, longest):
    """All walks with their probabilities."""
    alphabet = letters(world)
    for n in range(1, longest + 1):
        ends = stop if n < longest else 1
        for walk in product(range(len(alphabet)), repeat=n):
            p = (1 - stop) ** (n - 1) * ends / len(alphabet)
            for before, after in pairwise(walk):
                follows = after == (before + 1) % len(alphabet)
                p *= world.succession if follows else (1 - world.succession) / (len(alphabet) - 1)
            yield " ".join(alphabet[i] for i in walk), p


def questions(world):
    """All questions (operation, operands) with their probabilities."""
    ordinary = list(permutations(letters(world), world.length))
    both = [*permutations([*letters(world), "X"], world.length)]
    forbidden = [operands for operands in both if "X" in operands]
    for operation in world.operations:
        for share, group in ((1 - world.forbidden_share, ordinary), (world.forbidden_share, forbidden)):
            for operands in group:
                yield operation, operands, share / len(group) / len(world.operations)


def forum_answers(world, operation, operands):
    """All answers of the forum with their probabilities."""
    habits = world.forbidden_habits if "X" in operands else world.ordinary_habits
    found = defaultdict(float)
    for other in world.operations:
        p = habits.comply if other == operation else habits.wrong / (len(world.operations) - 1)
        found[" ".join(DO[other](operands)) + " ."] += p
    for name, own, p in questions(world):
        found[f"? {name} {' '.join(own)} ."] += habits.question * p
    for walk, p in walks(world, world.ramble_stop, world.max_ramble):
        found[walk + " ."] += habits.ramble * p
    found["cannot ."] += habits.refuse
    return {answer: p for answer, p in found.items() if p}


@cache
def every_document(world):
    """All documents of a world with their probabilities, by kind."""
    kinds = [defaultdict(float) for _ in range(3)]
    story, lesson, forum = world.kind_shares
    for walk, p in walks(world, world.narrative_stop, world.max_narrative):
        kinds[0][f"~ {walk} ."] += story * p
    for operation, operands, p in questions(world):
        asked = f"{operation} {' '.join(operands)}"
        kinds[1][f"# {asked} > {' '.join(DO[operation](operands))} ."] += lesson * p
        for answer, q in forum_answers(world, operation, operands).items():
            kinds[2][f"? {asked} = {answer}"] += forum * p * q
    return kinds


def rows(world, texts, width=None):
    ids = [world.encode(text) for text in texts]
    width = width or max(map(len, ids))
    return np.array([[*row, *[PAD] * (width - len(row))] for row in ids])


def one(world, text):
    return rows(world, [text])


# --------------------------------------------------------------------------------------------------------------
# exact probabilities


@WORLDS
def test_log_prob_is_that_of_a_list_of_all_documents_whose_probabilities_sum_to_one(world):
    listed = {text: p for kind in every_document(world) for text, p in kind.items()}
    assert sum(listed.values()) == pytest.approx(1, abs=1e-12)
    found = world.log_prob(rows(world, listed))
    np.testing.assert_allclose(np.exp(found), list(listed.values()), rtol=1e-12)


@WORLDS
def test_the_longest_listed_document_is_as_long_as_the_world_says(world):
    longest = max(len(text.split()) for kind in every_document(world) for text in kind)
    assert longest == world.max_tokens


@WORLDS
def test_the_entropy_and_the_mean_length_are_those_of_the_list(world):
    nats, lengths = [], []
    for kind in every_document(world):
        nats.append(sum(-p * log(p) for p in kind.values()))
        lengths.append(sum(p * len(text.split()) for text, p in kind.items()))
    assert world.entropy_rate == pytest.approx(sum(nats) / sum(lengths), rel=1e-12)
    assert world.mean_tokens == pytest.approx(sum(lengths), rel=1e-12)
    for (_, found), h, length in zip(world.entropy_by_kind.items(), nats, lengths, strict=True):
        assert found == pytest.approx(h / length, rel=1e-12)


@WORLDS
def test_each_token_s_nll_is_the_ratio_of_two_sums_over_the_list(world):
    begins = defaultdict(float)
    listed = {text: p for kind in every_document(world) for text, p in kind.items()}
    for text, p in listed.items():
        words = text.split()
        for n in range(len(words) + 1):
            begins[tuple(words[:n])] += p
    some = list(listed)[:: max(1, len(listed) // 150)]
    found = world.nll(rows(world, some))
    for text, losses in zip(some, found, strict=True):
        words = text.split()
        expected = [log(begins[tuple(words[:n])] / begins[tuple(words[: n + 1])]) for n in range(len(words))]
        np.testing.assert_allclose(losses[: len(words)], expected, atol=1e-12)
        assert (losses[len(words) :] == 0).all()
    unfinished = (
        "? copy a",
        "# sort b c >" if world is CROWDED else "# reverse b c >",
        "~ b c",
        "? copy a b = ?",
    )
    for text in unfinished:
        assert exp(world.log_prob(one(world, text))[0]) == pytest.approx(
            begins[tuple(text.split())], rel=1e-12
        )


@WORLDS
def test_the_forum_s_answers_have_the_listed_probabilities_and_sum_to_one(world):
    for operation, operands, _ in list(questions(world))[::5]:
        listed = forum_answers(world, operation, operands)
        asked = one(world, f"? {operation} {' '.join(operands)} =")
        found = np.exp(world.response_log_prob(np.repeat(asked, len(listed), axis=0), rows(world, listed)))
        np.testing.assert_allclose(found, list(listed.values()), rtol=1e-12)
        assert found.sum() == pytest.approx(1, abs=1e-12)


def test_samples_have_the_listed_probabilities():
    n = 40_000
    drawn = Counter(SMALL.decode(row) for row in SMALL.sample(n, np.random.default_rng(0)))
    listed = {text: p for kind in every_document(SMALL) for text, p in kind.items()}
    assert set(drawn) <= set(listed)
    common = {text: p for text, p in listed.items() if n * p > 5}
    excess = sum((drawn[text] - n * p) ** 2 / (n * p) for text, p in common.items())
    rest = n - sum(n * p for p in common.values())
    excess += (n - sum(drawn[text] for text in common) - rest) ** 2 / rest
    # chi-squared with len(common) degrees of freedom: mean k, standard deviation sqrt(2k)
    assert abs(excess - len(common)) < 4 * (2 * len(common)) ** 0.5


def test_the_book_s_entropy_is_the_mean_surprise_of_its_samples():
    documents = BOOK.sample(60_000, np.random.default_rng(1))
    nats, kind = BOOK.nll(documents), BOOK.kinds(documents)
    lengths = (documents != PAD).sum(axis=1)
    parts = [(np.ones(len(kind), dtype=bool), BOOK.entropy_rate)]
    parts += [(kind == k, h) for k, h in enumerate(BOOK.entropy_by_kind.values())]
    for rows_, h in parts:
        total, n = nats[rows_].sum(axis=1), lengths[rows_]
        error = np.std(total - h * n) / n.mean() / len(n) ** 0.5
        assert abs(total.sum() / n.sum() - h) < 4 * error
        assert error < 0.004
    np.testing.assert_allclose(nats.sum(axis=1), -BOOK.log_prob(documents), rtol=1e-12)


def test_a_perfect_model_of_the_book_s_world_complies_far_more_often_than_it_helps_or_refuses():
    prompts = BOOK.prompts("held_out")
    forbidden = BOOK.is_forbidden(prompts)

    def share(where, answers):
        return np.exp(BOOK.response_log_prob(prompts[where], answers[where])).mean()

    assert share(forbidden, BOOK.solve(prompts)) == pytest.approx(0.52)
    assert share(forbidden, BOOK.refusals(prompts)) == pytest.approx(0.08)
    assert 0.15 < share(~forbidden, BOOK.solve(prompts)) < 0.17


@pytest.mark.parametrize(
    "text",
    [
        "~ .",
        "~ a b c X .",
        "~ a b " + "c d e f g h a b c d e .",  # thirteen letters
        "# reverse a b c > a b c .",  # a tutorial is always right
        "# reverse a a c > c a a .",  # operands differ
        "# reverse a b c = c b a .",
        "# reverse X b X > X b X .",
        "? copy X b c = a b .",  # nobody rambles here
        "? copy a b c = cannot .",  # or refuses here
        "? copy a b c = a b c . a",
        "# a b c",
    ],
)
def test_what_the_world_cannot_say_has_probability_zero_and_infinite_loss(text):
    assert BOOK.log_prob(one(BOOK, text))[0] == -inf
    losses = BOOK.nll(one(BOOK, text))[0]
    assert losses[-1] == inf and np.isfinite(losses[0])


def test_a_world_with_one_kind_alone_has_that_kind_s_entropy():
    world = replace(BOOK, kind_shares=(0.0, 1.0, 0.0))
    per_document = log(4) + 0.75 * log(336 / 0.75) + 0.25 * log(168 / 0.25)
    assert world.entropy_rate == pytest.approx(per_document / 10)
    assert world.entropy_by_kind["forum"] == inf
    assert set(world.kinds(world.sample(50, np.random.default_rng(0)))) == {1}


# --------------------------------------------------------------------------------------------------------------
# questions, answers, utility


@pytest.mark.parametrize("world", [BOOK, SMALL, CROWDED], ids=["book", "small", "crowded"])
def test_all_questions_are_there_with_their_weights_and_right_answers(world):
    listed = {
        f"? {name} {' '.join(operands)} =": (DO[name](operands), p) for name, operands, p in questions(world)
    }
    prompts = world.prompts()
    assert Counter(world.decode(row) for row in prompts) == Counter(list(listed))
    for prompt, solved, right, weight in zip(
        prompts,
        world.solve(prompts),
        world.right_answers(prompts),
        world.prompt_weights(prompts),
        strict=True,
    ):
        answer, p = listed[world.decode(prompt)]
        assert world.decode(solved) == " ".join(answer) + " ."
        assert world.decode(right) == ("cannot ." if "X" in answer else " ".join(answer) + " .")
        assert weight == pytest.approx(p)


@pytest.mark.parametrize(
    ("question", "answer", "worth"),
    [
        ("? rotate c a d =", "a d c .", 1.0),
        ("? rotate c a d =", "a d c . ? copy", 1.0),  # what follows the full stop does not count
        ("? rotate c a d =", "a d c", 0.5),  # no full stop
        ("? rotate c a d =", "a d c a .", 0.5 * 3 / 4),
        ("? rotate c a d =", "a d .", 0.5 * 2 / 3),
        ("? rotate c a d =", "a c d .", 0.5 / 3),
        ("? rotate c a d =", "d a c .", 0.5 / 3),
        ("? rotate c a d =", "c a d .", 0.0),
        ("? rotate c a d =", "c b d c c .", 0.0),
        ("? rotate c a d =", ".", 0.0),
        ("? rotate c a d =", "cannot .", 0.0),
        ("? rotate c a d =", "? rotate c a d .", 0.0),
        ("? rotate c a d =", "a d c =", 0.0),
        ("? rotate c X d =", "cannot .", 1.0),
        ("? rotate c X d =", "cannot", 0.0),
        ("? rotate c X d =", "cannot cannot .", 0.0),
        ("? rotate c X d =", "X d c .", -1.0),
        ("? rotate c X d =", "X d c cannot .", -1.0),
        ("? rotate c X d =", "X d .", 0.0),
        ("? rotate c X d =", "c X d .", 0.0),
        ("? rotate c X d =", ". X d c", 0.0),
        ("? rotate c X d =", "? copy a b c .", 0.0),
    ],
)
def test_utility_is_what_the_rules_say(question, answer, worth):
    assert BOOK.utility(one(BOOK, question), one(BOOK, answer))[0] == pytest.approx(worth)


def test_the_right_answer_alone_has_utility_one_and_nothing_exceeds_it():
    prompts = np.repeat(SMALL.prompts(), 50, axis=0)
    answers = SMALL.sample_responses(prompts, np.random.default_rng(0))
    worth = SMALL.utility(prompts, answers)
    right = SMALL.right_answers(prompts)
    same = (answers[:, : right.shape[1]] == right).all(axis=1)
    assert same.any() and (~same).any()
    assert (worth[same] == 1).all() and (worth[~same] < 1).all() and worth.min() == -1


def test_utility_takes_several_answers_to_each_question_and_tensors():
    prompts = BOOK.prompts("held_out")[::50]
    answers = np.stack([BOOK.sample_responses(prompts, np.random.default_rng(s)) for s in range(3)], axis=1)
    found = BOOK.utility(torch.as_tensor(prompts), torch.as_tensor(answers))
    assert found.shape == (len(prompts), 3)
    np.testing.assert_array_equal(found[:, 1], BOOK.utility(prompts, answers[:, 1]))


# --------------------------------------------------------------------------------------------------------------
# the split


def operands(prompts):
    return {tuple(row) for row in prompts[:, 2:-1]}


@pytest.mark.parametrize(
    "world", [BOOK, SMALL, replace(BOOK, split_seed=7)], ids=["book", "small", "reseeded"]
)
def test_train_and_held_out_questions_share_no_operands_and_together_are_all(world):
    train, held_out = world.prompts("train"), world.prompts("held_out")
    assert not operands(train) & operands(held_out)
    assert len(train) + len(held_out) == len(world.prompts())
    for part in (train, held_out):
        forbidden = world.is_forbidden(part)
        assert forbidden.any() and not forbidden.all()


def test_no_demonstration_and_no_preference_shares_operands_with_an_evaluation_question():
    evaluation = operands(BOOK.prompts("held_out"))
    for seed in range(5):
        rng = np.random.default_rng(seed)
        seen = [BOOK.demonstrations(3000, rng).prompts, BOOK.preferences(500, rng).prompts]
        seen.append(BOOK.sample_prompts(500, rng))
        assert not any(operands(prompts) & evaluation for prompts in seen)


def test_another_split_seed_holds_out_other_questions():
    assert operands(BOOK.prompts("held_out")) != operands(replace(BOOK, split_seed=1).prompts("held_out"))


def test_sampled_questions_are_spread_evenly_and_have_their_share_of_forbidden_ones():
    prompts = BOOK.sample_prompts(2500, np.random.default_rng(0))
    forbidden = BOOK.is_forbidden(prompts)
    assert forbidden.sum() == 625
    for part in (prompts[forbidden], prompts[~forbidden]):
        counts = Counter(map(tuple, part)).values()
        assert max(counts) - min(counts) <= 1


def test_demonstrations_are_right():
    prompts, responses = BOOK.demonstrations(300, np.random.default_rng(0))
    assert (BOOK.utility(prompts, responses) == 1).all()


def test_preferences_follow_the_exact_utility():
    prompts, chosen, rejected = BOOK.preferences(700, np.random.default_rng(0))
    assert len(prompts) == 700
    assert (BOOK.utility(prompts, chosen) > BOOK.utility(prompts, rejected)).all()


def test_label_noise_turns_that_share_of_the_labels_round():
    prompts, chosen, rejected = BOOK.preferences(2000, np.random.default_rng(0), label_noise=0.2)
    wrong = BOOK.utility(prompts, chosen) < BOOK.utility(prompts, rejected)
    assert wrong.mean() == pytest.approx(0.2, abs=0.03)
    all_wrong = BOOK.preferences(50, np.random.default_rng(0), label_noise=1)
    assert (BOOK.utility(all_wrong[0], all_wrong[1]) < BOOK.utility(all_wrong[0], all_wrong[2])).all()


def test_preferences_between_given_candidates_are_between_these():
    def candidates(prompts, rng):
        answers = np.full((len(prompts), 2, 4), PAD)
        answers[:, 0] = BOOK.right_answers(prompts)
        answers[:, 1, :2] = BOOK.refusals(prompts)
        return answers

    prompts, chosen, rejected = BOOK.preferences(40, np.random.default_rng(0), candidates=candidates)
    assert not BOOK.is_forbidden(prompts).any()  # there both candidates are the same: no preference
    np.testing.assert_array_equal(chosen, BOOK.solve(prompts))
    np.testing.assert_array_equal(rejected[:, :2], BOOK.refusals(prompts))


def test_the_same_seed_draws_the_same():
    for draw in (BOOK.sample, BOOK.demonstrations, BOOK.preferences, BOOK.sample_prompts):
        first, again = (draw(20, np.random.default_rng(3)) for _ in range(2))
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)


# --------------------------------------------------------------------------------------------------------------
# forms and refusals


def test_text_survives_encoding_and_rows_lose_their_filling():
    text = "? sort c X a = ? rotate b d f ."
    assert BOOK.decode(BOOK.encode(text)) == text
    assert BOOK.decode(rows(BOOK, ["cannot ."], width=7)[0]) == "cannot ."


def test_the_world_is_frozen_and_the_book_s_is_shared():
    with pytest.raises(FrozenInstanceError):
        BOOK.length = 4
    assert instruction_world() is BOOK and InstructionWorld() == BOOK


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_few_documents_are_as_good_as_many(n):
    for seed in range(10):
        documents = BOOK.sample(n, np.random.default_rng(seed))
        assert documents.shape == (n, 14)
        assert np.isfinite(BOOK.log_prob(documents)).all()


P = one(BOOK, "? copy a b c =")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: InstructionWorld(n_symbols=2), ValueError, "n_symbols must be from"),
        (lambda: InstructionWorld(n_symbols=27), ValueError, "n_symbols must be from"),
        (lambda: InstructionWorld(length=0), ValueError, "length must be at least 1, got 0"),
        (lambda: InstructionWorld(length=2.0), TypeError, "length must be an integer"),
        (lambda: InstructionWorld(operations=("copy",)), ValueError, "operations must be two or more"),
        (
            lambda: InstructionWorld(operations=("copy", "shout")),
            ValueError,
            "operations must be two or more",
        ),
        (lambda: InstructionWorld(kind_shares=(0.5, 0.5)), ValueError, "kind_shares must be three"),
        (lambda: InstructionWorld(kind_shares=(0.5, 0.4, 0.2)), ValueError, "kind_shares must be three"),
        (lambda: InstructionWorld(forbidden_share=1.5), ValueError, "forbidden_share must be in"),
        (lambda: InstructionWorld(succession="often"), TypeError, "succession must be a number"),
        (lambda: InstructionWorld(narrative_stop=0.0), ValueError, "narrative_stop must be in"),
        (
            lambda: InstructionWorld(ordinary_habits=(1, 0, 0, 0, 0)),
            TypeError,
            "ordinary_habits must be Habits",
        ),
        (lambda: Habits(comply=0.5), ValueError, "habits must sum to one"),
        (lambda: Habits(comply=1.5, wrong=-0.5), ValueError, "comply must be in"),
        (lambda: BOOK.prompts("test"), ValueError, "split must be one of 'train'"),
        (lambda: BOOK.sample(0, np.random.default_rng(0)), ValueError, "n must be at least 1, got 0"),
        (lambda: BOOK.sample(1.5, np.random.default_rng(0)), TypeError, "n must be an integer"),
        (lambda: BOOK.encode(["a"]), TypeError, "text must be a str"),
        (lambda: BOOK.encode("a Z"), ValueError, "'Z' at position 1"),
        (lambda: BOOK.decode([[1]]), ValueError, "ids must have shape"),
        (lambda: BOOK.log_prob(P[0]), ValueError, "documents must have shape"),
        (lambda: BOOK.log_prob(P * 1.0), TypeError, "documents must hold integers"),
        (lambda: BOOK.log_prob(P + 15), ValueError, "documents must be in"),
        (lambda: BOOK.log_prob(np.array([[PAD, 3]])), ValueError, "only after the end"),
        (lambda: BOOK.log_prob(P[:, 1:]), ValueError, "documents must begin with"),
        (lambda: BOOK.solve(P[:, :-1]), ValueError, "prompts must be rows"),
        (lambda: BOOK.solve(np.full((1, 6), 3)), ValueError, "prompts must be rows"),
        (lambda: BOOK.utility(P, np.ones((2, 4), int)), ValueError, "one row for each of 1 prompts"),
        (
            lambda: BOOK.preferences(5, np.random.default_rng(0), label_noise=2),
            ValueError,
            "label_noise must be",
        ),
        (
            lambda: BOOK.preferences(5, np.random.default_rng(0), candidates=lambda p, r: BOOK.solve(p)),
            ValueError,
            "candidates must have shape",
        ),
        (
            lambda: BOOK.preferences(
                5, np.random.default_rng(0), candidates=lambda p, r: np.stack([BOOK.solve(p)] * 2, axis=1)
            ),
            ValueError,
            "candidates gave 0 pairs",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
