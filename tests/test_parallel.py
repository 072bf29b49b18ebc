"""Several processes compute what one does: a vocabulary in shards, and a training run; and they end well or loudly.

Two and four gloo processes run the cases of `parallel_cases` once; the tests read what each of them saw. On several
GPUs the same code uses NCCL, for which there is one test.
"""

import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import mpmath
import numpy as np
import oracles
import parallel_cases as cases
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from backends import DEVICES

from lossutils import _checkpoint_file as file
from lossutils import _processes, cross_entropy
from lossutils.checkpoints import load_model
from lossutils.parallel import process_group, vocab_parallel_cross_entropy
from lossutils.training import train_batches

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "book" / "one_machine_and_more.md").read_text(encoding="utf-8")
SIZES = [2, 4]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {size: tmp_path_factory.mktemp(f"processes-{size}") for size in SIZES}


@pytest.fixture(scope="module")
def seen(folders, accidents_begun):
    """What each process of each group saw."""
    found = {}
    for size, folder in folders.items():
        cases.stream(checkpoint=f"{folder}/from-one-{size}", stop=cases.stop_after(5))
        mp.spawn(cases.work, args=(size, str(folder)), nprocs=size)
        found[size] = [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(size)]
    return found


@pytest.fixture(params=SIZES, ids=["two processes", "four processes"])
def size(request):
    return request.param


@pytest.fixture
def vocabulary(seen, size):
    return [process["vocabulary"] for process in seen[size]]


@pytest.fixture
def training(seen, size):
    return [process["training"] for process in seen[size]]


# -------------------------------------------------------------------------------------- a vocabulary in shards


def dense(z, y, **options):
    """One process's loss and gradient for the same sum with weights."""
    z = z.clone().requires_grad_()
    rows = z.flatten(0, -2) if z.ndim > 1 else z
    loss = cross_entropy(rows, y.flatten() if y.ndim else y, **options)
    (loss * torch.arange(1, loss.numel() + 1).view(loss.shape)).sum().backward()
    return loss.detach(), z.grad


def close(got, want, tolerance):
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)


def same_as_one(results, z, y, tolerance, **options):
    loss, grad = dense(z, y, **options)
    for got, _ in results:
        assert got.dtype == loss.dtype
        close(got.flatten(), loss.flatten(), tolerance)
        assert got.equal(results[0][0]) or got.isnan().any()  # each process has the same
    close(torch.cat([part for _, part in results], -1), grad, tolerance)


SHARDS = [(name, dtype) for name in ("equal", "unequal", "empty") for dtype in cases.WIDE]
SHARDS += [("unequal", "bfloat16"), ("unequal", "float16")]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("name, dtype", SHARDS)
def test_loss_and_gradient_are_those_of_one_process(vocabulary, size, name, dtype, reduction):
    for kind in cases.KINDS if reduction == "none" else cases.REDUCED:
        z, y = cases.logits_and_target(kind, cases.LENGTHS[size][name], dtype)
        results = [process[name, dtype, kind, reduction] for process in vocabulary]
        tolerance = {"float64": 1e-12, "float32": 1e-6, "bfloat16": 1e-2, "float16": 1e-3}[dtype]
        same_as_one(results, z, y, tolerance, reduction=reduction)
        if reduction == "none":
            assert results[0][0].shape == y.shape


@pytest.mark.parametrize("name, dtype", SHARDS)
def test_loss_and_gradient_are_within_4_ulp_of_the_exact_value(vocabulary, size, name, dtype):
    for kind in ("random", "sure", "masked", "ties", "offset"):
        z, y = cases.logits_and_target(kind, cases.LENGTHS[size][name], dtype)
        results = [process[name, dtype, kind, "none"] for process in vocabulary]
        rows, targets = z.flatten(0, 1), y.flatten().tolist()
        unit = "float64" if dtype == "float64" else "float32"
        want = [oracles.cross_entropy(row, t) for row, t in zip(rows, targets, strict=True)]
        assert oracles.worst_ulp(results[0][0], want, unit) <= 4
        if dtype not in cases.WIDE:
            continue  # a gradient in low precision has low precision
        grad = torch.cat([part for _, part in results], -1).flatten(0, 1)
        for n, (row, t) in enumerate(zip(rows, targets, strict=True)):
            if torch.isfinite(row[t]):
                exact = [g * (n + 1) for g in oracles.cross_entropy_grad(row, t)]
                assert oracles.worst_ulp(grad[n], exact, unit) <= 4


