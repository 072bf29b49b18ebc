"""Windows that score each token once: the plan, independent constructions, and what is counted."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossutils.models import GPT, NGramModel, WindowModel
from lossutils.perplexity import bits_per_byte, perplexity
from lossutils.text import BPETokenizer, ByteTokenizer
from lossutils.windows import Window, plan_windows, score_text, sliding_window_nll

V = 11
sizes = st.tuples(st.integers(2, 200), st.integers(1, 40)).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, pair[1]))
)


class Attention(torch.nn.Module):
    """A small causal model of which every logit depends on all that its window holds before it."""

    def __init__(self, vocabulary=V, width=8, dropout=0.0, longest=64):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embed = torch.nn.Parameter(torch.randn(vocabulary + 1, width, generator=generator))
        self.place = torch.nn.Parameter(torch.randn(longest, width, generator=generator))
        self.out = torch.nn.Parameter(torch.randn(width, vocabulary, generator=generator))
        self.dropout = torch.nn.Dropout(dropout)
        self.calls = []

    def forward(self, ids):
        self.calls.append(ids.clone())
        x = self.dropout(self.embed[ids] + self.place[: ids.shape[1]])
        x = torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)
        return x @ self.out


def some_ids(n, seed=0):
    return np.random.default_rng(seed).integers(0, V, n)


def one_by_one(model, sequence, plan):
    """The losses of a plan, each token by a call of its own and torch's own log-softmax in float64."""
    found = []
    for begin, end, first in plan:
        for t in range(first, end):
            logits = model(torch.tensor(sequence[begin:t])[None])[0, -1].double()
            found.append(-torch.log_softmax(logits, -1)[sequence[t]].item())
    return np.array(found)


# -------------------------------------------------------------------------------------------------- the plan


@given(sizes)
def test_every_token_is_scored_exactly_once_whatever_window_and_stride(size):
    n, max_length, stride = size
    plan = plan_windows(n, max_length, stride)
    assert [t for w in plan for t in range(w.first, w.end)] == list(range(1, n))


@given(sizes)
def test_no_window_is_too_long_and_all_but_a_lonely_one_are_full(size):
    n, max_length, stride = size
    plan = plan_windows(n, max_length, stride)
    lengths = {w.end - 1 - w.begin for w in plan}
    assert lengths == {min(max_length, n - 1)}
    assert plan[0].begin == 0 and all(0 <= w.begin < w.first < w.end <= n for w in plan)


@given(sizes)
def test_beyond_the_first_window_each_token_has_at_least_window_minus_stride_plus_one_of_context(size):
    n, max_length, stride = size
    first, *rest = plan_windows(n, max_length, stride)
    assert first.end - first.first == min(max_length, n - 1)
    contexts = [t - w.begin for w in rest for t in range(w.first, w.end)]
    assert all(max_length - stride + 1 <= context <= max_length for context in contexts)


@given(sizes)
def test_a_stride_of_one_gives_each_token_the_most_context_that_there_is(size):
    n, max_length, _ = size
    contexts = [t - w.begin for w in plan_windows(n, max_length, 1) for t in range(w.first, w.end)]
    assert contexts == [min(t, max_length) for t in range(1, n)]


def test_the_last_window_is_shifted_left_and_not_padded():
    assert plan_windows(12, 4, 4) == [Window(0, 5, 1), Window(4, 9, 5), Window(7, 12, 9)]


# ------------------------------------------------------------------------------------- lm-evaluation-harness


def rolling_windows(tokens, prefix, length, context):
    """The rolling windows that lm-evaluation-harness documents, built here from that documentation.

    "Essentially the minimal context for each prediction is context_len (with exception of the first window)";
    inputs are at most max_seq_len tokens, the prefix stands before the text, and each window predicts the
    tokens that follow the last one predicted: as many as leave room for the context.
    """
    padded = [prefix, *tokens]
    targets = list(enumerate(tokens))  # target k is predicted from padded[: k + 1]
    step = length - context + 1
    groups = [targets[:length]]
    rest = targets[length:]
    groups += [rest[k : k + step] for k in range(0, len(rest), step)]
    for group in groups:
        last = group[-1][0]
        yield padded[max(0, last + 1 - length) : last + 1], [token for _, token in group]


