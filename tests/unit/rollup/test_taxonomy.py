"""The table that says what a class may be rolled up to, and every way it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.taxonomy import read_taxonomy

CLASSES = ["c", "a", "b"]
GOOD = "class,family,group\na,f1,g\nb,f1,g\nc,f2,g\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "taxonomy.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_nodes_are_numbered_rank_by_rank_with_classes_in_output_order(tmp_path: Path) -> None:
    found = read_taxonomy(written(tmp_path, GOOD), CLASSES)
    assert found.ranks == ("class", "family", "group")
    assert found.nodes == ("c", "a", "b", "f2", "f1", "g")
    assert found.rank_of.tolist() == [0, 0, 0, 1, 1, 2]
    assert found.ancestors.tolist() == [[0, 3, 5], [1, 4, 5], [2, 4, 5]]


def test_the_order_of_rows_does_not_matter_and_the_order_of_classes_does(tmp_path: Path) -> None:
    found = read_taxonomy(written(tmp_path, GOOD), CLASSES)
    turned = written(tmp_path, "class,family,group\nc,f2,g\nb,f1,g\na,f1,g\n")
    assert read_taxonomy(turned, CLASSES) == found
    assert read_taxonomy(turned, ["a", "b", "c"]).sha256 != found.sha256


def test_a_column_that_is_no_rank_can_be_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "class,family,icd10\na,f1,L1\nb,f1,L1\nc,f2,L1\n")
    assert read_taxonomy(path, CLASSES, ranks=["family"]).ranks == ("class", "family")


def test_a_code_is_no_rank_and_what_a_table_says_of_itself_is_kept(tmp_path: Path) -> None:
    head = "class,family,icd10,clinically_validated\n"
    said = read_taxonomy(
        written(tmp_path, head + "a,f1,L1,yes\nb,f1,L1,no\nc,f2,L2,yes\n"), CLASSES
    )
    assert said.ranks == ("class", "family")
    assert said.validated is False
    assert read_taxonomy(
        written(tmp_path, head + "a,f1,,yes\nb,f1,,yes\nc,f2,,yes\n"), CLASSES
    ).validated
    silent = read_taxonomy(written(tmp_path, "class,family\na,f1\nb,f1\nc,f2\n"), CLASSES)
    assert silent.validated is None
    assert silent.sha256 == said.sha256


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("class,family,clinically_validated\na,f,no\nb,f,\nc,f,no\n",
                     'row 3, column clinically_validated: "" is neither yes nor no',
                     id="validated_or_not"),
        pytest.param("class,family\na,f\nb,f\nd,f\n", 'row 4, column class: unknown class "d"',
                     id="unknown"),
        pytest.param("class,family\na,f\nb,f\n", "1 class has no row: 'c'", id="missing"),
        pytest.param("class,family\na,f\na,f\nb,f\nc,f\n", "row 3, column class.*second time",
                     id="twice"),
        pytest.param("class,family\na,f\nb, \nc,f\n", "row 3, column family: empty", id="blank"),
        pytest.param("class,family,group\na,f,g\nb,f,h\nc,f,g\n", 'family "f" has 2 parents',
                     id="two_parents"),
        pytest.param("class,family\na,f\nb,a\nc,f\n", '"a" is also a class', id="one_name_twice"),
        pytest.param("class\na\nb\nc\n", "add at least one rank", id="no_rank"),
    ],
)  # fmt: skip
def test_what_is_no_taxonomy_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_taxonomy(written(tmp_path, text), CLASSES)
