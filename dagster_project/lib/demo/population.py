"""Who there is, what they have, which labels are wrong: everything but pixels.

Belongs: patients, their images, splits, and what is planted among them (noise, garbage, copies).
Does not: drawing, files, answers to questions.
Concept: labels go wrong where images are ambiguous, and along look-alike pairs. Noise independent
of difficulty would cap every tier's accuracy at 1 - noise, which is not how labels fail.
N = images.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
import polars as pl

from dagster_project.lib.demo.classes import CLASSES, frequencies, look_alikes
from dagster_project.lib.demo.seeds import stream

NOISE = 0.12
GARBAGE = 0.01
UNREADABLE = 0.0015
COPIES = 0.02
TEST = 0.43
HARDEST = 0.5
"""Largest share of the look-alike in a picture: at one half nobody could tell."""
IMAGES_A_PATIENT = (0.15, 0.25, 0.25, 0.18, 0.10, 0.07)
"""Shares of patients with 1, 2, ... 6 images; mean 3.04."""


@dataclass(frozen=True)
class WorldSize:
    """How large a world is; the number of images is about three times ``patients``."""

    name: str
    patients: int


FULL = WorldSize("full", 1_300)
SMALL = WorldSize("small", 130)

TRUTH_COLUMNS = (
    "image_uuid",
    "patient_id",
    "split",
    "true_label",
    "given_label",
    "is_noise",
    "is_garbage",
    "is_unreadable",
    "near_duplicate_of",
)


def population(size: WorldSize, seed: int) -> pl.DataFrame:
    """Every image of the world, sorted by its (random) id.

    Returns
    -------
    (N,) ``TRUTH_COLUMNS``, where ``true_label`` is null for garbage (a page of text has no
    disease) and ``near_duplicate_of`` is the id of the copied image, else null. Also, for drawing:
    ``drawn_as`` (number of the stream), ``style`` (number of the patient photographed),
    ``look_alike`` (the class it is ambiguous with), ``ambiguity`` (share of that look), ``tone``;
    and ``patient`` (number) with ``disease`` (the main one).
    """
    patients = _patients(size.patients, seed)
    images = _with_copies(_images(patients, seed), seed)
    images = _with_garbage(images, seed)
    images = _with_labels(images, seed)
    return images.sort("image_uuid")


def _patients(n: int, seed: int) -> pl.DataFrame:
    """One row a patient: main disease by quota, split within each disease, tone, ambiguity."""
    rng = stream(seed, "patients")
    quota = np.maximum(np.floor(frequencies() * n).astype(int), 2)
    quota[0] += max(n - int(quota.sum()), 0)
    disease = np.repeat(np.arange(len(CLASSES)), quota)
    in_test = np.concatenate([np.arange(q) < max(1, round(TEST * q)) for q in quota])
    order = rng.permutation(disease.size)
    disease, in_test = disease[order], in_test[order]
    names = [CLASSES[d] for d in disease]
    return pl.DataFrame(
        {
            "patient": np.arange(disease.size),
            "patient_id": [f"p{i:05d}" for i in range(disease.size)],
            "disease": names,
            "split": np.where(in_test, "test", "train"),
            "tone": rng.beta(1.3, 1.7, disease.size) * 5,
            "hard": rng.beta(0.45, 1.0, disease.size),
            "look_alike": [_one_of(look_alikes(name), rng) for name in names],
            "images": rng.choice(np.arange(1, 7), disease.size, p=IMAGES_A_PATIENT),
        }
    )


def _images(patients: pl.DataFrame, seed: int) -> pl.DataFrame:
    """One row an image: a patient's images share the disease, but for a few with a second one."""
    rng = stream(seed, "images")
    index = np.repeat(np.arange(patients.height), patients["images"].to_numpy())
    images = patients.drop("images")[index].with_columns(true_label=pl.col("disease"))
    n = images.height
    second = rng.random(n) < 0.02
    others = rng.choice(len(CLASSES), n, p=frequencies())
    label = [
        CLASSES[o] if s else d for d, s, o in zip(images["disease"], second, others, strict=True)
    ]
    twin = [
        _one_of(look_alikes(new), rng) if s else old
        for new, s, old in zip(label, second, images["look_alike"], strict=True)
    ]
    ambiguity = np.clip(HARDEST * images["hard"].to_numpy() + rng.normal(0, 0.04, n), 0, HARDEST)
    return images.drop("hard").with_columns(
        image_uuid=pl.Series(_uuids(n, seed, "image")),
        true_label=pl.Series(label),
        look_alike=pl.Series(twin),
        ambiguity=pl.Series(ambiguity),
        drawn_as=pl.Series(np.arange(n)),
        style=pl.col("patient"),
        near_duplicate_of=pl.lit(None, dtype=pl.String),
    )