def test_that_construction_gives_the_windows_that_the_harness_shows_in_its_own_tests():
    """Its published test: 34 tokens, windows of 10; and the example of its documentation: 9, 3 and 2."""
    gold = [
        ([-100, *range(9)], list(range(10))),
        (list(range(9, 19)), list(range(10, 20))),
        (list(range(19, 29)), list(range(20, 30))),
        (list(range(23, 33)), list(range(30, 34))),
    ]
    assert list(rolling_windows(list(range(34)), -100, 10, 1)) == gold
    shown = [([-1, 0, 1], [0, 1, 2]), ([1, 2, 3], [3, 4]), ([3, 4, 5], [5, 6]), ([5, 6, 7], [7, 8])]
    assert list(rolling_windows(list(range(9)), -1, 3, 2)) == shown


@given(sizes)
def test_our_windows_are_those_of_the_harness_with_its_context_for_our_stride(size):
    n, max_length, stride = size
    tokens = list(range(100, 99 + n))
    sequence = [-1, *tokens]
    ours = [
        (sequence[w.begin : w.end - 1], sequence[w.first : w.end])
        for w in plan_windows(n, max_length, stride)
    ]
    assert ours == list(rolling_windows(tokens, -1, max_length, max_length - stride + 1))


def test_our_losses_are_the_harness_s_log_likelihood_of_the_same_windows():
    """Its make_disjoint_window cuts context from continuation, then the model sees both: the same numbers."""
    model, ids = Attention().double(), some_ids(50).tolist()
    total = 0.0
    for inputs, predicted in rolling_windows(ids, V, 12, 5):
        context = inputs[: len(inputs) - len(predicted) + 1]
        whole = torch.tensor([[*context, *predicted]])
        logp = torch.log_softmax(model(whole[:, :-1]), -1)[0, len(context) - 1 :]
        total += logp.gather(-1, whole[0, len(context) :, None]).sum().item()
    found = sliding_window_nll(model, ids, max_length=12, stride=8, prefix_token_id=V)
    assert found.nll.sum() == pytest.approx(-total, rel=1e-12)


# ------------------------------------------------------------------------------------------------ the losses


@pytest.mark.parametrize("prefix", [None, V])
@pytest.mark.parametrize(
    ("n", "max_length", "stride"), [(40, 7, 3), (40, 7, 7), (9, 16, 4), (17, 16, 1), (2, 1, 1)]
)
def test_the_losses_are_those_of_one_call_for_each_token(n, max_length, stride, prefix):
    model, ids = Attention().double(), some_ids(n).tolist()
    found = sliding_window_nll(model, ids, max_length=max_length, stride=stride, prefix_token_id=prefix)
    sequence = ids if prefix is None else [prefix, *ids]
    plan = plan_windows(len(sequence), max_length, stride)
    np.testing.assert_allclose(found.nll, one_by_one(model, sequence, plan), rtol=1e-12)
    assert found.nll.dtype == np.float64
    assert found.first == (prefix is None) and len(found.nll) == n - found.first
    assert found.n_windows == len(plan)


def test_a_text_that_fits_the_window_is_scored_in_one_pass():
    model, ids = Attention().double(), some_ids(20)
    found = sliding_window_nll(model, ids, max_length=64, stride=8)
    logits = model(torch.tensor(ids)[None])[0, :-1]
    want = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none")
    np.testing.assert_allclose(found.nll, want.detach().numpy(), rtol=1e-12)
    assert found.context.tolist() == list(range(1, 20))


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_the_batch_size_changes_no_loss(batch_size):
    model, ids = Attention().double(), some_ids(60)
    alone = sliding_window_nll(model, ids, max_length=9, stride=4)
    together = sliding_window_nll(model, ids, max_length=9, stride=4, batch_size=batch_size)
    np.testing.assert_allclose(together.nll, alone.nll, rtol=1e-12)
    assert (together.context == alone.context).all()
    assert max(len(call) for call in model.calls) == min(batch_size, alone.n_windows - 1)


