"""Stage 1: the model artifact, fetched, verified by sha256 and published by content.

Belongs: what an artifact's files and hash are, where it comes from, how it is published.
Does not: opening weights or config (``inference``).
"""

from dagster_project.lib.model_store.artifact import (
    Artifact,
    current,
    published,
    read_artifact,
    tree_hash,
)
from dagster_project.lib.model_store.store import Synced, sync

__all__ = ["Artifact", "Synced", "current", "published", "read_artifact", "sync", "tree_hash"]
