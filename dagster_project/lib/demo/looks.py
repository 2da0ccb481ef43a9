"""What each class looks like, as numbers.

Belongs: the table of looks, mixing two of them, and one patient's variation of one.
Does not: pixels (``drawing``).
Concept: a look is a point in a space of lesion properties, so "half eczema, half psoriasis" is a
point between two others: that is how ambiguous images are made.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np


@dataclass(frozen=True)
class Look:
    """Properties of the lesions on one image.

    Lengths are fractions of the shorter image side; amounts are 0 (none) to about 1 (strong).

    Attributes
    ----------
    count, size : mean number of lesions and their mean radius; ``spread`` is how unequal they are.
    place : ``scatter``, ``cluster``, ``band``, ``rows``, ``centre``, ``around`` (a mouth) or
        ``pair`` (both sides of a fold).
    scene : ``plain`` skin, ``nail``, ``lips`` or ``fold``.
    red, brown : absorption by blood and by pigment; negative ``brown`` is pale skin.
    soft : width of the edge as a share of the radius; ``warp`` bends the outline.
    long : elongation; ``boxy`` makes corners.
    ring : clearing of the centre. ``rim`` : scale along the edge.
    scale, crust : white flakes, honey-coloured crust. ``pus``, ``dot`` : pale or dark core.
    blister : glassy highlight. ``halo`` : redness around. ``veins``, ``tracks`` : thin vessels,
    scratches or burrows. ``dome`` : relief. ``flush`` : redness of the whole field.
    """

    count: float = 3.0
    size: float = 0.15
    spread: float = 0.3
    red: float = 0.5
    brown: float = 0.0
    soft: float = 0.15
    warp: float = 0.3
    long: float = 0.2
    boxy: float = 0.0
    ring: float = 0.0
    rim: float = 0.0
    scale: float = 0.0
    crust: float = 0.0
    pus: float = 0.0
    dot: float = 0.0
    blister: float = 0.0
    halo: float = 0.0
    veins: float = 0.0
    tracks: float = 0.0
    dome: float = 0.0
    flush: float = 0.0
    place: str = "scatter"
    scene: str = "plain"


LOOKS: dict[str, Look] = {
    "eczema_uns": Look(
        count=2.5, size=0.26, red=0.55, soft=0.45, warp=0.9, scale=0.25, tracks=0.45, spread=0.4
    ),
    "psoriasis": Look(count=2.5, size=0.25, red=0.85, soft=0.06, warp=0.45, scale=0.95, dome=0.3),
    "post_inflammatory_hyperpigmentation": Look(
        count=9, size=0.075, red=0.0, brown=0.8, soft=0.4, warp=0.5, spread=0.5
    ),
    "vitiligo": Look(count=3, size=0.22, red=0.0, brown=-1.0, soft=0.05, warp=1.0, spread=0.5),
    "herpes_simplex": Look(
        count=7, size=0.05, red=0.5, blister=1.0, halo=0.9, dome=0.5, place="cluster", scene="lips"
    ),
    "viral_exanthem": Look(
        count=48, size=0.036, red=0.6, soft=0.5, warp=0.4, flush=0.15, spread=0.4
    ),
    "folliculitis": Look(
        count=14, size=0.042, red=0.85, pus=0.8, halo=0.5, dome=0.5, soft=0.2, warp=0.1
    ),
    "insect_bite": Look(
        count=4, size=0.1, red=0.75, dot=0.7, halo=0.7, dome=0.8, soft=0.35, warp=0.15, place="rows"
    ),
    "seborrheic_dermatitis": Look(
        count=2.5, size=0.25, red=0.4, soft=0.4, warp=0.8, crust=0.4, scale=0.45, flush=0.1
    ),
    "intertrigo": Look(
        count=2, size=0.27, red=1.1, soft=0.2, warp=0.4, long=1.2, place="pair", scene="fold"
    ),
    "onychomycosis": Look(
        count=1, size=0.3, red=0.05, brown=0.35, crust=0.85, scale=0.4, scene="nail", place="centre"
    ),
    "acne": Look(
        count=18, size=0.036, red=0.8, pus=0.5, dot=0.5, dome=0.6, spread=0.7, flush=0.1, warp=0.1
    ),
    "keratosis_pilaris": Look(
        count=60, size=0.02, red=0.4, scale=0.3, dome=0.9, halo=0.3, spread=0.15, warp=0.05
    ),
    "rosacea": Look(
        count=6, size=0.03, red=0.6, veins=0.9, flush=0.75, dome=0.4, spread=0.4, place="centre"
    ),
    "pityriasis": Look(
        count=8, size=0.085, red=0.5, brown=0.1, rim=0.8, ring=0.3, long=0.9, soft=0.15, warp=0.15
    ),
    "contact_dermatitis": Look(
        count=1.6, size=0.28, red=0.95, boxy=1.0, soft=0.08, warp=0.15, blister=0.1, tracks=0.1
    ),
    "urticaria": Look(
        count=6, size=0.14, red=0.45, ring=0.6, soft=0.2, warp=0.7, halo=0.3, dome=0.9, spread=0.5
    ),
    "perioral_dermatitis": Look(
        count=20, size=0.028, red=0.8, dome=0.5, flush=0.2, place="around", scene="lips", warp=0.1
    ),
    "herpes_zoster": Look(
        count=22, size=0.042, red=0.6, blister=0.9, halo=0.9, dome=0.5, place="band", spread=0.4
    ),
    "verruca": Look(
        count=2, size=0.12, red=0.0, brown=0.35, scale=0.55, dot=0.9, dome=1.2, soft=0.1, warp=0.35
    ),
    "tinea": Look(count=1.5, size=0.28, red=0.7, ring=0.85, rim=0.7, soft=0.1, warp=0.3, brown=0.1),
    "pityriasis_versicolor": Look(
        count=24, size=0.065, red=0.0, brown=-0.5, soft=0.12, warp=0.6, scale=0.2, spread=0.5
    ),
    "impetigo": Look(count=4, size=0.11, red=0.7, crust=1.0, soft=0.15, warp=0.7, halo=0.4),
    "cellulitis": Look(
        count=1, size=0.5, red=1.0, soft=0.5, warp=0.5, dome=0.35, place="centre", flush=0.15
    ),
    "scabies": Look(
        count=16, size=0.026, red=0.7, dot=0.3, tracks=1.0, crust=0.25, spread=0.4, dome=0.3
    ),
}

_NUMBERS = tuple(f.name for f in fields(Look) if f.type == "float")


def mixed(a: Look, b: Look, share: float, rng: np.random.Generator) -> Look:
    """``a`` with ``share`` (0 to 1) of ``b``: numbers between, place and scene from one of them."""
    numbers = {n: (1 - share) * getattr(a, n) + share * getattr(b, n) for n in _NUMBERS}
    place = b.place if rng.random() < share else a.place
    scene = b.scene if rng.random() < share else a.scene
    return replace(a, **numbers, place=place, scene=scene)


def varied(look: Look, amount: float, rng: np.random.Generator) -> Look:
    """``look`` with every number multiplied by a lognormal factor of sigma ``amount``."""
    factors = np.exp(rng.normal(0.0, amount, len(_NUMBERS)))
    numbers = {n: getattr(look, n) * float(f) for n, f in zip(_NUMBERS, factors, strict=True)}
    return replace(look, **numbers)
