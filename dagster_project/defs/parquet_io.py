"""Tables between assets: one parquet file an asset, or a partition of one.

Belongs: where an asset's table lies and how it is published and loaded.
Does not: what is in it; dumps publish themselves (``lib.inference.dump``) at :func:`table_path`.
Concept: dagster's ``UPathIOManager`` for the loading rules, our atomic publication for the writing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.lib.stored_table import StoredTable
from dagster_project.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from upath import UPath


def asset_key(asset: str) -> dg.AssetKey:
    """The key of an asset as people write it: ``focal/test_probabilities`` has two parts."""
    return dg.AssetKey(asset.split("/"))


def table_path(settings: Settings, asset: str, partition: str | None = None) -> Path:
    """The file of an asset's table, or of one partition of it; of a key as people write it."""
    folder = settings.tables_dir
    return folder / asset / f"{partition}.parquet" if partition else folder / f"{asset}.parquet"


def read_stored(settings: Settings, asset: str) -> StoredTable:
    """An asset's table outside a run (sensor, walk-through); a missing file is an error."""
    from dagster_project.lib import tables

    return StoredTable(tables.read_arrow(table_path(settings, asset)), asset)


class ParquetIOManager(dg.UPathIOManager):
    """Stores and loads :class:`StoredTable`; all partitions of an asset are a mapping by key."""

    extension = ".parquet"

    def __init__(self, tables_dir: Path) -> None:
        from upath import UPath

        super().__init__(UPath(tables_dir))

    def dump_to_path(self, context: dg.OutputContext, obj: StoredTable, path: "UPath") -> None:
        """Publish one table atomically."""
        del context
        from dagster_project.lib import tables

        tables.write_arrow(Path(str(path)), obj.arrow)

    def load_from_path(self, context: dg.InputContext, path: "UPath") -> StoredTable:
        """Load one table; a missing file fails the run."""
        from dagster_project.lib import tables
        from dagster_project.lib.errors import InputError

        found = Path(str(path))
        if not found.is_file():
            asset = context.asset_key.to_user_string()
            raise InputError(f"{found}: no such file; materialize {asset} first")
        return StoredTable(tables.read_arrow(found), context.asset_key.path[-1])

    def load_input(self, context: dg.InputContext) -> Any:
        """As the base class, but all partitions are a mapping even if there is only one."""
        loaded = super().load_input(context)
        whole = context.has_asset_partitions and not context.has_partition_key
        if whole and not isinstance(loaded, Mapping):
            return {context.asset_partition_keys[0]: loaded}
        return loaded

    def get_metadata(
        self, context: dg.OutputContext, obj: StoredTable
    ) -> dict[str, dg.MetadataValue[Any]]:
        """Row count, column schema and location; never a row."""
        path = Path(str(self._get_path(context)))
        return table_metadata(obj.arrow.schema, len(obj), path)


def table_metadata(
    schema: "pa.Schema", n_rows: int, path: Path
) -> dict[str, dg.MetadataValue[Any]]:
    """The reserved metadata of a table: how many rows, which columns, where."""
    columns = [dg.TableColumn(name=field.name, type=str(field.type)) for field in schema]
    return {
        "dagster/row_count": dg.MetadataValue.int(n_rows),
        "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns)),
        "dagster/uri": dg.MetadataValue.text(path.absolute().as_uri()),
    }
