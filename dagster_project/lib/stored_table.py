"""A table as it lies in the asset store: rows with the key-value metadata that travels with them.

Belongs: the one value that assets hand to each other.
Does not: reading and writing files (``tables``), what the metadata means.
Concept: light to import (polars and pyarrow load on first use), because Dagster needs the type
when it loads the definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


@dataclass(frozen=True)
class StoredTable:
    """An arrow table; ``frame`` and ``metadata`` are views of it."""

    arrow: pa.Table

    @classmethod
    def of(cls, frame: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> StoredTable:
        """A frame with metadata (text to text)."""
        from dagster_project.lib import tables

        return cls(tables.with_metadata(frame.to_arrow(), metadata or {}))

    @property
    def frame(self) -> pl.DataFrame:
        """The rows."""
        import polars

        return polars.DataFrame(polars.from_arrow(self.arrow))

    @property
    def metadata(self) -> dict[str, str]:
        """The key-value metadata as text."""
        from dagster_project.lib import tables

        return tables.metadata_of(self.arrow)

    @property
    def version(self) -> str:
        """Digest of the rows alone."""
        from dagster_project.lib import tables

        return tables.digest_frame(self.frame)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.arrow)
