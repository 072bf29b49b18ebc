"""Arithmetic coding: exact round trips, sizes against the summed surprisal, and files that know their model."""

from __future__ import annotations

import builtins
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossutils._coding_file import model_fingerprint
from lossutils.coding import (
    PARTS,
    CompressedIds,
    _share_out,
    compress,
    compress_file,
    decompress,
    decompress_file,
)
from lossutils.models import GPT, NGramModel, WindowModel
from lossutils.tokenizing import BPETokenizer, ByteTokenizer
from lossutils.worlds import known_world


class Table:
    """A language model from logits: the next token depends on the last one (row -1 where there is none)."""

    def __init__(self, logits):
        logits = np.atleast_2d(np.asarray(logits, dtype=np.float64))
        self.vocab_size = logits.shape[1]
        top = logits.max(1, keepdims=True)
        self.log_probs = logits - (top + np.log(np.exp(logits - top).sum(1, keepdims=True)))

    def next_token_log_probs(self, prefix):
        row = -1 if len(prefix) == 0 else int(prefix[-1]) % len(self.log_probs)
        return self.log_probs[row]

    def nll(self, ids):
        return np.array([-self.next_token_log_probs(ids[:t])[token] for t, token in enumerate(ids)])


class Letters:
    """A tokenizer for tests: one id a byte."""

    vocab_size = 256

    def __init__(self, note=""):
        self.note = note

    def encode(self, text):
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8).astype(np.int64)

    def decode(self, ids):
        return bytes(np.asarray(ids).tolist()).decode("utf-8", "replace")

    def to_json(self):
        return f'{{"note": "{self.note}"}}'


def uneven(vocab_size, spread, seed=0):
    rng = np.random.default_rng(seed)
    return Table(rng.normal(0, spread, (vocab_size, vocab_size)))


# ------------------------------------------------------------------------------------------------ the round trip


@settings(max_examples=60)
@given(
    st.data(),
    st.integers(1, 40),
    st.sampled_from([0.0, 1.0, 10.0, 100.0, 700.0]),
    st.integers(0, 5),
)
def test_any_ids_come_back_however_extreme_the_probabilities(data, vocab_size, spread, seed):
    ids = data.draw(st.lists(st.integers(0, vocab_size - 1), max_size=60))
    model = uneven(vocab_size, spread, seed)
    packed = compress(model, ids)
    back = decompress(model, packed)
    assert back.dtype == np.int64
    assert back.tolist() == ids


@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("vocab_size", [1, 2, 256, 5000])
def test_short_texts_come_back(n, vocab_size):
    ids = np.random.default_rng(n).integers(0, vocab_size, n)
    model = Table(np.zeros((1, vocab_size)))
    assert decompress(model, compress(model, ids)).tolist() == ids.tolist()


def test_an_empty_text_is_one_byte_and_costs_nothing():
    packed = compress(uneven(5, 1.0), [])
    assert packed == b"\0"
    assert (packed.n_tokens, packed.ideal_bits, packed.rounded_bits, packed.coded_bits) == (0, 0.0, 0.0, 0)


def test_tokens_of_probability_zero_and_one_can_be_coded():
    model = Table([[0.0, -np.inf, -np.inf]])
    certain = compress(model, [0] * 3_000)
    assert certain.ideal_bits == 0 and certain.coded_bits <= 32
    assert decompress(model, certain).tolist() == [0] * 3_000
    impossible = compress(model, [1, 2, 0, 1] * 25)
    assert math.isinf(impossible.ideal_bits)
    assert impossible.rounded_bits == pytest.approx(24 * 75, abs=1e-3)
    assert decompress(model, impossible).tolist() == [1, 2, 0, 1] * 25


def test_a_large_vocabulary_with_a_long_tail_comes_back():
    rng = np.random.default_rng(3)
    model = Table(rng.normal(0, 6, (3, 50_257)))
    ids = rng.integers(0, 50_257, 40)  # mostly from the tail
    assert decompress(model, compress(model, ids)).tolist() == ids.tolist()


def test_many_texts_with_zeros_at_the_end_of_the_code_come_back():
    model = Table([[0.0, 0.0]])  # one bit a token: the code is the text
    for n in range(1, 80):
        for ids in ([0] * n, [1] * n, [1] + [0] * (n - 1)):
            assert decompress(model, compress(model, ids)).tolist() == ids


# ------------------------------------------------------------------------------------------------------ the size


