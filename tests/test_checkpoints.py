"""A checkpoint gives back what was saved, to the last bit, or says why it cannot."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from backends import DEVICES
from hypothesis import given
from hypothesis import strategies as st

import lossutils
from lossutils import _checkpoint_file as file
from lossutils.checkpoints import CheckpointError, load_model, load_weights, save_model
from lossutils.models import GPT, NGramModel, WindowModel
from lossutils.text import BPETokenizer, ByteTokenizer

IDS = np.random.default_rng(0).integers(0, 5, 60)
MAKERS = {
    "window": lambda: WindowModel(5, 3, width=8, embedding=4, seed=7),
    "gpt": lambda: GPT(5, context=16, width=8, layers=2, heads=2, seed=7),
    "witten-bell": lambda: NGramModel(5, 3, "witten-bell").fit(IDS),
    "kneser-ney": lambda: NGramModel(5, 2, "kneser-ney").fit(IDS),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("name", MAKERS)
def test_a_loaded_model_predicts_what_the_saved_one_did_to_the_last_bit(name, path):
    model = MAKERS[name]()
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():  # weights that no seed gives
            for weight in model.parameters():
                weight += torch.linspace(-0.5, 0.5, weight.numel()).reshape(weight.shape)
    save_model(path, model)
    loaded, tokenizer, metadata = load_model(path)
    assert type(loaded) is type(model)
    assert loaded.config == model.config
    assert np.array_equal(loaded.nll(IDS), model.nll(IDS))
    assert (tokenizer, metadata) == (None, {})


def test_a_loaded_model_is_ready_to_be_evaluated(path):
    save_model(path, MAKERS["gpt"]().train())
    assert not load_model(path)[0].training


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_keep_their_dtype(dtype, path):
    model = MAKERS["window"]().to(dtype)
    save_model(path, model)
    loaded = load_model(path)[0]
    for name, weight in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == dtype
        assert torch.equal(loaded.state_dict()[name], weight)


@pytest.mark.parametrize("device", DEVICES)
def test_a_model_is_saved_from_its_device_and_stays_there(device, path):
    model = MAKERS["window"]().to(device)
    save_model(path, model)
    assert all(weight.device.type == device for weight in model.parameters())
    loaded = load_model(path)[0]
    assert torch.equal(loaded.embed, model.embed.cpu())
    load_weights(path, model)
    assert all(weight.device.type == device for weight in model.parameters())


def test_a_tokenizer_comes_back_with_the_model(path):
    text = "the crown, the lonely crown — Ω\n" * 20
    for tokenizer in (ByteTokenizer(), BPETokenizer.train([text], 280)):
        save_model(path, WindowModel(tokenizer.vocab_size, 1), tokenizer=tokenizer)
        loaded = load_model(path)[1]
        assert type(loaded) is type(tokenizer)
        assert np.array_equal(loaded.encode(text), tokenizer.encode(text))
        assert loaded.decode(loaded.encode(text)) == text


def test_metadata_comes_back(path):
    metadata = {"text": "Ω", "loss": 1.25, "steps": [1, 2], "nested": {"none": None}}
    save_model(path, MAKERS["window"](), metadata=metadata)
    assert load_model(path)[2] == metadata


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": np.float32(1)}, ["a"], {(1, 2): 3}])
def test_metadata_that_json_cannot_hold_is_an_error_and_nothing_is_written(metadata, path):
    with pytest.raises(TypeError, match="metadata must"):
        save_model(path, MAKERS["window"](), metadata=metadata)
    assert not path.exists()


def test_a_model_that_could_not_be_built_again_is_not_saved(path):
    class GPT(torch.nn.Linear):  # the name alone is not enough
        pass

    for model in (torch.nn.Linear(2, 2), GPT(2, 2), "model"):
        with pytest.raises(TypeError, match="model must be one of GPT, NGramModel, WindowModel"):
            save_model(path, model)
    assert not path.exists()


def test_the_file_is_plain_safetensors_that_others_can_read(path):
    model = MAKERS["window"]()
    save_model(path, model)
    with safetensors.safe_open(path, "np") as other:
        assert {key for key in other.keys()} == {f"model.{name}" for name in model.state_dict()}  # noqa: SIM118
        assert np.array_equal(other.get_tensor("model.embed"), model.embed.detach().numpy())
        header = json.loads(other.metadata()["lossutils"])
    assert header["model"] == {"class": "WindowModel", "config": model.config}
    assert header["lossutils_version"] == lossutils.__version__
    assert header["format_version"] == 1


def test_the_same_model_makes_the_same_file(path, tmp_path):
    for target in (path, tmp_path / "other"):
        save_model(target, MAKERS["gpt"](), metadata={"b": 1, "a": 2})
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


# What is wrong with a file is said, with its name and what to do.


def test_a_file_that_is_not_there_is_an_error(path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist: check the name"):
        load_model(path)


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot be read .*it must be a readable file"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 8,
        b"\xff" * 64,
        b"not a model" * 50,
        b"\x80\x02}q\x00.",
        (2).to_bytes(8, "little") + b"[]",
    ],
)
def test_something_else_is_an_error(data, path):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"\({len(data)} bytes\) is no checkpoint"):
        load_model(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_safetensors_file_of_somebody_else_is_an_error(metadata, path):
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata)
    with pytest.raises(CheckpointError, match="was not written by lossutils"):
        load_model(path)


@pytest.mark.parametrize("header", ["{", "[]", "3", "{}", '{"sha256": "0"}', "[" * 100_000])
def test_a_header_that_is_not_ours_is_an_error(header, path):
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, {"lossutils": header})
    with pytest.raises(CheckpointError, match="has a damaged header"):
        load_model(path)


def test_a_file_cut_short_at_any_byte_is_an_error(path, tmp_path):
    save_model(path, WindowModel(2, 1, width=2, embedding=1))
    whole = path.read_bytes()
    cut = tmp_path / "cut"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="cut"):
            load_model(cut)
    cut.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(cut)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("damage") / "model"
    save_model(path, WindowModel(3, 2, width=4, embedding=2), metadata={"text": "abc"})
    return path.read_bytes(), file.read(path), path.parent / "damaged"


def is_refused_or_unchanged(damaged, saved):
    """Blanks fill the header up: one of them may become a tab, and nothing is lost."""
    _, (document, tensors), target = saved
    target.write_bytes(damaged)
    try:
        document_read, tensors_read = file.read(target)
    except CheckpointError as error:
        return str(target) in str(error)
    same = tensors_read.keys() == tensors.keys() and all(
        torch.equal(tensors_read[name], tensor) for name, tensor in tensors.items()
    )
    return same and document_read == document


def test_a_flipped_bit_in_any_byte_is_found(saved):
    whole = saved[0]
    start = 8 + int.from_bytes(whole[:8], "little")
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        assert is_refused_or_unchanged(damaged, saved), place
        if place >= start:
            with pytest.raises(CheckpointError, match="does not match its checksum"):
                load_model(saved[2])


@given(st.data())
def test_bytes_changed_anywhere_are_found(saved, data):
    whole = saved[0]
    damaged = bytearray(whole)
    places = st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255))
    for place, byte in data.draw(st.lists(places, min_size=1, max_size=4)):
        damaged[place] = byte
    assert is_refused_or_unchanged(damaged, saved)


def test_two_tensors_that_change_places_are_found(path):
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    file.write(path, {"kind": "test"}, {"a": first, "b": second})
    header = safetensors.safe_open(path, "pt").metadata()
    safetensors.torch.save_file({"a": second, "b": first}, path, header)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        file.read(path)


def rewritten(path, changes=None, tensors=None):
    """Save a model with another header or other tensors, and the right checksum."""
    save_model(path, WindowModel(3, 2, width=4, embedding=2))
    document, own = file.read(path)
    file.write(path, document | (changes or {}), own if tensors is None else tensors(own))


def test_a_newer_format_is_an_error(path):
    rewritten(path, {"format_version": 2})
    with pytest.raises(
        CheckpointError, match="has format 2, and this lossutils reads up to 1: install a newer"
    ):
        load_model(path)


@pytest.mark.parametrize("name", ["Transformer", "generate", "torch", "__builtins__", None, ["GPT"]])
def test_a_class_that_is_not_one_of_ours_is_not_looked_up(name, path):
    rewritten(path, {"model": {"class": name, "config": {"vocab_size": 3}}})
    with pytest.raises(
        CheckpointError, match=r"which is none of the models .* use load_weights\(path, model\)"
    ):
        load_model(path)


@pytest.mark.parametrize("changes", [{"model": None}, {"model": {}}, {"tokenizer": "?"}, {"metadata": 3}])
def test_a_part_that_is_missing_is_an_error(changes, path):
    rewritten(path, changes)
    with pytest.raises(CheckpointError, match=r"model\.safetensors lacks a part"):
        load_model(path)


@pytest.mark.parametrize("config", [{}, {"vocab_size": 3}, {"vocab_size": 0, "context": 2}, {"depth": 3}])
def test_a_configuration_that_builds_nothing_is_an_error(config, path):
    rewritten(path, {"model": {"class": "WindowModel", "config": config}})
    with pytest.raises(CheckpointError, match="describes a WindowModel that cannot be built"):
        load_model(path)


def test_weights_that_do_not_fit_are_an_error_and_change_nothing(path):
    save_model(path, WindowModel(3, 2, width=4, embedding=2, seed=1))
    model = WindowModel(3, 2, width=4, embedding=3, seed=2)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    message = r"for embed the file has \(4, 2\) and the model has \(4, 3\)"
    with pytest.raises(CheckpointError, match=message):
        load_weights(path, model)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            lambda own: {k: v for k, v in own.items() if k != "model.embed"},
            "embed the file has nothing of this name",
        ),
        (lambda own: own | {"model.more": torch.zeros(1)}, r"more .* the model has nothing of this name"),
    ],
)
def test_a_weight_too_few_or_too_many_is_an_error(tensors, message, path):
    rewritten(path, tensors=tensors)
    with pytest.raises(CheckpointError, match=message):
        load_model(path)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4, bias=False)
        self.head.weight = self.embed.weight


def test_tied_weights_are_saved_and_stay_tied(path):
    from lossutils import checkpoints

    one, other = Tied(), Tied()
    file.write(path, checkpoints.describe(one, None, None), checkpoints.weights(one))
    load_weights(path, other)
    assert other.head.weight is other.embed.weight
    assert torch.equal(other.embed.weight, one.embed.weight)


# Writing is one step, whatever happens.


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path):
    resource = pytest.importorskip("resource")  # not on Windows
    save_model(path, MAKERS["window"]())
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # as if the disk were full after 1000 bytes
    try:
        with pytest.raises(OSError, match="File too large"):
            save_model(path, MAKERS["gpt"]())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_new_file_has_the_usual_permissions_and_an_old_one_keeps_its_own(path):
    old = os.umask(0o027)
    try:
        save_model(path, MAKERS["window"]())
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    save_model(path, MAKERS["window"]())
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_what_a_link_points_to_is_replaced_and_not_the_link(path, tmp_path):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / "model"
    path.symlink_to(target)
    save_model(path, MAKERS["window"]())
    assert path.is_symlink()
    assert target.is_file()
    assert load_model(path)[0].vocab_size == 5


KILLED = """
import os, signal, sys, time
import torch
from lossutils.checkpoints import load_model, save_model
from lossutils.models import WindowModel

