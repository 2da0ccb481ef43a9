"""Golden cases: a few inputs with the probabilities that they must give, and why they do not.

Belongs: making, checking and diagnosing ``golden.json``.
Does not: loading what is checked (``checkpoint``), hashes (``model_store``).
Concept: hashes say that the bytes are the shipped ones; a golden case says that the whole path is,
pixels, answers, pooling and weights together. Where one fails, the cause is found by trying: the
failing case is computed again with each other preprocessing and pooling, and what reproduces the
expected numbers is named.

``golden.json``: ``{"tolerance": t, "cases": [{"image_png_base64", "metadata", "probs"}]}``:
the sigmoid outputs of the plain view (no flip) of an embedded picture with these answers (a field
left out is unknown). K = classes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import preprocess as pre
from dagster_project.lib.inference import questionnaire, views
from dagster_project.lib.inference.precision import arithmetic, torch_dtype
from dagster_project.lib.model_store.artifact import GOLDEN

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.inference.checkpoint import LoadedModel
    from dagster_project.lib.inference.preprocess import Preprocess

    Probabilities = npt.NDArray[np.float32]

TOLERANCE = 1e-4
"""What a new file says; float32 on another machine moves a probability by less than 1e-5."""
LARGEST_TOLERANCE = 0.05
COARSEST: Mapping[str, float] = {
    "float32": 0.0,
    "tf32": 1e-3,
    "float16": 1e-3,
    "bfloat16": 1e-2,
}
"""Least tolerance by dtype. bfloat16 alone moves a probability of MedSigLIP by up to 3e-3 (7e-3 was
seen in a tiny random network), and another preprocessing by up to 4e-3: a check in bfloat16 finds
wrong weights and a wrong pooling, and cannot find a wrong resampling. float32 finds both."""
NORMALISATIONS: Sequence[tuple[tuple[float, float, float], tuple[float, float, float]]] = (
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
)
"""SigLIP's, ImageNet's, CLIP's, and none."""


@dataclass(frozen=True)
class Case:
    """A picture, its answers, and the (K,) probabilities they must give."""

    png: bytes
    answers: Mapping[str, Any]
    expected: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Variant:
    """Another way to compute a case, and the words that name it."""

    words: tuple[str, ...]
    preprocess: Preprocess
    pooling: str | None = None


def make_golden(model: LoadedModel, *, n_cases: int = 3, seed: int = 0) -> dict[str, Any]:
    """Golden cases of ``model``: seeded pictures of unequal sides, answers from its schema."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(n_cases):
        png = _picture(rng, 40 + 8 * number, 56)
        answers = {f.name: _answer(f, number) for f in model.schema.fields} if number else {}
        probs = probabilities(model, png, answers)
        cases.append(
            {
                "image_png_base64": base64.b64encode(png).decode(),
                "metadata": answers,
                "probs": [round(float(p), 7) for p in probs],
            }
        )
    return {"tolerance": TOLERANCE, "cases": cases}


def check_golden(model: LoadedModel, golden: Mapping[str, Any]) -> None:
    """Raise unless ``model`` reproduces every golden case, on its device and in its dtype.

    The tolerance is the file's, or that of the dtype (:data:`COARSEST`) where that is larger.
    """
    tolerance, cases = parse_golden(golden, len(model.classes))
    tolerance = max(tolerance, COARSEST[model.dtype])
    for number, case in enumerate(cases, start=1):
        difference = _difference(model, case)
        if not difference <= tolerance:
            raise InputError(
                f"{GOLDEN} case {number}: probabilities differ by {difference:.2g}, allowed "
                f"{tolerance:.2g} in {model.dtype}; {diagnose(model, cases, number - 1, tolerance)}"
            )


def parse_golden(golden: Mapping[str, Any], n_classes: int) -> tuple[float, list[Case]]:
    """The tolerance and the cases of a parsed ``golden.json``."""
    try:
        tolerance = float(golden["tolerance"])
        cases = [
            Case(
                base64.b64decode(case["image_png_base64"], validate=True),
                dict(case["metadata"]),
                np.array([float(p) for p in case["probs"]]),
            )
            for case in golden["cases"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{GOLDEN}: not of the documented form ({error!r})") from None
    if not 0 < tolerance <= LARGEST_TOLERANCE:
        raise InputError(
            f"{GOLDEN}, tolerance: got {tolerance}; above 0, at most {LARGEST_TOLERANCE}"
        )
    if not cases:
        raise InputError(f"{GOLDEN}: has no cases; make some, or remove the file")
    for number, case in enumerate(cases, start=1):
        if len(case.expected) != n_classes:
            raise InputError(
                f"{GOLDEN} case {number}: {len(case.expected)} probs, {n_classes} classes"
            )
        if not ((case.expected >= 0) & (case.expected <= 1)).all():
            raise InputError(f"{GOLDEN} case {number}: probs must be from 0 to 1")
    return tolerance, cases


def diagnose(model: LoadedModel, cases: Sequence[Case], failing: int, tolerance: float) -> str:
    """The likely cause: the smallest change of ``config.json`` that reproduces every case.

    Single changes are tried first, then pairs and triples of the resize; the pooling on its own.
    """
    variants = [*_preprocess_variants(model.preprocess), *_pooling_variants(model)]
    fewest = 1
    found: list[_Variant] = []
    for variant in sorted(variants, key=lambda v: len(v.words)):
        if found and len(variant.words) > fewest:
            break
        ordered = [cases[failing], *cases[:failing], *cases[failing + 1 :]]
        if all(_difference(model, case, variant) <= tolerance for case in ordered):
            found.append(variant)
            fewest = len(variant.words)
    if not found:
        return (
            "no other preprocessing or pooling reproduces them: the weights (or the head, the "
            f"labels' order, the questionnaire) are not those that {GOLDEN} was made with"
        )
    return " or ".join("; ".join(variant.words) for variant in found) + " reproduces them"


def probabilities(
    model: LoadedModel,
    png: bytes,
    answers: Mapping[str, Any],
    preprocess: Preprocess | None = None,
) -> Probabilities:
    """(K,) sigmoid outputs of one picture, plain view."""
    import torch

    from dagster_project.lib.inference.architectures import sized_threads

    names = model.schema.names
    row = {name: None if answers.get(name) is None else str(answers[name]) for name in names}
    frame = pl.DataFrame({"image_uuid": ["golden"], **{n: [v] for n, v in row.items()}})
    features = torch.from_numpy(questionnaire.encode(model.schema, frame)).to(model.device)
    recipe = preprocess or model.preprocess
    try:
        pixels = pre.to_tensor(pre.decode(png, upright=recipe.upright), recipe)[None]
    except pre.DecodeError as error:
        raise InputError(f"{GOLDEN}: a picture cannot be used: {error}") from None
    pixels = pixels.to(model.device, torch_dtype(model.dtype))
    with sized_threads(model.module), torch.inference_mode(), arithmetic(model.dtype):
        # by the way that a dump goes, so that this way is what is checked
        found = views.compute_views(model.module, pixels, features, features, tta=False)
        probs: Probabilities = found[views.FULL_PLAIN][0].cpu().numpy()
    return probs


def _difference(model: LoadedModel, case: Case, variant: _Variant | None = None) -> float:
    """Largest absolute difference of a case's probabilities from the expected ones."""
    if variant is None:
        got = probabilities(model, case.png, case.answers)
    else:
        with _pooled(model, variant.pooling):
            got = probabilities(model, case.png, case.answers, variant.preprocess)
    return float(np.abs(got - case.expected).max())


