"""The 25 disease classes: names, how often, and which are mistaken for which.

Belongs: facts about classes that several files of this room share.
Does not: their looks (``looks``), their questionnaires (``questionnaire``).
Concept: a long tail, and confusions that run along look-alike pairs rather than at random.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CLASSES = (
    "eczema_uns",
    "psoriasis",
    "post_inflammatory_hyperpigmentation",
    "vitiligo",
    "herpes_simplex",
    "viral_exanthem",
    "folliculitis",
    "insect_bite",
    "seborrheic_dermatitis",
    "intertrigo",
    "onychomycosis",
    "acne",
    "keratosis_pilaris",
    "rosacea",
    "pityriasis",
    "contact_dermatitis",
    "urticaria",
    "perioral_dermatitis",
    "herpes_zoster",
    "verruca",
    "tinea",
    "pityriasis_versicolor",
    "impetigo",
    "cellulitis",
    "scabies",
)
"""Output order of the demo model."""

# relative frequencies in the waiting room, invented; the order of CLASSES is not that of frequency
_FREQUENCY = {
    "eczema_uns": 16.0,
    "acne": 10.0,
    "psoriasis": 8.5,
    "tinea": 7.0,
    "contact_dermatitis": 5.5,
    "seborrheic_dermatitis": 5.0,
    "urticaria": 4.5,
    "folliculitis": 4.0,
    "insect_bite": 4.0,
    "verruca": 3.8,
    "rosacea": 3.5,
    "onychomycosis": 3.2,
    "pityriasis_versicolor": 2.8,
    "herpes_zoster": 2.6,
    "viral_exanthem": 2.4,
    "vitiligo": 2.2,
    "post_inflammatory_hyperpigmentation": 2.2,
    "scabies": 2.0,
    "herpes_simplex": 2.0,
    "impetigo": 1.8,
    "pityriasis": 1.7,
    "intertrigo": 1.6,
    "keratosis_pilaris": 1.5,
    "perioral_dermatitis": 1.3,
    "cellulitis": 1.2,
}

LOOK_ALIKE_PAIRS = (
    ("eczema_uns", "psoriasis"),
    ("eczema_uns", "contact_dermatitis"),
    ("eczema_uns", "seborrheic_dermatitis"),
    ("folliculitis", "insect_bite"),
    ("folliculitis", "acne"),
    ("folliculitis", "keratosis_pilaris"),
    ("acne", "rosacea"),
    ("rosacea", "perioral_dermatitis"),
    ("vitiligo", "pityriasis_versicolor"),
    ("post_inflammatory_hyperpigmentation", "pityriasis_versicolor"),
    ("pityriasis", "tinea"),
    ("tinea", "psoriasis"),
    ("tinea", "intertrigo"),
    ("viral_exanthem", "urticaria"),
    ("urticaria", "insect_bite"),
    ("herpes_simplex", "herpes_zoster"),
    ("herpes_simplex", "impetigo"),
    ("herpes_zoster", "contact_dermatitis"),
    ("cellulitis", "contact_dermatitis"),
    ("scabies", "insect_bite"),
    ("scabies", "eczema_uns"),
    ("onychomycosis", "psoriasis"),
    ("verruca", "keratosis_pilaris"),
)
"""Unordered pairs that are mistaken for each other, by reviewers, labels and the model alike."""


def frequencies() -> npt.NDArray[np.float64]:
    """(25,) share of patients with each class, in the order of ``CLASSES``; sums to 1."""
    shares = np.array([_FREQUENCY[name] for name in CLASSES])
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def look_alikes(name: str) -> tuple[str, ...]:
    """The classes that ``name`` is mistaken for, in the order of the pairs; never empty.

    >>> look_alikes("cellulitis")
    ('contact_dermatitis',)
    """
    return tuple(b if a == name else a for a, b in LOOK_ALIKE_PAIRS if name in (a, b))
