"""Where a benchmark writes what it found. Not a benchmark itself."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster_project.lib.inference import device

RESULTS = Path(".benchmarks")


def save(name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write the rows as JSON, with the hardware named; the file."""
    RESULTS.mkdir(exist_ok=True)
    hardware = {"cpu": device.name_of("cpu"), "cores": os.cpu_count(), "system": platform.system()}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"hardware": hardware, "rows": list(rows)}, indent=2) + "\n")
    return path


def report(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows as a table, and save them."""
    columns = list(rows[0])
    table = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    save(name, rows)
