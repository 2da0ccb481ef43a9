"""Loading a checkpoint by the closed grammar, against torch.load: pairs in turn, in one process.

Run: python benchmarks/load_checkpoint.py [--megabytes 512] [--pairs 7]

Both read the same file from the page cache into memory of their own and return every tensor; the
first of a pair alternates. Hashing is no part of either. Memory is the growth of the resident set
over the file's size, each in a fresh interpreter. Results: a table, and JSON in ``.benchmarks/``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from result import save

from dagster_project.lib.inference import safe_checkpoint

BUDGET = 4.0
WIDTH = 1152


def ours(path: Path) -> dict[str, torch.Tensor]:
    with safe_checkpoint.open_checkpoint(path) as checkpoint:
        return safe_checkpoint.read_tensors(checkpoint, torch.float32)


def theirs(path: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
    return loaded


LOADERS: dict[str, Callable[[Path], dict[str, torch.Tensor]]] = {"ours": ours, "torch": theirs}


def write_checkpoint(path: Path, megabytes: int) -> None:
    """Layers as a vision tower has them, until the file is as large as asked for."""
    shapes = [(WIDTH, WIDTH), (WIDTH,)] * 4 + [(4304, WIDTH), (4304,), (WIDTH, 4304), (WIDTH,)]
    state: dict[str, torch.Tensor] = {}
    while sum(value.nbytes for value in state.values()) < megabytes << 20:
        shape = shapes[len(state) % len(shapes)]
        state[f"layer.{len(state)}"] = torch.rand(shape)
    torch.save(state, path)


def seconds(loader: str, path: Path) -> float:
    start = time.perf_counter()
    LOADERS[loader](path)
    return time.perf_counter() - start


def extra_memory(loader: str, path: Path) -> int:
    """Bytes of the peak above a small load, less the file's size, in a fresh interpreter."""
    command = [sys.executable, __file__, "--peak-of", loader, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return int(done.stdout) - path.stat().st_size


def print_peak(loader: str, path: Path) -> None:
    def peak() -> int:
        # not getrusage: its maximum outlives exec, and begins with the parent's
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) << 10

    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.pt"
        write_checkpoint(small, 1)
        LOADERS[loader](small)
        before = peak()
    LOADERS[loader](path)
    print(peak() - before)


def measure(path: Path, pairs: int) -> dict[str, Any]:
    for loader in LOADERS:
        seconds(loader, path)  # imports, and the page cache
    times: dict[str, list[float]] = {loader: [] for loader in LOADERS}
    for number in range(pairs):
        for loader in sorted(LOADERS, reverse=bool(number % 2)):
            times[loader].append(seconds(loader, path))
    ratios = sorted(a / b for a, b in zip(times["ours"], times["torch"], strict=True))
    return {
        "bytes": path.stat().st_size,
        "pairs": pairs,
        "seconds": {loader: statistics.median(values) for loader, values in times.items()},
        "ratio": {"median": statistics.median(ratios), "low": ratios[0], "high": ratios[-1]},
        "budget": BUDGET,
        "extra_bytes": {loader: extra_memory(loader, path) for loader in LOADERS},
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Print the table and write the JSON; exit 1 above the budget."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        print_peak(options.peak_of[0], Path(options.peak_of[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.pt"
        write_checkpoint(path, options.megabytes)
        found = measure(path, options.pairs)
    out = save("load_checkpoint", [found])
    print(f"| loader | median s of {path.name}, {found['bytes']} bytes | extra memory, MB |")
    print("|---|---|---|")
    for loader in LOADERS:
        time_s, extra = found["seconds"][loader], found["extra_bytes"][loader] / 1e6
        print(f"| {loader} | {time_s:.3f} | {extra:.0f} |")
    ratio = found["ratio"]
    print(
        f"ours / torch: median {ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}, "
        f"{options.pairs} pairs; budget {BUDGET:g}); {out}"
    )
    if ratio["median"] > BUDGET:
        sys.exit(1)


if __name__ == "__main__":
    main()
