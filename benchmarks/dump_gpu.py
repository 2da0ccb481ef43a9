"""The dump at the size of MedSigLIP-448 on an NVIDIA GPU: rows/s, and the share of its matrix peak.

Run ``python benchmarks/dump_gpu.py`` where there is one (about 2 GB of disk for the weights);
elsewhere it says "not measured". The peak is not taken from a data sheet: it is what one large
bfloat16 matrix product reaches in the same run.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import MEDSIGLIP, make_artifact, make_dataset
from dump_speed import planned
from result import report

from dagster_project.lib.inference import device, dump, gpu_lease

TFLOP_A_ROW = 1.96
"""Two passes of the vision tower over 1,024 tokens."""
ROWS = 1024
PHOTOGRAPHS = {"600 x 450": (450, 600), "12 megapixels": (3000, 4000)}
DTYPES = ("float32", "tf32", "bfloat16", "float16")
SIDE = 8192


def peak_tflops() -> float:
    """TFLOP/s of a square bfloat16 product."""
    a = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.bfloat16)
    a @ a
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        a @ a
    torch.cuda.synchronize()
    return 20 * 2 * SIDE**3 / (time.perf_counter() - start) / 1e12


def line(work: Path, photographs: str, dtype: str, peak: float) -> dict[str, Any]:
    """One dump, and where its time went."""
    plan = planned(work / "model", work / photographs, device="cuda", dtype=dtype)
    done = dump.dump_to(plan, work / "out.parquet", work / "segments")
    if done.stats is None or done.stats.rows_per_second is None:
        raise RuntimeError("the dump computed nothing")
    (work / "out.parquet").unlink()
    rate = done.stats.rows_per_second
    return {
        "photographs": photographs,
        "dtype": dtype,
        "rows/s": round(rate, 1),
        "of the bfloat16 peak": f"{rate * TFLOP_A_ROW / peak:.0%}",
        "peak, TFLOP/s": round(peak),
        "how": done.stats.note(),
    }


def main() -> None:
    """Print a line a dtype and kind of photograph."""
    if not torch.cuda.is_available():
        print("not measured: no GPU that this torch can use")
        return
    lines = []
    with tempfile.TemporaryDirectory() as temp:
        work = Path(temp)
        make_artifact(work / "model", MEDSIGLIP)
        with gpu_lease.lease_device("cuda"):
            peak = peak_tflops()
            capability = torch.cuda.get_device_capability(0)
        for name, (height, width) in PHOTOGRAPHS.items():
            make_dataset(work / name, ROWS, height, width)
            lines += [
                line(work, name, dtype, peak)
                for dtype in DTYPES
                if device.why_dtype_unusable("", capability, dtype) is None
            ]
    report("dump_gpu", lines)


if __name__ == "__main__":
    main()
