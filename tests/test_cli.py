"""The command line: what it prints is what the library computes, and each mistake gets its one line."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lossutils
from lossutils.checkpoints import load_model, save_model
from lossutils.cli import main
from lossutils.intervals import perplexity_interval
from lossutils.models import GPT, NGramModel
from lossutils.text import BPETokenizer, ByteTokenizer, read_documents
from lossutils.windows import score_text

ROOT = Path(__file__).parent.parent
SENTENCES = "The loss fell, and fell again. Then it did not fall: größer als zuvor 🙂. Who knows why? "


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Texts and checkpoints."""
    root = tmp_path_factory.mktemp("cli")
    rng = np.random.default_rng(0)
    words = SENTENCES.split()
    texts = [" ".join(rng.choice(words, 150 + 10 * k)) for k in range(12)]
    (root / "folder").mkdir()
    for k, text in enumerate(texts):
        (root / "folder" / f"{k:02d}.txt").write_text(text, encoding="utf-8")
    (root / "one.txt").write_text("\n".join(texts), encoding="utf-8")
    tokenizer = BPETokenizer.train(texts, 300)
    model = GPT(tokenizer.vocab_size, context=32, width=16, layers=1, heads=2)
    with torch.no_grad():
        model.head.weight.mul_(10)
    save_model(root / "gpt.safetensors", model, tokenizer=tokenizer)
    save_model(root / "bare.safetensors", model)
    counts = NGramModel(256, 3).fit(ByteTokenizer().encode(texts[0]))
    save_model(root / "ngram.safetensors", counts, tokenizer=ByteTokenizer())
    return root


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["perplexity", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def report(capsys, *arguments) -> dict:
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


# -------------------------------------------------------------------------------------------- what it computes


def test_a_folder_s_files_are_the_documents_and_the_groups(capsys, place):
    found = report(capsys, place / "folder", place / "gpt.safetensors")
    model, tokenizer, _ = load_model(place / "gpt.safetensors")
    score = score_text(model, read_documents(place / "folder"), tokenizer, batch_size=8)
    assert found["scored"]["documents"] == 12 and found["text"]["documents"][0] == "00.txt"
    for unit in ("token", "word", "char", "byte"):
        assert found["scored"][f"{unit}s"] == score.count(unit)
    assert found["scored"]["nll_sum_nats"] == score.nll_sum
    results = found["results"]
    assert results["perplexity_per_token"]["estimate"] == score.perplexity()
    assert results["bits_per_byte"]["estimate"] == score.bits_per_byte
    assert results["nats_per_token"]["estimate"] == pytest.approx(score.nll.mean())
    want = perplexity_interval(score.nll, score.document, counts=score.token_bytes, unit="bits")
    assert (results["bits_per_byte"]["low"], results["bits_per_byte"]["high"]) == (want.low, want.high)
    words = perplexity_interval(score.document_nll, range(12), counts=score.n_words)
    assert results["perplexity_per_word"]["high"] == words.high
    assert found["interval"]["n_groups"] == 12 and found["interval"]["groups"] == "12 documents"
    assert found["windows"]["max_length"] == 32 and found["windows"]["stride"] == 16
    assert found["lossutils"] == lossutils.__version__
    assert found["notes"] == []


def test_a_single_file_is_cut_into_blocks_and_the_output_says_so(capsys, place):
    found = report(capsys, place / "one.txt", place / "gpt.safetensors")
    assert found["interval"]["n_groups"] == 30 and "30 blocks of about" in found["interval"]["groups"]
    assert "within itself" in found["notes"][0]
    assert found["results"]["perplexity_per_word"]["low"] is None  # words are not counted by block
    fewer = report(capsys, place / "one.txt", place / "gpt.safetensors", "--blocks", 7)
    assert fewer["interval"]["n_groups"] == 7
    assert fewer["results"]["bits_per_byte"]["estimate"] == found["results"]["bits_per_byte"]["estimate"]


def test_each_document_is_tokenized_once(capsys, place, monkeypatch):
    encoded, encode = [], BPETokenizer.encode
    monkeypatch.setattr(BPETokenizer, "encode", lambda self, text: encoded.append(text) or encode(self, text))
    report(capsys, place / "folder", place / "gpt.safetensors")
    assert encoded == [document.text for document in read_documents(place / "folder")]


def test_the_options_reach_the_windows_and_the_interval(capsys, place):
    options = [
        "--window",
        20,
        "--stride",
        5,
        "--level",
        0.8,
        "--method",
        "t",
        "--blocks",
        6,
        "--bos",
        "never",
    ]
    found = report(capsys, place / "folder", place / "gpt.safetensors", *options)
    model, tokenizer, _ = load_model(place / "gpt.safetensors")
    score = score_text(
        model, read_documents(place / "folder"), tokenizer, max_length=20, stride=5, prefix_token_id=None
    )
    assert found["scored"]["tokens"] == score.count()
    assert found["scored"]["nll_sum_nats"] == pytest.approx(score.nll_sum, rel=1e-6)
    assert found["windows"]["least_context"] == 16 and found["windows"]["prefix_token_id"] is None
    groups = np.arange(score.count()) * 6 // score.count()
    want = perplexity_interval(score.nll, groups, 0.8, method="t")
    got = found["results"]["perplexity_per_token"]
    assert (got["low"], got["high"]) == pytest.approx((want.low, want.high), rel=1e-6)
    assert "first token of each document is not scored" in " ".join(found["notes"])


def test_an_n_gram_checkpoint_is_scored_as_its_own_method_scores_it(capsys, place):
    found = report(capsys, place / "one.txt", place / "ngram.safetensors")
    model, tokenizer, _ = load_model(place / "ngram.safetensors")
    ids = tokenizer.encode((place / "one.txt").read_text(encoding="utf-8"))
    assert found["scored"]["nll_sum_nats"] == pytest.approx(model.nll(ids).sum(), rel=1e-12)
    assert found["results"]["bits_per_byte"]["estimate"] == pytest.approx(
        model.nll(ids).sum() / math.log(2) / len(ids), rel=1e-12
    )


def test_a_hugging_face_folder_is_scored(capsys, place, tmp_path):
    pytest.importorskip("transformers")
    from test_huggingface import save_llama

    from lossutils.huggingface import load_causal_lm

    folder = save_llama(tmp_path / "llama")
    capsys.readouterr()
    found = report(capsys, place / "one.txt", folder, "--device", "cpu")
    model, tokenizer = load_causal_lm(folder, device="cpu")
    score = score_text(model, (place / "one.txt").read_text(encoding="utf-8"), tokenizer)
    assert found["model"]["kind"] == "LlamaForCausalLM"
    assert found["windows"]["max_length"] == 24 and found["windows"]["prefix_token_id"] == 0
    assert not found["windows"]["prefix_each_window"]
    assert found["results"]["bits_per_byte"]["estimate"] == pytest.approx(score.bits_per_byte, rel=1e-5)
    bare = report(capsys, place / "one.txt", folder, "--device", "cpu", "--bos", "never")
    assert bare["scored"]["tokens"] == found["scored"]["tokens"] - 1


# ------------------------------------------------------------------------------------------- how it prints it


def test_the_text_names_what_was_scored_and_the_numbers_of_the_json(capsys, place):
    code, out, err = run(capsys, place / "folder", place / "gpt.safetensors")
    found = report(capsys, place / "folder", place / "gpt.safetensors")
    assert (code, err) == (0, "")
    assert "12 documents" in out and f"{found['scored']['tokens']:,} tokens" in out
    assert f"{found['scored']['bytes']:,} bytes" in out
    assert "32 tokens, stride 16, start token 300 before each window" in out
    assert "95 %, bootstrap (percentile) over 12 documents" in out
    bits = found["results"]["bits_per_byte"]
    line = next(line for line in out.splitlines() if line.startswith("bits per byte"))
    assert line.split()[3:] == [f"{bits['estimate']:.4f}", f"[{bits['low']:.4f},", f"{bits['high']:.4f}]"]
    assert len({line.index("[") for line in out.splitlines() if line.endswith("]")}) == 1  # aligned


def test_a_text_too_short_for_blocks_has_numbers_without_intervals(capsys, place, tmp_path):
    (tmp_path / "short.txt").write_text(SENTENCES, encoding="utf-8")
    found = report(capsys, tmp_path / "short.txt", place / "gpt.safetensors")
    assert found["interval"] is None
    assert found["results"]["bits_per_byte"]["low"] is None
    assert "too few for 5 blocks" in found["notes"][0]


def test_the_documents_encoding_is_read_and_bytes_are_counted_in_utf_8(capsys, place, tmp_path):
    text = (place / "one.txt").read_text(encoding="utf-8")
    (tmp_path / "wide.txt").write_text(text, encoding="utf-16")
    found = report(capsys, tmp_path / "wide.txt", place / "ngram.safetensors", "--encoding", "utf-16")
    want = report(capsys, place / "one.txt", place / "ngram.safetensors")
    assert found["results"] == want["results"]


def test_a_progress_bar_is_shown_on_a_terminal_only(capsys, place, monkeypatch):
    for terminal, quiet, shown in ((False, [], False), (True, [], True), (True, ["--quiet"], False)):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal, raising=False)
        code, out, err = run(capsys, place / "folder", place / "gpt.safetensors", "--json", *quiet)
        assert code == 0 and json.loads(out)
        assert ("tokens" in err) == shown


