"""Whether any spoilt review file crashes the drop, is accepted in part, or costs much memory.

Run ``python benchmarks/fuzz_drop.py [FILES]`` (10,000 take about three minutes). Each file is a
returned sheet that was changed in cells, then saved as some program saves, then damaged in bytes.
The sound sheet is read first, the spoilt one after it. Then either exactly the rows that the csv
module reads in the spoilt file count, or exactly those of the sound one, and the file is refused
by name. At the end all files lie in one drop, beside the largest ones that are allowed; the peak is
that of this process, imports included. Exits with 1 at the first file that does otherwise.
"""

from __future__ import annotations

import re
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from random import Random

import polars as pl
from fuzzed_sheets import CLASSES, IDS, plain, reference, sheet, spoil_bytes, spoil_cells, write
from result import report

from dagster_project.lib.labels.drop import Drop, read_drop
from dagster_project.lib.labels.drop_source import MAX_DROP_BYTES, MAX_FILE_BYTES
from dagster_project.lib.labels.names import folded
from dagster_project.lib.progress import bar

MAX_MIB = 256
IMAGES = pl.Series("image_uuid", IDS)


def spoilt(seed: int) -> tuple[bytes, bytes]:
    """A sound sheet, and the same one spoilt; without any damage one time in ten."""
    rng = Random(seed)  # noqa: S311 - no secret
    rows = sheet(rng, f"reader {seed}")
    sound = plain(rows)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        rows = spoil_cells(rng, rows)
    data = write(rng, rows)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        data = spoil_bytes(rng, data)
    return sound, data


def read(folder: Path, in_force: pl.DataFrame | None = None) -> Drop:
    return read_drop(str(folder), classes=CLASSES, image_uuids=IMAGES, in_force=in_force)


def rows_of(drop: Drop) -> set[tuple[str, str, str, float | None]]:
    """What counts, as ``reference`` tells it."""
    columns = ("image_uuid", "reviewer", "label", "confidence")
    return {
        (
            image,
            folded(who).replace("_", ""),
            label,
            float(stated) if stated else None,
        )
        for image, who, label, stated in drop.reviews.select(columns).iter_rows()
    }


def check(folder: Path, seed: int) -> str:
    """``accepted``, or the kind of the first fault; AssertionError where neither is whole."""
    sound, data = spoilt(seed)
    path = folder / "r.csv"
    path.write_bytes(sound)
    before = read(folder)
    assert not before.refusals, f"seed {seed}: a sound sheet is refused: {before.refusals[0]}"
    path.write_bytes(data)
    after = read(folder, before.reviews)
    if after.refusals:
        assert after.reviews.equals(before.reviews), f"seed {seed}: a refused file changed labels"
        return re.sub(r"[ ,]+'[a-z_]+'| row \d+$", "", after.refusals[0].kind)
    expected = reference(data) or rows_of(before)  # nothing judged keeps what is in force
    assert rows_of(after) == expected, f"seed {seed}: {rows_of(after) ^ expected}"
    return "accepted"


def giants() -> Iterator[tuple[str, bytes]]:
    """The largest files that are read at all, of the sorts that cost most."""
    size = MAX_FILE_BYTES
    head = b"image_uuid,reviewer,label,comment\n"
    rows = b"".join(b"0012,a%d,acne,%s\n" % (r, b"x" * 140) for r in range(49_000))
    yield "judged", head + rows
    yield "dense", head + b"".join(b"12,b%d,acne,\n" % r for r in range(49_000))
    wide = "image_uuid,reviewer,label,comment\n" + f"0012,Ada,acne,{chr(0x1F600) * 20}\n" * 60_000
    yield "utf_16", wide.encode("utf-16")[: size // 8]
    yield "blank_rows", head + b",,,\n" * (size // 16)
    yield "lines", head + b"\n" * (size // 8)
    yield "unjudged", head + b"0012,,,\n" * 49_000
    yield "quotes", head + b'"' * (size // 16)
    yield "commas", b"," * (size // 16)


def everything(folder: Path, files: int) -> int:
    """Refused files of one drop of the giants and as many spoilt files as one drop may hold."""
    total = 0
    named = chain(giants(), ((f"r{seed:05d}", spoilt(seed)[1]) for seed in range(files)))
    for name, data in named:
        if total + len(data) <= MAX_DROP_BYTES:
            (folder / f"{name}.csv").write_bytes(data)
            total += len(data)
    return len({refusal.file for refusal in read(folder).refusals})


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    imported = peak_mib()
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, bar("fuzz", "file") as show:
        for seed in range(files):
            outcomes[check(Path(folder), seed)] += 1
            show(seed + 1, files)
    one_by_one = peak_mib()
    with tempfile.TemporaryDirectory() as folder:
        refused = everything(Path(folder), files)
    rows = [{"outcome": kind, "files": n} for kind, n in outcomes.most_common()]
    report("fuzz_drop", rows)
    print(f"peak after imports {imported:.0f} MiB, one by one {one_by_one:.0f} MiB")
    print(f"all in one drop with the giants: {refused} refused, peak {peak_mib():.0f} MiB")
    if peak_mib() > MAX_MIB:
        sys.exit(f"more than {MAX_MIB} MiB")


if __name__ == "__main__":
    main()
