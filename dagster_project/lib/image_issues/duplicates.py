"""Duplicates: the same picture more than once, and pictures that look alike.

Belongs: pairs by bytes, pixels, perceptual hash and embedding; who is on both sides of each.
Does not: fingerprints and neighbours themselves, labels (``conflicts``), groups (``look_alikes``).
Concept: four relations, the surest first; a pair has the surest that holds. Two photographs of one
lesion are no copies of each other: only the embedding can find them. Where m pictures are equal,
not all m (m - 1) / 2 pairs are listed but each picture with the first of its kind in every split,
so that a thousand copies are a thousand rows and every copy that crosses a split is still on one.
N = images, U = different hashes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from dagster_project.lib.progress import OnProgress, silent

if TYPE_CHECKING:
    import numpy.typing as npt

    from dagster_project.lib.image_issues.neighbours import Neighbours

EXACT = ("equal bytes", "equal pixels")
RESIZED, LOOK_ALIKE = "resized copy", "look-alike"
RELATIONS = (*EXACT, RESIZED, LOOK_ALIKE)
"""The surest first."""
BITS = 256
RADIUS = 24
"""Bits of 256. Copies of photographs that were halved, quartered, compressed again or brightened by
7 % differ by at most 20; of 416,945 pairs of photographs of different patients the nearest differs
by 44, the next by 62 (docs/image-issues.md)."""
NEAR = 0.3
"""Nearer than 0.3 of the median distance to the nearest neighbour is a look-alike. Datalab's rule,
whose 0.13 found 2 of the 12 pairs that experts confirm where 0.3 finds 4; the nearest photographs
of two patients are at 0.51 (an ImageNet network on 914 photographs, docs/image-issues.md)."""
_BLOCK_VALUES = 16_000_000
PAIR_SCHEMA = pl.Schema(
    {
        "image_uuid": pl.String(),
        "other_uuid": pl.String(),
        "relation": pl.Enum(RELATIONS),
        "distance": pl.Float64(),
        "score": pl.Float64(),
    }
)


def duplicate_pairs(
    rows: pl.DataFrame,
    prints: pl.DataFrame,
    embedded: tuple[pl.Series, Neighbours] | None = None,
    *,
    radius: int = RADIUS,
    near: float = NEAR,
    on_progress: OnProgress = silent,
) -> pl.DataFrame:
    """Pairs of pictures that are one picture or look alike, surest first.

    Parameters
    ----------
    rows : (N,) ``image_uuid, patient_id, split``; split null: unknown.
    prints : (N,) fingerprints of the same images; an unreadable one is no copy of another.
    embedded : ids and neighbours of the images that have an embedding; None: no look-alikes.
    radius : bits by which the perceptual hashes of a copy differ at most.
    near : share of the median distance to the nearest neighbour, under which two look alike.

    Returns
    -------
    ``image_uuid, other_uuid`` (the smaller id first), ``relation``, ``distance`` (0, bits / 256, or
    1 - cosine), ``score`` (the distance, at most 1: low is surer), ``same_patient``,
    ``across_splits`` (null where a split is unknown); sorted by relation, score, ids.
    """
    readable = prints.filter(pl.col("error").is_null())  # many broken files are empty ones
    of_split = rows.select("image_uuid", "split").join(readable, on="image_uuid", how="inner")
    found = [
        _equal(of_split, "sha256", EXACT[0]),
        _equal(of_split, "pixels", EXACT[1]),
        _copies(of_split, radius, on_progress),
        _look_alikes(embedded, near),
    ]
    pairs = (
        pl.concat(found)
        .sort("relation", "distance")
        .unique(["image_uuid", "other_uuid"], keep="first")
        .sort("relation", "score", "image_uuid", "other_uuid")
    )
    return _sides(pairs, rows)


def _sides(pairs: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Add whether both are of one patient, and whether they are in two splits."""
    known = rows.select("image_uuid", "patient_id", "split")
    other = known.select(pl.all().name.map(lambda name: name.replace("image", "other")))
    other = other.rename({"patient_id": "__patient", "split": "__split"})
    return (
        pairs.join(known, on="image_uuid", how="left", maintain_order="left")
        .join(other, on="other_uuid", how="left", maintain_order="left")
        .with_columns(
            same_patient=pl.col("patient_id") == pl.col("__patient"),
            across_splits=pl.col("split") != pl.col("__split"),
        )
        .select(*PAIR_SCHEMA, "same_patient", "across_splits")
    )


def _equal(prints: pl.DataFrame, key: str, relation: str) -> pl.DataFrame:
    """Pictures with an equal ``key``."""
    members = _members(prints, key)
    return _linked(members, _same(members["key"].unique()), relation)


def _same(keys: pl.Series) -> pl.DataFrame:
    """Every key is near itself."""
    return pl.DataFrame({"key": keys, "other": keys}).with_columns(distance=pl.lit(0.0))


def _members(prints: pl.DataFrame, key: str) -> pl.DataFrame:
    return prints.filter(pl.col(key).is_not_null()).select("image_uuid", "split", key=key)


