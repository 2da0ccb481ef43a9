"""`dagster dev` and `dg dev` start from the root as it is cloned, and leave nothing behind.

No DAGSTER_HOME and no settings: an unset variable in dagster.yaml would break exactly this.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
PATIENCE_S = 120
READY = ("Sensor label_sensor skipped", "Serving dagster-webserver")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("command", ["dagster", "dg"])
def test_the_development_server_starts_and_leaves_the_root_clean(
    tmp_path: Path, command: str
) -> None:
    root = tmp_path / "clone"
    root.mkdir()
    for name in ("dagster.yaml", "workspace.yaml", "pyproject.toml"):
        shutil.copy(PROJECT / name, root / name)
    (root / "dagster_project").symlink_to(PROJECT / "dagster_project")
    before = sorted(path.name for path in root.iterdir())
    bin_folder = Path(sys.executable).parent
    ours = ("DAGSTER_", "TIER_", "MODEL_URI", "DATASET_DIR", "LABELS_URI", "NUM_SHARDS")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment["PATH"] = f"{bin_folder}:{environment['PATH']}"
    environment["VIRTUAL_ENV"] = str(bin_folder.parent)
    log = tmp_path / "log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [bin_folder / command, "dev", "--port", str(free_port())],
            cwd=root,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # a shell starts what runs in the background with SIGINT ignored, and that is inherited
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        deadline = time.monotonic() + PATIENCE_S
        # both: interrupting a webserver that is still loading ends in a race of Dagster
        while not all(text in log.read_text() for text in READY):
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        assert "Error" not in log.read_text()
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert sorted(path.name for path in root.iterdir()) == before
