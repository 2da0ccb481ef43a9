"""A model that carries its gate: attached to a module, exported in one graph, checked, published.

Belongs: the comparison in torch, with the thresholds inside, and its check against ``apply``.
Does not: the model, its accuracy, serving it. torch is imported when something is asked of it.
Concept: one file cannot be served with another model's tau. The thresholds are numbers in the
graph, not buffers: ``half()`` or ``load_state_dict`` would change a buffer. Nothing of the examples
stays in the file, nor where on a disk the code lay.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.files import publish_bytes
from dagster_project.lib.gate.apply import FAULT, SEMANTIC, apply_gate, gate_of
from dagster_project.lib.gate.bundle import NAME, parse_bundle
from dagster_project.lib.sums import json_bytes

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from dagster_project.lib.gate.bundle import Bundle

MASKS = ("accepted", "bottom_mask", "gap_mask", "provenance")
"""Outputs that :func:`attach` adds, beside ``score`` and, where there is one, ``answer``."""


def attach(module: nn.Module, bundle: Bundle) -> nn.Module:
    """A module that says what the gate says, too.

    Parameters
    ----------
    module : returns scores in the units of the bundle, or (answer, score), where the score's shape
        is the beginning of the answer's. Answers are floating point.

    Returns
    -------
    A module of the same arguments that returns a dictionary: ``score``; the masks of
    ``apply.Applied``; ``answer``, NaN where none is given. A row is a fault whose score or whose
    answer is not finite anywhere, or whose magnitude (``abs``) is negative.
    """
    import torch

    gate = gate_of(bundle)
    low, infer, train = gate.low, gate.tau_infer, gate.tau_train
    is_magnitude = bundle.gauge.magnitude == "abs"

    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *args: Tensor) -> dict[str, Tensor]:
            answer, score = _parts(self.module(*args))
            wide = score.to(torch.float64)
            finite = torch.isfinite(wide)
            semantic = finite & ((wide > infer) if low else (wide < infer))
            fault = ~finite | (wide < 0) if is_magnitude else ~finite
            if answer is not None:
                fault = fault | _not_finite(answer, score.dim())
            bottom = fault | semantic
            gap = torch.zeros_like(bottom)
            if train is not None:
                gap = ~bottom & ((wide > train) if low else (wide < train))
            provenance = FAULT * fault.to(torch.uint8) + SEMANTIC * semantic.to(torch.uint8)
            made = dict(zip(MASKS, (~bottom, bottom, gap, provenance), strict=True))
            if answer is None:
                return {"score": score, **made}
            return {"answer": _blanked(answer, bottom), "score": score, **made}

    return Gated().train(module.training)


def export(
    module: nn.Module,
    bundle: Bundle,
    examples: Sequence[tuple[Tensor, ...]],
    out: Path,
    *,
    gauge: Any = None,
) -> dict[str, int]:
    """Publish module and gate as one ``torch.export`` archive, if it says what ``apply`` says.

    Parameters
    ----------
    module : as for :func:`attach`, in evaluation mode.
    examples : argument tuples to be checked on; the first dimension of every tensor is the batch,
        which stays free. The first example has two rows or more.
    out : the ``.pt2`` file. It holds the bundle as its extra file ``metadata.json``.
    gauge : of the module's scores, if it is known; another than the bundle's is refused.

    Returns
    -------
    How many rows were checked (``rows``), and of them ``accepted``, ``gap``, ``fault``.

    Raises
    ------
    InputError
        A module in training mode, examples or outputs of another kind, scores of another gauge.
    RefusedError
        The archive, read back, does not say what the bundle says. Nothing is published.
    """
    import torch

    if any(part.training for part in module.modules()):
        raise InputError("module: in training mode; call eval() before it is exported")
    _check_examples(examples)
    parse_bundle(bundle.as_json())  # a copy may have been changed in memory
    with torch.no_grad():
        data = _archive(attach(module, bundle), examples[0], bundle)
        program = torch.export.load(io.BytesIO(data)).module()  # our own bytes: see docs/gate.md
        counts = dict.fromkeys(("rows", "accepted", "gap", "fault"), 0)
        for number, example in enumerate(_with_one_row(examples)):
            found = {key: _array(value) for key, value in program(*example).items()}
            _check(found, *_parts(module(*example)), bundle, f"example {number}", gauge)
            if number < len(examples):
                _count(counts, found)
    publish_bytes(out, data)
    return counts


def _archive(gated: nn.Module, example: tuple[Tensor, ...], bundle: Bundle) -> bytes:
    """The program as bytes, traced on zeros: an archive keeps the inputs it was traced on."""
    import torch

    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        gated,
        tuple(torch.zeros_like(part) for part in example),
        dynamic_shapes={"args": tuple({0: batch} for _ in example)},
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # source files and lines of this machine
    stream = io.BytesIO()
    text = json_bytes(bundle.as_json()).decode()
    torch.export.save(program, stream, extra_files={NAME: text})
    return stream.getvalue()


def _check(
    found: dict[str, np.ndarray[Any, Any]],
    answer: Tensor | None,
    score: Tensor,
    bundle: Bundle,
    what: str,
    gauge: Any,
) -> None:
    """Masks exactly as ``apply`` makes them of the archive's own scores; the rest nearly."""
    faulty = None if answer is None else _array(_not_finite(answer, score.dim()))
    try:
        wanted = apply_gate(found["score"], bundle, fault=faulty, gauge=gauge)
    except ValueError as error:
        raise InputError(f"module, {what}: {error}") from None
    near = {"score": _near(found["score"], score)}
    if answer is not None:
        near["answer"] = _near(found["answer"], _blanked(answer, _tensor(wanted.bottom_mask)))
    same = {key: np.array_equal(found[key], getattr(wanted, key)) for key in MASKS}
    wrong = [key for key, fits in {**near, **same}.items() if not fits]
    if wrong:
        raise RefusedError(
            f"{what}: {', '.join(wrong)} of the exported module are not those of the module and "
            "its bundle; it is not published"
        )


