"""How evenly shards share out over two unequal devices: real processes, real leases, made-up work.

Run ``python benchmarks/shard_balance.py``. Each shard is a process that takes whichever of two
device ids is free (``gpu_lease``) and then holds it for as long as that device needs; at most two
run at a time, as the pool ``gpu`` sees to. The ideal is all work divided by all speed. A fixed
halving is shown beside it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from result import report

SPEEDS = {"GPU-slow": 1.0, "GPU-fast": 1.7}
WORK_S = 40.0
"""Seconds that all shards together take on the slow device."""
SHARD = """
import sys, time
from pathlib import Path
from dagster_project.lib.inference import gpu_lease
folder, seconds, *pairs = sys.argv[1:]
speeds = {name: float(speed) for name, speed in (pair.split("=") for pair in pairs)}
print("ready", flush=True)  # started and imported before the clock runs
input()
with gpu_lease.lease_gpu(list(speeds), lock_dir=Path(folder)) as gpu:
    time.sleep(float(seconds) / speeds[gpu])
"""


def finish_s(n_shards: int, lock_dir: Path) -> float:
    """Seconds until the last of ``n_shards`` is done."""
    arguments = [str(lock_dir), str(WORK_S / n_shards), *(f"{k}={v}" for k, v in SPEEDS.items())]
    command = [sys.executable, "-c", SHARD, *arguments]
    waiting = [_started(command) for _ in range(n_shards)]
    for process in waiting:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("a shard did not start")
    running: list[subprocess.Popen[str]] = []
    start = time.perf_counter()
    while waiting or running:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < len(SPEEDS):
            process = waiting.pop()
            if process.stdin is None:
                raise RuntimeError("no pipe")
            process.stdin.write("\n")
            process.stdin.flush()
            running.append(process)
        time.sleep(0.005)
    return time.perf_counter() - start


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own text
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def main() -> None:
    """Print the finish of 16 shards and of others against the ideal."""
    ideal = WORK_S / sum(SPEEDS.values())
    halving = WORK_S / 2 / min(SPEEDS.values())
    lines = [{"work": "a fixed halving (computed)", "seconds": halving}]
    for n_shards in (4, 8, 16, 32):
        with tempfile.TemporaryDirectory() as folder:
            seconds = finish_s(n_shards, Path(folder))
        lines.append({"work": f"{n_shards} shards, whoever is free", "seconds": round(seconds, 2)})
    report(
        "shard_balance",
        [{**line, "over the ideal": f"{line['seconds'] / ideal - 1:+.1%}"} for line in lines],  # type: ignore[operator]
    )


if __name__ == "__main__":
    main()
