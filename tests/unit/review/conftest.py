"""Folders in memory, and a stand-in for the page where its package is not there."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PAGE = "dagster_project.lib.review.page"


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is /dev/shm: a packet is hundreds of files, each flushed."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made inside
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="tier-refit-") as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec(PAGE) is not None:
        return
    module: Any = ModuleType(PAGE)
    module.ReviewClass = make_dataclass("ReviewClass", ["name", "description"])
    module.Presentation = make_dataclass(
        "Presentation", ["image_uuid", "image_path", "practice", "shown"]
    )
    module.PageContent = make_dataclass(
        "PageContent", ["packet", "reviewer", "classes", "presentations"]
    )

    def write_page(folder: Path, content: Any) -> None:
        (folder / "index.html").write_text("<!doctype html>")
        (folder / "packet.js").write_text(json.dumps(asdict(content)))

    module.write_page = write_page
    monkeypatch.setitem(sys.modules, PAGE, module)
