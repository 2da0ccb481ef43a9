"""A table as it lies in the asset store: rows with the key-value metadata that travels with them.

Belongs: the one value that assets hand to each other, and what is said when a table of another
version of this package lacks a key.
Does not: reading and writing files (``tables``), what the metadata means.
Concept: light to import (polars and pyarrow load on first use), because Dagster needs the type
when it loads the definitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dagster_project.lib.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class Metadata(dict[str, str]):
    """Key-value metadata of a table that knows whose it is and how it is made again.

    ``metadata[key]`` of a key that is not there is an :class:`InputError`; ``get`` and ``in`` are
    those of every mapping. ``mend`` is what the error tells to do; by default to materialize the
    asset ``name`` again.
    """

    def __init__(self, found: Mapping[str, str], name: str, mend: str | None = None) -> None:
        super().__init__(found)
        self.name = name
        self.mend = mend or f"materialize {name} again"

    def __missing__(self, key: str) -> str:
        """Name the table, the key and the mend."""
        raise InputError(
            f'{self.name}: the stored table says no "{key}" (another version of this package '
            f"wrote it); {self.mend}"
        )


@dataclass(frozen=True)
class StoredTable:
    """An arrow table; ``frame`` and ``metadata`` are views of it.

    ``name`` is that of the asset whose table it is, where it was read from the store.
    """

    arrow: pa.Table
    name: str = "this table"

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
    def metadata(self) -> Metadata:
        """The key-value metadata as text; a missing key is an :class:`InputError`."""
        from dagster_project.lib import tables

        return Metadata(tables.metadata_of(self.arrow), self.name)

    @property
    def version(self) -> str:
        """Digest of the rows alone."""
        from dagster_project.lib import tables

        return tables.digest_frame(self.frame)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.arrow)
