"""Nineteen questions, and how each disease tilts the answers a little.

Belongs: the demo's feature schema and its answers.
Does not: encoding answers (``inference.questionnaire``).
Concept: weak evidence. An answer follows its disease in ``TILT`` of the cases and the waiting room
in the rest; a quarter of the answers is unknown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dagster_project.lib.demo.seeds import stream

TILT = 0.55
UNKNOWN = 0.25

_SITES = ("face", "scalp", "trunk", "arm", "hand", "leg", "foot", "fold")
_CATEGORIES: dict[str, tuple[str, ...]] = {
    "location_side": ("left", "right", "both"),
    "location_coverage": ("single", "few", "many", "widespread"),
    "sex": ("female", "male"),
    "body_site": _SITES,
    "duration": ("days", "weeks", "months", "years"),
}
_RANGES = {"location_nail_coverage": (0, 100), "age": (0, 100), "itch": (0, 10)}
_USUAL = {"location_nail_coverage": (4, 6), "age": (38, 20), "itch": (4, 2.5)}
"""Mean and standard deviation of the numbers in the waiting room."""
_YES = {
    "widespread_face": 0.2,
    "widespread_palm_feet": 0.12,
    "cough": 0.08,
    "pain": 0.2,
    "fever": 0.08,
    "recurrent": 0.4,
    "household_contact": 0.1,
    "new_product": 0.15,
    "atopy": 0.2,
    "insect_exposure": 0.12,
    "sun_worsens": 0.12,
}
"""Share of yes in the waiting room."""

ORDER = (
    "age",
    "sex",
    "body_site",
    "location_side",
    "location_coverage",
    "location_nail_coverage",
    "widespread_face",
    "widespread_palm_feet",
    "duration",
    "itch",
    "pain",
    "fever",
    "cough",
    "recurrent",
    "household_contact",
    "new_product",
    "atopy",
    "insect_exposure",
    "sun_worsens",
)
"""Column order in the manifest and in the schema."""

_TILTS: dict[str, dict[str, str | bool | int]] = {
    "eczema_uns": {"atopy": True, "itch": 8, "recurrent": True, "body_site": "arm"},
    "psoriasis": {"duration": "years", "recurrent": True, "body_site": "arm", "itch": 3},
    "post_inflammatory_hyperpigmentation": {"itch": 0, "duration": "months", "sun_worsens": True},
    "vitiligo": {"itch": 0, "duration": "years", "location_side": "both", "sun_worsens": True},
    "herpes_simplex": {"pain": True, "body_site": "face", "duration": "days", "recurrent": True},
    "viral_exanthem": {"cough": True, "fever": True, "age": 8, "location_coverage": "widespread"},
    "folliculitis": {"body_site": "leg", "location_coverage": "many", "duration": "weeks"},
    "insect_bite": {"insect_exposure": True, "itch": 8, "duration": "days", "body_site": "leg"},
    "seborrheic_dermatitis": {"body_site": "scalp", "recurrent": True, "widespread_face": True},
    "intertrigo": {"body_site": "fold", "location_side": "both", "age": 60},
    "onychomycosis": {"location_nail_coverage": 60, "body_site": "foot", "duration": "years"},
    "acne": {"age": 17, "body_site": "face", "widespread_face": True, "itch": 1},
    "keratosis_pilaris": {"body_site": "arm", "duration": "years", "itch": 1, "age": 15},
    "rosacea": {"widespread_face": True, "age": 50, "sun_worsens": True, "body_site": "face"},
    "pityriasis": {"body_site": "trunk", "duration": "weeks", "location_coverage": "many"},
    "contact_dermatitis": {"new_product": True, "itch": 8, "duration": "days", "body_site": "hand"},
    "urticaria": {"itch": 9, "duration": "days", "location_coverage": "widespread"},
    "perioral_dermatitis": {"sex": "female", "body_site": "face", "new_product": True, "age": 30},
    "herpes_zoster": {"pain": True, "location_side": "left", "age": 65, "body_site": "trunk"},
    "verruca": {"location_coverage": "single", "itch": 0, "body_site": "hand", "age": 14},
    "tinea": {"location_coverage": "single", "household_contact": True, "body_site": "trunk"},
    "pityriasis_versicolor": {"body_site": "trunk", "itch": 1, "location_coverage": "widespread"},
    "impetigo": {"age": 6, "household_contact": True, "body_site": "face", "duration": "days"},
    "cellulitis": {"fever": True, "pain": True, "body_site": "leg", "location_side": "right"},
    "scabies": {"itch": 10, "household_contact": True, "body_site": "hand", "cough": False},
}


def schema() -> dict[str, Any]:
    """The content of ``feature_schema.json``: 19 fields of all three types."""
    return {"version": "demo-1", "fields": [_field(name) for name in ORDER]}


def answers(diseases: list[str], seed: int) -> pl.DataFrame:
    """One row a patient, one text column a question in ``ORDER``; unknown is null.

    Parameters
    ----------
    diseases : (P,) the main disease of each patient.
    """
    rows = [_answers(name, stream(seed, "questionnaire", i)) for i, name in enumerate(diseases)]
    return pl.DataFrame(rows, schema=dict.fromkeys(ORDER, pl.String), orient="row")


def _field(name: str) -> dict[str, Any]:
    if name in _CATEGORIES:
        return {"name": name, "type": "categorical", "values": list(_CATEGORIES[name])}
    if name in _RANGES:
        return {"name": name, "type": "numeric", "range": list(_RANGES[name])}
    return {"name": name, "type": "boolean"}


def _answers(disease: str, rng: np.random.Generator) -> list[str | None]:
    tilts = _TILTS[disease]
    # all draws are made for every field, so that one field's tilt does not move the next
    return [
        answer if known else None
        for answer, known in (
            (_answer(name, tilts.get(name), rng), bool(rng.random() >= UNKNOWN)) for name in ORDER
        )
    ]


def _answer(name: str, tilt: str | bool | int | None, rng: np.random.Generator) -> str:
    follow = tilt is not None and rng.random() < TILT
    if name in _CATEGORIES:
        values = _CATEGORIES[name]
        usual = values[int(rng.integers(len(values)))]
        return str(tilt) if follow else usual
    if name in _RANGES:
        mean, deviation = _USUAL[name]
        low, high = _RANGES[name]
        centre = float(tilt) if follow and tilt is not None else mean
        return str(int(np.clip(round(rng.normal(centre, deviation)), low, high)))
    yes = bool(rng.random() < _YES[name])
    return str(bool(tilt) if follow else yes).lower()
