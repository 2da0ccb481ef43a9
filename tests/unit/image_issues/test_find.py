"""All kinds together: one table, counts that tell none from not looked for, files and pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dagster_project.lib import pictures, tables, tiles
from dagster_project.lib.embedding_table import Embeddings
from dagster_project.lib.errors import InputError
from dagster_project.lib.image_issues.clusters import Clusters, systematic_clusters
from dagster_project.lib.image_issues.find import (
    ISSUE_SCHEMA,
    ImageIssues,
    find_image_issues,
    find_label_issues,
    write_image_issues,
)
from dagster_project.lib.image_issues.pictures import (
    _pair_lines,
    cluster_picture,
    pair_sheet,
    single_sheet,
)

from .conftest import Saver, page, skin

IDS = [f"s{n:02d}" for n in range(22)]


@pytest.fixture
def data(save: Saver) -> pl.DataFrame:
    """22 small photographs, two of them one, a page, and one file that is no picture."""
    images = {uuid: skin(n, (80, 70)) for n, uuid in enumerate(IDS)}
    images["s01"] = images["s00"]
    frame = save({**images, "text": page(), "torn": skin(0)})
    return frame.with_columns(
        split=pl.when(pl.col("image_uuid") == "s01").then(pl.lit("test")).otherwise("split")
    )


@pytest.fixture
def embeddings() -> Embeddings:
    values = np.random.default_rng(0).normal(1, 0.2, (24, 8)).astype(np.float32)
    values[22] = -values[22]
    ids = [*IDS, "text", "not of this data set"]
    return Embeddings(pl.Series("image_uuid", ids), values)


@pytest.fixture
def found(data: pl.DataFrame, embeddings: Embeddings, tmp_path: Path) -> ImageIssues:
    (tmp_path / "data" / "torn.png").write_bytes(b"torn")
    return find_image_issues(data, tmp_path / "data", embeddings=embeddings)


def test_every_kind_is_in_one_table_with_its_counts(found: ImageIssues) -> None:
    assert found.table.schema == ISSUE_SCHEMA
    kinds = found.table.select("kind", "image_uuid", "other_uuid").rows()
    assert kinds[0] == ("not_skin", "text", None)
    assert ("outlier", "text", None) in kinds
    assert kinds[-1] == ("exact_duplicate", "s00", "s01")
    assert found.summary == {
        "n": 24,
        "n_unreadable": 1,
        "n_embedded": 23,
        "not_skin": 1,
        "outliers": len(kinds) - 2,
        "exact_duplicates": 1,
        "near_duplicates": 0,
        "pairs_across_patients": 1,
        "images_leaking": 2,
    }


def test_what_was_not_looked_for_is_null_and_has_no_file(
    found: ImageIssues, data: pl.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    labels = data.select("image_uuid", label=pl.col("image_uuid"))
    labelled = find_label_issues(found.pairs, labels)
    counts = write_image_issues(found, out, tmp_path / "data", labelled)
    assert (counts["conflicting_duplicates"], counts["clusters"]) == (1, None)
    assert {path.name for path in out.iterdir()} == {
        "image_issues.json",
        *(
            f"{name}.{end}"
            for end in ("csv", "png")
            for name in (
                *("exact_duplicates", "near_duplicates", "leakage", "outliers", "not_skin"),
                "conflicting_duplicates",
            )
        ),
    }
    assert json.loads((out / "image_issues.json").read_text()) == counts
    leaks = tables.read_table(out / "leakage.csv", ["image_uuid", "image_path", "other_path"])
    assert leaks.height == 2
    # and again without embeddings: what cannot be said now is gone
    plain = find_image_issues(data, tmp_path / "data", known=found.prints)
    assert plain.outliers is None
    assert write_image_issues(plain, out, tmp_path / "data")["outliers"] is None
    assert not (out / "outliers.csv").exists()
    assert not (out / "outliers.png").exists()


def test_the_same_data_gives_the_same_bytes(
    found: ImageIssues, data: pl.DataFrame, embeddings: Embeddings, tmp_path: Path
) -> None:
    order = np.random.default_rng(2).permutation(24)
    mixed = Embeddings(embeddings.image_uuids.gather(order), embeddings.values[order])
    again = find_image_issues(data, tmp_path / "data", embeddings=mixed)
    for name, issues in (("a", found), ("b", again)):
        write_image_issues(issues, tmp_path / name, tmp_path / "data")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_rows_without_a_split_are_refused(data: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="missing column 'split'"):
        find_image_issues(data.drop("split"), tmp_path / "data")


def test_label_issues_are_one_table_of_both_kinds() -> None:
    pairs = pl.DataFrame(
        {
            "image_uuid": ["a"],
            "other_uuid": ["b"],
            "relation": ["equal bytes"],
            "distance": [0.0],
            "score": [0.0],
            "same_patient": [True],
            "across_splits": [False],
        }
    )
    labels = pl.DataFrame({"image_uuid": ["a", "b"], "label": ["acne", "tinea"]})
    rows = [(f"i{n}", f"p{n}", "acne", "tinea" if n < 9 else "acne", n < 10) for n in range(60)]
    names = ["image_uuid", "patient_id", "given_label", "predicted_label", "hand"]
    judged = pl.DataFrame(rows, schema=names, orient="row")
    found = find_label_issues(pairs, labels, judged, judged.select("image_uuid", "hand"))
    assert found.table["kind"].to_list() == ["conflicting_duplicate", "cluster"]
    assert found.summary == {"conflicting_duplicates": 1, "clusters": 1, "clusters_tested": 2}
    unknown = find_label_issues(None, labels)
    assert unknown.table.is_empty()
    assert set(unknown.summary.values()) == {None}


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The title of every picture that is made."""
    made: list[str] = []
    sheet, new_figure = tiles.sheet, pictures.new_figure

    def of_sheet(drawn: list[tiles.Tile], folder: Path, *, title: str, columns: int) -> bytes:
        made.append(title)
        return sheet(drawn, folder, title=title, columns=columns)

    def of_figure(width: float, height: float) -> Figure:
        figure = new_figure(width, height)
        monkeypatch.setattr(figure, "suptitle", lambda text, **_: made.append(text))
        return figure

    monkeypatch.setattr(tiles, "sheet", of_sheet)
    monkeypatch.setattr(pictures, "new_figure", of_figure)
    return made


