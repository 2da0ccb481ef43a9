"""What a reviewer may see beside the photograph: class descriptions, and harmless metadata.

Belongs: the file of class descriptions; refusing columns and ids that identify a person or give
away a label.
Does not: showing anything (``page``).
Concept: blind reading. A column is refused by its name, by what its values look like, and by how
well they tell the label: a code is a label in disguise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from dagster_project.lib import tables
from dagster_project.lib.errors import InputError, some, unknown_class

IDENTITY = (
    "uuid", "patient", "name", "firstname", "lastname", "surname", "forename", "fullname",
    "email", "mail", "phone", "telephone", "mobile", "address", "street", "postal", "postcode",
    "zip", "birth", "dob", "insur", "passport", "ssn", "mrn", "record", "date", "time", "user",
    "clinician", "doctor", "path", "file", "url", "uri", "device", "serial", "gps",
)  # fmt: skip
"""Beginnings of words in column names that speak of a person, a place or a moment."""
VERDICT = (
    "label", "class", "diagnos", "disease", "icd", "target", "truth", "predict", "probab", "score",
    "logit", "confiden", "quality", "flag", "tier", "split", "fold", "biops", "histo", "pathol",
    "treat", "therap", "review", "comment",
)  # fmt: skip
"""Beginnings of words in column names that speak of a verdict on the image."""
MOST_VALUES = 100
"""A column with more different values is free text or an identifier."""
TELLING_IDS = 0.1
"""Share of image ids that may hold something: random ones do so by chance."""
TELLS = 0.8
"""Share of labels that may not be guessed from a column (each row from all others)."""
_IDENTITY_VALUE = re.compile(
    r"@|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|\d{7,}"
)


def read_descriptions(path: Path, classes: Sequence[str]) -> dict[str, str]:
    """Class -> a few words for the reviewer, from a CSV ``class, description``.

    Classes may be left out.

    Raises
    ------
    InputError
        An unknown class, one on two rows, an empty description.
    """
    frame = tables.read_table(path, ["class", "description"], row_numbers=True)
    found: dict[str, str] = {}
    for row, name, words in frame.select(tables.ROW, "class", "description").rows():
        where = f"{path.name} row {row}, column"
        if name not in classes:
            raise InputError(f"{where} class: {unknown_class(str(name), classes)}; correct it")
        if name in found:
            raise InputError(f'{where} class: "{name}" for the second time; keep one')
        if words is None:
            raise InputError(f"{where} description: empty; fill it in or remove the row")
        found[name] = " ".join(str(words).split())
    return found


def check_columns(
    columns: Sequence[str], metadata: pl.DataFrame, frame: pl.DataFrame, classes: Sequence[str]
) -> None:
    """Raise unless every column may be shown to a reviewer.

    Parameters
    ----------
    columns : names in ``metadata``.
    metadata : ``image_uuid`` and text columns, of every image that may be shown.
    frame : ``image_uuid, given_label, predicted_label``, of the images that may be asked about.
    classes : (K,) names.

    Raises
    ------
    InputError
        Unknown column; a name with a word of :data:`IDENTITY` or :data:`VERDICT`, or "id"; a value
        that is a class name, a date, a mail address or a long number; over :data:`MOST_VALUES`
        different values; values that tell the given or the predicted label in :data:`TELLS` of the
        rows.
    """
    missing = [name for name in columns if name not in metadata.columns]
    if missing:
        known = [c for c in metadata.columns if _by_name(c) is None]
        raise InputError(
            f"review columns: the dataset has no {some(missing)}; it has {some(known, 12)}"
        )
    for name in columns:
        values = metadata[name].drop_nulls().cast(pl.String)
        reason = _by_name(name) or _by_values(values, classes) or _by_label(name, metadata, frame)
        if reason:
            raise InputError(f"review columns: {name} {reason}; reviewers must judge blind")


def check_ids(frame: pl.DataFrame) -> list[str]:
    """Whether image ids, which reviewers see, are neutral; what is worth knowing about them.

    Parameters
    ----------
    frame : ``image_uuid, patient_id, given_label``, of the images that may be asked about.

    Returns
    -------
    A sentence where a tenth of the ids or more hold their patient's id (of three signs or more).

    Raises
    ------
    InputError
        A tenth of the ids or more hold their given label: such ids are not blind.
    """
    ids = [_letters(uuid) for uuid in frame["image_uuid"]]
    telling = [
        sum(len(name) > 2 and name in uuid for uuid, name in zip(ids, names, strict=True))
        for names in (
            [_letters(label) for label in frame["given_label"]],
            [_letters(patient or "") for patient in frame["patient_id"]],
        )
    ]
    least = TELLING_IDS * frame.height
    if telling[0] >= least:
        raise InputError(
            f"{telling[0]} of {frame.height} image ids hold the given label; reviewers see the "
            "ids, so give the images neutral ones"
        )
    if telling[1] >= least:
        return [
            f"{telling[1]} of {frame.height} image ids hold the id of the patient, and reviewers "
            "see image ids: hand the packet only to people who may know it."
        ]
    return []


def shown_values(
    columns: Sequence[str], metadata: pl.DataFrame, image_uuids: Sequence[str]
) -> dict[str, Mapping[str, str]]:
    """Image -> column -> value, empty ones left out."""
    rows = metadata.filter(pl.col("image_uuid").is_in(list(image_uuids)))
    return {
        row["image_uuid"]: {name: str(row[name]) for name in columns if row[name] is not None}
        for row in rows.select("image_uuid", *columns).iter_rows(named=True)
    }


def _by_name(name: str) -> str | None:
    """What its words say: ``patientAge``, ``patient_age`` and ``Patient age`` are alike."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    plain = [word.lower() for word in words]
    if "id" in plain or any(word.startswith(IDENTITY) for word in plain):
        return "is named like something that identifies a person"
    if any(word.startswith(VERDICT) for word in plain):
        return "is named like a verdict on the image"
    return None


