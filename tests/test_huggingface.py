"""Hugging Face models from a folder: tiny ones are made, saved, loaded back, and scored."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lossutils.huggingface import load_causal_lm
from lossutils.models import LanguageModel
from lossutils.windows import score_text, sliding_window_nll

transformers = pytest.importorskip("transformers")

TEXT = "The loss fell, and fell again; then it did not fall. Größe 5 – naïve café 🙂! " * 4


def byte_level_tokenizer(special):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["The loss fell and the loss fell again. " * 20], trainer)
    return tokenizer


def save_gpt2(folder: Path, **options) -> Path:
    """As GPT-2's: a start token that the tokenizer does not add by itself."""
    end = "<|endoftext|>"
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level_tokenizer([end]), bos_token=end, eos_token=end
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=32,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    config.update({"initializer_range": 0.3, **options})
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_llama(folder: Path) -> Path:
    """As Llama's: the tokenizer puts its start token before each text."""
    from tokenizers.processors import TemplateProcessing

    inner = byte_level_tokenizer(["<s>", "</s>"])
    inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>"
    )
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=24,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {"gpt2": save_gpt2(root / "gpt2"), "llama": save_llama(root / "llama")}


both = pytest.mark.parametrize("name", ["gpt2", "llama"])


@both
def test_losses_of_a_text_that_fits_are_the_model_s_own_loss(folders, name):
    model, tokenizer = load_causal_lm(folders[name], device="cpu")
    ids = tokenizer.encode(TEXT)[:20]
    own = transformers.AutoModelForCausalLM.from_pretrained(folders[name]).eval()
    whole = torch.tensor(ids)[None]
    with torch.no_grad():
        want = own(input_ids=whole, labels=whole).loss.item()
    found = sliding_window_nll(model, ids, max_length=model.max_length)
    assert found.nll.mean() == pytest.approx(want, rel=1e-5)
    raw = sliding_window_nll(own, ids, max_length=model.max_length)  # the transformers model itself will do
    np.testing.assert_allclose(raw.nll, found.nll, rtol=1e-5)


@both
def test_with_a_start_token_the_losses_are_the_model_s_own_with_that_token_before_them(folders, name):
    model, tokenizer = load_causal_lm(folders[name], device="cpu", bos="always", dtype="float64")
    score = score_text(model, TEXT[:30], tokenizer)
    whole = torch.tensor([[0, *tokenizer.encode(TEXT[:30])]])
    assert score.count() == whole.shape[1] - 1 < model.max_length
    with torch.no_grad():
        want = model.module(input_ids=whole, labels=whole).loss.item()
    assert score.nll.mean() == pytest.approx(want, rel=1e-6)  # transformers computes its loss in float32


def test_longer_texts_go_through_windows_of_the_model_s_own_length(folders):
    for name, length in (("gpt2", 32), ("llama", 24)):
        model, tokenizer = load_causal_lm(folders[name], device="cpu", dtype="float64")
        score = score_text(model, TEXT, tokenizer)
        assert model.max_length == score.max_length == length
        assert score.context.max() == length and len(score.nll) > 3 * length
        t = 2 * length  # one token in the middle, by hand
        offset = int(score.prefix_token_id is None)
        text = tokenizer.encode(TEXT)
        seen = text[t + offset - score.context[t] : t + offset]
        logits = model.module(input_ids=torch.tensor(seen)[None]).logits[0, -1]
        want = -torch.log_softmax(logits, -1)[text[t + offset]].item()
        assert score.nll[t] == pytest.approx(want, rel=1e-9)


def test_the_start_token_is_the_one_that_the_tokenizer_adds(folders):
    start = {
        (name, bos): load_causal_lm(folders[name], device="cpu", bos=bos)[0].start_id
        for name in folders
        for bos in ("auto", "always", "never")
    }
    assert start == {
        ("gpt2", "auto"): None, ("gpt2", "always"): 0, ("gpt2", "never"): None,
        ("llama", "auto"): 0, ("llama", "always"): 0, ("llama", "never"): None,
    }  # fmt: skip


@both
def test_text_is_encoded_without_special_tokens_and_comes_back(folders, name):
    _, tokenizer = load_causal_lm(folders[name], device="cpu")
    ids = tokenizer.encode(TEXT)
    assert 0 not in ids
    assert tokenizer.decode(ids) == TEXT


@both
def test_each_token_knows_its_bytes_also_where_it_cuts_a_character(folders, name):
    _, tokenizer = load_causal_lm(folders[name], device="cpu")
    ids, sizes = tokenizer.encode_with_bytes(TEXT)
    assert sizes.sum() == len(TEXT.encode()) and sizes.min() >= 0
    # the byte-level alphabet spells one byte with one character, so the pieces have the true lengths
    pieces = tokenizer.tokenizer.convert_ids_to_tokens(ids.tolist())
    true = np.cumsum([len(piece) for piece in pieces])
    raw = TEXT.encode()
    cut = np.array([end < len(raw) and raw[end] & 0xC0 == 0x80 for end in true])
    assert cut.any()
    np.testing.assert_array_equal(np.cumsum(sizes)[~cut], true[~cut])


