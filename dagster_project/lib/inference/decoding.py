"""Pictures read ahead of the network, in the plan's order.

Belongs: decoding and resizing in threads, and noticing a picture that is not the one planned.
Does not: how a picture is decoded (``preprocess``), what becomes of it (``engine``).
Concept: threads and not processes: the decoders, the resize and the hash all let go of the
interpreter, so threads use the cores and nothing has to be copied between processes. On a CPU they
would only compete with the network, so there are two, enough to wait for the disk.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dagster_project.lib import files
from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import preprocess
from dagster_project.lib.inference.preprocess import DecodeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from dagster_project.lib.inference.plan import DumpPlan
    from dagster_project.lib.inference.preprocess import Pixels

Span = tuple[int, int]
"""Rows [first, last) of the plan."""
CPU_DECODERS = 2
MOST_DECODERS = 16
_BATCHES_AHEAD = 2


def n_decoders(device: str) -> int:
    """Threads that decode for a network on ``device``."""
    if not device.startswith("cuda"):
        return CPU_DECODERS
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # not Linux
        cores = os.cpu_count() or 1
    return max(1, min(MOST_DECODERS, cores - 1))


@contextmanager
def read_ahead(
    plan: DumpPlan, spans: Sequence[Span], threads: int
) -> Iterator[Iterator[list[Pixels | DecodeError]]]:
    """The resized pictures of each span in turn, or why there are none.

    Nothing is decoded further than two spans ahead: memory does not grow with the dump.

    Raises
    ------
    InputError
        A picture's bytes are no longer those that were planned.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            yield _in_turn(plan, spans, pool)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _in_turn(
    plan: DumpPlan, spans: Sequence[Span], pool: ThreadPoolExecutor
) -> Iterator[list[Pixels | DecodeError]]:
    pending: deque[list[Future[Pixels | DecodeError]]] = deque()
    waiting = iter(spans)
    for _ in spans:
        while len(pending) <= _BATCHES_AHEAD and (span := next(waiting, None)) is not None:
            rows = plan.rows[span[0] : span[1]].iter_rows(named=True)
            pending.append(
                [pool.submit(_load, plan, row["image_path"], row["sha256"]) for row in rows]
            )
        yield [future.result() for future in pending.popleft()]


def _load(plan: DumpPlan, image_path: str, sha256: str | None) -> Pixels | DecodeError:
    """One resized image, or why there is none; other bytes than those planned are an error."""
    try:
        data = preprocess.read_bytes(plan.dataset_dir / image_path)
    except DecodeError as error:
        if sha256 is None:
            return error
        raise InputError(f"{image_path}: the image vanished during the dump; dump again") from None
    if files.sha256_bytes(data) != sha256:
        raise InputError(f"{image_path}: the image changed during the dump; dump again")
    recipe = plan.spec.preprocess
    try:
        return preprocess.resize(preprocess.decode(data, upright=recipe.upright), recipe)
    except DecodeError as error:
        return error
