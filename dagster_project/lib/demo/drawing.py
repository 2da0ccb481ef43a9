"""Pictures of skin: a look, a skin tone and a generator in, pixels out.

Belongs: skin, lesions, the scene around them, light and camera.
Does not: which look an image gets (``population``), files (``world``), text pages (``pages``).
Concept: colour is absorption. Blood and pigment absorb by wavelength, so the same lesion looks
right on light and on dark skin. Lesions are one distance field: per pixel the nearest lesion and
the distance to its edge, whatever their number. H, W = pixels, n = lesions.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dagster_project.lib.demo.looks import Look

Map = npt.NDArray[np.floating[Any]]
"""(H, W) of anything, or (H, W, 3) of colours."""

SHAPES = ((96, 96), (96, 96), (96, 112), (112, 96))
"""(H, W) of photographs, each as likely as its share here."""
TONES = (
    (0.93, 0.79, 0.71),
    (0.88, 0.70, 0.58),
    (0.80, 0.61, 0.47),
    (0.68, 0.48, 0.35),
    (0.52, 0.34, 0.24),
    (0.36, 0.23, 0.17),
)
"""Six skin tones, light to dark, as linear-looking RGB."""

_BLOOD = np.array([0.10, 0.62, 0.52], dtype=np.float32)
_PIGMENT = np.array([0.42, 0.62, 0.80], dtype=np.float32)
_PALE = np.array([0.95, 0.87, 0.81], dtype=np.float32)
_FLAKE = np.array([0.93, 0.91, 0.88], dtype=np.float32)
_HONEY = np.array([0.78, 0.56, 0.20], dtype=np.float32)
_PUS = np.array([0.96, 0.91, 0.70], dtype=np.float32)
_DARK = np.array([0.16, 0.09, 0.07], dtype=np.float32)


@dataclass(frozen=True)
class Plane:
    """Where the pixels are: x to the right, y down, in units of the shorter side, 0 the centre."""

    x: Map
    y: Map

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.x.shape[0], self.x.shape[1]


@dataclass(frozen=True)
class Lesions:
    """The distance field of the nearest lesion, per pixel.

    Attributes
    ----------
    edge : (H, W) 0 in the lesion's centre, 1 on its edge.
    u, v : (H, W) coordinates within it. ``kind`` : (H, W) a number in [0, 1) for each lesion.
    """

    edge: Map
    u: Map
    v: Map
    kind: Map


@lru_cache(maxsize=8)
def plane(height: int, width: int) -> Plane:
    """The coordinates of an image of that size."""
    short = min(height, width)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return Plane((x - (width - 1) / 2) / short, (y - (height - 1) / 2) / short)


@lru_cache(maxsize=64)
def _stretch(length: int, knots: int) -> Map:
    """(length, knots + 3) weights of a cubic B-spline over ``knots`` intervals."""
    at = np.linspace(0, knots, length, endpoint=False)
    cell = np.floor(at).astype(int)
    t = at - cell
    weights = np.zeros((length, knots + 3))
    rows = np.arange(length)
    weights[rows, cell] = (1 - t) ** 3 / 6
    weights[rows, cell + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[rows, cell + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[rows, cell + 3 - (cell + 3 >= knots + 3)] += t**3 / 6
    return weights.astype(np.float32)


def noise(shape: tuple[int, int], knots: int, rng: np.random.Generator) -> Map:
    """(H, W) smooth noise of about unit variance with ``knots`` waves across."""
    grid = rng.standard_normal((knots + 3, knots + 3), dtype=np.float32)
    wide = _product(grid, _stretch(shape[1], knots).T)
    return _product(_stretch(shape[0], knots), wide) * np.float32(2.1)


def _product(a: Map, b: Map) -> Map:
    """``a @ b``, by eight blocks of rows where they divide.

    Larger products wake BLAS's threads, which on a busy machine wait far longer than they work.
    """
    if len(a) % 8:
        return np.asarray(a @ b)
    return np.asarray(a.reshape(8, -1, a.shape[1]) @ b).reshape(len(a), -1)


def _step(value: Map, soft: float | Map) -> Map:
    """0 below zero, 1 above, over a width of ``soft``."""
    ramp = np.clip(value / soft + np.float32(0.5), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float32)


def _blend(colour: Map, towards: Map, weight: Map) -> Map:
    return np.asarray(colour + (towards - colour) * weight[..., None], dtype=np.float32)


def _absorb(colour: Map, what: Map, amount: Map) -> Map:
    return np.asarray(colour * np.exp(-amount[..., None] * what), dtype=np.float32)


def draw(look: Look, tone: float, shape: tuple[int, int], rng: np.random.Generator) -> Map:
    """A photograph.

    Parameters
    ----------
    look : what the lesions look like.
    tone : 0 (light) to 5 (dark), anything between.
    shape : (H, W).
    rng : all that is left to chance; equal state, equal pixels.

    Returns
    -------
    (H, W, 3) float32 in [0, 1].
    """
    where = plane(*shape)
    turn = rng.uniform(0, 2 * np.pi)
    colour, inside = _scene(look.scene, _skin(where, tone, rng), where, rng)
    lesions = _lesions(look, where, turn, rng)
    colour = _paint(colour, look, lesions, inside, rng)
    if look.tracks > 0.05:
        colour = _tracks(colour, look.tracks, where, rng)
    return _camera(_cloth(colour, where, rng), where, rng)


def jpeg(picture: Map, rng: np.random.Generator) -> bytes:
    """The file of a picture; its quality (84 to 95) is left to chance."""
    from PIL import Image

    sink = io.BytesIO()
    pixels = (picture * 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(sink, "JPEG", quality=int(rng.integers(84, 96)))
    return sink.getvalue()


def _skin(where: Plane, tone: float, rng: np.random.Generator) -> Map:
    """(H, W, 3) healthy skin: tone, mottling, pores, fine lines."""
    low = int(np.clip(np.floor(tone), 0, len(TONES) - 2))
    base = np.array(TONES[low]) * (low + 1 - tone) + np.array(TONES[low + 1]) * (tone - low)
    shape = where.shape
    mottle = 0.05 * noise(shape, 3, rng) + 0.04 * noise(shape, 9, rng)
    lines = 0.025 * noise(shape, 30, rng) + 0.02 * rng.standard_normal(shape, dtype=np.float32)
    colour = np.broadcast_to(base.astype(np.float32), (*shape, 3))
    colour = _absorb(colour, _BLOOD, mottle + np.float32(0.1))
    return _absorb(colour, _PIGMENT, lines + 0.05 * noise(shape, 4, rng))


def _scene(
    scene: str, colour: Map, where: Plane, rng: np.random.Generator
) -> tuple[Map, Map | None]:
    """Draw what is there besides skin; also where lesions are confined to, if they are."""
    x = where.x - np.float32(rng.normal(0, 0.05))
    y = where.y - np.float32(rng.normal(0, 0.05))
    if scene == "lips":
        y = y - np.float32(0.06)
        gape = 0.085 * (1 - 0.5 * np.exp(-((x / 0.06) ** 2)) * (y < 0))
        lips = _step(1 - np.hypot(x / 0.27, y / gape), 0.25)
        line = lips * np.exp(-((y / 0.010) ** 2))
        colour = _absorb(colour, _BLOOD, 0.75 * lips)
        return _absorb(colour, _PIGMENT, 1.1 * np.asarray(line, dtype=np.float32)), None
    if scene == "fold":
        bend = x + 0.04 * np.sin(4 * y)
        shadow = np.exp(-((bend / 0.014) ** 2)) * 1.2 + np.exp(-((bend / 0.11) ** 2)) * 0.3
        return _absorb(colour, _PIGMENT, np.asarray(shadow, dtype=np.float32)), None
    if scene == "nail":
        return _nail(colour, x, y)
    return colour, None


def _nail(colour: Map, x: Map, y: Map) -> tuple[Map, Map]:
    """A finger tip from above with its nail plate; lesions stay in the plate."""
    away = (np.abs(x / 0.40) ** 3 + np.abs((y - 0.25) / 0.72) ** 3) ** (1 / 3)
    shade = np.clip(1.25 - 0.55 * away, 0.35, 1.0)[..., None]
    plate_edge = (np.abs(x / 0.25) ** 3.5 + np.abs((y + 0.05) / 0.31) ** 3.5) ** (1 / 3.5)
    plate = _step(1 - plate_edge, 0.06)
    cuticle = np.exp(-(((plate_edge - 1.02) / 0.05) ** 2)).astype(np.float32)
    colour = _absorb(colour * shade, _PIGMENT, 0.6 * cuticle)
    pink = np.array([0.90, 0.70, 0.64], dtype=np.float32) * (1 - 0.18 * (x / 0.25) ** 2)[..., None]
    colour = _blend(colour, pink.astype(np.float32), plate * 0.85)
    moon = plate * _step(1 - np.hypot(x / 0.15, (y - 0.24) / 0.09), 0.3)
    colour = _blend(colour, _PALE, 0.4 * moon)
    off = _step(away - 1, 0.03)
    return _blend(colour, np.array([0.62, 0.68, 0.74], dtype=np.float32), off), plate


def _places(look: Look, n: int, rng: np.random.Generator) -> Map:
    """(n, 2) centres, before the scene is turned."""
    if look.place == "cluster":
        centre = rng.uniform(-0.2, 0.2, 2) * np.array([1.0, 0.7])
        spots = centre + rng.normal(0, 0.022 * np.sqrt(n) + 0.01, (n, 2))
    elif look.place == "band":
        along = rng.choice(np.linspace(-0.42, 0.42, 5), n) + rng.normal(0, 0.05, n)
        spots = np.stack([along, rng.normal(0, 0.06, n)], axis=1)
    elif look.place == "rows":
        spots = np.stack([np.linspace(-0.33, 0.33, n) if n > 1 else np.zeros(1)] * 2, axis=1)
        spots = spots * np.array([1.0, 0.3]) + rng.normal(0, 0.09, (n, 2))
    elif look.place == "centre":
        spots = rng.normal(0, 0.14 if n > 1 else 0.06, (n, 2))
    elif look.place == "around":
        angle = rng.uniform(0, 2 * np.pi, n)
        far = rng.normal(1.0, 0.12, n)
        spots = np.stack([0.36 * far * np.cos(angle), 0.25 * far * np.sin(angle) + 0.05], axis=1)
    elif look.place == "pair":
        side = np.where(np.arange(n) % 2, 1, -1)
        spots = np.stack([side * 0.15 + rng.normal(0, 0.03, n), rng.normal(0, 0.08, n)], axis=1)
    else:
        # a jittered lattice: scattered lesions keep a distance from each other
        cells_a_side = int(np.ceil(np.sqrt(n)))
        cells = rng.permutation(cells_a_side**2)[:n]
        spots = np.stack([cells % cells_a_side, cells // cells_a_side], axis=1) + rng.uniform(
            0.15, 0.85, (n, 2)
        )
        spots = spots / cells_a_side - 0.5
    return np.asarray(spots, dtype=np.float32)


def _lesions(look: Look, where: Plane, turn: float, rng: np.random.Generator) -> Lesions:
    """Place the lesions and measure the distance to the nearest edge, in units of its radius."""
    n = int(np.clip(rng.poisson(max(look.count - 1, 0)) + 1, 1, 90))
    spots = _places(look, n, rng)
    if look.place in ("band", "rows"):
        spots = spots @ np.array(
            [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]], dtype=np.float32
        )
    radius = look.size * np.exp(rng.normal(0, look.spread, n))
    stretch = 1 + look.long * rng.uniform(0.5, 1.0, n)
    angle = _angles(look, n, turn, rng)
    along = np.stack([np.cos(angle), np.sin(angle)], axis=1) / (radius * np.sqrt(stretch))[:, None]
    across = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    across = across / (radius / np.sqrt(stretch))[:, None]
    bend = np.float32(0.28 * look.warp * min(look.size, 0.25))
    x = where.x + bend * (noise(where.shape, 5, rng) + 0.4 * noise(where.shape, 13, rng))
    y = where.y + bend * (noise(where.shape, 5, rng) + 0.4 * noise(where.shape, 13, rng))
    kinds = rng.random(n, dtype=np.float32)
    axes = np.stack([along, across]).astype(np.float32)
    return _field((x, y), spots, axes, kinds, look.boxy)


def _angles(look: Look, n: int, turn: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    if look.place == "pair":
        return np.full(n, np.pi / 2)
    # elongated lesions follow the lines of the skin
    return turn + rng.normal(0, 0.35, n)


def _field(at: tuple[Map, Map], spots: Map, axes: Map, kinds: Map, boxy: float) -> Lesions:
    """The nearest lesion of every pixel, by one matrix product over all n of them."""
    (x, y), (along, across) = at, axes
    shift_u = (along * spots).sum(axis=1)
    shift_v = (across * spots).sum(axis=1)
    coefficients = np.stack(
        [
            along[:, 0] ** 2 + across[:, 0] ** 2,
            along[:, 1] ** 2 + across[:, 1] ** 2,
            2 * (along[:, 0] * along[:, 1] + across[:, 0] * across[:, 1]),
            -2 * (along[:, 0] * shift_u + across[:, 0] * shift_v),
            -2 * (along[:, 1] * shift_u + across[:, 1] * shift_v),
            shift_u**2 + shift_v**2,
        ],
        axis=1,
    )
    basis = np.stack([x * x, y * y, x * y, x, y, np.ones_like(x)], axis=-1)
    # (H, W, 6) @ (6, n): one small product a row of pixels, see _product
    nearest = (basis @ coefficients.T).argmin(axis=-1)
    u = along[nearest, 0] * x + along[nearest, 1] * y - shift_u[nearest]
    v = across[nearest, 0] * x + across[nearest, 1] * y - shift_v[nearest]
    power = np.float32(2 + 4 * np.clip(boxy, 0, 1))
    edge = np.hypot(u, v)
    if power > 2.1:
        edge = (np.abs(u) ** power + np.abs(v) ** power) ** (1 / power)
    return Lesions(edge, u, v, kinds[nearest])


def _paint(
    colour: Map, look: Look, lesions: Lesions, inside: Map | None, rng: np.random.Generator
) -> Map:
    """Lay the lesions over the skin: absorption first, then what lies on top."""
    shape = lesions.edge.shape
    edge = lesions.edge
    body = _step(1 - edge, max(look.soft * 1.6, 0.05))
    if inside is not None:
        body = np.clip(body + 0.3, 0, 1) * inside * _step(noise(shape, 3, rng) + 0.8, 1.0)
    patchy = 1 + 0.25 * noise(shape, 8, rng)
    rim = np.exp(-(((edge - 0.86) / 0.17) ** 2)).astype(np.float32) * body
    filled = body * (1 - np.clip(look.ring, 0, 1) * _step(0.72 - edge, 0.35))
    halo = np.exp(-(((np.maximum(edge, 1) - 1) / 0.5) ** 2)).astype(np.float32) * (1 - body)
    flush = look.flush * _step(noise(shape, 2, rng) + 0.9, 1.8)
    blood = look.red * filled * patchy + 0.55 * look.halo * look.red * halo + 0.7 * flush
    colour = _absorb(colour, _BLOOD, np.asarray(blood * 1.15, dtype=np.float32))
    if look.brown > 0:
        colour = _absorb(colour, _PIGMENT, look.brown * filled * patchy)
    else:
        colour = _blend(colour, _PALE, np.clip(-0.8 * look.brown, 0, 0.95) * body)
    if look.veins > 0.05:
        vessel = np.exp(-((noise(shape, 7, rng) / 0.13) ** 2)) * _step(noise(shape, 3, rng), 1.0)
        colour = _absorb(colour, _BLOOD, np.asarray(1.1 * look.veins * vessel, dtype=np.float32))
    colour = _relief(colour, look, lesions, body)
    return _surface(colour, look, lesions, (body, rim), rng)


def _relief(colour: Map, look: Look, lesions: Lesions, body: Map) -> Map:
    """Raised lesions catch the light on one side; blisters shine."""
    if look.dome > 0.05:
        slope = (lesions.u * 0.6 + lesions.v * 0.8) * body * np.exp(-(lesions.edge**2) * 0.4)
        colour = colour * (1 - 0.22 * min(look.dome, 1.5) * slope)[..., None]
    if look.blister > 0.05:
        glass = _step(0.75 - lesions.edge, 0.3)
        colour = _blend(colour, _PALE, 0.45 * min(look.blister, 1.2) * glass)
        spark = np.exp(-(((lesions.u + 0.3) ** 2 + (lesions.v + 0.3) ** 2) / 0.04))
        colour = _blend(colour, np.ones(3, dtype=np.float32), 0.8 * look.blister * spark * body)
    return np.asarray(colour, dtype=np.float32)


def _surface(
    colour: Map, look: Look, lesions: Lesions, masks: tuple[Map, Map], rng: np.random.Generator
) -> Map:
    """Crust, scale, pus and dark points, in the order in which they lie."""
    body, rim = masks
    shape = lesions.edge.shape
    if look.crust > 0.03:
        where = _step(noise(shape, 6, rng) + 0.5, 0.7) * _step(0.9 - lesions.edge, 0.4)
        colour = _blend(colour, _HONEY, np.clip(0.85 * look.crust, 0, 0.95) * where * body)
    flakes = _step(0.45 * noise(shape, 16, rng) + 0.7 * noise(shape, 42, rng) + 0.25, 1.6)
    if look.scale > 0.03:
        colour = _blend(colour, _FLAKE, np.clip(0.85 * look.scale, 0, 0.9) * flakes * body)
    if look.rim > 0.03:
        colour = _blend(colour, _FLAKE, np.clip(0.8 * look.rim, 0, 0.9) * rim * (0.5 + flakes / 2))
    if look.pus > 0.03:
        core = _step(0.5 - lesions.edge, 0.4) * (lesions.kind < look.pus)
        colour = _blend(colour, _PUS, np.clip(0.9 * look.pus, 0, 0.95) * core)
    if look.dot > 0.03:
        grain = _step(noise(shape, 26, rng) - 0.9, 0.5) * body * _step(0.75 - lesions.edge, 0.3)
        point = _step(0.3 - lesions.edge, 0.2) * (lesions.kind > 1 - look.dot)
        dark = np.maximum(point, grain * min(2 * look.scale, 1))
        colour = _blend(colour, _DARK, np.clip(0.75 * look.dot, 0, 0.9) * dark)
    return colour


def _segments(where: Plane, ends: Map) -> Map:
    """(H, W) distance to the nearest of n segments, ``ends`` (n, 4) as x0, y0, dx, dy."""
    x0, y0, dx, dy = (ends[:, i, None, None] for i in range(4))
    x, y = where.x - x0, where.y - y0
    t = np.clip((x * dx + y * dy) / (dx * dx + dy * dy), 0, 1)
    return np.asarray(np.hypot(x - t * dx, y - t * dy).min(axis=0), dtype=np.float32)


def _tracks(colour: Map, amount: float, where: Plane, rng: np.random.Generator) -> Map:
    """Scratches and burrows: short thin red-brown lines, some of them in parallel."""
    n = int(rng.integers(4, 9))
    angle = rng.uniform(0, np.pi) + rng.normal(0, 0.5, n)
    length = rng.uniform(0.06, 0.16, n)
    start = rng.uniform(-0.42, 0.42, (n, 2))
    steps = np.stack([np.cos(angle), np.sin(angle)], axis=1) * length[:, None]
    ends = np.concatenate([start, steps], axis=1).astype(np.float32)
    line = np.exp(-((_segments(where, ends) / 0.009) ** 2))
    colour = _absorb(colour, _BLOOD, np.asarray(0.9 * amount * line, dtype=np.float32))
    return _absorb(colour, _PIGMENT, np.asarray(0.5 * amount * line, dtype=np.float32))


def _cloth(colour: Map, where: Plane, rng: np.random.Generator) -> Map:
    """In a third of the photographs the body ends and a cloth begins."""
    if rng.random() > 0.3:
        return colour
    angle = rng.uniform(0, 2 * np.pi)
    away = where.x * np.cos(angle) + where.y * np.sin(angle)
    beyond = away + 0.25 * (where.x**2 + where.y**2) - rng.uniform(0.38, 0.6)
    weave = 0.02 * noise(where.shape, 24, rng)
    shade = np.array([(0.35, 0.48, 0.60), (0.75, 0.77, 0.78), (0.30, 0.42, 0.38)])[rng.integers(3)]
    round_off = 1 - 0.4 * np.clip(1 + beyond / 0.12, 0, 1)
    colour = colour * round_off[..., None]
    cloth = shade.astype(np.float32) + weave[..., None]
    return _blend(np.asarray(colour, dtype=np.float32), cloth, _step(beyond, 0.02))


def _camera(colour: Map, where: Plane, rng: np.random.Generator) -> Map:
    """Light from one side, vignetting, white balance, exposure, blur and sensor noise."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.35)
    light = 1 + slope * (where.x * np.cos(angle) + where.y * np.sin(angle))
    light = light * (1 - rng.uniform(0.0, 0.5) * (where.x**2 + where.y**2))
    balance = np.exp(rng.normal(0, 0.035, 3)) * np.exp(rng.normal(0, 0.08))
    picture = colour * light[..., None].astype(np.float32) * balance.astype(np.float32)
    picture = _blurred(picture, rng.choice([0.0, 0.5, 0.8, 1.3], p=[0.4, 0.3, 0.2, 0.1]))
    grain = rng.standard_normal(colour.shape, dtype=np.float32)
    return np.clip(picture + np.float32(rng.uniform(0.004, 0.02)) * grain, 0, 1)


def _blurred(picture: Map, sigma: float) -> Map:
    """Gaussian blur, one axis after the other."""
    if sigma == 0:
        return picture
    reach = int(np.ceil(2.5 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights = (weights / weights.sum()).astype(np.float32)
    height, width = picture.shape[:2]
    tall = np.pad(picture, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    tall = np.sum([w * tall[i : i + height] for i, w in enumerate(weights)], axis=0)
    wide = np.pad(tall, ((0, 0), (reach, reach), (0, 0)), mode="edge")
    wide = np.sum([w * wide[:, i : i + width] for i, w in enumerate(weights)], axis=0)
    return np.asarray(wide, dtype=np.float32)
