"""The weights in a ``.pt`` file, without trusting the file.

Belongs: which part of a checkpoint is the state dict, whether its tensors are whole and exactly
fill their records, and reading them.
Does not: the zip layout (``zip_records``), the pickle (``pickle_grammar``), which keys and shapes a
network wants (``checkpoint``).
Concept: describe first, read later. :func:`open_checkpoint` costs little whatever the file says of
itself; the memory of weights is taken by :func:`read_tensors`, after the network has asked for just
these tensors, and once: each record is read straight into the memory of its tensor, and its CRC
taken there. Neither ``torch.load`` nor ``pickle`` is ever called, and there is no fallback to them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.lib.errors import InputError, some
from dagster_project.lib.inference import zip_records
from dagster_project.lib.inference.pickle_grammar import (
    FLOATS,
    MAX_BYTES,
    Storage,
    TensorRef,
    read_pickle,
)
from dagster_project.lib.inference.zip_records import Record, UnreadableError, damaged, foreign

if TYPE_CHECKING:
    import torch

WRAPPERS = ("model", "state_dict", "ema")
"""Keys under which training scripts put the state dict."""
MAX_KEY = 512
MAX_EXTRA = 8
"""What lies beside the weights may be this many times as large (Adam in float32 beside bfloat16
weights: six times), and 64 MiB: it is read for its CRC."""
_READERS = 2


@dataclass(frozen=True)
class Checkpoint:
    """An open file and the state dict that it describes, no weight read yet.

    Attributes
    ----------
    tensors : key -> tensor, as the file describes it.
    records : every record of the file, by name.
    """

    name: str
    handle: int
    tensors: Mapping[str, TensorRef]
    records: Mapping[str, Record]


@contextmanager
def open_checkpoint(path: Path, *, sha256: str | None = None) -> Iterator[Checkpoint]:
    """Open and describe a checkpoint; what is inside the block reads from the same descriptor.

    Parameters
    ----------
    sha256 : 64 hex digits that the bytes must have, taken before anything is interpreted.

    Raises
    ------
    InputError
        Not a regular file, other bytes, or anything but a whole state dict as torch saves one,
        perhaps one level down under exactly one of ``model``, ``state_dict``, ``ema``. Raised from
        the block too, for damage that shows only when a record is read.
    """
    with zip_records.open_regular(path) as handle:
        if sha256 is not None:
            _require_sha256(path.name, handle, sha256)
        try:
            records = zip_records.read_records(handle)
            zip_records.require_constants(handle, records)
            _require_small_pickle(records["data.pkl"])
            root, storages = read_pickle(zip_records.read_record(handle, records["data.pkl"]))
            _check_storages(storages, records)
            tensors = _state(root)
            yield Checkpoint(path.name, handle, tensors, records)
        except UnreadableError as reason:
            raise InputError(f"{path.name}: not a loadable state dict: {reason}") from None


def read_tensors(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every tensor of an open checkpoint as ``dtype``, finite; all other records' CRC too.

    Memory: the file's floats once, and while one record is cast, that record.

    Raises
    ------
    InputError
        Not dense floats that exactly fill their records, a CRC that does not fit, a value that
        is not finite in ``dtype``.
    """
    _check_tensors(checkpoint.tensors)
    by_record: dict[str, list[str]] = defaultdict(list)
    for key, tensor in checkpoint.tensors.items():
        by_record[tensor.storage.key].append(key)

    def read(keys: list[str]) -> dict[str, torch.Tensor]:
        flat = _read_flat(checkpoint, checkpoint.tensors[keys[0]].storage)
        values = {key: _window(flat, checkpoint.tensors[key]).to(dtype) for key in keys}
        broken.extend(key for key, value in values.items() if not _finite(value))
        return values

    found: dict[str, torch.Tensor] = {}
    broken: list[str] = []
    # reading, CRC and sums leave the interpreter free: two threads are nearly twice as fast
    with ThreadPoolExecutor(_READERS) as pool:
        for part in pool.map(read, by_record.values()):
            found |= part
    if broken:
        raise InputError(
            f"{checkpoint.name}: {len(broken)} tensors have NaN or infinity: "
            f"{some(sorted(broken))}, read as {dtype}; use another epoch, or a wider dtype"
        )
    _check_unread(checkpoint, by_record)
    return {key: found[key] for key in checkpoint.tensors}


def _require_sha256(name: str, handle: int, expected: str) -> None:
    with open(handle, "rb", closefd=False) as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != expected:
        raise InputError(
            f"{name}: sha256 is {found}, expected {expected}; fetch the artifact again"
        )


def _require_small_pickle(record: Record) -> None:
    if record.size > MAX_BYTES:
        raise foreign(f"data.pkl has {record.size} bytes; at most {MAX_BYTES} are read")