@pytest.mark.parametrize("vocab_size, spread", [(2, 1.0), (46, 2.0), (256, 3.0), (2048, 2.0)])
def test_the_size_is_the_summed_surprisal_within_a_few_bytes(vocab_size, spread):
    model = uneven(vocab_size, spread)
    rng = np.random.default_rng(1)
    ids = [0]
    for _ in range(1500):
        p = np.exp(model.next_token_log_probs(ids))
        ids.append(int(rng.choice(vocab_size, p=p / p.sum())))
    packed = compress(model, ids)
    ideal = model.nll(ids).sum() / np.log(2)
    assert packed.ideal_bits == pytest.approx(ideal, rel=1e-12)
    allowed = len(ids) * -math.log2(1 - vocab_size / PARTS)
    assert packed.rounded_bits <= ideal + allowed + 1e-6
    # the coder itself: within one word and the rounding of its own 64-bit state
    assert packed.rounded_bits - 1 <= packed.coded_bits <= packed.rounded_bits + 40
    assert len(packed) == packed.coded_bits // 8 + 2
    assert packed.coded_bits < 1.01 * ideal + (40 if ideal < 4000 else 0)


@given(st.integers(2, 300), st.sampled_from([0.0, 0.1, 3.0, 50.0, 500.0]), st.integers(0, 9))
def test_the_parts_sum_to_the_whole_and_stay_close_to_the_probabilities(vocab_size, spread, seed):
    log_p = uneven(vocab_size, spread, seed).log_probs[0]
    parts = _share_out(log_p)
    assert int(parts.sum()) == PARTS and int(parts.min()) >= 1
    p = np.exp(log_p)
    # each part but the likeliest's is 1 + floor(p (2**24 - V)), in exact arithmetic, give or take p's own rounding
    for k in np.flatnonzero(np.arange(vocab_size) != parts.argmax())[:20]:
        exact = 1 + Fraction(float(p[k])) * (PARTS - vocab_size)
        assert exact - 1 - Fraction(1, 10**6) <= int(parts[k]) <= exact + Fraction(1, 10**6)


def test_the_coder_works_with_exactly_our_integers():
    # A token of k parts, coded n times, takes n (24 - log2 k) bits: a different table inside would show.
    for parts_of_one in (1, 2, 3, 1000, 2**23, 2**24 - 3):
        rest = PARTS - parts_of_one
        model = Table(np.log([[rest - 1, parts_of_one, 1]]))
        parts = _share_out(model.log_probs[0])
        n = 3000
        packed = compress(model, [1] * n)  # not the first: its code is zeros, which are left out at the end
        assert packed.rounded_bits == pytest.approx(n * (24 - math.log2(parts[1])), rel=1e-9, abs=1e-9)
        assert abs(packed.coded_bits - packed.rounded_bits) <= 40


def test_the_result_is_plain_bytes():
    packed = compress(uneven(5, 1.0), [1, 2, 3])
    assert isinstance(packed, bytes) and isinstance(packed, CompressedIds)
    assert decompress(uneven(5, 1.0), bytes(packed)).tolist() == [1, 2, 3]
    assert decompress(uneven(5, 1.0), bytearray(packed)).tolist() == [1, 2, 3]


def test_a_known_world_stores_its_own_text_at_its_own_entropy():
    world = known_world()
    ids = world.sample(4000, np.random.default_rng(5))
    packed = compress(world, ids)
    assert packed.ideal_bits == pytest.approx(world.nll(ids).sum() / np.log(2), rel=1e-10)
    assert packed.coded_bits / packed.ideal_bits < 1.005
    assert (decompress(world, packed) == ids).all()
    assert abs(packed.coded_bits / ids.size - world.entropy_rate / np.log(2)) < 0.06


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 16, 100])
def test_a_gpt_is_read_through_its_cache_and_its_windows(n):
    model = GPT(30, context=8, width=16, layers=2, heads=2, seed=1)
    with torch.no_grad():
        model.head.weight.mul_(40)  # far from uniform, so that a wrong window would show
    ids = np.random.default_rng(n).integers(0, 30, n)
    packed = compress(model, ids)
    assert decompress(model, packed).tolist() == ids.tolist()
    assert packed.ideal_bits == pytest.approx(model.nll(ids).sum() / np.log(2), rel=1e-5, abs=1e-9)