def _by_values(values: pl.Series, classes: Sequence[str]) -> str | None:
    different = values.unique().sort().to_list()
    names = {_letters(name) for name in classes}
    if any(_letters(value) in names for value in different):
        return "has a value that is a class name"
    if any(_IDENTITY_VALUE.search(value) for value in different):
        return "has dates, mail addresses or long numbers"
    if len(different) > MOST_VALUES:
        return f"has {len(different)} different values, like free text or an identifier"
    return None


def _by_label(name: str, metadata: pl.DataFrame, frame: pl.DataFrame) -> str | None:
    """Guess each row's label as the most frequent one among all other rows of the same value."""
    rows = frame.join(metadata.select("image_uuid", value=name), on="image_uuid")
    for label in ("given_label", "predicted_label"):
        counts = (
            rows.group_by("value", label)
            .agg(n=pl.len().cast(pl.Int64))
            .with_columns(top=pl.col("n").max().over("value"))
        )
        # a row is guessed if its label is still the most frequent one without it
        second = counts.group_by("value").agg(next=pl.col("n").sort(descending=True).slice(1, 1))
        counts = counts.join(second, on="value", nulls_equal=True).with_columns(
            next=pl.col("next").list.first().fill_null(0)
        )
        guessed = counts.filter(pl.col("n") == pl.col("top"), pl.col("n") - 1 > pl.col("next"))
        share = float(guessed["n"].sum()) / max(rows.height, 1)
        most = max(rows.group_by(label).len()["len"].to_list(), default=0) / max(rows.height, 1)
        if share > most and share >= max(TELLS, (1 + most) / 2):
            kind = "given" if label == "given_label" else "predicted"
            return f"tells the {kind} label of {share:.0%} of the images: a label in disguise"
    return None


def _letters(value: str) -> str:
    return "".join(filter(str.isalnum, value.casefold()))