def test_pictures_of_nothing_say_so_in_words(
    tmp_path: Path, found: ImageIssues, titles: list[str]
) -> None:
    none = found.near
    assert size(pair_sheet(none, found.rows, tmp_path, what="Copies"))[0] > 300
    single_sheet(found.not_skin.clear(), found.rows, tmp_path, what="Not skin")
    pair_sheet(found.exact, found.rows, tmp_path / "data", what="Equal")
    nothing = systematic_clusters(
        pl.DataFrame(
            schema=dict.fromkeys(
                ("image_uuid", "patient_id", "given_label", "predicted_label"), pl.String
            )
        ),
        pl.DataFrame({"image_uuid": ["a"], "x": ["y"]}),
    )
    assert nothing == Clusters(nothing.table, 0, ())
    assert size(cluster_picture(nothing))[0] > 300
    assert titles == [
        *("Copies: none found", "Not skin: none found", "Equal: 1 of 1 pairs, surest first"),
        "Systematic clusters: none found (0 pairs in levels tested, Holm)",
    ]


def test_without_splits_nothing_is_said_of_leaks_and_without_embeddings_of_look_alikes(
    data: pl.DataFrame, tmp_path: Path, titles: list[str]
) -> None:
    rows = data.with_columns(split=pl.lit(None, pl.String))
    found = find_image_issues(rows, tmp_path / "data")
    assert found.leakage is None
    assert found.exact["across_splits"].to_list() == [None]
    assert found.table.schema == ISSUE_SCHEMA
    counts = write_image_issues(found, tmp_path / "out", tmp_path / "data")
    assert counts["images_leaking"] is None
    assert not list((tmp_path / "out").glob("leakage.*"))
    assert titles[1] == (
        "Resized copies (no embeddings: no look-alikes): 2 of 2 pairs, surest first"
    )
    (line, where) = _pair_lines(found.exact.row(0, named=True))
    assert line[0] == "equal bytes, distance 0.000"
    assert where == ("two patients, split unknown", tiles.QUIET)


def test_a_sheet_shows_both_photographs_of_a_pair_and_a_thumbnail_stays_small(
    found: ImageIssues, tmp_path: Path
) -> None:
    shown = np.asarray(
        Image.open(io.BytesIO(pair_sheet(found.exact, found.rows, tmp_path / "data", what="Exact")))
    )
    left = shown[30 : 30 + tiles.PHOTO, 6 : 6 + tiles.PHOTO]
    right = shown[30 : 30 + tiles.PHOTO, 8 + tiles.PHOTO : 8 + 2 * tiles.PHOTO]
    assert (left == right).all()
    assert left.std() > 5
    noise = tmp_path / "data" / "noise.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(
        noise
    )
    assert len(tiles.thumbnail([noise.name] * 12, tmp_path / "data")) <= 80_000


def test_long_words_are_wrapped_and_never_run_into_the_next_tile() -> None:
    assert tiles.wrapped("post_inflammatory_hyperpigmentation") == [
        "post_inflammatory_",
        "hyperpigmentation",
    ]
    assert tiles.font(12).getlength(tiles.wrapped("a" * 80)[0]) <= tiles.PHOTO