def test_n_gram_and_window_models_store_text_at_their_loss():
    world = known_world()
    train, ids = world.sample(20_000, np.random.default_rng(6)), world.sample(1500, np.random.default_rng(7))
    for model in (NGramModel(46, 3).fit(train), NGramModel(46, 1).fit(train), WindowModel(46, 2, seed=3)):
        packed = compress(model, ids)
        assert packed.ideal_bits == pytest.approx(model.nll(ids).sum() / np.log(2), rel=1e-6)
        assert packed.coded_bits / packed.ideal_bits < 1.01
        assert (decompress(model, packed) == ids).all()


def test_a_fingerprint_depends_on_each_weight_and_on_the_settings():
    gpt = GPT(30, context=8, width=16, layers=1, heads=2, seed=1)
    first = model_fingerprint(gpt)
    assert first == model_fingerprint(GPT(30, context=8, width=16, layers=1, heads=2, seed=1))
    with torch.no_grad():
        gpt.head.bias[3] += 1e-6
    assert model_fingerprint(gpt) != first
    assert model_fingerprint(GPT(30, context=8, width=16, layers=1, heads=4, seed=1)) != first
    grams = [
        NGramModel(5, 2, method).fit([0, 1, 2, k]) for k in (3, 4) for method in ("witten-bell", "kneser-ney")
    ]
    assert len({model_fingerprint(model) for model in grams}) == 4


def test_the_number_of_threads_is_put_back():
    before = torch.get_num_threads()
    with pytest.raises(ValueError):
        compress(Table([[np.nan, 0.0]]), [0])
    assert torch.get_num_threads() == before


# ------------------------------------------------------------------------------------------------------ the files


TEXT = "If the only tool you have is a hammer, every café looks like a nail. \N{SNOWMAN}\r\n\0 end " * 40


@pytest.fixture
def model():
    return uneven(256, 1.0)