def _near(found: np.ndarray[Any, Any], wanted: Tensor) -> bool:
    """Equal but for the rounding of another order of sums, in the precision of ``wanted``."""
    import torch

    room = 16 * torch.finfo(wanted.dtype).eps
    other = _array(wanted)
    return found.shape == other.shape and bool(
        np.allclose(found, other, rtol=room, atol=room, equal_nan=True)
    )


def _parts(output: Any) -> tuple[Tensor | None, Tensor]:
    """Answer and score of what a module returned.

    Raises
    ------
    InputError
        Anything but a floating-point score, or an answer and a score that go together.
    """
    import torch

    pair = isinstance(output, tuple | list) and len(output) == 2
    answer, score = output if pair else (None, output)
    for name, part in (("answer", answer), ("score", score)):
        if name == "answer" and not pair:
            continue
        if not isinstance(part, torch.Tensor) or not part.is_floating_point():
            kind = part.dtype if isinstance(part, torch.Tensor) else type(part).__name__
            raise InputError(
                f"module: its {name} is {kind}; a score, or (answer, score), floating point, is "
                "needed"
            )
    if answer is not None and answer.dim() < score.dim():
        raise InputError(
            f"module: an answer of {answer.dim()} dimensions and a score of {score.dim()}; a score "
            "for each answer is needed"
        )
    return answer, score


def _not_finite(answer: Tensor, dims: int) -> Tensor:
    """Whether an answer is not finite anywhere; in the shape of its score, of ``dims``."""
    bad = ~answer.isfinite()
    while bad.dim() > dims:
        bad = bad.any(dim=-1)
    return bad


def _blanked(answer: Tensor, bottom: Tensor) -> Tensor:
    """``answer`` with NaN where there is none."""
    mask = bottom.to(answer.device)
    while mask.dim() < answer.dim():
        mask = mask.unsqueeze(-1)
    return answer.masked_fill(mask, float("nan"))


def _check_examples(examples: Sequence[tuple[Tensor, ...]]) -> None:
    import torch

    if not examples or not all(
        example and all(isinstance(part, torch.Tensor) and part.dim() for part in example)
        for example in examples
    ):
        raise InputError("examples: tuples of tensors with a batch dimension are needed")
    for number, example in enumerate(examples):
        rows = {len(part) for part in example}
        if len(rows) > 1 or (number == 0 and min(rows) < 2):
            raise InputError(
                f"example {number}: {sorted(rows)} rows; every tensor has the same number, and "
                "those of the first have two or more, so that the batch can stay free"
            )


def _with_one_row(examples: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """The examples, and a batch of one."""
    return [*examples, tuple(part[:1] for part in examples[0])]


def _array(value: Tensor) -> np.ndarray[Any, Any]:
    import torch

    value = value.detach().cpu()
    found: np.ndarray[Any, Any] = (
        value.to(torch.float64) if value.is_floating_point() else value
    ).numpy()
    return found


def _tensor(value: np.ndarray[Any, Any]) -> torch.Tensor:
    import torch

    return torch.from_numpy(value)


def _count(counts: dict[str, int], found: dict[str, np.ndarray[Any, Any]]) -> None:
    counts["rows"] += int(found["accepted"].size)
    counts["accepted"] += int(found["accepted"].sum())
    counts["gap"] += int(found["gap_mask"].sum())
    counts["fault"] += int((found["provenance"] & FAULT != 0).sum())
