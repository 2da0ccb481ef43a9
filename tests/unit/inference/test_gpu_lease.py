from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import gpu_lease

GPUS = ["GPU-a0", "GPU-b1"]
HOLDER = """
import sys, time
from pathlib import Path
from dagster_project.lib.inference import gpu_lease
gpu_lease._cuda_initialised = lambda: False
log = Path(sys.argv[2])
with gpu_lease.lease_gpu(sys.argv[4:], lock_dir=Path(sys.argv[1])) as gpu:
    begin = time.monotonic()
    print(gpu, flush=True)
    time.sleep(float(sys.argv[3]))
    with log.open("a") as stream:
        stream.write(f"{gpu} {begin} {time.monotonic()}\\n")
"""


def holder(folder: Path, seconds: float, *gpus: str) -> subprocess.Popen[str]:
    arguments = [str(folder), str(folder / "log"), str(seconds), *gpus]
    path = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@pytest.fixture(autouse=True)
def no_cuda_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_lease, "_process_gpu", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("outer", "installed", "expected"),
    [
        pytest.param(None, GPUS, GPUS, id="no restriction"),
        pytest.param("", GPUS, [], id="all hidden"),
        pytest.param("-1", GPUS, [], id="hidden by minus one"),
        pytest.param("1,0", GPUS, ["GPU-b1", "GPU-a0"], id="indices in their order"),
        pytest.param("GPU-b", GPUS, ["GPU-b1"], id="abbreviated id"),
        pytest.param("0, GPU-b1", GPUS, GPUS, id="index and id are one name"),
        pytest.param("0,7,1", GPUS, ["GPU-a0"], id="cuda stops at the first unknown"),
        pytest.param("2,3", [], ["2", "3"], id="no nvidia-smi in the container"),
        pytest.param("MIG-x", GPUS, ["MIG-x"], id="a slice of a GPU"),
    ],
)
def test_an_outer_restriction_is_respected(
    outer: str | None, installed: list[str], expected: list[str]
) -> None:
    assert gpu_lease.gpu_ids(outer, installed) == expected


def test_a_lease_shows_one_gpu_only_and_restores_what_was_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with gpu_lease.lease_gpu(["GPU-a0"], lock_dir=tmp_path) as gpu:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu == "GPU-a0"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with (
        pytest.raises(ZeroDivisionError),
        gpu_lease.lease_gpu(GPUS, lock_dir=tmp_path),
    ):
        raise ZeroDivisionError
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_two_leases_never_share_a_gpu_and_a_third_waits_in_vain(tmp_path: Path) -> None:
    with (
        gpu_lease.lease_gpu(GPUS, lock_dir=tmp_path) as one,
        gpu_lease.lease_gpu(GPUS, lock_dir=tmp_path) as two,
    ):
        assert {one, two} == set(GPUS)
        with (
            pytest.raises(InputError, match="no GPU became free in 0 s"),
            gpu_lease.lease_gpu(GPUS, lock_dir=tmp_path, timeout_s=0),
        ):
            pass
    with gpu_lease.lease_gpu(GPUS, lock_dir=tmp_path, timeout_s=0) as again:
        assert again in GPUS


def test_a_process_whose_cuda_is_up_leases_the_same_gpu_ever_after(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_lease, "_cuda_initialised", lambda: True)
    with gpu_lease.lease_gpu(GPUS, lock_dir=tmp_path) as first:
        pass
    for _ in range(8):
        with gpu_lease.lease_gpu(GPUS, lock_dir=tmp_path) as again:
            assert again == first


def test_a_killed_holder_frees_its_gpu_at_once(tmp_path: Path) -> None:
    with holder(tmp_path, 60, "GPU-a0") as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "GPU-a0"
        with (
            pytest.raises(InputError, match="became free"),
            gpu_lease.lease_gpu(["GPU-a0"], lock_dir=tmp_path, timeout_s=0),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    begin = time.monotonic()
    with gpu_lease.lease_gpu(["GPU-a0"], lock_dir=tmp_path, timeout_s=5):
        assert time.monotonic() - begin < 1


def test_processes_on_two_gpus_never_overlap(tmp_path: Path) -> None:
    processes = [holder(tmp_path, 0.1, *GPUS) for _ in range(6)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 6
    for gpu in GPUS:
        held = sorted((float(a), float(b)) for name, a, b in lines if name == gpu)
        assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(held))


def test_on_a_cpu_nothing_is_leased_and_no_file_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_lease, "_torch_has_cuda", lambda: False)
    with gpu_lease.lease_device("cpu") as cpu, gpu_lease.lease_device("auto") as auto:
        assert (cpu, auto) == ("cpu", "cpu")
    with gpu_lease.lease_gpu([], lock_dir=tmp_path / "locks") as gpu:
        assert gpu is None
    assert not (tmp_path / "locks").exists()


def test_cuda_without_a_gpu_is_refused_and_auto_falls_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu_lease, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(gpu_lease, "visible_gpus", list)
    with (
        pytest.raises(InputError, match="no GPU is visible; use the device cpu"),
        gpu_lease.lease_device("cuda"),
    ):
        pass
    with gpu_lease.lease_device("auto") as device:
        assert device == "cpu"


def test_letting_go_of_a_gpu_does_not_import_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from dagster_project.lib.inference import gpu_lease\n"
        "with gpu_lease.lease_gpu(['GPU-a0'], lock_dir=Path(sys.argv[1])): pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


def test_a_lock_of_another_user_can_be_held_though_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = os.open

    def refuse_writing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return plain(path, flags, mode)

    (tmp_path / "GPU-a0.lock").touch()
    monkeypatch.setattr(os, "open", refuse_writing)
    with gpu_lease.lease_gpu(["GPU-a0"], lock_dir=tmp_path) as gpu:
        assert gpu == "GPU-a0"
        with (
            pytest.raises(InputError, match="became free"),
            gpu_lease.lease_gpu(["GPU-a0"], lock_dir=tmp_path, timeout_s=0),
        ):
            pass
    with (
        pytest.raises(InputError, match="the GPU's lock cannot be opened"),
        gpu_lease.lease_gpu(["GPU-b1"], lock_dir=tmp_path),
    ):
        pass


def test_a_waiting_process_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_lease, "POLL_S", 0.01)
    with (
        gpu_lease.lease_gpu(["GPU-a0"], lock_dir=tmp_path),
        pytest.raises(InputError, match="became free"),
        gpu_lease.lease_gpu(["GPU-a0"], lock_dir=tmp_path, timeout_s=0.1),
    ):
        pass
    assert caplog.text.count("waiting for a GPU: 'GPU-a0' are leased") == 1
