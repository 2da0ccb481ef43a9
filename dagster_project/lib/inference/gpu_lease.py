"""One process a GPU on one host, whatever launched the processes.

Belongs: choosing the device, and holding a GPU for as long as it is used.
Does not: limiting how many dumps run (the orchestrator's pool), any computation.
Concept: a lease is an ``flock`` on ``<folder>/<gpu id>.lock``. The kernel drops it when the last
descriptor closes, so a killed process frees its GPU at once and nothing has to clean up. It must
be taken before CUDA initialises, because ``CUDA_VISIBLE_DEVICES`` is read only then; a process
whose CUDA is up leases the same GPU ever after. One lease a process at a time.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.inference import device

_log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
LOCK_DIR = Path(tempfile.gettempdir()) / "tier-refit-gpu-leases"
POLL_S = 0.2
SAY_EVERY_S = 60.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_process_gpu: list[str] = []
"""The GPU this process's CUDA was initialised on: at most one, for the life of the process."""


@contextmanager
def lease_device(requested: str, dtype: str = "float32") -> Iterator[str]:
    """Yield ``"cuda"`` while this process alone holds a GPU, or ``"cpu"``.

    Parameters
    ----------
    requested : ``cpu``; ``cuda`` (an error where there is none); ``auto`` (a GPU where there is
        one that this torch can use in ``dtype``; one that it cannot use is warned of).
    dtype : the arithmetic that is wanted.
    """
    if requested == "cpu" or (requested == "auto" and not _torch_has_cuda()):
        yield "cpu"
        return
    with lease_gpu(visible_gpus()) as gpu:
        if gpu is None:
            problem: str | None = "no GPU is visible; use the device cpu"
        else:
            problem = device.gpu_problem(dtype)
        if problem and requested == "cuda":
            raise InputError(f"device cuda: {problem}")
        if problem and gpu is not None:
            _log.warning("the GPU is not used: %s", problem)
        yield "cpu" if problem else "cuda"


@contextmanager
def lease_gpu(
    gpus: Sequence[str], *, lock_dir: Path = LOCK_DIR, timeout_s: float = math.inf
) -> Iterator[str | None]:
    """Hold one of ``gpus`` and make it the only visible one; None if there are none.

    It waits for as long as others need theirs (a shard may take an hour), and says so.

    Raises
    ------
    InputError
        None became free within ``timeout_s``, or the locks cannot be opened.
    """
    candidates = [gpu for gpu in gpus if gpu in _process_gpu] or list(gpus)
    if not candidates:
        yield None
        return
    gpu, lock = _acquire(candidates, lock_dir, timeout_s)
    before = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = gpu
    try:
        yield gpu
    finally:
        if _cuda_initialised():
            _process_gpu[:] = [gpu]
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before
        os.close(lock)  # never unlinked: unlink and flock race


def visible_gpus() -> list[str]:
    """Stable ids of the GPUs that this process may use, an outer restriction respected."""
    return gpu_ids(os.environ.get(_VISIBLE), _installed_gpus())


def gpu_ids(outer: str | None, installed: Sequence[str]) -> list[str]:
    """Narrow the installed GPUs to those that ``CUDA_VISIBLE_DEVICES`` names.

    One GPU has one name here, however it was asked for: an index and an abbreviated id become the
    full id, so that two launchers lock the same file. CUDA ignores what follows the first entry
    that it does not know.

    >>> gpu_ids("1", ["GPU-a0", "GPU-b1"]), gpu_ids(None, ["GPU-a0"]), gpu_ids("", ["GPU-a0"])
    (['GPU-b1'], ['GPU-a0'], [])
    >>> gpu_ids("GPU-b,-1,0", ["GPU-a0", "GPU-b1"]), gpu_ids("MIG-7", ["GPU-a0"])
    (['GPU-b1'], ['MIG-7'])
    """
    if outer is None:
        return list(installed)
    out: list[str] = []
    for entry in (part.strip() for part in outer.split(",")):
        if entry.isdigit():
            named = list(installed[int(entry) : int(entry) + 1]) if installed else [entry]
        else:
            named = [gpu for gpu in installed if entry and gpu.startswith(entry)][:1]
            if not named and entry.startswith(("GPU-", "MIG-")):
                named = [entry]
        if not named:
            break
        out += named
    return out


def _installed_gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _acquire(gpus: Sequence[str], lock_dir: Path, timeout_s: float) -> tuple[str, int]:
    _make_shared(lock_dir)
    deadline = time.monotonic() + timeout_s
    say_at = time.monotonic() + POLL_S
    while True:
        # In random order, so that processes that start together do not queue for the first.
        for gpu in random.sample(list(gpus), len(gpus)):
            lock = _open_lock(lock_dir / f"{gpu}.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            except OSError:
                os.close(lock)
                raise
            else:
                with suppress(OSError):  # for people; another user's file can only be read
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                return gpu, lock
        if time.monotonic() > deadline:
            raise InputError(
                f"no GPU became free in {timeout_s:g} s; {some(gpus)} are leased, "
                f"holders are named in {lock_dir}. Wait, or pass --device cpu"
            )
        if time.monotonic() > say_at:
            say_at = time.monotonic() + SAY_EVERY_S
            _log.warning("waiting for a GPU: %s are leased", some(gpus))
        time.sleep(POLL_S)


def _make_shared(lock_dir: Path) -> None:
    """A folder in which every user of the machine may make locks, and remove only their own."""
    if not lock_dir.is_dir():
        lock_dir.mkdir(parents=True, exist_ok=True)
        lock_dir.chmod(0o1777)


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:
        pass
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # enough for a lock
    except OSError as error:
        raise InputError(
            f"{path}: the GPU's lock cannot be opened ({error.strerror}); let every user of the "
            "GPUs read it, and write to its folder"
        ) from None


def _torch_has_cuda() -> bool:
    import torch

    return torch.version.cuda is not None or torch.version.hip is not None


def _cuda_initialised() -> bool:
    torch = sys.modules.get("torch")  # not imported for this: seconds, to learn that it was not
    return torch is not None and bool(torch.cuda.is_initialized())
