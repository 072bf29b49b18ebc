"""Both tokenizers give back every text, count its bytes, and survive being stored."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lossutils.text import python_topics
from lossutils.tokenizing import BPETokenizer, ByteTokenizer, _byte_of_character, load_tokenizer

TRAINING_TEXTS = [topic.text for topic in python_topics()[:12]]
BPE = BPETokenizer.train(TRAINING_TEXTS, 600)
each_tokenizer = pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=repr)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@each_tokenizer
@given(text=any_text)
@example(text="")
@example(text="\x00 NUL, 👩‍👩‍👧‍👦 family, e\u0301 combining, \ufeff mark, \U0010ffff last, \r\n\t  ends ")
@example(text="<|endoftext|> [UNK] </s> Ġ Ċ ▁")
def test_every_text_comes_back_and_every_byte_is_counted(tokenizer, text):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64 and ids.ndim == 1
    assert tokenizer.decode(ids) == text == tokenizer.decode(ids, errors="strict")
    assert b"".join(tokenizer.pieces(ids)) == text.encode()
    assert tokenizer.n_bytes(ids).tolist() == [len(piece) for piece in tokenizer.pieces(ids)]
    assert tokenizer.n_bytes(ids).sum() == len(text.encode())
    assert ((ids >= 0) & (ids < tokenizer.vocab_size)).all()


def test_a_byte_is_its_own_token():
    assert ByteTokenizer().encode("A€").tolist() == [0x41, 0xE2, 0x82, 0xAC]
    assert ByteTokenizer().vocab_size == 256


def merged(word, merges):
    """Byte-pair encoding as the paper has it: of all neighbours, join the pair that was merged first, and again."""
    parts = list(word)
    while True:
        ranks = [merges.get(pair, len(merges)) for pair in pairwise(parts)]
        if not ranks or min(ranks) == len(merges):
            return parts
        n = ranks.index(min(ranks))
        parts[n : n + 2] = [parts[n] + parts[n + 1]]


def test_the_pieces_are_those_of_the_algorithm():
    """On words without anything to split them, by a slow implementation from the list of merges."""
    merges = json.loads(BPE.to_json())["tokenizer"]["model"]["merges"]
    ranks = {
        tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")): n for n, pair in enumerate(merges)
    }
    for word in ("statement", "assignments", "xylophone", "q", "classification"):
        pieces = [piece.decode() for piece in BPE.pieces(BPE.encode(word))]
        assert pieces == merged(word, ranks)
    assert any(len(BPE.encode(word)) < len(word) for word in ("statement", "assignments"))


def test_training_merges_the_most_frequent_neighbours():
    tokenizer = BPETokenizer.train("ab ab ab ab cd", 258)
    assert tokenizer.pieces([256, 257]) == [b"ab", b" ab"]


def test_merges_save_tokens_on_text_like_the_training_text():
    new = python_topics()[20].text
    assert len(BPE.encode(new)) < 0.6 * len(new)
    large = BPETokenizer.train(TRAINING_TEXTS, 1500)
    assert len(large.encode(new)) < len(BPE.encode(new))


def test_the_vocabulary_has_the_size_that_was_asked_for_or_all_that_the_text_gives():
    assert BPE.vocab_size == 600
    assert BPETokenizer.train(TRAINING_TEXTS, 256).vocab_size == 256
    assert BPETokenizer.train(["ab" * 9], 1000).vocab_size < 300
    assert BPETokenizer.train([], 300).vocab_size == 256
    assert sorted(BPE.pieces(range(256))) == [bytes([b]) for b in range(256)]


def test_training_is_the_same_in_another_process_with_another_number_of_threads():
    code = (
        "from lossutils.text import python_topics; from lossutils.tokenizing import BPETokenizer;"
        "print(BPETokenizer.train([topic.text for topic in python_topics()[:12]], 600).to_json())"
    )
    settings = os.environ | {"RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, check=True
    )
    assert other.stdout == BPE.to_json() + "\n"


def test_a_single_text_is_one_text_and_not_a_list_of_letters():
    assert (
        BPETokenizer.train("the cat the hat", 270).to_json()
        == BPETokenizer.train(["the cat the hat"], 270).to_json()
    )


def test_the_characters_of_a_byte_level_vocabulary_stand_for_the_bytes_that_the_package_means():
    """Asked by characters that hold all the bytes that UTF-8 has: 0-7F alone, C2-F4 before 80-BF."""
    byte, package, asked = _byte_of_character(), plain(), set()
    for code in [*range(0x800), *range(0x800, 0xD800, 0x100), *range(0xE000, 0x110000, 0x1000)]:
        found = bytes(byte[character] for token in package.encode(chr(code)).tokens for character in token)
        assert found == chr(code).encode()
        asked |= set(found)
    assert asked == set(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert byte.keys() == set(pre_tokenizers.ByteLevel.alphabet())


@each_tokenizer
def test_bytes_that_are_no_text_become_a_replacement_or_an_error_as_asked(tokenizer):
    half = tokenizer.encode("€")[:1]
    assert tokenizer.decode([*tokenizer.encode("a"), *half, *tokenizer.encode("b")]) == "a\ufffdb"
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(half, errors="strict")


@each_tokenizer
def test_a_tokenizer_comes_back_from_its_json(tokenizer):
    for again in (load_tokenizer(tokenizer.to_json()), type(tokenizer).from_json(tokenizer.to_json())):
        assert type(again) is type(tokenizer)
        assert again.vocab_size == tokenizer.vocab_size
        text = "A sentence, naïve: 1 + 1 = 2.\n"
        assert again.encode(text).tolist() == tokenizer.encode(text).tolist()
        assert again.to_json() == tokenizer.to_json()
    json.loads(tokenizer.to_json())


@each_tokenizer
def test_ids_may_be_a_list_an_array_or_a_tensor(tokenizer):
    ids = tokenizer.encode("Hello there")
    for same in (ids.tolist(), ids.astype(np.uint16), torch.as_tensor(ids)):
        assert tokenizer.decode(same) == "Hello there"
        assert tokenizer.n_bytes(same).sum() == 11
    assert tokenizer.decode([]) == "" and tokenizer.n_bytes([]).shape == (0,)


@each_tokenizer
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda t: t.encode(b"bytes"), TypeError, "text must be a str, got bytes"),
        (lambda t: t.encode("ab\ud83d"), ValueError, r"lone surrogate, '\\ud83d', at position 2"),
        (
            lambda t: t.decode([0, t.vocab_size]),
            ValueError,
            r"ids must be in \[0, \d+\), got \d+ at position 1",
        ),
        (lambda t: t.decode([-1]), ValueError, "ids must be in"),
        (lambda t: t.n_bytes([-1]), ValueError, "ids must be in"),
        (lambda t: t.pieces([0.5]), TypeError, "ids must hold integers"),
        (lambda t: t.decode([[1]]), ValueError, r"ids must have shape \(N,\), got shape \(1, 1\)"),
        (lambda t: t.decode([1], errors="ignore"), ValueError, "errors must be one of"),
        (lambda t: t.from_json("{}"), ValueError, '"kind": .*, got None'),
        (lambda t: t.from_json("[1]"), ValueError, '"kind"'),
        (
            lambda t: t.from_json("nonsense"),
            ValueError,
            "text must be the JSON of a tokenizer, got 'nonsense'",
        ),
        (lambda t: t.from_json(3), TypeError, "text must be a str, got int"),
    ],
)
def test_bad_input_is_an_error_that_names_the_argument(tokenizer, call, error, message):
    with pytest.raises(error, match=message):
        call(tokenizer)


def plain(**parts):
    """A tokenizer of the package with all bytes and nothing else, but for the given parts."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    for name, value in parts.items():
        setattr(tokenizer, name, value)
    return tokenizer


