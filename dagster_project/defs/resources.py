"""What assets are given: the settings and the table store.

Belongs: the resources by name, so that tests swap them in one place.
Does not: reading the environment (``settings``).
"""

from typing import Any

import dagster as dg

from dagster_project.defs.parquet_io import ParquetIOManager
from dagster_project.settings import Settings


def build_resources(settings: Settings) -> dict[str, Any]:
    """Resources keyed by the name that assets ask for."""

    @dg.io_manager(description="One parquet file an asset or partition, published atomically.")
    def io_manager(context: dg.InitResourceContext) -> ParquetIOManager:
        # made when a run starts: the base class imports what loading the definitions must not
        del context
        return ParquetIOManager(settings.tables_dir)

    return {"settings": settings, "io_manager": io_manager}