def test_the_plain_way_would_lose_what_this_keeps(size):
    z, y = cases.logits_and_target("sure", cases.LENGTHS[size]["unequal"], "float32")
    rows = z.flatten(0, 1)
    plain = rows.exp().sum(-1).log() - rows.gather(1, y.flatten()[:, None])[:, 0]
    want = [oracles.cross_entropy(row, t) for row, t in zip(rows, y.flatten().tolist(), strict=True)]
    assert oracles.worst_ulp(plain, want, "float32") > 1000
    assert all(w > 0 for w in want) and (plain == 0).any()


def test_low_precision_gives_a_float32_loss_that_is_not_rounded_to_low_precision(vocabulary, size):
    z, y = cases.logits_and_target("random", cases.LENGTHS[size]["unequal"], "bfloat16")
    got = vocabulary[0]["unequal", "bfloat16", "random", "mean"][0]
    close(got.double(), cross_entropy(z.double().flatten(0, 1), y.flatten()), 1e-7)
    assert got != got.bfloat16()


@pytest.mark.parametrize("option", [{"z_loss": 0.01}, {"ignore_index": 1}])
def test_the_other_options_do_what_they_do_in_one_process(vocabulary, size, option):
    z, y = cases.logits_and_target("random", cases.LENGTHS[size]["unequal"], "float32")
    same_as_one([process[str(option)] for process in vocabulary], z, y, 1e-6, reduction="none", **option)


def test_any_shape_and_any_strides_are_taken(vocabulary, size):
    z, y = cases.logits_and_target("random", cases.LENGTHS[size]["unequal"], "float32")
    same_as_one([process["strided"] for process in vocabulary], z, y, 1e-6, reduction="none")
    same_as_one([process["one token"] for process in vocabulary], z[0, 0], y[0, 0], 1e-6, reduction="none")
    for loss, grad in (process["no tokens"] for process in vocabulary):
        assert loss == 0 and grad.shape[:2] == (0, 3)


def test_a_group_of_one_has_the_whole_vocabulary_and_strangers_are_refused(vocabulary, size):
    z, y = cases.logits_and_target("random", cases.LENGTHS[size]["unequal"], "float32")
    for process in vocabulary:
        close(process["alone"].flatten(0, 1), dense(z, y)[1].flatten(0, 1), 1e-6)
        assert process["stranger"].startswith("ValueError: group is one that this process does not belong to")


def test_the_hidden_states_get_their_gradient_in_parts_that_add_up(vocabulary, size):
    lengths = cases.LENGTHS[size]["unequal"]
    hidden, weight, y = cases.layer(sum(lengths))
    h, w = hidden.requires_grad_(), weight.requires_grad_()
    cross_entropy(h @ w.T, y).backward()
    close(torch.cat([process["hidden"][1] for process in vocabulary]), w.grad, 1e-12)
    for process in vocabulary:
        close(process["hidden"][0], h.grad, 1e-12)


def test_forward_sends_twenty_bytes_a_token_in_two_calls_and_backward_nothing(vocabulary):
    tokens = 12
    for process in vocabulary:
        reductions = [("all_reduce", 4 * tokens), ("all_reduce", 16 * tokens)]
        assert process["calls"]["unchecked"] == {"forward": reductions, "backward": []}
        assert process["calls"]["checked"] == {"forward": [("all_gather", 32), *reductions], "backward": []}


def test_what_the_shards_lengths_are_may_be_said(vocabulary):
    for process in vocabulary:
        key = next(key for key in process if isinstance(key, str) and "vocab_sizes" in key)
        for told, asked in zip(process[key], process["unequal", "float32", "random", "none"], strict=True):
            assert told.equal(asked)


