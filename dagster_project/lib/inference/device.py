"""What a device is and can do: its name, its memory, and whether this torch was built for it.

Belongs: questions to torch and the operating system about one device.
Does not: holding a GPU (``gpu_lease``), computing on it (``engine``).
Concept: a torch wheel holds machine code for some compute capabilities only, and a card outside
them fails at the first kernel with a message that says neither; so it is asked first.
"""

from __future__ import annotations

import platform
import resource
from collections.abc import Sequence
from pathlib import Path

Capability = tuple[int, int]
"""An NVIDIA compute capability, such as (8, 6)."""
_TENSOR_FLOAT = (8, 0)
_FIRST_OF_CUDA_13 = (7, 5)


def why_unusable(
    name: str, capability: Capability, arch_list: Sequence[str], torch_version: str
) -> str | None:
    """Why this torch cannot compute on this GPU, and the mend; None if it can.

    Machine code (``sm_XY``) runs on its own major capability from its minor on; ``compute_XY`` is
    translated on anything at least as new.

    >>> why_unusable("NVIDIA H100", (9, 0), ["sm_80", "sm_90"], "2.13.0")
    >>> why_unusable("NVIDIA TITAN X", (5, 2), ["sm_75", "sm_90"], "2.13.0+cu130")[:48]
    'NVIDIA TITAN X has compute capability 5.2, and t'
    """
    for arch in arch_list:
        kind, _, digits = arch.partition("_")
        digits = digits.rstrip("af")
        if not digits.isdigit():
            continue
        built = (int(digits[:-1]), int(digits[-1]))
        same_major = kind == "sm" and built[0] == capability[0] and built <= capability
        if same_major or (kind == "compute" and built <= capability):
            return None
    mend = (
        "install a cu126 build of torch (2.14 or older)"
        if capability < _FIRST_OF_CUDA_13
        else "install a newer torch, with a CUDA build for this card"
    )
    return (
        f"{name} has compute capability {capability[0]}.{capability[1]}, and torch {torch_version} "
        f"was built for {', '.join(arch_list) or 'no GPU'}; {mend}, or use the device cpu"
    )


def why_dtype_unusable(name: str, capability: Capability, dtype: str) -> str | None:
    """Why a GPU cannot compute in ``dtype``; None if it can.

    >>> why_dtype_unusable("GTX 1080 Ti", (6, 1), "bfloat16")
    'GTX 1080 Ti (compute capability 6.1) has no bfloat16 arithmetic; use float32'
    """
    if dtype in ("bfloat16", "tf32") and capability < _TENSOR_FLOAT:
        shown = f"{capability[0]}.{capability[1]}"
        return f"{name} (compute capability {shown}) has no {dtype} arithmetic; use float32"
    return None


def gpu_problem(dtype: str) -> str | None:
    """Why the visible GPU cannot be used in ``dtype``; None if it can."""
    import torch

    if not torch.cuda.is_available():
        return (
            "no GPU that this torch can see; install a torch build for the GPU's driver, "
            "or use the device cpu"
        )
    name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    if torch.version.hip is None:
        problem = why_unusable(name, capability, torch.cuda.get_arch_list(), torch.__version__)
        return problem or why_dtype_unusable(name, capability, dtype)
    return None


def name_of(kind: str) -> str:
    """What people call the device: ``NVIDIA H100 80GB HBM3``, or the processor."""
    if kind == "cuda":
        import torch

        return str(torch.cuda.get_device_name(0))
    info = Path("/proc/cpuinfo")
    for line in info.read_text(errors="replace").splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_bytes(kind: str) -> int:
    """Most memory held so far: on the GPU, or resident in this process."""
    if kind == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
