"""TokenMean: the mean over tokens, its digits, merging, processes, checkpoints, bad input."""

from __future__ import annotations

import copy
import json
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from backends import DEVICES
from hypothesis import given
from hypothesis import strategies as st

from lossutils.cross_entropy import cross_entropy
from lossutils.token_mean import TokenMean

INF, NAN = math.inf, math.nan
batches = st.lists(st.tuples(st.floats(0, 1e9), st.integers(1, 10**6)), min_size=1, max_size=30)


def filled(rows):
    loss = TokenMean()
    for total, n in rows:
        loss.update(total, n)
    return loss


def exact_mean(rows):
    return float(sum(Fraction(t) for t, _ in rows) / sum(n for _, n in rows))


def test_unequal_batches_give_the_mean_over_tokens_and_not_of_means():
    loss = filled([(60.0, 10), (2000.0, 1000)])
    assert loss.mean == pytest.approx(2060 / 1010, rel=1e-15)
    assert abs(loss.mean - 4.0) > 1.9
    assert loss.perplexity == pytest.approx(math.exp(2060 / 1010), rel=1e-14)
    assert (loss.nll_sum, loss.n_tokens) == (2060.0, 1010)


def test_split_batches_equal_the_whole_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 7, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 7, (60,), generator=generator)
    target[::5] = -100
    loss = TokenMean()
    for rows in (slice(0, 1), slice(1, 30), slice(30, 60)):
        part = cross_entropy(logits[rows], target[rows], reduction="sum")
        loss.update(part, (target[rows] != -100).sum())
    assert loss.mean == pytest.approx(cross_entropy(logits, target).item(), rel=1e-14)


def test_seventy_eight_thousand_batches_keep_every_digit():
    rng = np.random.default_rng(0)
    totals = rng.uniform(5e3, 6e3, 78_000).astype(np.float32)
    plain = np.float32(0)
    for t in totals:
        plain += t
    rows = [(t, 2048) for t in totals.tolist()]
    loss, want = filled(rows), exact_mean(rows)
    assert abs(float(plain) / 2048 / len(rows) / want - 1) > 1e-7
    assert abs(loss.mean / want - 1) <= 1e-15
    assert loss.n_tokens == 2048 * 78_000


@given(batches)
def test_the_mean_is_right_to_the_last_digit(rows):
    assert filled(rows).mean == pytest.approx(exact_mean(rows), rel=3e-16, abs=0)


def test_a_small_batch_beside_huge_ones_is_not_lost():
    loss = filled([(1e16, 1), *[(1.0, 1)] * 1000])
    assert loss.nll_sum == 1e16 + 1000  # added one by one, each 1.0 would be rounded away


@given(batches, st.randoms(use_true_random=False))
def test_the_order_of_batches_does_not_show(rows, random):
    shuffled = rows[:]
    random.shuffle(shuffled)
    assert filled(shuffled).mean == filled(rows).mean


@given(batches, st.integers(0, 30))
def test_merging_shards_equals_one_pass(rows, at):
    one, two, whole = filled(rows[:at]), filled(rows[at:]), filled(rows)
    for joint in (one + two, sum([one, two]), copy.deepcopy(one).merge(two), TokenMean().merge(one, two)):
        assert joint.n_tokens == whole.n_tokens
        assert joint.mean == whole.mean
    assert one.n_tokens == sum(n for _, n in rows[:at])  # adding leaves the parts as they are


def test_a_mean_over_nothing_is_nan():
    loss = TokenMean()
    assert math.isnan(loss.mean) and math.isnan(loss.perplexity)
    loss.update(0.0, 0)  # a batch that was masked altogether
    assert math.isnan(loss.mean) and loss.n_tokens == 0
    loss.update(3.0, 2)
    assert loss.mean == 1.5
    loss.reset()
    assert math.isnan(loss.mean) and loss.nll_sum == 0


def test_infinite_and_nan_losses_show_in_the_mean():
    assert filled([(1.0, 1), (INF, 1), (2.0, 1)]).mean == INF
    assert filled([(INF, 1)]).perplexity == INF
    assert math.isnan(filled([(NAN, 1), (2.0, 1)]).mean)
    assert filled([(1e6, 10)]).perplexity == INF  # 1e5 nats a token: no exception
    assert (filled([(INF, 1)]) + filled([(1.0, 1)])).mean == INF


