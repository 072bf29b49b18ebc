"""The benchmarks run, on small shapes, and what they have not measured they say."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tools import book

FOLDER = book.ROOT / "benchmarks"
SMALL = ["--device", "cpu", "--shape", "96", "16", "300", "--rounds", "2"]


def measured(script: str, *arguments: str) -> str:
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, cwd=book.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_gpu_benchmark_has_a_row_for_each_way_and_its_losses_are_right(tmp_path):
    page = measured("gpu.py", *SMALL, "--out", str(tmp_path))
    record = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    ways = record["result"]["ways"]
    assert set(ways) == {"plain", "floor", "torch, chunked", "Liger", "lossutils"}
    assert ways["lossutils"]["loss_error"] < min(1e-4, ways["plain"]["loss_error"] + 1e-9)
    assert ways["plain"]["loss_error"] < 2e-2  # it rounds the loss itself to bfloat16
    assert all(f.get("absent") or f["seconds"] > 0 for f in ways.values())
    assert all(f"| {name} |" in page for name in ways)
    assert "96 × 16 × 300" in page


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_page_says_that_nothing_was_measured(tmp_path):
    measured("gpu.py", "--out", str(tmp_path))
    assert "Not measured" in (tmp_path / "gpu.md").read_text(encoding="utf8")
    assert not (tmp_path / "gpu.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_what_was_measured_before_is_kept(tmp_path):
    for name in ("gpu.md", "gpu.json"):
        (tmp_path / name).write_text("of another machine", encoding="utf8")
    measured("gpu.py", "--out", str(tmp_path))
    assert (tmp_path / "gpu.md").read_text(encoding="utf8") == "of another machine"


def test_the_stored_page_is_what_was_measured_or_says_that_nothing_was():
    page = (FOLDER / "results" / "gpu.md").read_text(encoding="utf8")
    assert ("Not measured" in page) != (FOLDER / "results" / "gpu.json").exists()


def test_the_processors_benchmark_runs_on_a_small_shape():
    page = measured("speed_and_memory.py", "--quick", "--shapes", "64x16x500", "--rounds", "1")
    assert "64 × 16 × 500" in page
    assert page.count("| lossutils |") == 2
