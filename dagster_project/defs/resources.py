"""What assets are given: the settings and the table store.

Belongs: the resources by name, so that tests swap them in one place.
Does not: reading the environment (``settings``).
"""

from typing import Any

from dagster_project.defs.parquet_io import ParquetIOManager
from dagster_project.settings import Settings


def build_resources(settings: Settings) -> dict[str, Any]:
    """Resources keyed by the name that assets ask for."""
    return {"settings": settings, "io_manager": ParquetIOManager(settings.tables_dir)}
