"""How a dump went: speed, where the time went, on what.

Belongs: the numbers that a person asks for ("is my GPU even used?"), and their one-line form.
Does not: taking the times (``engine``), showing them (``progress``, ``defs``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dagster_project.lib.inference import device, views

if TYPE_CHECKING:
    from dagster_project.lib.inference.engine import Engine, Times
    from dagster_project.lib.progress import OnProgress

PARTS = ("decode", "transfer", "model", "write")


@dataclass(frozen=True)
class DumpStats:
    """What one run of a dump did; what it found finished is not counted.

    Attributes
    ----------
    rows : computed in this run.
    seconds : wall time since the network was loaded.
    times : seconds spent waiting for pixels, on the bus, in the network, and writing.
    device : what people call it.
    dtype : arithmetic.
    batch_size : most rows of a forward pass at the end.
    encoder_passes : how often the encoder sees an image.
    peak_bytes : most memory held: on the GPU, or resident in this process on a CPU.
    """

    rows: int
    seconds: float
    times: Times
    device: str
    dtype: str
    batch_size: int
    encoder_passes: int
    peak_bytes: int

    @property
    def rows_per_second(self) -> float | None:
        """Null before the first row."""
        return self.rows / self.seconds if self.rows and self.seconds > 0 else None

    @property
    def shares(self) -> dict[str, float]:
        """Part -> share of the wall time; on a GPU decoding overlaps with the network."""
        wall = max(self.seconds, 1e-9)
        return {part: getattr(self.times, part) / wall for part in PARTS}

    def facts(self) -> dict[str, float | int | str]:
        """The numbers by stable names, for whoever draws them over time."""
        rate = self.rows_per_second
        return {
            "rows_computed": self.rows,
            **({} if rate is None else {"rows_per_second": round(rate, 1)}),
            **{f"{part}_share": round(share, 4) for part, share in self.shares.items()},
            "peak_memory_gb": round(self.peak_bytes / 1e9, 3),
            "batch_size": self.batch_size,
            "encoder_passes": self.encoder_passes,
            "device_name": self.device,
            "dtype": self.dtype,
        }

    def note(self) -> str:
        """Where the time goes, on what, in one line."""
        shares = " ".join(f"{part} {share:.0%}" for part, share in self.shares.items())
        memory = f"peak {self.peak_bytes / 1e9:.1f} GB"
        return f"{shares}; {self.device}, {self.dtype}, batch {self.batch_size}, {memory}"


@dataclass
class Report:
    """Counts the rows of a run and tells how it goes.

    Attributes
    ----------
    engine : what is computing.
    found, total : rows that were finished before this run, and rows in all.
    on_progress : who is told.
    """

    engine: Engine
    found: int
    total: int
    on_progress: OnProgress
    rows: int = 0
    start: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._kind = self.engine.model.device.partition(":")[0]
        self._name = device.name_of(self._kind)
        self.show(0)

    def show(self, rows: int) -> None:
        """``rows`` more are done."""
        self.rows += rows
        self.on_progress(self.found + self.rows, self.total, self.stats().note())

    def stats(self) -> DumpStats:
        """The numbers so far."""
        engine = self.engine
        return DumpStats(
            rows=self.rows,
            seconds=time.perf_counter() - self.start,
            times=engine.times,
            device=self._name,
            dtype=engine.model.dtype,
            batch_size=engine.batch_size,
            encoder_passes=views.encoder_passes(engine.model.module, tta=engine.tta),
            peak_bytes=device.peak_bytes(self._kind),
        )