def _linked(members: pl.DataFrame, near: pl.DataFrame, relation: str) -> pl.DataFrame:
    """Each picture of a key with the first picture, in each split, of every key near it."""
    heads = members.sort("image_uuid").unique(["key", "split"], keep="first", maintain_order=True)
    heads = heads.select(other="key", other_uuid="image_uuid")
    turned = near.select(key="other", other="key", distance="distance")
    links = members.join(pl.concat([near, turned]).unique(), on="key").join(heads, on="other")
    a, b = pl.col("image_uuid"), pl.col("other_uuid")
    return links.filter(a != b).select(
        pl.min_horizontal(a, b).alias("image_uuid"),
        pl.max_horizontal(a, b).alias("other_uuid"),
        pl.lit(relation, dtype=PAIR_SCHEMA["relation"]).alias("relation"),
        "distance",
        pl.col("distance").clip(0, 1).alias("score"),
    )


def _copies(prints: pl.DataFrame, radius: int, on_progress: OnProgress) -> pl.DataFrame:
    """Pictures whose perceptual hashes differ by at most ``radius`` bits."""
    members = _members(prints, "phash")
    hashes = members["key"].unique().sort()
    first, second, bits = near_hashes(hashes, radius, on_progress=on_progress)
    near = pl.DataFrame(
        {"key": hashes.gather(first), "other": hashes.gather(second), "distance": bits / BITS}
    )
    return _linked(members, pl.concat([_same(hashes), near]), RESIZED)


def near_hashes(
    hashes: pl.Series, radius: int, *, on_progress: OnProgress = silent
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of hashes that differ in at most ``radius`` bits; exact, every pair is compared.

    Parameters
    ----------
    hashes : (U,) 64 hex digits each, all different.

    Returns
    -------
    first, second, bits : (P,) int64 each; first < second, in that order.
    """
    words = np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, BITS // 64)
    n = len(words)
    none = np.zeros(0, dtype=np.int64)
    found = [(none, none, none)]
    size = max(1, _BLOCK_VALUES // max(n, 1))
    for start in range(0, n, size):
        on_progress(start, n, "comparing hashes")
        # half of the bits first: next to no pair is left for the rest
        half = np.bitwise_count(words[start : start + size, None, 0] ^ words[None, start:, 0])
        half += np.bitwise_count(words[start : start + size, None, 1] ^ words[None, start:, 1])
        a, b = np.nonzero(half <= radius)
        a, b = a[a < b] + start, b[a < b] + start
        bits = np.bitwise_count(words[a] ^ words[b]).sum(axis=1, dtype=np.int64)
        keep = bits <= radius
        found.append((a[keep], b[keep], bits[keep]))
    on_progress(n, n, "comparing hashes")
    first, second, bits = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, bits


def _look_alikes(embedded: tuple[pl.Series, Neighbours] | None, near: float) -> pl.DataFrame:
    """Neighbours that are much nearer to each other than neighbours mostly are."""
    if embedded is None:
        return pl.DataFrame(schema=PAIR_SCHEMA)
    ids, found = embedded
    cut = near_distance(found, near)
    row, place = np.nonzero(found.distance < cut)
    a, b = ids.gather(row), ids.gather(found.index[row, place])
    distance = found.distance[row, place]
    pairs = pl.DataFrame({"a": a, "b": b, "distance": distance})
    return pairs.select(
        pl.min_horizontal("a", "b").alias("image_uuid"),
        pl.max_horizontal("a", "b").alias("other_uuid"),
        pl.lit(LOOK_ALIKE, dtype=PAIR_SCHEMA["relation"]).alias("relation"),
        "distance",
        pl.col("distance").clip(0, 1).alias("score"),
    )


def near_distance(neighbours: Neighbours, near: float = NEAR) -> float:
    """The distance under which two images look alike: ``near`` of the median to the nearest."""
    median = float(np.median(neighbours.distance[:, 0]))
    return near * max(median, float(np.finfo(np.float32).eps))


def leakage(pairs: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Images that have a copy or look-alike in another split, each with the surest there.

    Returns
    -------
    ``image_uuid, split, patient_id, other_uuid, other_split, relation, distance, same_patient``,
    sorted by relation, distance, id: one row an image and other split.
    """
    across = pairs.filter("across_splits")
    turned = across.rename({"image_uuid": "other_uuid", "other_uuid": "image_uuid"})
    both = pl.concat([across, turned.select(across.columns)])
    split = rows.select("image_uuid", "split", "patient_id")
    other = rows.select(other_uuid="image_uuid", other_split="split")
    return (
        both.join(split, on="image_uuid")
        .join(other, on="other_uuid")
        .sort("relation", "distance", "image_uuid", "other_uuid")
        .unique(["image_uuid", "other_split"], keep="first", maintain_order=True)
        .select(
            *("image_uuid", "split", "patient_id", "other_uuid", "other_split"),
            *("relation", "distance", "same_patient"),
        )
    )
