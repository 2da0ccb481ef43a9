"""The release: the files that may be deployed, and what they were made from.

Belongs: the contents of a release.
Does not: writing it whole and checking it again (``lib.sums``), whether it may be released
(``conditions``), approval.
Concept: the bytes depend on the inputs only; see ``lib.sums``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from dagster_project.lib import files
from dagster_project.lib.environment import environment
from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.release.html import report_html
from dagster_project.lib.release.note import release_note
from dagster_project.lib.sums import json_bytes
from dagster_project.lib.tiers.policy import policy_sha256
from dagster_project.lib.tiers.scored_rows import ScoreCounts
from dagster_project.lib.tiers.thresholds import ENV_NAMES, Thresholds

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.probability_table import Probabilities
    from dagster_project.lib.tiers.policy import TierPolicy


@dataclass(frozen=True)
class Provenance:
    """What the probabilities are, and what made them. None: unknown (brought from elsewhere).

    Attributes
    ----------
    tta : whether they are means over the image and its mirror image.
    null_fields : questionnaire fields set to unknown in the deployed view.
    split, splits_sha256, split_recipe : which rows; the file that says so; how it was made, as the
        dataset states it.
    dump : data versions of the shards, sorted, and how they were computed (:data:`DUMP_FACTS`).
    inputs : name -> content of each table that numbers came from; see ``inputs``.
    environment : code and libraries; None: those of this process.
    """

    classes: tuple[str, ...]
    counts: ScoreCounts
    model_tree_hash: str | None = None
    dataset_version: str | None = None
    n_shards: int | None = None
    tta: bool | None = None
    null_fields: tuple[str, ...] | None = None
    split: str | None = None
    splits_sha256: str | None = None
    split_recipe: str | None = None
    dump: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON, of which :meth:`of_json` makes the same value."""
        return asdict(self)

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Provenance:
        """The value of :meth:`as_json`, after JSON has made lists of its tuples."""
        nulls = value.get("null_fields")
        changed = {
            "classes": tuple(value["classes"]),
            "counts": ScoreCounts(**value["counts"]),
            "null_fields": None if nulls is None else tuple(nulls),
        }
        return cls(**{**value, **changed})


DUMP_FACTS = ("dtype", "device", "code_version", "preprocess_digest", "exif_orientation")
"""What a dump says of its arithmetic and its pixels, as text."""


def provenance_of(table: Probabilities, counts: ScoreCounts) -> Provenance:
    """Provenance as the table's own metadata states it.

    Raises
    ------
    InputError
        ``tta``, ``n_shards``, ``null_fields`` or ``identities`` is there and unreadable.
    """
    found = table.metadata
    tta = {"true": True, "1": True, "false": False, "0": False, "": None}
    shards = found.get("n_shards", "")
    spelled = found.get("tta", "").lower()
    if spelled not in tta or not (shards == "" or shards.isdecimal()):
        raise InputError(
            f"probabilities, metadata: tta {spelled!r} or n_shards {shards!r} is unreadable; "
            "allowed: true or false, and a whole number"
        )
    return Provenance(
        classes=table.classes,
        counts=counts,
        model_tree_hash=found.get("model_tree_hash") or None,
        dataset_version=found.get("dataset_version") or None,
        n_shards=int(shards) if shards else None,
        tta=tta[spelled],
        null_fields=_name_list(found, "null_fields"),
        split=found.get("split") or None,
        dump={
            "versions": _name_list(found, "identities"),
            **{fact: found.get(fact) or None for fact in DUMP_FACTS},
        },
    )


def _name_list(metadata: Mapping[str, str], key: str) -> tuple[str, ...] | None:
    """A JSON list of texts in a table's metadata; None where there is none."""
    text = metadata.get(key)
    if not text:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        raise InputError(f"probabilities, metadata: {key} is {text[:80]!r}, not a JSON list")
    return tuple(value)


def release_files(
    report: Mapping[str, Any], policy: TierPolicy, provenance: Provenance, curve: pl.DataFrame
) -> dict[str, bytes]:
    """Names and bytes of a release, without its ``SHA256SUMS``.

    Parameters
    ----------
    report : ``tier_reports.json`` as ``evaluation.full_report`` returns it; what is in service is
        what it was compared with.
    curve : (M,) rows of ``coverage_curve``, of the same rows.
    """
    at = Thresholds(**report["thresholds"])
    label_version = report["labels"]["version"]
    thresholds = {
        **at.as_dict(),
        "possible_floor": policy.possible_item.floor,
        "possible_cap": policy.possible_item.cap,
        "tta": provenance.tta,
        "policy_sha256": policy_sha256(policy),
        "label_version": label_version,
        "model_tree_hash": provenance.model_tree_hash,
    }
    tfvars = {name.lower(): at.as_dict()[key] for key, name in ENV_NAMES.items()}
    return {
        "thresholds.json": json_bytes(thresholds),
        "thresholds.env": _env(at, provenance.tta).encode(),
        "thresholds.auto.tfvars.json": json_bytes(tfvars),
        "tier_reports.json": json_bytes(report),
        "metadata.json": json_bytes(_metadata(report, policy, provenance)),
        "report.md": release_note(report, policy, provenance.tta).encode(),
        "report.html": report_html(report, curve, policy),
    }


def _env(at: Thresholds, tta: bool | None) -> str:
    lines = [f"{name}={at.as_dict()[key]!r}" for key, name in ENV_NAMES.items()]
    if tta is None:
        lines.append("# WARNING: TTA is left out: it is not known whether these probabilities")
        lines.append("# were averaged with the mirror image. Serve exactly as they were made.")
    else:
        lines.append(f"TTA={'true' if tta else 'false'}")
    return "\n".join(lines) + "\n"


def _metadata(
    report: Mapping[str, Any], policy: TierPolicy, provenance: Provenance
) -> dict[str, Any]:
    return {
        "policy": policy.model_dump(mode="json", exclude_none=True),
        "policy_sha256": policy_sha256(policy),
        "model_tree_hash": provenance.model_tree_hash,
        "dataset_version": provenance.dataset_version,
        "n_shards": provenance.n_shards,
        "tta": provenance.tta,
        "null_fields": provenance.null_fields,
        "split": {
            "name": provenance.split,
            "splits_sha256": provenance.splits_sha256,
            "recipe": provenance.split_recipe,
        },
        "dump": {"versions": None, **dict.fromkeys(DUMP_FACTS), **provenance.dump},
        "seeds": {"bootstrap": SEED},
        "inputs": provenance.inputs,
        "labels": report["labels"],
        "label_version": report["labels"]["version"],
        "classes": {
            "n": len(provenance.classes),
            "digest": files.digest(list(provenance.classes)),
        },
        "counts": provenance.counts.as_dict(),
        "certified": _is_certified(report),
        **(environment() if provenance.environment is None else provenance.environment),
    }


def _is_certified(report: Mapping[str, Any]) -> bool:
    certificate = report["selection"]["confident"]["certificate"]
    return certificate is not None and bool(certificate["released_is_certified"])