def test_alone_it_says_what_there_is(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert lossutils.__version__ in out and "perplexity" in out and "Compass of Training" in out
    assert "Score a text that is longer than the model's window" in out  # the first line of windows.py
    assert "_checks" not in out


# ------------------------------------------------------------------------------------------------- mistakes


def test_each_mistake_gets_one_line_that_says_what_to_do(capsys, place, tmp_path):
    gpt = place / "gpt.safetensors"
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("größer als zuvor".encode("latin-1"))
    (tmp_path / "binary.txt").write_bytes(b"abc\0def" * 50)
    (tmp_path / "short.txt").write_text("Too short.", encoding="utf-8")
    (tmp_path / "fake.safetensors").write_text("no checkpoint")
    (tmp_path / "nothing").mkdir()
    one = place / "one.txt"
    for arguments, message in [
        ([tmp_path / "empty.txt", gpt], r"empty\.txt' is empty"),
        (
            [tmp_path / "latin.txt", gpt],
            r"is not written in utf-8: byte 0xf6 at offset 2 .* --encoding latin-1",
        ),
        ([tmp_path / "latin.txt", gpt, "--encoding", "klingon"], r"encoding must be one that Python knows"),
        ([tmp_path / "binary.txt", gpt], r"binary\.txt' holds NUL bytes"),
        (
            [tmp_path / "short.txt", gpt],
            r"has \d+ tokens, less than one window of 32, the model's own: .* --window",
        ),
        ([one, gpt, "--window", 33], r"--window 33 is more than the 32 tokens that the model can read"),
        ([one, gpt, "--window", 9, "--stride", 10], r"--stride 10 is more than the window of 9"),
        ([one, gpt, "--blocks", 4], r"--blocks 4 must be in \[5, "),
        ([tmp_path / "none.txt", gpt], r"none\.txt' does not exist: give a text file or a folder"),
        ([tmp_path / "nothing", gpt], r"holds no file like '\*\.txt': give another --pattern"),
        ([one, tmp_path / "none.safetensors"], r"model .* does not exist: .*nothing is downloaded"),
        ([one, "gpt2"], r"model 'gpt2' does not exist"),
        ([one, tmp_path / "fake.safetensors"], r"fake\.safetensors"),
        ([one, tmp_path / "nothing"], r"holds no config\.json"),
        ([one, place / "bare.safetensors"], r"holds no tokenizer: save it with save_model"),
        ([one, gpt, "--device", "abacus"], r"device is 'abacus'"),
        ([one, gpt, "--resamples", 5], r"n_resamples must be at least 100"),
    ]:
        code, out, err = run(capsys, *arguments)
        assert code == 2 and out == "", arguments
        assert err.startswith("lossutils: error: ") and err.count("\n") == 1, err
        assert re.search(message, err), err


def test_arguments_that_cannot_be_read_end_with_code_two_and_the_usage(capsys):
    for arguments, message in [
        (["perplexity"], "required: TEXT, MODEL"),
        (["perplexity", "a", "b", "--window", "0"], "must be a whole number of at least 1, got '0'"),
        (["perplexity", "a", "b", "--level", "95"], "must be between 0 and 1, as 0.95, got '95'"),
        (["perplexities"], "invalid choice"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_an_interruption_is_no_traceback(capsys, place, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("lossutils.cli.score_text", stop)
    assert main(["perplexity", str(place / "one.txt"), str(place / "gpt.safetensors")]) == 130
    assert capsys.readouterr().err == "lossutils: error: interrupted\n"


# -------------------------------------------------------------------------------------------- as a real process


def process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "lossutils", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, cwd=ROOT, encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip


def test_as_a_process_it_prints_the_same_and_exits_with_its_code(capsys, place):
    done = process("perplexity", place / "one.txt", place / "ngram.safetensors", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    here = report(capsys, place / "one.txt", place / "ngram.safetensors")
    assert json.loads(done.stdout)["results"] == here["results"]
    failed = process("perplexity", place / "no.txt", place / "ngram.safetensors")
    assert failed.returncode == 2 and failed.stdout == "" and "Traceback" not in failed.stderr


def test_its_version_is_the_library_s(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"lossutils {lossutils.__version__}\n"


# ------------------------------------------------------------------------------------------- its reference page

PAGE = (ROOT / "book" / "reference" / "cli.md").read_text(encoding="utf-8")


def test_the_examples_on_the_reference_page_print_what_the_page_shows(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1], {})
    examples = re.findall(r"```console\n\$ lossutils (.*?)\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) >= 2
    for command, shown in examples:
        main(shlex.split(command))
        printed = capsys.readouterr()
        assert printed.out + printed.err == shown


def test_the_reference_page_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["perplexity", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert len(options) > 10
    assert [option for option in options if f"`{option}" not in PAGE] == []
