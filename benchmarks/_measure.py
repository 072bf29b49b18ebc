"""How the benchmarks measure: CPU time side by side, peak memory in a process of its own."""

from __future__ import annotations

import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def cpu_seconds(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return each way's CPU time in each round, after one round that does not count.

    The ways take turns, so that a busy neighbour or a warmer processor meets all of them.  CPU time leaves
    out what other processes take; with one thread it is otherwise the time on the clock.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            gc.collect()
            start = time.process_time()
            way()
            if turn:
                taken[name].append(time.process_time() - start)
    return taken


def ratio(taken: Mapping[str, list[float]], name: str, reference: str) -> float:
    """Return the median over the rounds of one way's time divided by another's."""
    return statistics.median(a / b for a, b in zip(taken[name], taken[reference], strict=True))


def peak_bytes(run: Callable[[], object]) -> int:
    """Return by how much resident memory grows at most while `run` runs, once, in this process."""
    gc.collect()
    before, exact = _resident(), _forget_peak()
    if not exact:
        before = _peak()
    keep = run()
    grown = _peak() - before
    del keep
    return max(grown, 0)


def _forget_peak() -> bool:
    """Set the kernel's high-water mark back to what is in use now (Linux); False where that cannot be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def _resident() -> int:
    try:
        return _status("VmRSS")
    except (OSError, StopIteration):
        return _peak()


def _peak() -> int:
    # ru_maxrss is inherited from the parent process on Linux, so it comes second.
    try:
        return _status("VmHWM")
    except (OSError, StopIteration):
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size if sys.platform == "darwin" else size * 1024


def in_its_own_process(script: str, job: dict) -> dict:
    """Return what `script --worker JOB` prints as JSON, or {"error": reason} if it fails."""
    environment = os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, script, "--worker", json.dumps(job)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"error": lines[-1][:200] if lines else f"exit status {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])
