"""Every environment variable, typed, in one place; the demo is the default.

Belongs: what differs between installations.
Does not: the tier policy (a file: what is decided, not where it runs), ``dagster.yaml``.
Concept: environment > ``$DAGSTER_HOME/../settings.env`` > defaults, read once at start and frozen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference.precision import SHORT

DEMO_ROOT = Path(".demo")
SETTINGS_FILE = "settings.env"
PACKETS, HAND_OUT = "packets", "hand_out"
"""The folder of review packets, and the part of each that leaves the house."""


def _variable(name: str, default: Any, description: str, **constraints: Any) -> Any:
    """A field read from the environment variable ``name``, or given by its own name in code."""
    alias = AliasChoices(name, name.lower())
    return Field(default, validation_alias=alias, description=description, **constraints)


class Settings(BaseSettings):
    """Where things are and how the dump runs; every field names its variable."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        validate_default=True,
        # with populate_by_name a field's bare name is read too: not from a stray DEVICE or STORE
        env_prefix="TIER_REFIT_",
    )

    model_uri: str = _variable(
        "MODEL_URI",
        str(DEMO_ROOT / "model_bucket"),
        "Model artifact: s3://bucket/prefix/ or a folder.",
    )
    model_public_key: Path | None = _variable(
        "MODEL_PUBLIC_KEY",
        None,
        "PEM file of the key that model artifacts must be signed with (model.sig); "
        "unset: signatures are not looked at.",
    )
    dataset_dir: Path = _variable(
        "DATASET_DIR", DEMO_ROOT / "dataset", "Folder with manifest, splits and images."
    )
    labels_uri: str = _variable(
        "LABELS_URI", str(DEMO_ROOT / "label_drop"), "Where reviewers' CSV files land."
    )
    store: Path = _variable(
        "TIER_REFIT_STORE", DEMO_ROOT / "store", "Where assets, reports and releases are written."
    )
    num_shards: int = _variable(
        "NUM_SHARDS",
        16,
        "Shards of each probability dump; below 100, or staleness is not tracked.",
        ge=1,
        lt=100,
    )
    policy: Path | None = _variable(
        "TIER_REFIT_POLICY", None, "Tier policy JSON; the built-in one when unset."
    )
    checkpoints: Path | None = _variable(
        "TIER_REFIT_CHECKPOINTS",
        None,
        "checkpoints.toml: which checkpoints are compared with the model in service, and by which "
        "rule; unset: none.",
    )
    taxonomy: Path | None = _variable(
        "TIER_REFIT_TAXONOMY",
        None,
        "CSV class,family,group: what the roll-up says when the model is unsure, and that it "
        "follows labels in every refit; unset: by rollup_job only, with a shipped example where "
        "its classes are the model's (none is clinically validated).",
    )
    rollup: Path | None = _variable(
        "TIER_REFIT_ROLLUP",
        None,
        "JSON of the roll-up: mask, normalisation, rule, thresholds; the built-in one when unset.",
    )
    gate_scores: Path | None = _variable(
        "TIER_REFIT_GATE_SCORES",
        None,
        "Parquet of cached scores and task labels that a gate is chosen on (docs/gate.md); unset: "
        "no gate.",
    )
    gate: Path | None = _variable(
        "TIER_REFIT_GATE",
        None,
        "JSON of the gate: gauge, operating points, which one to freeze; goes with the scores.",
    )
    gate_live_scores: Path | None = _variable(
        "TIER_REFIT_GATE_LIVE_SCORES",
        None,
        "Parquet of newer scores, labels not needed, that gate_monitoring watches; unset: those "
        "that the gate is chosen on.",
    )
    gate_bundle: Path | None = _variable(
        "TIER_REFIT_GATE_BUNDLE",
        None,
        "metadata.json of the gate in service, or its folder, for gate_monitoring; unset: the "
        "newest one frozen here.",
    )
    null_fields: Annotated[tuple[str, ...] | None, NoDecode] = _variable(
        "TIER_REFIT_NULL_FIELDS",
        None,
        "Questionnaire fields set to unknown in the deployed view, comma separated; "
        "unset: the five that the app does not collect.",
    )
    tta: bool = _variable("TTA", True, "Average each image with its horizontal flip.")
    batch_size: int = _variable("TIER_REFIT_BATCH_SIZE", 64, "Images a forward pass.", ge=1)
    dtype: Literal["float32", "tf32", "bfloat16", "float16"] = _variable(
        "TIER_REFIT_DTYPE",
        "float32",
        "Arithmetic of the dump, part of its identity; fp32, bf16 and fp16 are accepted too.",
    )
    device: Literal["auto", "cpu", "cuda"] = _variable(
        "TIER_REFIT_DEVICE", "auto", "Where the dump runs; auto takes a GPU where there is one."
    )
    embeddings: bool = _variable(
        "TIER_REFIT_EMBEDDINGS",
        False,
        "Also dump what the encoder makes of each image: outliers and look-alikes are found in it.",
    )
    max_error_share: float = _variable(
        "TIER_REFIT_MAX_ERROR_SHARE",
        0.05,
        "Share of a dump's rows that may lack probabilities (unreadable images); more blocks.",
        ge=0,
        le=1,
    )
    gpu_slots: int = _variable(
        "TIER_REFIT_GPU_SLOTS", 1, "Limit of the pool gpu: the number of GPUs.", ge=1
    )
    reviewers: Annotated[tuple[str, ...], NoDecode] = _variable(
        "TIER_REFIT_REVIEWERS",
        ("reader_a", "reader_b", "reader_c"),
        "Who gets a review packet, comma separated.",
    )
    packet_size: int = _variable(
        "TIER_REFIT_PACKET_SIZE",
        200,
        "Images that a review packet asks about, at most; repeats and practice cases come on top.",
        ge=1,
    )
    packet_certain: int | None = _variable(
        "TIER_REFIT_PACKET_CERTAIN",
        None,
        "Of them the worst candidates, asked with certainty; unset: a quarter. The others are "
        "drawn by design (docs/review-packet.md).",
        ge=0,
    )
    packet_repeats: int | None = _variable(
        "TIER_REFIT_PACKET_REPEATS",
        None,
        "Images that a packet shows a second time, for self-agreement; unset: about 5 %.",
        ge=0,
    )
    packet_split: str | None = _variable(
        "TIER_REFIT_PACKET_SPLIT",
        "test",
        "Split that a review packet asks about; empty: both (only test labels move thresholds).",
    )
    review_columns: Annotated[tuple[str, ...], NoDecode] = _variable(
        "TIER_REFIT_REVIEW_COLUMNS",
        (),
        "Metadata columns that reviewers see beside a photograph, comma separated; none by "
        "default, and what identifies a person or tells the label is refused.",
    )
    class_descriptions: Path | None = _variable(
        "TIER_REFIT_CLASS_DESCRIPTIONS",
        None,
        "CSV class,description: a few words on each class for reviewers.",
    )
    consensus_min_agreeing: int = _variable(
        "TIER_REFIT_CONSENSUS_MIN_AGREEING",
        2,
        "Readers of photographs that must say the same before a label is decided.",
        ge=1,
    )
    consensus_single: Literal["keep_given", "accept", "exclude"] = _variable(
        "TIER_REFIT_CONSENSUS_SINGLE",
        "keep_given",
        "What votes do that are all alike but too few: keep_given, accept, exclude the image.",
    )
    consensus_conflict: Literal["keep_given", "exclude", "majority"] = _variable(
        "TIER_REFIT_CONSENSUS_CONFLICT",
        "keep_given",
        "What a tie does: keep_given, exclude the image, majority (most votes, if fewer than the "
        "agreeing readers asked for).",
    )
    references: Annotated[tuple[tuple[str, ...], ...], NoDecode] = _variable(
        "TIER_REFIT_REFERENCES",
        (),
        "Reviewers that stand for more than a photograph, strongest first, comma separated; "
        "equally strong ones are joined by |, as in histology|biopsy,in_person.",
    )
    verified_labels: str | None = _variable(
        "TIER_REFIT_VERIFIED_LABELS",
        None,
        "Metadata column and values that say that a given label is proven, as in biopsed=true|yes: "
        "readers of photographs do not overrule it.",
    )
    photos_in_ui: bool = _variable(
        "TIER_REFIT_PHOTOS_IN_UI",
        True,
        "Show a thumbnail of the worst candidates in the UI, and let `make ui` serve review "
        "packets on loopback: photographs of patients.",
    )
    deployed_confident: float | None = _variable(
        "TIER_CONFIDENT_THRESHOLD", None, "Deployed value, for comparison.", ge=0, le=1
    )
    deployed_refer: float | None = _variable(
        "TIER_REFER_THRESHOLD", None, "Deployed value, for comparison.", ge=0, le=1
    )
    deployed_possible_item: float | None = _variable(
        "POSSIBLE_ITEM_THRESHOLD", None, "Deployed value, for comparison.", ge=0, le=1
    )
    max_threshold_change: float = _variable(
        "TIER_REFIT_MAX_THRESHOLD_CHANGE",
        0.15,
        "A release whose thresholds moved further than this from the deployed ones is blocked.",
        gt=0,
        le=1,
    )
    subgroups: Annotated[tuple[str, ...] | None, NoDecode] = _variable(
        "TIER_REFIT_SUBGROUPS",
        None,
        "Metadata columns that the report shows by group, comma separated; unset: every column "
        "with few groups.",
    )
    report_url: str = _variable(
        "TIER_REFIT_REPORT_URL",
        "http://127.0.0.1:3001",
        "Where `make ui` serves the report folder; the start of links in metadata.",
    )

    @field_validator("null_fields", "reviewers", "subgroups", "review_columns", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("references", mode="before")
    @classmethod
    def _split_strengths(cls, value: object) -> object:
        if isinstance(value, str):
            groups = (group.split("|") for group in value.split(","))
            named = (tuple(n.strip() for n in group if n.strip()) for group in groups)
            return tuple(group for group in named if group)
        return value

    @field_validator(
        "packet_split",
        "packet_certain",
        "packet_repeats",
        "class_descriptions",
        "verified_labels",
        "policy",
        "checkpoints",
        "taxonomy",
        "rollup",
        "gate_scores",
        "gate",
        "gate_live_scores",
        "gate_bundle",
        "model_public_key",
        "deployed_confident",
        "deployed_refer",
        "deployed_possible_item",
        mode="before",
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("dtype", mode="before")
    @classmethod
    def _long_name(cls, value: object) -> object:
        return SHORT.get(value, value) if isinstance(value, str) else value

    @field_validator(
        "store",
        "dataset_dir",
        "policy",
        "checkpoints",
        "taxonomy",
        "rollup",
        "gate_scores",
        "gate",
        "gate_live_scores",
        "gate_bundle",
        "model_public_key",
        "class_descriptions",
        mode="after",
    )
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        # a run may be executed from another folder than the one that defined it
        return None if value is None else value.absolute()

    @field_validator("model_uri", "labels_uri", mode="after")
    @classmethod
    def _absolute_folder(cls, value: str) -> str:
        return value if "://" in value else str(Path(value).absolute())

    @model_validator(mode="after")
    def _deployed_are_three(self) -> Self:
        # here and not in a run: a refit would fail, be tried again, and stop for ever
        values = (self.deployed_confident, self.deployed_refer, self.deployed_possible_item)
        given = [value for value in values if value is not None]
        if given and len(given) < len(values):
            raise ValueError("of the three deployed thresholds give all or none")
        if given and given[1] > given[0]:
            raise ValueError(f"deployed refer {given[1]} is above deployed confident {given[0]}")
        return self

    @property
    def models_dir(self) -> Path:
        """Published model artifacts, one folder a tree hash."""
        return self.store / "models"

    @property
    def tables_dir(self) -> Path:
        """What the IO manager writes: one parquet file an asset or partition."""
        return self.store / "tables"

    @property
    def packets_dir(self) -> Path:
        """Review packets and their keys, one frozen folder a packet."""
        return self.store / PACKETS

    @property
    def report_dir(self) -> Path:
        """What people open: the newest curves, pictures, tables and reports."""
        return self.store / "report"

    @property
    def looks(self) -> Path:
        """The ledger of looks at the test rows."""
        return self.store / "looks.jsonl"

    @property
    def rollup_looks(self) -> Path:
        """The ledger of looks at them by fits of the roll-up: certificates of their own."""
        return self.store / "rollup_looks.jsonl"

    @property
    def label_history(self) -> Path:
        """The history of label versions."""
        return self.store / "label_history.jsonl"

    @property
    def manifests_dir(self) -> Path:
        """Manifests for the next training, one folder a version, and the link ``latest``."""
        return self.store / "manifests"

    @property
    def predictions_dir(self) -> Path:
        """The record of all roll-ups, one file a configuration; nothing in it is ever changed."""
        return self.store / "predictions"

    @property
    def releases_dir(self) -> Path:
        """Released thresholds, one folder a release, and the links ``latest`` and ``current``."""
        return self.store / "releases"

    @property
    def gates_dir(self) -> Path:
        """Frozen gates, one folder a gate, and the link ``latest``."""
        return self.store / "gates"

    @property
    def release_inputs_dir(self) -> Path:
        """Copies of the rows that releases were made from, by content: rows of patients."""
        return self.store / "release_inputs"


def _variables() -> tuple[str, ...]:
    aliases = (field.validation_alias for field in Settings.model_fields.values())
    return tuple(str(a.choices[0]) for a in aliases if isinstance(a, AliasChoices))


VARIABLES = _variables()
"""The environment variables that are read."""


def load_settings(**overrides: Any) -> Settings:
    """Read the environment (see the module docstring), with ``overrides`` on top.

    Raises
    ------
    InputError
        A variable that does not parse, named with its value's fault.
    """
    home = os.environ.get("DAGSTER_HOME")
    file = Path(home).parent / SETTINGS_FILE if home else None
    try:
        return Settings(_env_file=file, **overrides)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"setting {first['loc'][0]}" if first["loc"] else "settings"
        got = f" (got {first['input']!r})" if first["loc"] else ""
        raise InputError(
            f"{name}: {first['msg']}{got}; correct the environment variable or settings.env"
        ) from None


def use_settings_of(root: Path) -> Settings:
    """The settings of a demo root, and nothing else's: real paths in the environment stay unused.

    They go into this process's environment too, for the code servers that it starts.
    """
    for name in VARIABLES:
        os.environ.pop(name, None)
    for line in (root / SETTINGS_FILE).read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        os.environ[name] = value
    os.environ["DAGSTER_HOME"] = str((root / "dagster_home").absolute())
    return load_settings()
