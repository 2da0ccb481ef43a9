"""The bundle: one threshold, frozen with what it was chosen for, on and by; checked on reading.

Belongs: the contents of ``metadata.json``, what refuses to be one, whether its neighbours are its.
Does not: choosing the point (``points``), the folder (``publish``, ``lib.sums``), applying it
(``apply``).
Concept: made from its inputs only, so that the same inputs give the same bytes: no clock, no host.
It is sealed by a hash of its own content, for it is copied alone, and a tau edited by hand has
nothing to show for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dagster_project.lib import sums
from dagster_project.lib.config_file import config_sha256, faults, read_config_json
from dagster_project.lib.environment import environment
from dagster_project.lib.errors import InputError, RefusedError, some
from dagster_project.lib.files import canonical_json, sha256_bytes, sha256_file
from dagster_project.lib.gate.apply import FORMAT, SCHEMA_VERSION
from dagster_project.lib.gate.config import Gauge, Identity, Relabel

if TYPE_CHECKING:
    from dagster_project.lib.gate.config import GateConfig
    from dagster_project.lib.gate.scores import GateScores

NAME = "metadata.json"
DOCS = "docs/gate.md#bundle"

Finite = Annotated[float, Field(allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Point(_Part):
    """The operating point that was frozen, as ``points.operating_points`` backs it.

    ``no_gray_zone``: why a gray zone that was configured is empty here; null where it is not.
    """

    name: str
    rule: dict[str, Any]
    certified: bool | None
    bounds: dict[str, Any]
    calibration: dict[str, Any]
    evaluation: dict[str, Any]
    no_gray_zone: str | None = None


class Scores(BaseModel):
    """Of which rows: ``sha256`` is null for arrays that never were a file."""

    model_config = ConfigDict(frozen=True, extra="allow")

    sha256: Sha256 | None
    rows: int = Field(gt=0)
    dtype: Literal["float32", "float64"]


class Code(_Part):
    """What computed it, of ``lib.environment``."""

    version: str | None
    commit: str | None
    dirty: bool | None


class Bundle(_Part):
    """A frozen gate; docs/gate.md says what each key is.

    ``tau_train`` is there exactly where ``use_gap`` is, and stricter than ``tau_infer``.
    ``files``: sha256 of what was written beside it; none before it is (``files_of``).
    """

    format: Literal["tier-refit gate"]
    schema_version: Literal[1]
    tau_infer: Finite
    tau_train: Finite | None
    use_gap: bool
    gauge: Gauge
    identity: Identity
    relabel: Relabel | None
    point: Point
    terms: dict[str, Any]
    split: dict[str, Any] = Field(min_length=1)
    scores: Scores
    config: dict[str, Any]
    config_sha256: Sha256
    code: Code
    packages: dict[str, str | None]
    files: dict[str, Sha256]
    content_sha256: Sha256

    @property
    def accept(self) -> Literal["high", "low"]:
        """Which scores get an answer."""
        return self.gauge.accept

    def as_json(self) -> dict[str, Any]:
        """The object that it was read from, to the last key."""
        return self.model_dump(mode="json", exclude_unset=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.use_gap != (self.tau_train is not None):
            raise ValueError(
                "use_gap and tau_train go together: true with a number, false with null"
            )
        if self.tau_train is not None and not _stricter(
            self.tau_train, self.tau_infer, self.accept
        ):
            side = "above" if self.accept == "high" else "below"
            raise ValueError(
                f"tau_train {self.tau_train!r} is not {side} tau_infer {self.tau_infer!r}, and "
                f"the gauge accepts {self.accept} scores"
            )
        if sha256_bytes(canonical_json(self.config).encode()) != self.config_sha256:
            raise ValueError("config_sha256 is not that of config")
        for key, own in (("gauge", self.gauge), ("relabel", self.relabel)):
            if self.config.get(key) != (None if own is None else own.model_dump(mode="json")):
                raise ValueError(f"{key} and config.{key} differ")
        if self.config.get("freeze") != self.point.name:
            raise ValueError(
                f"point {self.point.name} was not the one to freeze ({self.config.get('freeze')})"
            )
        return self


def freeze(points: Mapping[str, Any], scores: GateScores, config: GateConfig) -> dict[str, Any]:
    """``metadata.json`` of the operating point that the configuration names; plain JSON.

    Parameters
    ----------
    points : of ``points.operating_points``, or a report that has its keys.
    scores : the rows they were chosen on.

    Raises
    ------
    RefusedError
        The point is not backed: why not.
    InputError
        A part that a bundle must have is missing, or parts contradict each other.
    """
    point = points["points"][config.freeze]
    if point["status"] != "backed":
        raise RefusedError(f"{config.freeze} is {point['status']}: {point['reason']}")
    kept = ("rule", "certified", "bounds", "calibration", "evaluation", "no_gray_zone")
    made = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "tau_infer": point["tau"],
        "tau_train": point["tau_train"],
        "use_gap": point["tau_train"] is not None,
        "gauge": scores.gauge.model_dump(mode="json"),
        "identity": scores.identity.model_dump(mode="json"),
        "relabel": None if config.relabel is None else config.relabel.model_dump(mode="json"),
        "point": {"name": config.freeze, **_present(point, kept)},
        **_present(points, ("terms", "split")),
        "scores": {"sha256": None, **scores.source},
        "config": config.model_dump(mode="json"),
        "config_sha256": config_sha256(config),
        **environment(),
        "files": {},
    }
    sealed = _sealed(made)
    parse_bundle(sealed)
    return sealed


def files_of(frozen: Mapping[str, Any], beside: Mapping[str, bytes]) -> dict[str, bytes]:
    """``metadata.json`` and the files it stands beside, whose hashes it carries.

    Parameters
    ----------
    frozen : of :func:`freeze`. beside : name -> bytes of sweep, points and whatever else is there.
    """
    hashes = {name: sha256_bytes(data) for name, data in beside.items() if name != NAME}
    return {**beside, NAME: sums.json_bytes(_sealed({**frozen, "files": hashes}))}


def read_bundle(path: Path | str) -> Bundle:
    """A bundle from its ``metadata.json``, or from the folder that holds it.

    Where the files that it was frozen with lie beside it, they must be the same; a copy that stands
    alone is as good. ``SHA256SUMS`` beside it is checked as well.

    Raises
    ------
    InputError
        No such file; a key missing, unknown, out of range or contradicting another; a bundle or a
        neighbour that was changed since.
    """
    path = Path(path)
    file = path / NAME if path.is_dir() else path
    found = parse_bundle(read_config_json(file, "gate bundle", DOCS), file.name)
    changed = changed_beside(found, file)
    if changed:
        raise InputError(
            f"{file.name}: beside it {some(changed)}; take the folder as it was released, or "
            f"{file.name} alone"
        )
    return found


def parse_bundle(value: object, name: str = NAME) -> Bundle:
    """Check a bundle that is already an object; ``name`` is for messages; errors as above."""
    mend = f"take it as `tier-refit gate` wrote it ({DOCS})"
    try:
        wrong = _not_finite(value)
        if wrong is not None:
            raise InputError(f"{name}: key {wrong}: not a finite number; {mend}")
        found = Bundle.model_validate_json(canonical_json(value), strict=True)
    except RecursionError:
        raise InputError(f"{name}: nested too deep; {mend}") from None
    except ValidationError as error:
        parts = (Bundle, Point, Scores, Code, Gauge, Identity, Relabel)
        raise InputError(f"{name}: {faults(error, 'the bundle', parts)}; {mend}") from None
    if isinstance(value, dict) and content_sha256(value) != found.content_sha256:
        raise InputError(
            f"{name}: key content_sha256: the content was changed after it was frozen; {mend}. "
            "Another tau is another operating point: declare a rule and freeze that"
        )
    return found


def changed_beside(found: Bundle, file: Path) -> list[str]:
    """One sentence for each neighbour of ``file`` that is not what it was frozen with.

    Files that are not there are missing only where ``SHA256SUMS`` says that they should be.
    """
    folder = file.parent
    if (folder / sums.SUMS).is_file() and file.name in sums.read_sums(folder):
        return sums.verify(folder)
    return [
        f"{name}: its content is not what was released"
        for name, sha256 in sorted(found.files.items())
        if (folder / name).is_file() and sha256_file(folder / name) != sha256
    ]


def content_sha256(value: Mapping[str, Any]) -> str:
    """sha256 of all of a bundle but this hash itself, as canonical JSON."""
    rest = {key: part for key, part in value.items() if key != "content_sha256"}
    return sha256_bytes(canonical_json(rest).encode())


def _present(value: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Those keys that are there: what is missing is for :func:`parse_bundle` to name."""
    return {key: value[key] for key in keys if key in value}


def _sealed(made: Mapping[str, Any]) -> dict[str, Any]:
    return {**made, "content_sha256": content_sha256(made)}


def _stricter(tau: float, than: float, accept: str) -> bool:
    return tau > than if accept == "high" else tau < than


def _not_finite(value: object, at: str = "") -> str | None:
    """The first key that holds NaN or infinity; None where there is none."""
    if isinstance(value, float):
        return None if isfinite(value) else at
    parts: Mapping[Any, Any] = {}
    if isinstance(value, dict):
        parts = value
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    wrong = (_not_finite(part, f"{at}.{key}" if at else str(key)) for key, part in parts.items())
    return next((key for key in wrong if key is not None), None)