def test_the_context_is_what_the_model_was_shown_before_each_token():
    model, ids = Attention(), some_ids(30).tolist()
    found = sliding_window_nll(model, ids, max_length=8, stride=5, prefix_token_id=V)
    seen = [call.shape[1] - np.arange(call.shape[1])[::-1] for call in model.calls]
    assert found.context[:8].tolist() == seen[0].tolist() == list(range(1, 9))
    assert found.context[8:].min() == 8 - 5 + 1
    assert found.context.max() == 8


def test_a_model_of_bounded_memory_needs_no_more_context_than_that():
    """Logits that depend on the last two tokens only: every stride that leaves two gives one answer."""
    table = torch.randn(V + 1, V + 1, V, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def bigram(ids):
        before = torch.cat([torch.full_like(ids[:, :1], V), ids[:, :-1]], 1)
        return table[before, ids]

    ids = some_ids(100)
    want = sliding_window_nll(bigram, ids, max_length=200, stride=1).nll
    for stride in range(1, 9):
        got = sliding_window_nll(bigram, ids, max_length=9, stride=stride).nll
        np.testing.assert_allclose(got, want, rtol=1e-12)
    assert not np.allclose(sliding_window_nll(bigram, ids, max_length=9, stride=9).nll, want)


def test_a_start_token_in_each_window_takes_the_place_of_the_oldest_token():
    model, ids = Attention().double(), some_ids(20).tolist()
    found = sliding_window_nll(
        model, ids, max_length=6, stride=3, prefix_token_id=V, prefix_each_window=True, batch_size=3
    )
    shown = [window for call in model.calls for window in call.tolist()]
    assert all(window[0] == V and V not in window[1:] and len(window) == 6 for window in shown)
    logits = model(torch.tensor([[V, *ids[4:9]]]))[0]  # the second window: scores tokens 6, 7, 8 of the text
    want = torch.nn.functional.cross_entropy(logits[3:], torch.tensor(ids[7:10]), reduction="none")
    second = sliding_window_nll(
        model, ids[:10], max_length=6, stride=4, prefix_token_id=V, prefix_each_window=True
    )
    np.testing.assert_allclose(second.nll[-3:], want.detach().numpy(), rtol=1e-12)
    assert len(found.nll) == 20


def test_confident_losses_keep_their_digits_in_float32():
    """A loss of 4e-8 is 0 by the plain method."""
    logits = torch.tensor([17.0] + [0.0] * (V - 1))
    found = sliding_window_nll(lambda ids: logits.expand(*ids.shape, V), [0, 0, 0], max_length=4)
    np.testing.assert_allclose(found.nll, math.log1p((V - 1) * math.exp(-17)), rtol=1e-6)


def test_half_precision_logits_give_float32_losses():
    logits = torch.randn(V, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = sliding_window_nll(lambda ids: logits.expand(*ids.shape, V), [3, 4], max_length=4)
    want = -torch.log_softmax(logits.double(), -1)[4].item()
    assert found.nll[0] == pytest.approx(want, rel=1e-6)


def test_an_impossible_token_costs_infinity():
    logits = torch.tensor([0.0, -math.inf])
    found = sliding_window_nll(lambda ids: logits.expand(*ids.shape, 2), [0, 0, 1], max_length=4)
    assert found.nll.tolist() == [0.0, math.inf]


def test_a_module_is_evaluated_without_dropout_and_put_back_as_it_was():
    model = Attention(dropout=0.5)
    model.train()
    want = sliding_window_nll(Attention(), some_ids(30), max_length=8).nll
    np.testing.assert_array_equal(sliding_window_nll(model, some_ids(30), max_length=8).nll, want)
    assert model.training and model.dropout.training
    model.dropout.eval()
    sliding_window_nll(model, some_ids(30), max_length=8)
    assert model.training and not model.dropout.training


def test_an_object_with_logits_and_a_model_with_next_token_logits_are_understood():
    model, ids = Attention(), some_ids(20)
    want = sliding_window_nll(model, ids, max_length=8).nll
    wrapped = sliding_window_nll(lambda x: SimpleNamespace(logits=model(x)), ids, max_length=8).nll
    np.testing.assert_array_equal(wrapped, want)

    class Ours(torch.nn.Module):
        def forward(self, ids):
            raise AssertionError("the forward pass has another convention")

        def next_token_logits(self, ids):
            return model(ids)

    np.testing.assert_array_equal(sliding_window_nll(Ours(), ids, max_length=8).nll, want)


def test_ids_may_be_a_list_an_array_or_a_tensor_of_any_integers():
    model, ids = Attention(), some_ids(20)
    want = sliding_window_nll(model, ids, max_length=8).nll
    for same in (ids.tolist(), ids.astype(np.uint8), torch.tensor(ids), torch.tensor(ids, dtype=torch.int32)):
        np.testing.assert_array_equal(sliding_window_nll(model, same, max_length=8).nll, want)


def test_progress_is_told_after_each_batch_and_ends_at_the_total():
    calls = []
    sliding_window_nll(
        Attention(),
        some_ids(30),
        max_length=8,
        stride=4,
        batch_size=2,
        progress=lambda *call: calls.append(call),
    )
    assert calls[0] == (8, 29) and calls[-1] == (29, 29)
    assert all(a < b for (a, _), (b, _) in itertools.pairwise(calls))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_losses_are_the_same_on_an_accelerator(dtype):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    ids = some_ids(60)
    want = sliding_window_nll(Attention(), ids, max_length=16, stride=8, prefix_token_id=V)
    model = Attention().to("cuda", dtype)
    found = sliding_window_nll(model, ids, max_length=16, stride=8, prefix_token_id=V, batch_size=3)
    np.testing.assert_allclose(found.nll, want.nll, rtol=1e-4 if dtype == torch.float32 else 0.1, atol=0.1)
    assert all(call.device.type == "cuda" for call in model.calls)


# ------------------------------------------------------------------------------------------------------ text


Bytes = ByteTokenizer


class Pairs:
    """Two bytes a token, the last perhaps one: ids that say how many bytes they stand for."""

    def encode(self, text):
        raw = text.encode()
        return [256 * raw[k] + raw[k + 1] if k + 1 < len(raw) else raw[k] for k in range(0, len(raw), 2)]

    def encode_with_bytes(self, text):
        n = len(text.encode())
        return self.encode(text), [2] * (n // 2) + [1] * (n % 2)


def even(vocabulary):
    return lambda ids: torch.zeros(*ids.shape, vocabulary)


def test_one_scoring_gives_perplexity_per_token_word_and_byte_and_bits_per_byte():
    text = "Zwölf Boxkämpfer jagen Viktor"
    score = score_text(even(256), text, Bytes(), prefix_token_id=0)
    n = len(text.encode())
    assert (score.count(), score.count("byte"), score.count("char"), score.count("word")) == (
        n,
        n,
        len(text),
        4,
    )
    assert score.nll_sum == pytest.approx(n * math.log(256))
    assert score.perplexity() == pytest.approx(256)
    assert score.perplexity("byte") == pytest.approx(256)
    assert score.perplexity("word") == pytest.approx(256 ** (n / 4))
    assert score.perplexity("char") == pytest.approx(256 ** (n / len(text)))
    assert score.bits_per_byte == pytest.approx(8)


def test_tokenizers_differ_in_perplexity_and_agree_in_bits_per_byte_on_what_is_uniform():
    text = "abcdefgh" * 10
    one = score_text(even(256), text, Bytes(), prefix_token_id=0)
    two = score_text(even(65536), text, Pairs(), prefix_token_id=0)
    assert two.perplexity() == pytest.approx(one.perplexity() ** 2)
    assert two.bits_per_byte == pytest.approx(one.bits_per_byte) == pytest.approx(8)


def test_without_a_start_token_the_first_token_is_in_neither_the_loss_nor_the_counts():
    texts = ["éa b", "abcde"]
    score = score_text(even(65536), texts, Pairs())
    assert score.prefix_token_id is None
    assert score.document_count().tolist() == [2, 2]
    assert score.document_count("byte").tolist() == [3, 3]  # é is two bytes, one token
    assert score.document_count("char").tolist() == [3, 3]
    assert score.document_count("word").tolist() == [2, 1]
    assert score.token_bytes.tolist() == [2, 1, 2, 1]


def test_a_character_that_the_first_token_cuts_is_counted_once():
    score = score_text(even(256), "é!", Bytes())  # scored: the second byte of é, and !
    assert score.count() == score.count("byte") == 2
    assert score.count("char") == 2
    assert score.count("word") == 1


def test_documents_do_not_see_each_other():
    model = Attention(256).double()
    texts = ["first text, of some length", "second", "the third text here"]
    together = score_text(model, texts, Bytes(), max_length=10, prefix_token_id=256)
    for k, text in enumerate(texts):
        alone = score_text(model, text, Bytes(), max_length=10, prefix_token_id=256)
        np.testing.assert_array_equal(together.nll[together.document == k], alone.nll)
        assert together.document_nll[k] == pytest.approx(alone.nll_sum, rel=1e-14)
    assert together.nll_sum == pytest.approx(together.document_nll.sum(), rel=1e-14)
    assert together.perplexity() == float(perplexity(together.nll_sum, sum(map(len, texts))))
    assert together.bits_per_byte == float(bits_per_byte(together.nll_sum, sum(map(len, texts))))


def test_documents_may_carry_names():
    texts = [SimpleNamespace(name="one.txt", text="abc"), SimpleNamespace(name="two.txt", text="de")]
    assert score_text(even(256), texts, Bytes()).names == ("one.txt", "two.txt")
    assert score_text(even(256), texts[0], Bytes()).names == ("one.txt",)
    assert score_text(even(256), ["ab", "cd"], Bytes()).names == ("0", "1")


def test_a_model_says_its_window_and_its_start_token():
    model = Attention(256)
    model.max_length, model.start_id, model.start_each_window = 12, 256, True
    score = score_text(model, "a text that is longer than that", Bytes())
    assert (score.max_length, score.stride, score.prefix_token_id) == (12, 6, 256)
    assert score.prefix_each_window
    assert all((call[:, 0] == 256).all() for call in model.calls)
    plain = score_text(model, "a text", Bytes(), max_length=4, stride=1, prefix_token_id=None)
    assert (plain.max_length, plain.stride, plain.prefix_token_id) == (4, 1, None)
    assert not plain.prefix_each_window


def trained_ngram(tokenizer, text):
    return NGramModel(tokenizer.vocab_size, 3).fit([tokenizer.encode(text)])


TEXT = "The loss fell, and fell again; then it did not fall. Größe 5 – café 🙂! " * 5


@pytest.mark.parametrize(
    "tokenizer", [ByteTokenizer(), BPETokenizer.train([TEXT], 280)], ids=["bytes", "bpe"]
)
@pytest.mark.parametrize("kind", ["window", "n-gram"])
def test_models_of_bounded_memory_get_the_losses_of_their_own_method(kind, tokenizer):
    """Through windows of 40 tokens a model that sees three gets what it gets from the whole text."""
    model = WindowModel(tokenizer.vocab_size, 3) if kind == "window" else trained_ngram(tokenizer, TEXT[::-1])
    score = score_text(model, TEXT, tokenizer, max_length=40)
    np.testing.assert_allclose(score.nll, model.nll(tokenizer.encode(TEXT)), rtol=1e-5)
    assert score.count("byte") == len(TEXT.encode()) == score.token_bytes.sum()
    assert (score.ids == tokenizer.encode(TEXT)).all()


def test_our_gpt_is_scored_in_windows_as_long_as_its_context_that_begin_with_its_start_token():
    model, tokenizer = GPT(256, context=32), ByteTokenizer()
    with torch.no_grad():
        model.head.weight.mul_(20)
    score = score_text(model, TEXT, tokenizer)
    assert (score.max_length, score.stride, score.prefix_token_id) == (32, 16, 256)
    assert score.prefix_each_window
    # its own method uses the same windows, apart from the last one, which is not shifted there
    n = len(score.nll) - 32
    np.testing.assert_allclose(score.nll[:n], model.nll(score.ids)[:n], rtol=1e-4)
    ids = score.ids
    logits = model(torch.tensor(ids[-32:])[None])[0]  # the last window, by the forward pass of training
    want = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[-32:]), reduction="none").detach()
    np.testing.assert_allclose(score.nll[-5:], want[-5:].numpy(), rtol=1e-4)


def test_the_default_window_of_a_model_without_a_limit_is_finite():
    assert score_text(even(256), "abc", Bytes()).max_length == 2048


def test_progress_counts_over_all_documents():
    calls = []
    score_text(even(256), ["abcd", "ef"], Bytes(), max_length=2, progress=lambda *call: calls.append(call))
    assert calls[-1] == (4, 4)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


# ------------------------------------------------------------------------------------------------- bad input

IDS = [1, 2, 3]


class Forgetful(Bytes):
    def n_bytes(self, ids):
        return 2 * super().n_bytes(ids)


class Terse(Bytes):
    def n_bytes(self, ids):
        return len(ids)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, r"stride must be in \[1, max_length = 4\], got 5", lambda: plan_windows(9, 4, 5)),
        (ValueError, "stride must be at least 1, got 0", lambda: plan_windows(9, 4, 0)),
        (ValueError, "max_length must be at least 1", lambda: plan_windows(9, 0, 1)),
        (ValueError, "n must be at least 2, got 1", lambda: plan_windows(1, 4, 1)),
        (TypeError, "stride must be an integer, got 2.0", lambda: plan_windows(9, 4, 2.0)),
        (
            ValueError,
            r"ids must hold at least 2 tokens \(or one, with prefix_token_id\), got 1",
            lambda: sliding_window_nll(even(9), [1], max_length=4),
        ),
        (
            ValueError,
            "ids must hold at least 1 tokens, got 0",
            lambda: sliding_window_nll(even(9), [], max_length=4, prefix_token_id=0),
        ),
        (ValueError, "one dimension", lambda: sliding_window_nll(even(9), [IDS], max_length=4)),
        (
            ValueError,
            "ids must not be negative, got -1",
            lambda: sliding_window_nll(even(9), [1, -1], max_length=4),
        ),
        (TypeError, "ids must hold integers", lambda: sliding_window_nll(even(9), [1.0, 2.0], max_length=4)),
        (
            ValueError,
            "below the model's vocabulary size 3, got 3",
            lambda: sliding_window_nll(even(3), IDS, max_length=4),
        ),
        (
            ValueError,
            "prefix_each_window is True, but prefix_token_id is None",
            lambda: sliding_window_nll(even(9), IDS, max_length=4, prefix_each_window=True),
        ),
        (ValueError, "batch_size", lambda: sliding_window_nll(even(9), IDS, max_length=4, batch_size=0)),
        (TypeError, "must be callable", lambda: sliding_window_nll("gpt2", IDS, max_length=4)),
        (
            TypeError,
            "must return a tensor or an object with .logits, got ndarray",
            lambda: sliding_window_nll(lambda ids: np.zeros((1, 2, 9)), IDS, max_length=4),
        ),
        (
            ValueError,
            r"must return logits of shape \(1, 2, V\)",
            lambda: sliding_window_nll(lambda ids: torch.zeros(1, 9), IDS, max_length=4),
        ),
        (
            ValueError,
            "a loss is NaN",
            lambda: sliding_window_nll(lambda ids: even(9)(ids) * math.nan, IDS, max_length=4),
        ),
        (ValueError, "at least one document", lambda: score_text(even(256), [], Bytes())),
        (
            ValueError,
            "document '0' has 0 tokens",
            lambda: score_text(even(256), "", Bytes(), prefix_token_id=0),
        ),
        (ValueError, "document '1' has 1 token:", lambda: score_text(even(256), ["ab", "c"], Bytes())),
        (TypeError, "documents must be text.* number 0 is int", lambda: score_text(even(256), [3], Bytes())),
        (TypeError, "tokenizer must have", lambda: score_text(even(256), "abc", object())),
        (
            ValueError,
            "stand for 6 bytes, but the text has 3",
            lambda: score_text(even(256), "abc", Forgetful()),
        ),
        (ValueError, "bytes of each of the 3 tokens", lambda: score_text(even(256), "abc", Terse())),
        (
            ValueError,
            "prefix_token_id must be one of 'auto'",
            lambda: score_text(even(256), "abc", Bytes(), prefix_token_id="bos"),
        ),
        (ValueError, "per must be one of", lambda: score_text(even(256), "abc", Bytes()).count("line")),
    ],
)
def test_bad_input_is_refused_by_name(error, message, call):
    with pytest.raises(error, match=message):
        call()
