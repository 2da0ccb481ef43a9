"""The engine: batches of 8-bit pixels in, views of probabilities out, on one device.

Belongs: the way over the bus, the forward passes, what to do when memory is short, and the times.
Does not: decoding (``decoding``), files (``dump``), what the views are (``views``).
Concept: pixels travel as bytes from pinned memory and become floats on the device. A GPU works on
one batch while the next is being decoded: :meth:`Engine.submit` only starts the work,
:meth:`Engine.collect` waits for it. When a batch does not fit it is run in halves, and the smaller
size is kept for the rest of the dump.
B = rows, S = side of the network's input, F = questionnaire features, K = classes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import preprocess, views
from dagster_project.lib.inference.precision import torch_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from dagster_project.lib.inference.checkpoint import LoadedModel

_log = logging.getLogger(__name__)
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""How a bare RuntimeError says it: torch's allocator on a CPU, and libraries on a GPU."""


@dataclass
class Times:
    """Seconds spent on each part so far.

    On a GPU ``decode`` is the time that the main thread waited for pixels; the device may have been
    computing meanwhile, so the parts may overlap.
    """

    decode: float = 0.0
    transfer: float = 0.0
    model: float = 0.0
    write: float = 0.0


@dataclass(frozen=True)
class Pending:
    """Rows under way: their outputs on the device, the marks of its stages, what must live on."""

    outputs: Mapping[str, torch.Tensor]
    marks: Sequence[Any]
    keep: Sequence[torch.Tensor]


@dataclass
class Engine:
    """A loaded network and how it is fed.

    Attributes
    ----------
    model : on its device, in its dtype.
    tta : also see the flipped images.
    batch_size : most rows of a forward pass; becomes smaller when memory is short.
    embeddings : also return what the encoder makes of each image.
    """

    model: LoadedModel
    tta: bool
    batch_size: int
    embeddings: bool = False
    times: Times = field(default_factory=Times)

    def submit(
        self,
        pixels: npt.NDArray[np.uint8],
        production: npt.NDArray[np.float32],
        full: npt.NDArray[np.float32],
    ) -> list[Pending]:
        """Start one batch: in one piece, or in several where memory was short.

        Parameters
        ----------
        pixels : (B, S, S, 3) uint8.
        production, full : (B, F) the two shapings of the questionnaire.
        """
        rows = len(pixels)
        while True:
            size = self.batch_size
            try:
                return [
                    self._start([array[i : i + size] for array in (pixels, production, full)])
                    for i in range(0, rows, size)
                ]
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                self._halve(min(size, rows))

    def collect(self, pieces: Sequence[Pending]) -> dict[str, npt.NDArray[np.floating[Any]]]:
        """``{view: (B, K) float32}`` of a batch that was started; waits until it is done.

        With ``embeddings`` also ``views.EMBEDDING``, (B, D) float16.
        """
        parts = []
        for piece in pieces:
            parts.append({name: value.cpu().numpy() for name, value in piece.outputs.items()})
            sent, arrived, done = piece.marks
            self.times.transfer += self._between(sent, arrived)
            self.times.model += self._between(arrived, done)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _start(self, arrays: Sequence[npt.NDArray[Any]]) -> Pending:
        """Send pixels and both shapings over, and start the forward passes."""
        marks = [self._mark()]
        hosts = [torch.from_numpy(array) for array in arrays]
        if self._on_gpu:
            hosts = [host.pin_memory() for host in hosts]
        moved = [host.to(self.model.device, non_blocking=True) for host in hosts]
        marks.append(self._mark())
        with torch.inference_mode():
            outputs = self._forward(*moved)
        marks.append(self._mark())
        return Pending(outputs, marks, hosts)

    def _forward(
        self, pixels: torch.Tensor, production: torch.Tensor, full: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        normal = preprocess.normalise(pixels, self.model.preprocess).to(
            torch_dtype(self.model.dtype)
        )
        return views.compute_views(
            self.model.module, normal, production, full, tta=self.tta, embeddings=self.embeddings
        )

    def _halve(self, tried: int) -> None:
        if tried <= 1:
            raise InputError(
                f"out of memory on {self.model.device} with one image at a time; free memory, or "
                "dump on another device"
            )
        self.batch_size = tried // 2
        _log.warning(
            "out of memory with %d images at a time; going on with %d", tried, self.batch_size
        )
        if self._on_gpu:
            torch.cuda.empty_cache()

    @property
    def _on_gpu(self) -> bool:
        return self.model.device.startswith("cuda")

    def _mark(self) -> Any:
        """A point in time: on the device's own clock where it works on while we go on."""
        if not self._on_gpu:
            return time.perf_counter()
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def _between(self, first: Any, second: Any) -> float:
        return float(first.elapsed_time(second) / 1000 if self._on_gpu else second - first)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        text in str(error) for text in _OUT_OF_MEMORY
    )
