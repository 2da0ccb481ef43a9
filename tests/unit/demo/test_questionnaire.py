import polars as pl

from dagster_project.lib.demo.classes import CLASSES
from dagster_project.lib.demo.questionnaire import ORDER, UNKNOWN, answers, schema
from dagster_project.lib.inference import questionnaire as service

FIXED = {*service.PRODUCTION_NULL_FIELDS, "cough"}


def test_the_schema_has_19_fields_of_all_types_with_the_six_fixed_names() -> None:
    parsed = service.parse_schema(schema())
    assert len(parsed.fields) == 19
    assert set(parsed.names) >= FIXED
    assert {field.type for field in parsed.fields} == {"categorical", "boolean", "numeric"}


def test_every_answer_is_allowed_by_the_schema() -> None:
    told = answers(list(CLASSES) * 8, seed=1)
    rows = told.with_columns(image_uuid=pl.int_range(pl.len()).cast(pl.String))
    encoded = service.encode(service.parse_schema(schema()), rows)
    assert encoded.shape[0] == 200


def test_about_a_quarter_of_the_answers_is_unknown() -> None:
    told = answers(list(CLASSES) * 20, seed=1)
    share = sum(told.null_count().row(0)) / (told.height * len(ORDER))
    assert abs(share - UNKNOWN) < 0.02


def test_answers_lean_towards_the_disease_but_do_not_name_it() -> None:
    cellulitis = answers(["cellulitis"] * 400, seed=1)["fever"].drop_nulls()
    acne = answers(["acne"] * 400, seed=1)["fever"].drop_nulls()
    assert 0.3 < (cellulitis == "true").sum() / cellulitis.len() < 0.8
    assert 0 < (acne == "true").sum() / acne.len() < 0.2


def test_a_patients_answers_do_not_depend_on_the_patients_after() -> None:
    long = answers(["acne", "tinea", "scabies"], seed=4)
    assert answers(["acne", "tinea"], seed=4).rows() == long.rows()[:2]