def test_numbers_of_many_kinds_are_taken():
    loss = TokenMean()
    loss.update(1, 1)
    loss.update(np.float32(1.5), np.int64(2))
    loss.update(np.array(2.5), np.array(1))
    loss.update(torch.tensor(3.0, dtype=torch.bfloat16), torch.tensor(4, dtype=torch.int32))
    loss.update(torch.tensor(2.0, requires_grad=True), 2)
    assert (loss.nll_sum, loss.n_tokens) == (10.0, 10)
    assert type(loss.n_tokens) is int and type(loss.mean) is float
    assert repr(loss) == "TokenMean(mean=1, n_tokens=10)"


def test_a_count_beyond_int64_and_a_deep_copy_are_fine():
    loss = filled([(1.0, 2**70)])
    assert loss.n_tokens == 2**70
    assert pickle.loads(pickle.dumps(loss)).n_tokens == 2**70


# ------------------------------------------------------------------------------------------ accelerators


def test_a_tensor_off_the_cpu_is_not_read_when_it_is_added():
    """A meta tensor has no value: reading it is an error, so an update that works did not read it."""
    loss = TokenMean()
    for _ in range(3):
        loss.update(torch.ones((), device="meta"), 5)
        loss.update(torch.ones((), device="meta"), torch.ones((), device="meta", dtype=torch.int64))
        loss.update(2.0, torch.ones((), device="meta", dtype=torch.int64))
    with pytest.raises((RuntimeError, NotImplementedError)):
        _ = loss.mean
    loss.reset()
    loss.update(1.0, 1)
    assert loss.mean == 1


def waiting(rows, dtype=torch.float64):
    """Fill a TokenMean by the path of an accelerator's tensors, on the CPU."""
    loss = TokenMean()
    for total, n in rows:
        loss._wait(torch.tensor(total, dtype=dtype), torch.tensor(n))
    return loss


@given(batches)
def test_waiting_tensors_keep_the_same_digits(rows):
    assert waiting(rows).mean == filled(rows).mean
    loss = waiting(rows)
    assert (loss + filled(rows)).n_tokens == 2 * sum(n for _, n in rows)
    assert loss.n_tokens == sum(n for _, n in rows)  # reading brought them over once
    assert loss.mean == filled(rows).mean


def test_waiting_infinities_do_not_turn_into_nan():
    assert waiting([(1.0, 1), (INF, 1), (2.0, 1)]).mean == INF
    assert math.isnan(waiting([(NAN, 1), (2.0, 1)]).mean)


def test_a_bad_count_on_an_accelerator_is_reported_when_it_is_read():
    loss = waiting([(1.0, 5), (1.0, -2), (1.0, 7)])  # the sum of the counts would look fine
    for _ in range(2):
        with pytest.raises(ValueError, match="n_tokens"):
            _ = loss.mean


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_collects_the_same(device):
    rng = np.random.default_rng(1)
    rows = [(float(t), int(n)) for t, n in zip(rng.uniform(0, 1e6, 50), rng.integers(1, 99, 50), strict=True)]
    loss = TokenMean()
    for t, n in rows:
        loss.update(torch.tensor(t, dtype=torch.float64, device=device), torch.tensor(n, device=device))
    assert loss.mean == filled(rows).mean


# ----------------------------------------------------------------------------------------------- processes

