"""The release: the files that may be deployed, what they were made from, and their hashes.

Belongs: the contents of a release, writing it whole, checking it again.
Does not: whether it may be released (``conditions``), approval.
Concept: the bytes depend on the inputs only; who ran it, when and where goes to ``run.json``, which
is neither hashed nor part of the folder's name.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster_project.lib import files
from dagster_project.lib.errors import InputError
from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.release.environment import environment
from dagster_project.lib.release.html import report_html
from dagster_project.lib.release.note import release_note
from dagster_project.lib.tiers.policy import policy_sha256
from dagster_project.lib.tiers.scored_rows import ScoreCounts
from dagster_project.lib.tiers.thresholds import ENV_NAMES, Thresholds

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.probability_table import Probabilities
    from dagster_project.lib.tiers.policy import TierPolicy

SUMS = "SHA256SUMS"
RUN = "run.json"
APPROVAL = "approval.json"
NOT_HASHED = frozenset({SUMS, RUN})
NAME_DIGITS = 16
"""A release is named by so many hex digits of the sha256 of its ``SHA256SUMS``."""


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
        "thresholds.json": _json(thresholds),
        "thresholds.env": _env(at, provenance.tta).encode(),
        "thresholds.auto.tfvars.json": _json(tfvars),
        "tier_reports.json": _json(report),
        "metadata.json": _json(_metadata(report, policy, provenance)),
        "report.md": release_note(report, policy, provenance.tta).encode(),
        "report.html": report_html(report, curve, policy),
    }


def with_sums(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """``contents`` and their ``SHA256SUMS``, readable by ``sha256sum -c``."""
    hashed = {name: data for name, data in contents.items() if name not in NOT_HASHED}
    lines = [f"{files.sha256_bytes(data)}  {name}\n" for name, data in sorted(hashed.items())]
    return {**contents, SUMS: "".join(lines).encode()}


def write_release(
    root: Path, contents: Mapping[str, bytes], *, run: Mapping[str, Any] | None = None
) -> Path:
    """Publish a release whole, in a folder of ``root`` named by its content.

    Parameters
    ----------
    contents : of :func:`release_files`, and any other files that belong to it.
    run : run id, time, command, host: written to ``run.json``.

    Returns
    -------
    ``root/<first 16 hex digits of the sha256 of SHA256SUMS>``. The same content published again is
    left as it is, with the ``run.json`` of the first time. A folder of that name that does not
    :func:`verify` is put aside as ``.damaged-<name>-<8 hex digits>``, for a person to look at.
    """
    hashed = with_sums(contents)
    out = root / files.sha256_bytes(hashed[SUMS])[:NAME_DIGITS]
    if out.exists() and not _is_whole(out):
        out.rename(root / f".damaged-{out.name}-{secrets.token_hex(4)}")
    with files.publish_folder(out) as folder:
        fill(folder, hashed, run)
    return out


def fill(folder: Path, hashed: Mapping[str, bytes], run: Mapping[str, Any] | None) -> None:
    """Write the files of a release into a folder that is about to be published."""
    for name, data in hashed.items():
        (folder / name).write_bytes(data)
    if run is not None:
        (folder / RUN).write_bytes(_json(run))


def verify(folder: Path) -> list[str]:
    """Compare a release folder with its ``SHA256SUMS``.

    Returns
    -------
    One sentence for each file that is missing, changed or not listed (``run.json`` and what
    approval adds are not listed on purpose); empty when all agree.

    Raises
    ------
    InputError
        No ``SHA256SUMS``, or a line of it that is no hash and plain file name.
    """
    listed = read_sums(folder)
    problems = []
    for name, expected in listed.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif files.sha256_file(path) != expected:
            problems.append(f"{name}: its content is not what was released")
    present = {path.name for path in folder.iterdir()}
    added = present - listed.keys() - NOT_HASHED - {APPROVAL}
    return problems + [f"{name}: was not released here" for name in sorted(added)]


def _is_whole(folder: Path) -> bool:
    try:
        return not verify(folder)
    except InputError:  # its SHA256SUMS are gone or spoilt
        return False


def read_sums(folder: Path) -> dict[str, str]:
    """File name -> hex sha256, as ``SHA256SUMS`` lists them; errors as :func:`verify`."""
    path = folder / SUMS
    if not path.is_file():
        raise InputError(f"{path}: no such file; pass a folder that refit wrote")
    found: dict[str, str] = {}
    text = path.read_text(encoding="utf-8", errors="replace")
    for row, line in enumerate(text.splitlines(), start=1):
        digest, _, name = line.partition("  ")
        is_hash = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
        if not is_hash or not name or Path(name).name != name or name in found:
            raise InputError(f"{SUMS} row {row}: expected a sha256, two blanks and a file name")
        found[name] = digest
    return found


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


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