def test_characters_at_the_borders_of_utf_8_have_their_number_of_bytes(folders):
    _, tokenizer = load_causal_lm(folders["gpt2"], device="cpu")
    for character, n in {
        "\x7f": 1,
        "\x80": 2,
        "\u07ff": 2,
        "\u0800": 3,
        "\uffff": 3,
        "\U00010000": 4,
    }.items():
        ids, sizes = tokenizer.encode_with_bytes(character + "a")
        assert sizes.tolist() == [n] + [0] * (len(ids) - 2) + [1]


def test_bytes_that_a_tokenizer_drops_are_still_counted(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<unk>": 0, "the": 1, "loss": 2, "fell": 3}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = save_gpt2(tmp_path / "m")
    transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>").save_pretrained(folder)
    _, tokenizer = load_causal_lm(folder, device="cpu")
    ids, sizes = tokenizer.encode_with_bytes("  the loss\tfällt  ")
    assert ids.tolist() == [1, 2, 0]
    assert sizes.tolist() == [5, 5, 9]
    assert tokenizer.unknown_id == 0


@both
def test_a_loaded_model_is_one_of_the_library_s_language_models(folders, name):
    model, tokenizer = load_causal_lm(folders[name], device="cpu", bos="always", dtype="float64")
    assert isinstance(model, LanguageModel)
    ids = tokenizer.encode("The loss fell")
    by_step = [-model.next_token_log_probs(ids[:t])[ids[t]] for t in range(len(ids))]
    np.testing.assert_allclose(model.nll(ids), by_step, rtol=1e-9)
    assert np.exp(model.next_token_log_probs([])).sum() == pytest.approx(1)
    silent, _ = load_causal_lm(folders[name], device="cpu", bos="never")
    with pytest.raises(ValueError, match="prefix must hold a token"):
        silent.next_token_log_probs([])


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16", "auto"])
def test_weights_come_in_the_precision_that_is_asked_for(folders, dtype):
    model, tokenizer = load_causal_lm(folders["gpt2"], device="cpu", dtype=dtype)
    assert model.module.dtype == (torch.float32 if dtype == "auto" else getattr(torch, dtype))
    want = score_text(load_causal_lm(folders["gpt2"], device="cpu")[0], TEXT, tokenizer)
    assert score_text(model, TEXT, tokenizer).nll.mean() == pytest.approx(want.nll.mean(), rel=1e-2)


def test_nothing_of_the_network_is_used(folders):
    """In a process of its own whose sockets refuse to connect."""
    code = """
import socket, sys
def refuse(*a, **k): raise RuntimeError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import lossutils.huggingface
assert "transformers" not in sys.modules, "the import is not lazy"
from lossutils.windows import score_text
model, tokenizer = lossutils.huggingface.load_causal_lm(sys.argv[1], device="cpu")
print(score_text(model, "The loss fell again.", tokenizer).bits_per_byte)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, folders["llama"]],
        capture_output=True, text=True, env=environment, timeout=300, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert 0 < float(done.stdout) < 100


def test_loading_leaves_the_verbosity_of_transformers_as_it_was(folders):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_causal_lm(folders["gpt2"], device="cpu")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


# ------------------------------------------------------------------------------------------------- bad input


def test_a_missing_or_foreign_folder_is_refused_without_a_download(tmp_path):
    for folder, message in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no config.json")):
        with pytest.raises(FileNotFoundError, match=message):
            load_causal_lm(folder)
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        load_causal_lm("gpt2")


def test_code_in_the_folder_is_not_run(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "config.json").write_text(
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}'
    )
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_causal_lm(tmp_path)


def test_a_model_without_weights_or_with_some_missing_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save_gpt2(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if "mlp.c_fc.weight" in name)]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the model's weights, such as .*mlp\.c_fc\.weight"):
        load_causal_lm(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_causal_lm(folder)


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    folder = save_gpt2(tmp_path / "m")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_causal_lm(folder)


def test_a_masked_model_is_refused_though_it_loads(tmp_path, folders):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=400, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    transformers.BertLMHeadModel(config).save_pretrained(tmp_path)
    for file in folders["gpt2"].glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ValueError, match="is no causal model"):
        load_causal_lm(tmp_path)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path):
    folder = save_gpt2(tmp_path / "m", vocab_size=64)
    with pytest.raises(ValueError, match=r"tokenizer of \d+ tokens for a model of 64"):
        load_causal_lm(folder)


def test_unknown_options_are_refused(folders):
    for options, message in (({"dtype": "int8"}, "dtype must be"), ({"bos": True}, "bos must be")):
        with pytest.raises(ValueError, match=message):
            load_causal_lm(folders["gpt2"], **options)
    with pytest.raises(ValueError, match="device is 'abacus'"):
        load_causal_lm(folders["gpt2"], device="abacus")


def test_without_transformers_the_error_says_what_to_install(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "lossutils\[huggingface\]"'):
        load_causal_lm(folders["gpt2"])


def test_a_uniform_model_needs_log2_of_the_vocabulary_bits_a_token(tmp_path):
    """A closed form through the real loading code: all weights zero."""
    folder = save_gpt2(tmp_path / "m")
    model, tokenizer = load_causal_lm(folder, device="cpu", bos="always")
    with torch.no_grad():
        for weight in model.module.parameters():
            weight.zero_()
    score = score_text(model, TEXT, tokenizer)
    assert score.perplexity() == pytest.approx(model.vocab_size, rel=1e-6)
    want = score.count() * math.log2(model.vocab_size) / len(TEXT.encode())
    assert score.bits_per_byte == pytest.approx(want, rel=1e-6)