def _with_copies(images: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Append re-encoded copies; two in five land with another patient of the same split."""
    rng = stream(seed, "copies")
    picked = images[rng.choice(images.height, round(COPIES * images.height), replace=False)]
    moved = rng.random(picked.height) < 0.4
    rows = []
    for row, move in zip(picked.iter_rows(named=True), moved, strict=True):
        home = row
        if move:
            same_split = images.filter(pl.col("split") == row["split"])
            home = same_split.row(int(rng.integers(same_split.height)), named=True)
        kept = {c: home[c] for c in ("patient", "patient_id", "disease")}
        rows.append({**row, **kept, "near_duplicate_of": row["image_uuid"]})
    copies = pl.DataFrame(rows, schema=images.schema)
    copies = copies.with_columns(image_uuid=pl.Series(_uuids(copies.height, seed, "copy")))
    return pl.concat([images, copies])


def _with_garbage(images: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Turn a few single images into pages of text, and break the files of a few others."""
    rng = stream(seed, "garbage")
    copied = set(images["near_duplicate_of"].drop_nulls())
    single = images["near_duplicate_of"].is_null() & ~images["image_uuid"].is_in(list(copied))
    free = rng.permutation(np.flatnonzero(single.to_numpy()))
    n_garbage = max(4, round(GARBAGE * images.height))
    n_broken = max(3, round(UNREADABLE * images.height))
    is_garbage = np.zeros(images.height, dtype=bool)
    is_garbage[free[:n_garbage]] = True
    is_unreadable = np.zeros(images.height, dtype=bool)
    is_unreadable[free[n_garbage : n_garbage + n_broken]] = True
    return images.with_columns(
        is_garbage=pl.Series(is_garbage),
        is_unreadable=pl.Series(is_unreadable),
        true_label=pl.when(~pl.Series(is_garbage)).then(pl.col("true_label")),
    )


def _with_labels(images: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Given labels: a fixed share is wrong, likelier where the image is ambiguous."""
    rng = stream(seed, "labels")
    real = np.flatnonzero(~images["is_garbage"].to_numpy())
    chance = 0.01 + (images["ambiguity"].to_numpy()[real] / HARDEST) ** 3
    n_wrong = round(NOISE * real.size)
    wrong = rng.choice(real, n_wrong, replace=False, p=chance / chance.sum())
    is_noise = np.zeros(images.height, dtype=bool)
    is_noise[wrong] = True
    given = [
        _wrong_label(row["true_label"], row["look_alike"], rng) if bad else row["true_label"]
        for row, bad in zip(images.iter_rows(named=True), is_noise, strict=True)
    ]
    anything = rng.choice(CLASSES, images.height)
    return images.with_columns(
        is_noise=pl.Series(is_noise), given_label=pl.Series(given)
    ).with_columns(given_label=pl.col("given_label").fill_null(pl.Series(anything)))


def _wrong_label(true: str, look_alike: str, rng: np.random.Generator) -> str:
    """The look-alike in the picture mostly, else another one, rarely anything."""
    draw = rng.random()
    if draw < 0.8:
        return look_alike
    if draw < 0.92:
        return _one_of(look_alikes(true), rng)
    return _one_of([c for c in CLASSES if c != true], rng)


def _one_of(names: tuple[str, ...] | list[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _uuids(n: int, seed: int, purpose: str) -> list[str]:
    raw = stream(seed, "uuid", purpose).bytes(16 * n)
    return [str(uuid.UUID(bytes=raw[16 * i : 16 * i + 16], version=4)) for i in range(n)]