def test_a_tokenizer_of_the_package_is_taken_if_it_loses_nothing():
    assert BPETokenizer(plain()).decode(BPETokenizer(plain()).encode("né 👍")) == "né 👍"


def with_special_token():
    tokenizer = plain()
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: "gpt2", TypeError, "tokenizer must be a tokenizers.Tokenizer, got str"),
        (lambda: plain(normalizer=normalizers.Lowercase()), ValueError, "must have no normalizer"),
        (with_special_token, ValueError, "must have no added_tokens"),
        (lambda: plain(pre_tokenizer=pre_tokenizers.Whitespace()), ValueError, "ByteLevel pre-tokenizer"),
        (lambda: plain(pre_tokenizer=pre_tokenizers.ByteLevel()), ValueError, "adds no space"),
        (lambda: plain(model=models.BPE(vocab={"a": 0}, merges=[])), ValueError, "all 256 bytes"),
        (lambda: plain(model=models.WordLevel(vocab={"a": 0}, unk_token="a")), ValueError, "must be a BPE"),
    ],
    ids=range(7),
)
def test_a_tokenizer_of_the_package_that_could_change_a_text_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        BPETokenizer(make())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "word"}', "\"kind\": 'byte' or 'bpe', got 'word'"),
        ('{"kind": "bpe"}', 'under "tokenizer"'),
        ('{"kind": "bpe", "tokenizer": {"model": 3}}', "no tokenizer that the tokenizers package can read"),
    ],
)
def test_a_stored_tokenizer_that_is_damaged_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        load_tokenizer(text)


@pytest.mark.parametrize(
    ("texts", "vocab_size", "error", "message"),
    [
        (["a"], 255, ValueError, "vocab_size must be at least 256, the number of bytes, got 255"),
        (["a"], 300.0, TypeError, "vocab_size must be an integer"),
        ([b"a"], 300, TypeError, "text must be a str, got bytes"),
        (["a", "\udc00"], 300, ValueError, "lone surrogate"),
    ],
)
def test_training_refuses_what_it_cannot_use(texts, vocab_size, error, message):
    with pytest.raises(error, match=message):
        BPETokenizer.train(texts, vocab_size)