@pytest.mark.parametrize(
    "name, message",
    [
        (
            "outside",
            r"ValueError: target must be in the vocabulary of all shards, \[0, \d+\), or .*, got 1\d$",
        ),
        ("negative", r"ValueError: target must be in the vocabulary of all shards.* got -1$"),
        (
            "shape",
            r"ValueError: target must have the shape of local_logits .* got \(2, 3\) for .*\(4, 3, \d\)",
        ),
        ("integer logits", "TypeError: local_logits must be a float64.* got dtype int64"),
        ("no tensor", "TypeError: local_logits must be a torch tensor, got list"),
        ("float targets", "TypeError: target must hold integers, got dtype float32"),
        ("reduction", "ValueError: reduction must be one of 'none', 'mean', 'sum', got 'average'"),
        ("z_loss", "ValueError: z_loss must be finite and at least 0, got -1.0"),
        ("sizes", r"ValueError: vocab_sizes is \[.*\], and the shards have \[.*\] tokens"),
        (
            "targets differ",
            r"ValueError: target \(a checksum\) is -?\d+ in process \d and -?\d+ in process \d",
        ),
        (
            "precision differs",
            r"ValueError: local_logits' precision .* is \d in process \d and \d in process \d",
        ),
    ],
)
def test_a_mistake_is_an_error_in_every_process_that_names_it(vocabulary, name, message):
    for process in vocabulary:
        assert re.match(message, process["errors"][name]), process["errors"][name]


def test_an_error_in_one_process_is_told_to_the_others(vocabulary):
    *others, last = (process["errors"]["one is refused"] for process in vocabulary)
    assert last.startswith("ValueError: target must have the shape")
    for message in others:
        assert message.startswith(f"ValueError: process {len(others)} refused its arguments")


def test_a_second_derivative_is_an_error(vocabulary):
    for process in vocabulary:
        assert process["twice"].startswith(
            "RuntimeError: vocab_parallel_cross_entropy has no second derivative"
        )


def test_without_a_process_group_it_says_what_to_do():
    with pytest.raises(RuntimeError, match="init_process_group"):
        vocab_parallel_cross_entropy(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))


# ---------------------------------------------------------------------------------------------------- training


def same_run(got, want, tolerance):
    history, weights = want
    assert got[0].steps == history.steps
    assert got[0].tokens == history.tokens
    assert got[0].validation_steps == history.validation_steps
    for name in ("losses", "learning_rates", "gradient_norms", "validation_losses"):
        np.testing.assert_allclose(getattr(got[0], name), getattr(history, name), rtol=tolerance)
    assert got[1].keys() == weights.keys()
    for name, weight in weights.items():
        close(got[1][name], weight, tolerance)


@pytest.mark.parametrize(
    "name, options, tolerance",
    [
        ("float64", {}, 1e-12),
        ("float32", {"dtype": torch.float32}, 1e-5),
        ("accumulate", {"accumulate": 3}, 1e-12),
        ("other seeds", {}, 1e-12),
        ("from one", {}, 1e-12),
    ],
)
def test_processes_train_together_as_one_would(training, name, options, tolerance):
    want = cases.stream(**options)
    assert len(want[0].losses) == 12 and want[0].losses[-1] != want[0].losses[0]
    for process in training:
        same_run(process[name], want, tolerance)
        assert process[name][0] == training[0][name][0]  # the same history, to the last bit


def test_float32_histories_agree_to_1e_6(training):
    want = cases.stream(dtype=torch.float32)[0]
    np.testing.assert_allclose(training[0]["float32"][0].losses, want.losses, rtol=1e-6)


@pytest.mark.parametrize(
    "name, rows, options", [("lines", 8, {}), ("three rows", 3, {}), ("one row", 1, {"accumulate": 2})]
)
def test_each_token_counts_the_same_whichever_process_it_came_to(training, name, rows, options):
    want = cases.lines(rows, **options)
    for process in training:
        same_run(process[name], want, 1e-12)