path = sys.argv[1]
folder, name = os.path.split(path)
model = WindowModel(300, 8, width=300)
save_model(path, model, metadata={"round": 0})
last, moved, littered = 0, 0, 0
for attempt in range(12):
    child = os.fork()
    if child == 0:
        for n in range(last + 1, 10_000):
            with torch.no_grad():
                model.embed.fill_(n)
            save_model(path, model, metadata={"round": n})
        os._exit(1)
    seen, patience = set(), time.monotonic() + 30
    while len(seen) < 1 + attempt % 3:  # until it writes for the first, the second, the third time
        seen |= set(os.listdir(folder)) - {name}
        assert time.monotonic() < patience
    time.sleep(0.0004 * (attempt // 3))
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    loaded, _, metadata = load_model(path)
    n = metadata["round"]
    assert n >= last and (n == 0 or bool((loaded.embed == n).all())), (n, last)
    moved, last = moved + (n > last), n
    left = set(os.listdir(folder)) - {name}
    littered += len(left)
    for temporary in left:
        assert temporary.startswith(".model.") and temporary.endswith(".tmp"), temporary
        os.unlink(os.path.join(folder, temporary))
print(moved, littered)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_while_it_writes_leaves_a_checkpoint_that_loads(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "model")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    moved, littered = map(int, done.stdout.split())
    # Some children wrote before they died, and some died while a file was half written.
    assert moved >= 1
    assert littered >= 1
