"""The arithmetic of a dump, by name.

Belongs: which names there are, and what each means to torch.
Does not: moving a network (``checkpoint``), what a device can do (``device``).
Concept: one dump has one arithmetic, it is a part of the dump's identity, and it is what its name
says: torch's own default lets convolutions of float32 networks run in TF32 on a GPU, so
``float32`` switches that off. ``bfloat16`` moves probabilities by up to 3e-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dagster_project.lib.errors import InputError, some

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "tf32", "bfloat16", "float16")
SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Other spellings that are accepted; only the long ones are recorded."""


def dtype_name(text: str) -> str:
    """The recorded spelling of a dtype.

    >>> dtype_name("bf16"), dtype_name("float32")
    ('bfloat16', 'float32')
    """
    name = SHORT.get(text, text)
    if name not in DTYPES:
        raise InputError(f"dtype: got {text!r}; allowed are {some([*DTYPES, *SHORT], 9)}")
    return name


def torch_dtype(name: str) -> torch.dtype:
    """What weights and activations are stored in; ``tf32`` is stored as float32."""
    import torch

    stored: torch.dtype = getattr(torch, "float32" if name == "tf32" else name)
    return stored


@contextmanager
def arithmetic(name: str) -> Iterator[None]:
    """Run the block with matrix products and convolutions of float32 in this arithmetic."""
    import torch

    known: Any = torch.backends  # its stubs lack the newest settings
    backends = (known.cuda.matmul, known.cudnn.conv)
    before = [backend.fp32_precision for backend in backends]
    wanted = "tf32" if name == "tf32" else "ieee"
    try:
        for backend in backends:
            backend.fp32_precision = wanted
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