def test_a_mean_of_the_processes_means_would_be_something_else(training, size):
    draw, model = cases.Lines(8), cases.window()
    batch = draw(0, torch.Generator().manual_seed(0))
    parts = [_processes.own_rows(batch, rank, size)[0] for rank in range(size)]
    means = [float(total.detach() / n) for total, n in (cases.masked_loss(model, part) for part in parts)]
    assert abs(np.mean(means) - training[0]["lines"][0].losses[0]) > 1e-4


def test_a_parameter_that_no_process_used_stays_as_it_was(training):
    for process in training:
        assert process["parts"]["unused"].equal(torch.ones(2, 2))  # no weight decay either
        # gradient: the mean of 0, 1, 2, 3; decay first, as AdamW and SGD of torch have it: w - lr (g + 0.5 w)
        assert process["parts"]["used"].equal(torch.full((2, 2), 1 - (1.5 + 0.5)))
        assert process["parts"]["first only"].equal(torch.full((2, 2), 1 - (0.25 + 0.5)))


def test_dropout_is_reproducible_and_differs_between_processes(training, size):
    for process in training:
        same_run(process["dropout again"], process["dropout"], 0)
        same_run(process["dropout in parts"], process["dropout"], 0)
    drawn = [number for process in training for number in process["drawn"]]
    assert len(set(drawn)) == 3 * size  # each process, and each step, has numbers of its own


def test_only_the_first_process_is_told_of_the_progress(training):
    assert training[0]["told"][1] == ["step 0 of 2", "step 1 of 2"]
    assert all(process["told"][1] == [] for process in training[1:])


def test_a_stop_request_in_one_process_stops_all_at_the_same_step_and_the_run_goes_on_from_there(training):
    want = cases.stream()
    for process in training:
        history, _ = process["stopped"]
        assert history.stopped and len(history.losses) == 5
        assert process["kept"]
        same_run(process["resumed"], want, 1e-12)


def test_one_process_goes_on_with_the_run_of_several(training, folders, size):
    path = folders[size] / "for-one"
    assert len(file.read(path)[1]["history.losses"]) == 7
    same_run(cases.stream(checkpoint=path, resume=True, seed=3), cases.stream(), 1e-12)


def test_sigterm_in_one_process_is_a_request_to_stop(training):
    for process in training:
        assert process["terminated"].stopped and len(process["terminated"].losses) == 4
        assert process["handler is back"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("mean", r"TypeError: batch_loss must return \(sum, n_tokens\) in several processes"),
        ("settings", r"ValueError: seed is 1 in process 1 and 0 in process 0; all processes .* the same"),
        ("text", r"ValueError: length is 11 in process \d and 10 in process 0"),
        (
            "rows",
            r"ValueError: batches gave tensors with \[3, 4\] rows; several processes share a batch by its rows",
        ),
        ("no rows", "ValueError: batches gave tensors with no rows"),
        ("no tokens", "ValueError: batches gave no token to train on at step 0"),
        ("not finite", "TrainingDiverged: the loss is nan at step [123]; .*"),
    ],
)
def test_a_mistake_in_training_is_an_error_in_every_process(training, name, message):
    for process in training:
        assert re.match(message, process["errors"][name]), process["errors"][name]


@pytest.mark.parametrize(
    "name, culprit, message",
    [
        ("other's", -1, 'KeyError: "the last one\'s own fault"'),
        ("evaluate", -1, "ValueError: cannot evaluate"),
        ("progress", 0, "ValueError: no more of this"),
    ],
)
def test_what_fails_in_one_process_ends_the_others_with_its_name_and_its_message(
    training, name, culprit, message
):
    culprit %= len(training)
    for rank, process in enumerate(training):
        first = process["errors"][name].splitlines()[0]
        if rank == culprit:
            assert first == message
        else:
            why = f"process {culprit} failed with {message}"
            want = f"ProcessGroupError: {why}. This is process {rank}; it stops at step 0"
            assert first.startswith(want)


