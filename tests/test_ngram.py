"""NGramModel is what the formulas say: checked against a slow implementation with dictionaries, and by hand."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossutils.models import NGramModel
from lossutils.worlds import known_world

METHODS = ["witten-bell", "kneser-ney"]
each_method = pytest.mark.parametrize("method", METHODS)


class Oracle:
    """The formulas of the docstring in exact fractions, with a dictionary of counts for each context."""

    def __init__(self, documents, vocab_size, order, method):
        self.v, self.order, self.method = vocab_size, order, method
        self.counts = [defaultdict(Counter) for _ in range(order)]
        for text in documents:
            for t, token in enumerate(text):
                for k in range(min(order - 1, t) + 1):
                    self.counts[k][tuple(text[t - k : t])][token] += 1
        if method == "kneser-ney":
            self.counts[:-1] = [self.continuations(documents, k) for k in range(order - 1)]
        self.discounts = []
        for level in self.counts:
            values = [c for followers in level.values() for c in followers.values()]
            once, twice = Fraction(values.count(1)), Fraction(values.count(2))
            if once == 0 or twice == 0:
                once, twice = once + Fraction(1, 2), twice + Fraction(1, 2)
            self.discounts.append(once / (once + 2 * twice))

    def continuations(self, documents, k):
        """For each context of length k and token, the number of different tokens that stood before the two."""
        grams = {tuple(text[t : t + k + 2]) for text in documents for t in range(len(text) - k - 1)}
        counts = defaultdict(Counter)
        for gram in grams:
            counts[gram[1:-1]][gram[-1]] += 1
        return counts

    def p(self, token, past):
        """P(token | past), with all the past that the order allows and the text has."""
        p = Fraction(1, self.v)
        for k in range(min(self.order - 1, len(past)) + 1):
            followers = self.counts[k].get(tuple(past[len(past) - k :]))
            if not followers:
                continue
            c, total, types = followers[token], sum(followers.values()), len(followers)
            if self.method == "witten-bell":
                p = (c + types * p) / (total + types)
            else:
                discount = self.discounts[k]
                p = (max(c - discount, 0) + discount * types * p) / total
        return p


texts = st.lists(st.lists(st.integers(0, 3), max_size=25), min_size=1, max_size=4).filter(any)


@each_method
@given(documents=texts, order=st.integers(1, 6), past=st.lists(st.integers(0, 3), max_size=8))
def test_every_probability_is_that_of_the_formulas(method, documents, order, past):
    model = NGramModel(4, order, method).fit([np.array(text, dtype=int) for text in documents])
    oracle = Oracle(documents, 4, order, method)
    expected = [float(oracle.p(token, past)) for token in range(4)]
    np.testing.assert_allclose(np.exp(model.next_token_log_probs(past)), expected, rtol=1e-13, atol=0)
    losses = [-np.log(float(oracle.p(token, past[:t]))) for t, token in enumerate(past)]
    np.testing.assert_allclose(model.nll(past), losses, rtol=1e-12, atol=1e-14)


def test_witten_bell_by_hand():
    """The text 0 1 0 1 0 2. Alone: three, two and one of six, three types, so P(0) = (3 + 3/3) / 9 = 4/9, P(1) = 3/9,
    P(2) = 2/9. After 0: 1, 1 and 2, two types, so P(1 | 0) = (2 + 2 · 3/9) / 5 = 8/15."""
    model = NGramModel(3, 2).fit([0, 1, 0, 1, 0, 2])
    np.testing.assert_allclose(np.exp(model.next_token_log_probs([])), [4 / 9, 3 / 9, 2 / 9], rtol=1e-14)
    expected = [2 * 4 / 9 / 5, 8 / 15, (1 + 2 * 2 / 9) / 5]
    np.testing.assert_allclose(np.exp(model.next_token_log_probs([0])), expected, rtol=1e-14)
    # After 2 nothing was seen: the shorter context speaks.
    np.testing.assert_allclose(model.next_token_log_probs([2]), model.next_token_log_probs([]), rtol=1e-14)


def test_kneser_ney_by_hand():
    """The text 0 1 0 1 0 2. Pairs: 01 twice, 10 twice, 02 once, so D = 1 / (1 + 2 · 2) = 1/5. Before 0 stood one token
    (1), before 1 one (0), before 2 one (0): three, all once, so n2 = 0 and D = 3.5 / (3.5 + 2 · .5) = 7/9, and each
    has (1 - 7/9) / 3 + 7/9 · 1/3 = 1/3. After 0: P(1 | 0) = (2 - 1/5) / 3 + 1/5 · 2 / 3 · 1/3 = 29/45."""
    model = NGramModel(3, 2, "kneser-ney").fit([0, 1, 0, 1, 0, 2])
    np.testing.assert_allclose(np.exp(model.next_token_log_probs([])), [1 / 3, 1 / 3, 1 / 3], rtol=1e-14)
    np.testing.assert_allclose(
        np.exp(model.next_token_log_probs([0])), [2 / 45, 29 / 45, 14 / 45], rtol=1e-14
    )


def test_kneser_ney_knows_a_word_that_only_ever_follows_one_other():
    """ "San Francisco": frequent, but after one word only. By its frequency it would be likely after a new word."""
    rng = np.random.default_rng(0)
    words = rng.integers(2, 20, 4000)
    text = np.concatenate([[w] if w > 5 else [0, 1] for w in words])
    after_new = {m: np.exp(NGramModel(21, 2, m).fit(text).next_token_log_probs([20])) for m in METHODS}
    frequent = np.mean(text == 1)
    assert after_new["witten-bell"][1] == pytest.approx(frequent, rel=0.05)
    assert after_new["kneser-ney"][1] < frequent / 5


@each_method
@pytest.mark.parametrize(("vocab_size", "order"), [(256, 6), (46, 3), (5000, 2), (3, 12)])
def test_the_probabilities_of_all_tokens_sum_to_one_and_none_is_zero(method, vocab_size, order):
    rng = np.random.default_rng(1)
    text = np.minimum(rng.geometric(min(0.5, 8 / vocab_size), 3000), vocab_size) - 1
    new = rng.integers(0, vocab_size, 300)  # contexts of which most were never seen
    p = np.exp(
        NGramModel(vocab_size, order, method).fit(text).next_token_logits(np.concatenate([text[:300], new]))
    )
    assert p.shape == (600, vocab_size)
    assert p.min() > 0
    assert np.abs(p.sum(-1) - 1).max() < 1e-14


@each_method
@pytest.mark.parametrize("text", [[0], [1, 1], [0, 1, 0, 1, 0, 1], [2] * 50, [0, 1, 2, 3]], ids=str)
def test_texts_without_the_counts_that_a_discount_needs_give_distributions_too(method, text):
    model = NGramModel(5, 3, method).fit(text)
    for past in ([], [0], [1, 0], [4, 4]):
        p = np.exp(model.next_token_log_probs(past))
        assert p.min() > 0 and p.sum() == pytest.approx(1, abs=1e-14)


@each_method
def test_losses_rows_and_prefixes_agree(method):
    world = known_world()
    text = world.sample(3000, np.random.default_rng(2))
    model, new = NGramModel(46, 4, method).fit(text), world.sample(400, np.random.default_rng(3))
    rows = model.next_token_logits(np.concatenate([[46], new]))
    np.testing.assert_allclose(model.nll(new), -rows[np.arange(400), new], rtol=1e-13)
    for t in (0, 1, 2, 3, 399):
        np.testing.assert_allclose(rows[t], model.next_token_log_probs(new[:t]), rtol=1e-13)


def test_a_start_token_hides_what_stands_before_it():
    model = NGramModel(4, 3).fit(np.random.default_rng(4).integers(0, 4, 200))
    rows = model.next_token_logits(np.array([2, 1, 4, 3, 0]))
    for t, visible in enumerate([[2], [2, 1], [], [3], [3, 0]]):
        np.testing.assert_allclose(rows[t], model.next_token_log_probs(visible), rtol=1e-14)


def test_no_ngram_reaches_from_one_document_into_the_next():
    one, two = [0, 1, 2], [3, 1, 0]
    apart = NGramModel(4, 3).fit([np.array(one), np.array(two)])
    marked = NGramModel(4, 3).fit(np.array([*one, 4, *two]))
    joined = NGramModel(4, 3).fit(np.array([*one, *two]))
    after_two = apart.next_token_log_probs([2])
    assert np.array_equal(after_two, apart.next_token_log_probs([]))  # 2 ended a document
    assert np.array_equal(after_two, marked.next_token_log_probs([2]))
    assert joined.next_token_log_probs([2])[3] > after_two[3]


def test_a_batch_is_read_row_by_row():
    model, batch = (
        NGramModel(4, 3).fit([0, 1, 2, 3, 0, 2] * 5),
        np.random.default_rng(5).integers(0, 5, (2, 3, 7)),
    )
    rows = model.next_token_logits(batch)
    assert rows.shape == (2, 3, 7, 4)
    np.testing.assert_array_equal(rows[1, 2], model.next_token_logits(batch[1, 2]))
    assert model.next_token_logits(np.zeros((2, 0), dtype=int)).shape == (2, 0, 4)


def test_a_tensor_gives_a_float64_tensor():
    model, batch = NGramModel(4, 2).fit([0, 1, 2, 3]), torch.tensor([[0, 1], [2, 3]])
    rows = model.next_token_logits(batch)
    assert rows.dtype == torch.float64
    np.testing.assert_array_equal(rows.numpy(), model.next_token_logits(batch.numpy()))


@each_method
def test_a_long_context_over_a_large_vocabulary_does_not_overflow(method):
    """200 000 ** 9 is far beyond 64 bits; the contexts must still be told apart."""
    rng = np.random.default_rng(6)
    text = np.concatenate([rng.permutation(200_000)[:50], rng.permutation(200_000)[:50]])
    twice = np.tile(text, 2)
    model, oracle = NGramModel(200_000, 9, method).fit(twice), Oracle([twice.tolist()], 200_000, 9, method)
    expected = [-np.log(float(oracle.p(token, text[:t].tolist()))) for t, token in enumerate(text.tolist())]
    np.testing.assert_allclose(model.nll(text), expected, rtol=1e-12)


def test_on_a_known_world_more_context_helps_with_much_text_and_hurts_with_little():
    world, rng = known_world(), np.random.default_rng(0)
    text, new = world.sample(100_000, rng), world.sample(50_000, rng)
    floor = world.staircase(4)
    much = [NGramModel(46, n).fit(text).nll(new).mean() for n in (1, 2, 3, 4)]
    assert much == sorted(much, reverse=True)
    assert all(loss > floor[n + 1] - 0.02 for n, loss in enumerate(much))
    assert much[1] == pytest.approx(floor[2], abs=0.02)  # 46² pairs are well counted in 100 000 tokens
    little = [NGramModel(46, n).fit(text[:2000]).nll(new).mean() for n in (2, 3, 4, 5)]
    assert little[3] > little[2] > little[0]


@each_method
def test_a_model_comes_back_from_its_arrays(method):
    model = NGramModel(4, 3, method).fit(np.random.default_rng(7).integers(0, 4, 200))
    again = NGramModel.from_arrays({name: array.copy() for name, array in model.to_arrays().items()})
    assert again.config == model.config
    text = np.random.default_rng(8).integers(0, 4, 50)
    np.testing.assert_array_equal(again.nll(text), model.nll(text))
    assert all(array.dtype == np.int64 for array in model.to_arrays().values())


def test_a_model_without_counts_comes_back_without_counts():
    again = NGramModel.from_arrays(NGramModel(4, 3, "kneser-ney").to_arrays())
    assert again.config == {"vocab_size": 4, "order": 3, "method": "kneser-ney"}
    with pytest.raises(ValueError, match=r"no counts yet: call fit\(ids\) first"):
        again.nll([0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("config"), "arrays must have 'config'"),
        (lambda arrays: arrays.pop("counts_1"), "arrays must have 'counts_1'"),
        (lambda arrays: arrays.update(config=np.array([4, 2, 9])), "config"),
        (lambda arrays: arrays.update(config=np.array([4, 0, 0])), "order"),
        (lambda arrays: arrays.update(counts_1=arrays["counts_1"][:-1]), "counts_1"),
        (lambda arrays: arrays.update(counts_1=-arrays["counts_1"]), "counts_1"),
        (lambda arrays: arrays.update(counts_1=arrays["counts_1"] * 1.5), "counts_1"),
        (lambda arrays: arrays.update(ngrams_0=arrays["ngrams_0"][::-1]), "ngrams_0"),
        (lambda arrays: arrays.update(ngrams_1=arrays["ngrams_1"] + 99), "ngrams_1"),
        (lambda arrays: arrays.update(keys_1=arrays["keys_1"] + 99), "keys_1"),
        (lambda arrays: arrays.update(keys_0=np.array([0, 1])), "keys_0"),
    ],
)
def test_damaged_arrays_are_an_error_that_names_them(change, message):
    arrays = NGramModel(4, 2).fit([0, 1, 2, 3, 1, 2]).to_arrays()
    change(arrays)
    with pytest.raises(ValueError, match=message):
        NGramModel.from_arrays(arrays)


def test_counting_again_forgets_what_was_counted_and_changes_nothing_that_was_given():
    text = np.array([0, 1, 0, 1])
    model = NGramModel(2, 2).fit([1, 1, 1]).fit(text)
    assert np.array_equal(model.nll(text), NGramModel(2, 2).fit(text).nll(text))
    assert text.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NGramModel(4, 0), ValueError, "order must be at least 1, got 0"),
        (lambda: NGramModel(0, 2), ValueError, "vocab_size must be at least 1, got 0"),
        (lambda: NGramModel(4, 2.0), TypeError, "order must be an integer, got 2.0"),
        (
            lambda: NGramModel(4, 2, "laplace"),
            ValueError,
            "method must be one of 'witten-bell', 'kneser-ney'",
        ),
        (lambda: NGramModel(4, 2).fit([]), ValueError, "ids must hold at least one token"),
        (lambda: NGramModel(4, 2).fit([np.array([4])]), ValueError, "ids must hold at least one token"),
        (lambda: NGramModel(4, 2).fit([0, 5]), ValueError, r"ids must be in \[0, 5\), got 5"),
        (lambda: NGramModel(4, 2).fit([0.5]), TypeError, "ids must hold integers"),
        (lambda: NGramModel(4, 2).fit(np.zeros((2, 2), dtype=int)), ValueError, "ids must be one text"),
        (lambda: NGramModel(4, 2).fit([0]).next_token_logits(np.array([5])), ValueError, "ids must be in"),
        (
            lambda: NGramModel(4, 2).fit([0]).next_token_logits(np.array(3)),
            ValueError,
            "at least one dimension",
        ),
        (lambda: NGramModel(4, 2).next_token_log_probs([]), ValueError, "no counts yet"),
    ],
)
def test_bad_input_is_an_error_that_names_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()
