"""Duplicates go, nothing else does; a split is between documents; files are read to the byte or refused by name."""

import lzma

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossutils import cross_entropy
from lossutils.models import WindowModel
from lossutils.text import (
    BPETokenizer,
    ByteTokenizer,
    Document,
    duplicate_share,
    encode_documents,
    python_topics,
    read_documents,
    remove_duplicates,
    split_documents,
)
from lossutils.training import train


def documents(*texts):
    return [Document(str(n), text) for n, text in enumerate(texts)]


def texts_of(found):
    return [document.text for document in found]


# The text that ships with Python --------------------------------------------------------------------------


def test_the_topics_are_prose_in_a_fixed_order():
    topics = python_topics()
    names = [topic.name for topic in topics]
    assert names == sorted(set(names)) and len(names) > 50
    assert sum(len(topic.text) for topic in topics) > 200_000
    assert all(topic.text.strip() for topic in topics)
    assert "lambda" in names


def test_a_good_part_of_the_topics_is_duplicate_paragraphs():
    assert 0.1 < duplicate_share(python_topics()) < 0.35
    assert duplicate_share(remove_duplicates(python_topics())) == 0


def bits_per_byte_given(past, text):
    """What the text adds to the compressed size of the past. lzma finds a repetition at any distance here."""
    both = len(lzma.compress((past + text).encode())) - len(lzma.compress(past.encode()))
    return 8 * both / len(text.encode())


def test_duplicates_leak_from_the_training_text_into_the_held_out_text():
    """The finding of the chapter, by a compressor that knows nothing of paragraphs."""
    leaky, clean = [
        bits_per_byte_given(*("".join(texts_of(side)) for side in split_documents(found, seed=0)))
        for found in (python_topics(), remove_duplicates(python_topics()))
    ]
    assert clean > 1.3 * leaky


# Duplicates -----------------------------------------------------------------------------------------------


def test_a_paragraph_stays_where_it_stands_first():
    found = remove_duplicates(documents("A.\n\nB.", "B.\n\nC.\n\nA.", "C.\n\nC.\n\nD."))
    assert found == [Document("0", "A.\n\nB."), Document("1", "C.\n\n"), Document("2", "D.")]


def test_white_space_makes_no_difference_between_paragraphs_but_letters_and_case_do():
    found = remove_duplicates(
        documents("one two\nthree", "   one   two three \n \t\n One two three\n\none two, three")
    )
    assert texts_of(found)[1:] == [" One two three\n\none two, three"]


def test_blank_lines_may_hold_spaces_and_windows_line_ends():
    assert texts_of(remove_duplicates(documents("A\r\n\r\nB", "x\n \t \nA\n\n\n\nB"))) == [
        "A\r\n\r\nB",
        "x\n \t \n",
    ]


def test_what_is_left_is_unchanged_and_a_document_of_which_nothing_is_left_goes():
    text = "\n\n  First.\n\n\n    code(1)\n\n    code(2)\n\nLast. \n"
    assert remove_duplicates(documents(text, text, "  First.", " \n\n")) == documents(text)
    assert duplicate_share(documents(text, text)) == 0.5
    assert duplicate_share([]) == 0


paragraphs = st.lists(
    st.lists(st.sampled_from(["a", "b", " a ", "c d", "c  d", "é"]), max_size=5), max_size=5
)


@given(paragraphs)
def test_removing_duplicates_leaves_each_paragraph_once_and_loses_none(lists):
    given_ = documents(*("\n\n".join(words) for words in lists))
    found = remove_duplicates(given_)

    def words(docs):
        return [" ".join(p.split()) for d in docs for p in d.text.split("\n\n") if p.strip()]

    assert len(words(found)) == len(set(words(found)))
    assert set(words(found)) == set(words(given_))
    assert remove_duplicates(found) == found


# The split ------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=20),
    held_out=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_a_split_divides_the_documents_and_neither_side_is_empty(sizes, held_out, seed):
    whole = documents(*("x" * size for size in sizes))
    train_side, held_side = split_documents(whole, held_out=held_out, seed=seed)
    assert train_side and held_side
    assert sorted(train_side + held_side, key=lambda d: int(d.name)) == whole
    for side in (train_side, held_side):
        assert side == sorted(side, key=lambda d: int(d.name))
    held = sum(len(d.text) for d in held_side)
    assert held <= held_out * sum(sizes) or held_side == [min(held_side, key=lambda d: len(d.text))]
    assert (train_side, held_side) == split_documents(whole, held_out=held_out, seed=seed)


def test_the_share_is_one_of_characters_and_is_met_closely_where_documents_are_short():
    whole = documents(*("x" * n for n in range(1, 400)))
    total = sum(len(d.text) for d in whole)
    for share in (0.05, 0.1, 0.5):
        held = sum(len(d.text) for d in split_documents(whole, held_out=share)[1])
        assert share - 0.01 < held / total <= share


def test_the_seed_decides_which_documents_are_held_out():
    whole = documents(*(f"text {n}" for n in range(100)))
    chosen = [{d.name for d in split_documents(whole, seed=seed)[1]} for seed in range(20)]
    assert len({frozenset(names) for names in chosen}) == 20
    assert len(set().union(*chosen)) > 70  # over seeds, everyone has a turn


def test_a_document_longer_than_the_share_is_never_held_out():
    assert texts_of(split_documents(documents("x" * 100, "y", "z"), held_out=0.02, seed=1)[1]) == ["y", "z"]
    assert texts_of(split_documents(documents("x" * 5, "y" * 4), held_out=0.1)[1]) == ["yyyy"]


# Streams --------------------------------------------------------------------------------------------------