def test_a_loss_that_is_not_finite_anywhere_leaves_one_checkpoint_for_all(training, folders, size):
    document, _ = file.read(folders[size] / "nan")
    step = document["training"]["step"]
    assert step > 0
    for process in training:
        assert f"The checkpoint of step {step} stands" in process["errors"]["not finite"]


def test_after_an_error_that_all_know_of_the_group_can_go_on(training):
    for process in training:
        same_run(process["after the errors"], cases.lines(8), 1e-12)


def test_a_batch_is_shared_out_by_rows_without_loss():
    batch = {"a": torch.arange(10).view(5, 2), "b": (torch.arange(5), "c", torch.tensor(3.0))}
    parts = [_processes.own_rows(batch, rank, 4) for rank in range(4)]
    assert torch.cat([part["a"] for part, _ in parts]).equal(batch["a"])
    assert torch.cat([part["b"][0] for part, _ in parts]).equal(batch["b"][0])
    assert all(part["b"][1:] == batch["b"][1:] for part, _ in parts)
    assert [some for _, some in (_processes.own_rows(torch.ones(2), rank, 3) for rank in range(3))].count(
        True
    ) == 2


# --------------------------------------------------------------------------------------------------- accidents


@pytest.fixture(scope="module")
def accidents(accidents_begun):
    folder, processes = accidents_begun
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [-9, 0, 0]
    return folder, [torch.load(folder / f"{rank}.pt") for rank in range(3)]


@pytest.fixture(scope="module")
def accidents_begun(tmp_path_factory):
    """Begun early, as they spend most of their time waiting for one that hangs."""
    folder = tmp_path_factory.mktemp("accidents")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=cases.accidents, args=(rank, str(folder))) for rank in range(3)]
    for process in processes:
        process.start()
    yield folder, processes
    for process in processes:
        process.kill()


def test_when_the_first_process_is_killed_the_others_say_so_and_the_state_is_kept(accidents):
    folder, (_, second, third) = accidents
    want = "ProcessGroupError: process 0 of 3 is gone; this is process 1, which stops at step 4"
    assert second["dies"].startswith(want)
    assert f"The state before step 4 was kept: {folder}/dies.run" in second["dies"]
    assert re.match(
        "ProcessGroupError: process 0 (and process 1 )?of 3 is gone; this is process 2", third["dies"]
    )
    goes_on_alone(folder / "dies.run", 4)


def test_when_a_process_hangs_the_others_give_up_after_the_timeout_and_the_state_is_kept(accidents):
    folder, (first, second, third) = accidents
    for process in (first, second):
        assert re.match(
            "ProcessGroupError: another process of 3 is gone or did not answer in time", process["hangs"]
        )
    assert third["hangs"].startswith("ProcessGroupError")
    goes_on_alone(folder / "hangs.run", 3)


def goes_on_alone(path, step):
    assert file.read(path)[0]["training"]["step"] == step
    model = cases.window(seed=1)
    history = train_batches(model, cases.masked_loss, cases.Lines(6), steps=6, resume=path)
    other = cases.window()
    want = train_batches(other, cases.masked_loss, cases.Lines(6), steps=6)
    same_run((history, model.state_dict()), (want, other.state_dict()), 1e-12)


# --------------------------------------------------------------------------------------- the group, and the page


def test_without_a_launcher_there_is_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with process_group() as group:
        assert group is None
        assert not dist.is_initialized()


