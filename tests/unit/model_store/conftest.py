"""An artifact of plain bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

FILES = {
    "best_model.pt": bytes(range(256)) * 40,
    "config.json": b'{"architecture": "x"}',
    "feature_schema.json": b'{"fields": []}',
    "labels.txt": b"a\nb\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A complete artifact without a manifest."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    return folder