def test_a_stream_is_the_documents_one_after_another_and_knows_where_each_token_is_from():
    stream = encode_documents(documents("ab", "", "né"), ByteTokenizer(), separator="\n")
    assert bytes(stream.ids.tolist()).decode() == "ab\n\nné\n"
    assert stream.document.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert stream.ids.dtype == stream.document.dtype == np.int64


def test_no_token_reaches_over_the_end_of_a_document():
    tokenizer = BPETokenizer.train("abab" * 20, 260)
    assert len(tokenizer.encode("abab")) < 4
    stream = encode_documents(documents("aba", "bab"), tokenizer)
    assert tokenizer.decode(stream.ids[stream.document == 0]) == "aba"
    assert tokenizer.decode(stream.ids[stream.document == 1]) == "bab"


def test_nothing_makes_an_empty_stream():
    stream = encode_documents([], ByteTokenizer())
    assert stream.ids.shape == stream.document.shape == (0,)


def test_training_never_sees_a_held_out_token():
    """Real excerpts of a real run: held-out documents are written in letters that the others do not have."""
    train_side, held_side = split_documents(documents(*["ab" * 20] * 30), held_out=0.3)
    held_side = [Document(name, text.replace("a", "X").replace("b", "Y")) for name, text in held_side]
    seen = []

    class Spy(WindowModel):
        def forward(self, ids):
            seen.append(ids)
            return super().forward(ids)

    ids = encode_documents(train_side, ByteTokenizer(), separator="\n").ids
    held_ids = encode_documents(held_side, ByteTokenizer(), separator="\n").ids
    train(Spy(256, 2, width=4, embedding=2), cross_entropy, ids, steps=50)
    assert set(torch.cat(seen).unique().tolist()) == set(b"ab\n")
    assert set(held_ids.tolist()) == set(b"XY\n")


# Files ----------------------------------------------------------------------------------------------------


def test_a_file_is_read_to_the_byte_whatever_it_is_called(tmp_path):
    path = tmp_path / "notes.md"
    path.write_bytes("Zeile 1\r\nñ\ttab\x00\n".encode())
    assert read_documents(path) == [Document("notes.md", "Zeile 1\r\nñ\ttab\x00\n")]
    assert read_documents(str(path)) == read_documents(path)


def test_a_folder_is_read_in_the_order_of_its_paths(tmp_path):
    for name in ("b.txt", "a.txt", "B.txt", "c.md", "sub/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "folder.txt").mkdir()
    assert [name for name, _ in read_documents(tmp_path)] == ["B.txt", "a.txt", "b.txt"]
    assert [name for name, _ in read_documents(tmp_path, pattern="**/*.txt")] == [
        "B.txt",
        "a.txt",
        "b.txt",
        "sub/a.txt",
    ]
    assert [name for name, _ in read_documents(tmp_path, pattern="*.md")] == ["c.md"]


def test_other_encodings_are_read_when_named(tmp_path):
    (tmp_path / "old.txt").write_bytes("café".encode("latin-1"))
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert read_documents(tmp_path / "old.txt", encoding="latin-1")[0].text == "café"
    assert read_documents(tmp_path / "mark.txt")[0].text == "\ufeffhello"
    assert read_documents(tmp_path / "mark.txt", encoding="utf-8-sig")[0].text == "hello"


def test_a_wrong_encoding_is_an_error_that_names_the_file_and_the_byte(tmp_path):
    (tmp_path / "good.txt").write_text("fine")
    (tmp_path / "old.txt").write_bytes("un café".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"old\.txt' is not written in utf-8: byte 0xe9 at offset 6 .* encoding="
    ):
        read_documents(tmp_path)
    with pytest.raises(ValueError, match=r"old\.txt' is not written in utf-16"):
        read_documents(tmp_path / "old.txt", encoding="utf-16")
    with pytest.raises(ValueError, match="encoding must be one that Python knows, got 'utf-9'"):
        read_documents(tmp_path, encoding="utf-9")


def test_an_empty_file_a_missing_path_and_a_folder_without_text_are_errors_that_name_them(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty' is a folder without a file that fits '\*\.txt'"):
        read_documents(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"path '.*nowhere\.txt' does not exist"):
        read_documents(tmp_path / "nowhere.txt")
    (tmp_path / "empty" / "void.txt").touch()
    for path in (tmp_path / "empty", tmp_path / "empty" / "void.txt"):
        with pytest.raises(ValueError, match=r"void\.txt' is empty"):
            read_documents(path)


# Bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: split_documents(documents("a")), ValueError, "documents must be at least two"),
        (lambda: split_documents(documents("a", "b"), held_out=0), ValueError, "held_out must lie strictly"),
        (
            lambda: split_documents(documents("a", "b"), held_out=1.0),
            ValueError,
            "held_out must lie strictly",
        ),
        (
            lambda: split_documents(documents("a", "b"), held_out=10),
            ValueError,
            r"held_out must be in \[0, 1\]",
        ),
        (lambda: split_documents(documents("a", "b"), held_out="x"), TypeError, "held_out must be a number"),
        (lambda: remove_duplicates(["a"]), TypeError, r"documents must hold Document\(name, text\), got 'a'"),
        (lambda: remove_duplicates([("a", 3)]), TypeError, "documents must hold Document"),
        (lambda: duplicate_share([("a",)]), TypeError, "documents must hold Document"),
        (lambda: encode_documents("ab", ByteTokenizer()), TypeError, "documents must hold Document"),
        (lambda: encode_documents(documents("\ud800"), ByteTokenizer()), ValueError, "lone surrogate"),
    ],
)
def test_bad_input_is_an_error_that_names_the_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()