SHARES = [[(6.0, 1), (1e16, 3)], [(1.0, 2)] * 500]  # unequal counts; a plain sum would lose the ones


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        loss = filled(SHARES[rank])
        same = loss.all_reduce()
        empty = filled(SHARES[0] if rank == 0 else []).all_reduce()
        groups = [dist.new_group([r]) for r in range(2)]
        alone = filled(SHARES[rank]).all_reduce(groups[rank])
        broken = filled([(1.0, 1)])
        if rank == 1:
            broken._wait(torch.tensor(1.0), torch.tensor(-1))
        try:
            broken.all_reduce()
            message = ""
        except ValueError as error:
            message = str(error)
        result = {
            "returns itself": same is loss,
            "state": loss.state_dict(),
            "mean": loss.mean,
            "empty": empty.state_dict(),
            "alone": alone.state_dict(),
            "message": message,
        }
        with open(f"{folder}/{rank}.json", "w") as file:
            json.dump(result, file)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(worker, args=(str(folder),), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_with_unequal_counts_agree_on_the_mean_of_all_tokens(two_processes):
    want = filled(SHARES[0] + SHARES[1])
    for result in two_processes:
        assert result["returns itself"]
        assert result["mean"] == exact_mean(SHARES[0] + SHARES[1]) == want.mean
        assert result["state"]["n_tokens"] == want.n_tokens == 1004
        assert result["state"]["nll_sum"] == 1e16 + 506
    assert two_processes[0]["state"] == two_processes[1]["state"]
    mean_of_means = sum(filled(rows).mean for rows in SHARES) / 2
    assert abs(mean_of_means / want.mean - 1) > 0.5


def test_a_process_without_tokens_takes_part(two_processes):
    for result in two_processes:
        assert result["empty"] == filled(SHARES[0]).state_dict()


def test_a_group_of_one_process_stays_by_itself(two_processes):
    for rank, result in enumerate(two_processes):
        assert result["alone"] == filled(SHARES[rank]).state_dict()


def test_a_bad_count_in_one_process_is_an_error_in_all(two_processes):
    assert "-1" in two_processes[1]["message"]
    assert "process 1" in two_processes[0]["message"]


def test_without_a_process_group_all_reduce_says_so():
    with pytest.raises(RuntimeError, match="init_process_group"):
        TokenMean().all_reduce()


# ---------------------------------------------------------------------------------------------- checkpoints


@given(batches, st.integers(0, 30))
def test_a_restart_does_not_show_in_any_digit(rows, at):
    state = json.loads(json.dumps(filled(rows[:at]).state_dict()))
    loss = TokenMean()
    loss.update(1e9, 3)
    loss.load_state_dict(state)
    for total, n in rows[at:]:
        loss.update(total, n)
    assert loss.state_dict() == filled(rows).state_dict()


STATE = {"nll_sum": 1.0, "nll_sum_error": 0.0, "n_tokens": 1}
BAD = {
    "count negative": (lambda m: m.update(1.0, -1), ValueError, "n_tokens"),
    "tensor count negative": (lambda m: m.update(1.0, torch.tensor(-1)), ValueError, "n_tokens"),
    "count float": (lambda m: m.update(1.0, 2.0), TypeError, "n_tokens"),
    "count float tensor": (lambda m: m.update(1.0, torch.tensor(2.0)), TypeError, "n_tokens"),
    "count boolean": (lambda m: m.update(1.0, True), TypeError, "n_tokens"),
    "count none": (lambda m: m.update(1.0, None), TypeError, "n_tokens"),
    "count of rows": (lambda m: m.update(1.0, torch.tensor([1, 2])), ValueError, "n_tokens"),
    "sum of rows": (lambda m: m.update(torch.ones(2), 2), ValueError, "nll_sum"),
    "sum array": (lambda m: m.update(np.ones(2), 2), TypeError, "nll_sum"),
    "sum text": (lambda m: m.update("1", 2), TypeError, "nll_sum"),
    "sum boolean": (lambda m: m.update(True, 2), TypeError, "nll_sum"),
    "sum integer tensor": (lambda m: m.update(torch.tensor(1), 2), TypeError, "nll_sum"),
    "sum without tokens": (lambda m: m.update(1.0, 0), ValueError, "nll_sum"),
    "mean over nothing": (lambda m: m.update(NAN, 0), ValueError, "nll_sum"),
    "merge a number": (lambda m: m.merge(3.0), TypeError, "others"),
    "state: no dict": (lambda m: m.load_state_dict([1.0, 0.0, 1]), TypeError, "state"),
    "state: key missing": (lambda m: m.load_state_dict({"nll_sum": 1.0}), ValueError, "state"),
    "state: key unknown": (lambda m: m.load_state_dict({**STATE, "mean": 1.0}), ValueError, "state"),
    "state: count": (lambda m: m.load_state_dict({**STATE, "n_tokens": -1}), ValueError, "state"),
    "state: count type": (lambda m: m.load_state_dict({**STATE, "n_tokens": 1.5}), TypeError, "state"),
    "state: sum type": (lambda m: m.load_state_dict({**STATE, "nll_sum": None}), TypeError, "state"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_leaves_the_total_alone(case):
    call, error, name = BAD[case]
    loss = filled([(6.0, 3)])
    with pytest.raises(error, match=rf"^{name}\b"):
        call(loss)
    assert loss.state_dict() == filled([(6.0, 3)]).state_dict()


def test_adding_something_else_is_a_type_error():
    with pytest.raises(TypeError):
        TokenMean() + 1.0
    with pytest.raises(TypeError):
        1 + TokenMean()
