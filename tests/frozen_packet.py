"""A packet of layout 3 as estimating reads it, and one of 20 images to be counted by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from dagster_project.lib.files import write_json
from dagster_project.lib.review.findings import Returned
from dagster_project.lib.review.sample import Packet

FRAME = {
    "patient_id": pl.String,
    "stratum": pl.String,
    "inclusion_probability": pl.Float64,
    "tier": pl.String,
    "flagged": pl.Boolean,
    "agrees": pl.Boolean,
    "given_label": pl.String,
    "predicted_label": pl.String,
    "score": pl.Float64,
    "split": pl.String,
}


def frame_of(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """``image_uuid, stratum, inclusion_probability`` of each row; the rest follows the stratum."""
    made = []
    for row in rows:
        tier, agreement, flag = (
            row["stratum"].split("/")
            if "/" in row["stratum"]
            else ("confident", "differs", "flagged")
        )
        made.append(
            {
                "patient_id": f"p{row['image_uuid']}",
                "tier": tier,
                "flagged": flag == "flagged",
                "agrees": agreement == "agrees",
                "given_label": "acne",
                "predicted_label": "acne" if agreement == "agrees" else "tinea",
                "score": 0.9,
                "split": "test",
                **row,
            }
        )
    return pl.DataFrame(made, schema={"image_uuid": pl.String, **FRAME})


def write_packet(
    folder: Path,
    frame: pl.DataFrame,
    key: Sequence[tuple[str, str, str]],
    summary: Mapping[str, Any] | None = None,
) -> None:
    """``key``: ``presented_uuid, image_uuid, role`` of each presentation."""
    folder.mkdir(parents=True)
    frame.write_parquet(folder / "frame.parquet")
    names = ["presented_uuid", "image_uuid", "role"]
    pl.DataFrame(key, schema=names, orient="row").write_parquet(folder / "key.parquet")
    write_json(folder / "summary.json", dict(summary or {}))


STRATA = (
    # stratum, rows, asked
    ("certain", 2, 2),
    ("confident/differs/flagged", 4, 2),
    ("confident/agrees/unflagged", 10, 4),
    ("possible/differs/unflagged", 4, 2),
)
JUDGED = {
    # both certain ones wrong, one flagged one right, one wrong; one hidden error of four
    "i00": "tinea", "i01": "tinea",
    "i02": "acne", "i03": "tinea",
    "i06": "acne", "i07": "acne", "i08": "acne", "i09": "tinea",
    "i16": "acne", "i17": "acne",
}  # fmt: skip


def packet(split: str | None = "test", **columns: Any) -> Packet:
    rows: list[dict[str, Any]] = []
    for stratum, n, n_asked in STRATA:
        for i in range(n):
            uuid = f"i{len(rows):02d}"
            probability = 1.0 if stratum == "certain" else n_asked / n
            rows.append(
                {
                    "image_uuid": uuid,
                    "stratum": stratum,
                    "inclusion_probability": probability,
                    "split": split,
                    "asked": i < n_asked,
                }
            )
    asked = pl.Series("asked", [row.pop("asked") for row in rows])
    frame = frame_of(rows).with_columns(asked)
    power = {"recall": {"expected": 0.5, "half_width": 0.15}, "noise_rate": None}
    made = frame.with_columns(**{k: pl.Series(v) for k, v in columns.items()})
    return Packet("f00d", made, {"power": power})


def cleaned(**changes: str) -> pl.DataFrame:
    """``changes``: another status; the label is that of :data:`JUDGED`."""
    rows = []
    for number in range(20):
        uuid = f"i{number:02d}"
        label = JUDGED.get(uuid)
        known = "given" if label is None else "confirmed" if label == "acne" else "corrected"
        status = changes.get(uuid, known)
        kept = {"not_usable": None, "given": "acne"}.get(status, label or "acne")
        rows.append((uuid, kept, status))
    return pl.DataFrame(rows, schema=["image_uuid", "label", "status"], orient="row")


def returned(*packets: Packet, **changes: str) -> Returned:
    empty = pl.DataFrame(
        schema={"image_uuid": pl.String, "reviewer": pl.String, "label": pl.String}
    )
    repeats = pl.DataFrame(schema={"presented_uuid": pl.String, "image_uuid": pl.String})
    return Returned(packets, cleaned(**changes), empty, repeats)
