"""How fast a checkpoint comes from S3, in one run, beside `aws s3 sync`.

Run ``python benchmarks/sync.py [--aws PATH] [--megabytes 1000] [--pairs 5]``. Both fetch the same
random file, uploaded in parts of 8 MB, from the same SeaweedFS over loopback, as whole processes
with their start, into an empty folder on the same disk; they take turns. Ours also hashes the file,
flushes it to the disk and publishes it; ``aws s3 sync`` does none of this, so it is timed once more
with the SHA-256 of what it fetched. Ratios of medians; written to ``.benchmarks/sync.json``.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import seaweed
from result import RESULTS, save

URI = f"s3://{seaweed.BUCKET}/bench/"
SMALL = ("config.json", "feature_schema.json", "labels.txt")
OURS, AWS, AWS_HASHED = "tier-refit sync", "aws s3 sync", "aws s3 sync + sha256"


def upload(port: int, megabytes: int, folder: Path) -> None:
    """An artifact without a manifest, whose checkpoint is that large."""
    path = folder / "best_model.pt"
    source = random.Random(0)  # noqa: S311
    with path.open("wb") as stream:
        for _ in range(megabytes):
            stream.write(source.randbytes(1_000_000))
    client = seaweed.client(port)
    client.upload_file(str(path), seaweed.BUCKET, "bench/best_model.pt")
    for name in SMALL:
        client.put_object(Bucket=seaweed.BUCKET, Key=f"bench/{name}", Body=b"{}")
    path.unlink()


def contestants(aws: str | None, env: dict[str, str]) -> dict[str, Callable[[Path], None]]:
    """Name -> a function that fetches all into an empty folder."""

    def call(*command: str) -> None:
        subprocess.run(command, env=env, check=True, capture_output=True)  # noqa: S603

    def ours(dest: Path) -> None:
        call(sys.executable, "-m", "dagster_project.cli", "sync", URI, str(dest))

    def theirs(dest: Path) -> None:
        call(str(aws), "s3", "sync", "--quiet", URI, str(dest))

    def theirs_hashed(dest: Path) -> None:
        theirs(dest)
        # as fast as this machine can: openssl uses the processor's instructions, sha256sum may not
        tool = ["openssl", "dgst", "-sha256"] if shutil.which("openssl") else ["sha256sum"]
        call(*tool, str(dest / "best_model.pt"))

    return {OURS: ours, **({AWS: theirs, AWS_HASHED: theirs_hashed} if aws else {})}


def timed(fetch: Callable[[Path], None], folder: Path) -> tuple[float, float]:
    """Seconds, and seconds of CPU, of one fetch into an empty folder on a disk at rest."""
    os.sync()
    cpu, start = _children_cpu(), time.perf_counter()
    fetch(folder / "dest")
    taken = time.perf_counter() - start, _children_cpu() - cpu
    shutil.rmtree(folder / "dest")
    return taken


def _children_cpu() -> float:
    """Of children that have ended: not of the server, which goes on."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


Runs = dict[str, list[tuple[float, float]]]


def measure(aws: str | None, megabytes: int, pairs: int) -> Runs:
    """Every run, by contestant; they take turns, after one round that is thrown away."""
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=RESULTS) as temp, seaweed.seaweed() as port:
        folder = Path(temp)
        upload(port, megabytes, folder)
        env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        named = contestants(aws, {**env, **seaweed.environment(port)})
        runs: Runs = {name: [] for name in named}
        for turn in range(pairs + 1):
            for name, fetch in named.items():
                one = timed(fetch, folder)
                if turn:
                    runs[name].append(one)
    return runs


def row(runs: list[tuple[float, float]]) -> dict[str, float]:
    """Medians and spread."""
    wall, cpu = zip(*runs, strict=True)
    middle = {"seconds": statistics.median(wall), "cpu_seconds": statistics.median(cpu)}
    return {k: round(v, 3) for k, v in {**middle, "min": min(wall), "max": max(wall)}.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--aws", default=shutil.which("aws"), help="default: aws on PATH")
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    runs = measure(options.aws, options.megabytes, options.pairs)
    table = {name: row(its) for name, its in runs.items()}
    print(f"{options.megabytes} MB, medians of {options.pairs}, {os.cpu_count()} cores")
    for name, its in table.items():
        rate, ratio = options.megabytes / its["seconds"], its["seconds"] / table[OURS]["seconds"]
        print(
            f"{name:24} {its['seconds']:6.2f} s ({its['min']:.2f} to {its['max']:.2f}), "
            f"{its['cpu_seconds']:.2f} s of CPU, {rate:4.0f} MB/s, {ratio:.2f} x the time of ours"
        )
    if AWS not in table:
        print(f"{AWS}: not measured (no aws on PATH; pass --aws)")
    save("sync", [{"": n, "megabytes": options.megabytes, **its} for n, its in table.items()])


if __name__ == "__main__":
    main()