@pytest.fixture
def launched_alone(monkeypatch):
    settings = {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_a_launcher_s_group_is_made_and_dissolved_and_one_that_stands_is_left(launched_alone):
    with process_group(timeout=60) as group:
        assert (group.rank(), group.size()) == (0, 1)
        with process_group() as again:
            assert again is group
        assert dist.is_initialized()
        with pytest.raises(TypeError, match=r"group must be a .*ProcessGroup or None, got 'all'"):
            cases.lines(4, group="all")
        history, weights = cases.stream(group)
        same_run((history, weights), cases.stream(), 1e-12)
    assert not dist.is_initialized()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_every_device_computes_the_same(launched_alone, device, dtype):
    with process_group(timeout=60):
        for kind in cases.KINDS:
            z, y = cases.logits_and_target(kind, [7, 5], dtype)
            loss, grad = cases.sharded(z.to(device), y.to(device), [12], 0, reduction="none")
            tolerance = {"float64": 1e-12, "float32": 1e-6}.get(dtype, 1e-2)
            same_as_one([(loss.cpu(), grad.cpu())], z, y, tolerance, reduction="none")
            if kind == "sure" and dtype in cases.WIDE:
                rows, targets = z.flatten(0, 1), y.flatten().tolist()
                exact = [oracles.cross_entropy(row, t) for row, t in zip(rows, targets, strict=True)]
                assert oracles.worst_ulp(loss, exact, dtype) <= 4
                exact = [
                    oracles.cross_entropy_grad(row, t)[t] * (n + 1)
                    for n, (row, t) in enumerate(zip(rows, targets, strict=True))
                ]
                assert oracles.worst_ulp(grad.cpu().flatten(0, 1)[range(12), targets], exact, dtype) <= 4


def test_half_a_launcher_is_an_error_that_says_what_lacks(monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    lacks = "has RANK and lacks LOCAL_RANK, MASTER_ADDR, MASTER_PORT, WORLD_SIZE"
    with pytest.raises(ValueError, match=lacks), process_group():
        pass
    with pytest.raises(ValueError, match="timeout must be positive, got 0"), process_group(timeout=0):
        pass


def test_a_group_of_another_kind_is_an_error():
    with pytest.raises(RuntimeError, match="group needs a process group"):
        cases.lines(4, group="all of them")


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_as_one_process_does(tmp_path):
    def curve(*launcher):
        command = [*launcher, str(ROOT / "examples" / "train_parallel.py"), "--device", "cuda"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[1:]

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    assert curve(*torchrun) == curve(sys.executable)


# A block of the page: commands after a dollar, and what each of them prints. A line "..." stands for any others.
COMMANDS = [
    command
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for command in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the examples, where the page's commands run one after the other."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder


def test_the_page_s_commands_are_here():
    assert len(COMMANDS) >= 5
    assert any("--kill-process" in command for command, _ in COMMANDS)


@pytest.mark.parametrize("command, printed", COMMANDS, ids=[command for command, _ in COMMANDS])
def test_each_command_on_the_page_does_what_the_page_says(place, command, printed):
    programs = {"python": [sys.executable], "torchrun": [sys.executable, "-m", "torch.distributed.run"]}
    name, *arguments = command.split()
    result = subprocess.run(
        [*programs[name], *arguments],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "--kill-process" in command:
        assert result.returncode == 1
        for line in printed.splitlines():
            assert line == "..." or line.replace("/.../", f"{place}/") in result.stderr.splitlines()
    else:
        assert result.returncode == 0, result.stderr
        assert result.stdout == printed


def test_what_the_killed_run_left_is_a_model_that_can_be_used(place):
    model, _, metadata = load_model(place / "run.safetensors")
    assert metadata["training"]["settings"]["steps"] == 40
    assert torch.isfinite(model(torch.zeros(1, 4, dtype=torch.long))).all()


def test_exact_arithmetic_agrees_that_shards_change_nothing():
    """The formula itself: the sum without the target, over shards, gives the loss."""
    z, y = cases.logits_and_target("sure", [5, 3], "float64")
    with mpmath.workdps(60):
        row, t = [mpmath.mpf(float(v)) for v in z[0, 0]], int(y[0, 0])
        m = max(row)
        shards = (range(5), range(5, 8))
        s = mpmath.fsum(mpmath.fsum(mpmath.exp(row[j] - m) for j in shard if j != t) for shard in shards)
        assert abs(mpmath.log1p(s) - oracles.cross_entropy(z[0, 0], t)) < mpmath.mpf(10) ** -50