def _check_storages(storages: Mapping[str, Storage], records: Mapping[str, Record]) -> None:
    """Every storage is a record of exactly its size, and every record a storage."""
    for key, storage in storages.items():
        record = records.get(f"data/{key}")
        if record is None:
            raise damaged(f"the record {f'data/{key}'[:40]!r} is missing")
        if record.size != storage.numel * storage.itemsize:
            raise damaged(
                f"the record data/{key} has {record.size} bytes; {storage.numel} elements of "
                f"{storage.dtype} need {storage.numel * storage.itemsize}"
            )
    named = {f"data/{key}" for key in storages}
    strange = [name for name in records if name.startswith("data/") and name not in named]
    if strange:
        raise damaged(f"{len(strange)} records belong to no tensor: {some(strange)}")


def _state(root: Any) -> dict[str, TensorRef]:
    """The state dict in ``root``, perhaps one level down; what lies beside it is left alone."""
    if not isinstance(root, dict):
        raise foreign(f"expected a state dict, got {type(root).__name__}")
    wrapped = [key for key in WRAPPERS if isinstance(root.get(key), dict)]
    if len(wrapped) > 1:
        raise UnreadableError(f"{some(wrapped)} are both there; save only the one to use")
    state = root[wrapped[0]] if wrapped else root
    if not state:
        raise foreign("expected a state dict, got an empty one")
    strange = [k for k, v in state.items() if type(k) is not str or type(v) is not TensorRef]
    if strange:
        raise foreign(f"{some(str(k)[:80] for k in strange)} is not a plain tensor")
    if any(not 0 < len(key) <= MAX_KEY for key in state):
        raise foreign(f"a key is empty or longer than {MAX_KEY} characters")
    return dict(state)


def _check_tensors(tensors: Mapping[str, TensorRef]) -> None:
    """Dense floats that follow each other in their storages, without gap or overlap."""
    kinds = [key for key, ref in tensors.items() if ref.storage.dtype not in FLOATS]
    if kinds:
        raise UnreadableError(
            f"{len(kinds)} tensors are not dense floats: {some(kinds)}; weights are of "
            f"{some(FLOATS, 4)}"
        )
    views = [key for key, ref in tensors.items() if not _contiguous(ref)]
    if views:
        raise foreign(f"{len(views)} tensors are not contiguous: {some(views)}")
    spans: dict[Storage, list[tuple[int, int]]] = defaultdict(list)
    for ref in tensors.values():
        spans[ref.storage].append((ref.offset, ref.offset + prod(ref.shape)))
    for storage, parts in spans.items():
        bounds = [(0, 0), *sorted(parts), (storage.numel, storage.numel)]
        if any(end != start for (_, end), (start, _) in pairwise(bounds)):
            raise foreign(
                f"tensors do not exactly fill the record data/{storage.key}: they overlap, leave a "
                "gap or reach beyond it (clone() views and tied weights before saving)"
            )


def _contiguous(ref: TensorRef) -> bool:
    """Whether the strides are those of a dense row-major tensor; a side of 1 has no stride."""
    step = 1
    for size, stride in zip(reversed(ref.shape), reversed(ref.stride), strict=True):
        if size not in (0, 1) and stride != step and 0 not in ref.shape:
            return False
        step *= size
    return True


def _read_flat(checkpoint: Checkpoint, storage: Storage) -> torch.Tensor:
    """All elements of a record, read into the tensor's own memory."""
    import torch

    record = checkpoint.records[f"data/{storage.key}"]
    flat = torch.empty(storage.numel, dtype=getattr(torch, storage.dtype))
    if storage.numel:
        target = memoryview(flat.view(torch.uint8).numpy().data)
        crc = zip_records.read_into(checkpoint.handle, target, record.start)
        zip_records.check_crc(crc, record)
    return flat


def _window(flat: torch.Tensor, ref: TensorRef) -> torch.Tensor:
    return flat[ref.offset : ref.offset + prod(ref.shape)].view(ref.shape)


def _finite(value: torch.Tensor) -> bool:
    """Whether every element is finite, without a temporary of the tensor's size.

    A sum with NaN or infinity in it is one; the sum of finite numbers can overflow, and then the
    smallest and the largest decide.
    """
    import torch

    if value.numel() == 0 or torch.isfinite(value.sum()):
        return True
    return bool(torch.isfinite(torch.stack(value.aminmax())).all())


def _check_unread(checkpoint: Checkpoint, read: Mapping[str, object]) -> None:
    """The CRC of every record beside the weights."""
    weights = sum(checkpoint.records[f"data/{key}"].size for key in read)
    rest = [
        record
        for name, record in checkpoint.records.items()
        if name.startswith("data/") and name.removeprefix("data/") not in read
    ]
    total = sum(record.size for record in rest)
    if total > MAX_EXTRA * weights + (64 << 20):
        raise foreign(f"{total} bytes lie beside {weights} bytes of weights")
    for record in rest:
        zip_records.verify_record(checkpoint.handle, record)