def _preprocess_variants(declared: Preprocess) -> list[_Variant]:
    changes: dict[str, Any] = {
        "resample": "bilinear" if declared.resample == "bicubic" else "bicubic",
        "antialias": not declared.antialias,
        "resize": "pad" if declared.resize == "squash" else "squash",
    }
    variants = [
        _Variant(
            tuple(_words(key, changes[key], getattr(declared, key)) for key in keys),
            replace(declared, **{key: changes[key] for key in keys}),
        )
        for count in (1, 2, 3)
        for keys in combinations(changes, count)
    ]
    for mean, std in NORMALISATIONS:
        given = {"mean": (mean, declared.mean), "std": (std, declared.std)}
        changed = {key: pair for key, pair in given.items() if pair[0] != pair[1]}
        if changed:
            # mean and std belong together: one change, however many of them differ
            words = "; ".join(_words(key, list(a), list(b)) for key, (a, b) in changed.items())
            variants.append(_Variant((words,), replace(declared, mean=mean, std=std)))
    return variants


def _pooling_variants(model: LoadedModel) -> list[_Variant]:
    from dagster_project.lib.inference.architectures import POOLINGS, SiglipMetadata

    if not isinstance(model.module, SiglipMetadata):
        return []
    declared = model.module.pooling
    has_pooler = any(name.startswith("vision.head.") for name, _ in model.module.named_parameters())
    return [
        _Variant((_words("", other, declared),), model.preprocess, other)
        for other in POOLINGS
        if other != declared and (other != "pooler" or has_pooler)
    ]


def _words(key: str, value: object, declared: object) -> str:
    name = f"preprocess.{key}" if key else "pooling"
    return f"{name}: {value!r} (config.json says {declared!r})"


@contextmanager
def _pooled(model: LoadedModel, pooling: str | None) -> Iterator[None]:
    if pooling is None:
        yield
        return
    before = model.module.pooling
    model.module.pooling = pooling
    try:
        yield
    finally:
        model.module.pooling = before


def _picture(rng: np.random.Generator, height: int, width: int) -> bytes:
    from PIL import Image

    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    smooth.save(sink, "PNG")
    return sink.getvalue()


def _answer(field: questionnaire.Field, number: int) -> str:
    if field.range is not None:
        low, high = field.range
        return f"{low + (high - low) * number / (number + 1):g}"
    if field.type == "boolean":
        return "true" if number % 2 else "false"
    return field.values[number % len(field.values)]
