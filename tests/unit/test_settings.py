"""Settings: environment over file over defaults, and one clear line for a wrong value."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import AliasChoices, ValidationError

from dagster_project.lib.errors import InputError
from dagster_project.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


def variable(field: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return str(alias.choices[0])


VARIABLES = {variable(field) for field in Settings.model_fields}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable of ours is set, and the working folder is empty."""
    for name in {*VARIABLES, "DAGSTER_HOME"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def home(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAGSTER_HOME; settings.env belongs beside it."""
    (bare / "dagster_home").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(bare / "dagster_home"))
    return bare


def test_the_defaults_are_the_demo(bare: Path) -> None:
    settings = load_settings()
    assert settings.dataset_dir == bare / ".demo" / "dataset"
    assert settings.model_uri == str(bare / ".demo" / "model_bucket")
    assert settings.num_shards == 16
    assert settings.deployed_confident is None


def test_environment_beats_file_beats_default(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "settings.env").write_text("NUM_SHARDS=4\nTTA=false\n")
    monkeypatch.setenv("NUM_SHARDS", "16")
    settings = load_settings()
    assert (settings.num_shards, settings.tta, settings.batch_size) == (16, False, 64)
    assert load_settings(num_shards=2).num_shards == 2


def test_without_a_settings_file_the_defaults_hold(home: Path) -> None:
    assert load_settings().num_shards == 16


def test_a_foreign_variable_with_a_fields_bare_name_is_not_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DEVICE", "STORE", "POLICY", "DTYPE", "REVIEWERS", "BATCH_SIZE"):
        monkeypatch.setenv(name, "9")
    settings = load_settings()
    assert settings.device == "auto"
    assert settings.store.parts[-2:] == (".demo", "store")
    assert settings.policy is None
    assert settings.batch_size == 64


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("NUM_SHARDS", "many", id="no_number"),
        pytest.param("NUM_SHARDS", "0", id="no_shard"),
        pytest.param("NUM_SHARDS", "100", id="too_many_shards"),
        pytest.param("TTA", "perhaps", id="no_truth_value"),
        pytest.param("TIER_CONFIDENT_THRESHOLD", "1.5", id="above_1"),
        pytest.param("TIER_REFER_THRESHOLD", "nan", id="nan"),
        pytest.param("TIER_REFIT_MAX_THRESHOLD_CHANGE", "0", id="bound_of_nothing"),
        pytest.param("TIER_REFIT_DTYPE", "float8", id="dtype"),
        pytest.param("TIER_REFIT_MAX_ERROR_SHARE", "1.5", id="more_than_all"),
        pytest.param("TIER_REFIT_DEVICE", "tpu", id="device"),
    ],
)
def test_a_wrong_value_is_one_line_with_variable_and_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=rf"^setting {name}: .*\(got '{value}'\)") as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_a_wrong_value_in_the_file_is_refused_too(home: Path) -> None:
    (home / "settings.env").write_text("NUM_SHARDS=x\n")
    with pytest.raises(InputError, match="setting NUM_SHARDS"):
        load_settings()


def test_relative_paths_become_absolute_and_uris_stay(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ("TIER_REFIT_POLICY", "TIER_REFIT_CHECKPOINTS")
    for name in ("DATASET_DIR", "TIER_REFIT_STORE", *files, "LABELS_URI"):
        monkeypatch.setenv(name, f"x/{name}")
    monkeypatch.setenv("MODEL_URI", "s3://bucket/models/v7/")
    settings = load_settings()
    assert settings.dataset_dir == bare / "x" / "DATASET_DIR"
    assert settings.store == bare / "x" / "TIER_REFIT_STORE"
    assert settings.policy == bare / "x" / "TIER_REFIT_POLICY"
    assert settings.checkpoints == bare / "x" / "TIER_REFIT_CHECKPOINTS"
    assert settings.labels_uri == str(bare / "x" / "LABELS_URI")
    assert settings.model_uri == "s3://bucket/models/v7/"
    assert settings.report_dir == settings.store / "report"


@pytest.mark.parametrize(
    ("text", "names"),
    [("a,b", ("a", "b")), (" a , b ,", ("a", "b")), ("a", ("a",)), ("", ())],
    ids=["plain", "blanks", "one", "none"],
)
def test_lists_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, text: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TIER_REFIT_REVIEWERS", text)
    monkeypatch.setenv("TIER_REFIT_NULL_FIELDS", text)
    assert load_settings().reviewers == names
    assert load_settings().null_fields == names


def test_an_unset_list_of_null_fields_is_not_an_empty_one() -> None:
    assert load_settings().null_fields is None


@pytest.mark.parametrize(
    "field",
    [
        "packet_split",
        "policy",
        "checkpoints",
        "deployed_confident",
        "deployed_refer",
        "deployed_possible_item",
    ],
)
def test_an_empty_value_is_none_where_none_means_something(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setenv(variable(field), "")
    assert getattr(load_settings(), field) is None


def test_a_packet_asks_about_the_test_split_unless_told_otherwise() -> None:
    assert load_settings().packet_split == "test"


def test_settings_do_not_change_once_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().num_shards = 3  # type: ignore[misc]


def test_every_variable_is_documented_in_the_example_file_and_no_other() -> None:
    text = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^# ([A-Z_]+)=", text, flags=re.MULTILINE)) == VARIABLES
    assert all(field.description for field in Settings.model_fields.values())


def test_the_example_file_parses_as_it_stands_when_uncommented(
    home: Path,
) -> None:
    text = (ROOT / ".env.example").read_text()
    (home / "settings.env").write_text(re.sub(r"^# (?=[A-Z_]+=)", "", text, flags=re.MULTILINE))
    settings = load_settings()
    assert settings.num_shards == 16
    assert settings.deployed_confident == 0.815
    assert settings.null_fields is not None
    assert len(settings.null_fields) == 5


def test_a_short_name_of_arithmetic_means_the_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIER_REFIT_DTYPE", "bf16")
    assert load_settings().dtype == "bfloat16"