@pytest.mark.parametrize("text", ["", "a", "é", TEXT], ids=["empty", "one byte", "two bytes", "long"])
def test_a_text_goes_to_a_file_and_back(tmp_path, model, text):
    account = compress_file(tmp_path / "t", text, model, Letters())
    assert decompress_file(tmp_path / "t", model, Letters()) == text
    assert (tmp_path / "t").stat().st_size == account.coded_bytes + account.header_bytes
    assert account.n_bytes == account.n_tokens == len(text.encode())
    assert account.header_bytes < 150
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("kind", ["bytes", "BPE"])
def test_our_tokenizers_and_models_write_and_read_files(tmp_path, kind):
    tokenizer = ByteTokenizer() if kind == "bytes" else BPETokenizer.train(TEXT, 300)
    model = NGramModel(tokenizer.vocab_size, 3).fit(tokenizer.encode(TEXT[: len(TEXT) // 2]))
    account = compress_file(tmp_path / "t", TEXT, model, tokenizer)
    assert decompress_file(tmp_path / "t", model, tokenizer) == TEXT
    nll = model.nll(tokenizer.encode(TEXT)).sum()
    assert account.ideal_bits == pytest.approx(nll / np.log(2), rel=1e-9)


def test_the_account_sets_the_file_beside_the_loss(tmp_path, model):
    account = compress_file(tmp_path / "t", TEXT, model, Letters())
    nll = model.nll(Letters().encode(TEXT)).sum()
    assert account.ideal_bits == pytest.approx(nll / np.log(2), rel=1e-12)
    assert account.bits_per_byte == pytest.approx(nll / np.log(2) / len(TEXT.encode()), rel=1e-12)
    assert 1 <= account.coded_bits_per_byte / account.bits_per_byte < 1.01
    assert math.isnan(compress_file(tmp_path / "e", "", model, Letters()).bits_per_byte)


@pytest.mark.parametrize("where", [0, 4, 5, 7, 20, 30, 50, 60, 70, 100, -1, -200])
def test_any_damaged_byte_is_an_error_before_decoding(tmp_path, model, where):
    compress_file(tmp_path / "t", TEXT, model, Letters())
    data = bytearray((tmp_path / "t").read_bytes())
    data[where] ^= 16
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(ValueError, match=r"damaged|version|must be a file|cut off"):
        decompress_file(tmp_path / "t", model, Letters())


@pytest.mark.parametrize("keep", [0, 3, 4, 5, 50, 90, 100, -1])
def test_a_file_that_is_cut_off_is_an_error(tmp_path, model, keep):
    compress_file(tmp_path / "t", TEXT, model, Letters())
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut off|must be a file"):
        decompress_file(tmp_path / "t", model, Letters())


def test_another_model_or_tokenizer_is_an_error(tmp_path, model):
    compress_file(tmp_path / "t", TEXT, model, Letters())
    other = uneven(256, 1.0)
    other.log_probs[7, 9] = np.nextafter(other.log_probs[7, 9], 0)
    with pytest.raises(ValueError, match="model must be the one that compressed"):
        decompress_file(tmp_path / "t", other, Letters())
    with pytest.raises(ValueError, match="tokenizer must be the one that compressed"):
        decompress_file(tmp_path / "t", model, Letters("another"))


def test_probabilities_that_differ_in_the_last_bits_are_an_error_not_another_text(tmp_path, model):
    class Elsewhere(Table):  # the same weights on a machine that rounds differently
        def next_token_log_probs(self, prefix):
            log_p = super().next_token_log_probs(prefix).copy()
            log_p[:2] += [3e-7, -3e-7]
            return log_p

    Elsewhere.__name__ = "Table"
    compress_file(tmp_path / "t", TEXT, model, Letters())
    elsewhere = Elsewhere(model.log_probs)
    elsewhere.log_probs = model.log_probs
    assert model_fingerprint(elsewhere) == model_fingerprint(model)
    with pytest.raises(ValueError, match=r"made with torch .* here is torch"):
        decompress_file(tmp_path / "t", elsewhere, Letters())


def test_a_file_that_was_there_stays_when_writing_fails(tmp_path, model):
    compress_file(tmp_path / "t", "first", model, Letters())
    with pytest.raises(ValueError, match="sum to one"):
        compress_file(tmp_path / "t", TEXT, Table([[np.nan] * 256]), Letters())
    assert decompress_file(tmp_path / "t", model, Letters()) == "first"
    with pytest.raises(OSError):
        compress_file(tmp_path / "no such folder" / "t", "x", model, Letters())


def test_a_known_world_is_a_tokenizer_and_a_model(tmp_path):
    world = known_world()
    text = world.decode(world.sample(300, np.random.default_rng(2)))
    compress_file(tmp_path / "t", text, world, world)
    assert decompress_file(tmp_path / "t", world, world) == text


# -------------------------------------------------------------------------------------------------- the bad input


class Lossy(Letters):
    def encode(self, text):
        return super().encode(text.lower())


@pytest.mark.parametrize(
    "call, error, says",
    [
        (lambda: compress(uneven(5, 1.0), [1, 5]), ValueError, r"ids must be in \[0, 5\), got 5"),
        (lambda: compress(uneven(5, 1.0), [-1]), ValueError, r"ids must be in \[0, 5\), got -1"),
        (lambda: compress(uneven(5, 1.0), [[1, 2]]), ValueError, r"one row of token ids, got shape \(1, 2\)"),
        (lambda: compress(uneven(5, 1.0), [1.0]), TypeError, "ids must hold integers"),
        (lambda: compress(object(), [1]), TypeError, "model must have a vocab_size"),
        (lambda: decompress(object(), b"\x01"), TypeError, "model must have next_token_log_probs"),
        (lambda: decompress(uneven(5, 1.0), "text"), TypeError, "data must be bytes, got str"),
        (lambda: decompress(uneven(5, 1.0), b""), ValueError, "begin with a count"),
        (lambda: decompress(uneven(5, 1.0), b"\xff" * 20), ValueError, "begin with a count"),
        (lambda: compress(known_world(), [0, 0, 0]), ValueError, "impossible here"),
        (lambda: compress_file("x", b"bytes", uneven(256, 1.0), Letters()), TypeError, "text must be a string"),
        (lambda: compress_file("x", "\ud800", uneven(256, 1.0), Letters()), ValueError, "encodable as UTF-8"),
        (lambda: compress_file("x", "Loud", uneven(256, 1.0), Lossy()), ValueError, "bring the text back"),
        (lambda: compress_file("x", "é", uneven(100, 1.0), Letters()), ValueError, r"\[0, 100\), got 195"),
    ],
)  # fmt: skip
def test_bad_input_is_named(tmp_path, monkeypatch, call, error, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        call()
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_probabilities_do_not_sum_to_one_is_refused():
    model = uneven(5, 1.0)
    model.log_probs = model.log_probs + 0.01
    with pytest.raises(ValueError, match=r"sum to one; got a sum of 1.01"):
        compress(model, [1])


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    real_import = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "constriction":
            raise ImportError("no module")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "lossutils\[coding\]"'):
        compress(uneven(5, 1.0), [1])
