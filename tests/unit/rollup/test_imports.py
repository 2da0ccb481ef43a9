"""Other people's trees: unequal depth, names that occur twice, and all that can be wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dagster_project import cli
from dagster_project.lib import tables
from dagster_project.lib.demo.classes import CLASSES, LOOK_ALIKE_PAIRS
from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.imports import import_table, read_tree
from dagster_project.lib.rollup.taxonomy import EXAMPLES, read_taxonomy

DATA = Path(__file__).parents[3] / ".." / "shared" / "data" / "taxonomies"
real = pytest.mark.skipif(not DATA.is_dir(), reason="shared/data/taxonomies is not here")

ISIC = """path
Benign
Benign:Nevus
Benign:Nevus:Blue
Benign:Other
Malignant
Malignant:Melanoma
Malignant:Melanoma:Nodular
Malignant:Other
"""
ICD = """code,parent,description
12,,Skin
L20-L30,12,Eczema (L20-L30)
L20,L20-L30,Atopic dermatitis
L20.0,L20,Prurigo
L80-L99,12,Others (L80-L99)
L80,L80-L99,Vitiligo
L76,L76,Complications
"""


def written(folder: Path, tree: str, leaves: str) -> tuple[Path, Path]:
    (folder / "tree.csv").write_text(tree, encoding="utf-8")
    (folder / "leaves.csv").write_text(leaves, encoding="utf-8")
    return folder / "tree.csv", folder / "leaves.csv"


def test_levels_count_from_the_root_and_a_short_path_keeps_its_last_node(tmp_path: Path) -> None:
    leaves = "class,leaf\nnod,Malignant:Melanoma:Nodular\nnev,Benign:Nevus\nbad,Malignant\n"
    tree, mapping = written(tmp_path, ISIC, leaves)
    found = import_table(tree, mapping, ["bad", "nev", "nod"], levels=[3, 2, 1])
    assert found.rows() == [
        ("bad", "Malignant (no level 3)", "Malignant (no level 2)", "Malignant"),
        ("nev", "Nevus (no level 3)", "Nevus", "Benign"),
        ("nod", "Nodular", "Melanoma", "Malignant"),
    ]
    assert found.columns == ["class", "level_3", "level_2", "level_1"]


def test_the_command_writes_what_a_roll_up_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, mapping = written(
        tmp_path, ISIC, "class,leaf\nnod,Malignant:Melanoma\nnev,Benign:Nevus\n"
    )
    (tmp_path / "labels.txt").write_text("nev\nnod\n")
    out = tmp_path / "families.csv"
    given = {"tree": tree, "leaves": mapping, "classes": tmp_path / "labels.txt", "out": out}
    arguments = [part for name, path in given.items() for part in (f"--{name}", str(path))]
    assert cli.main(["import-taxonomy", *arguments, "--levels", "2", "1"]) == 0
    assert read_taxonomy(out, ["nev", "nod"]).lineages[0] == ("nev", "Nevus", "Benign")
    assert "NOT CLINICALLY VALIDATED" in capsys.readouterr().out
    assert cli.main(["import-taxonomy", *arguments, "--levels", "1", "2"]) == 2
    assert "finest (largest) first" in capsys.readouterr().err


def test_a_name_that_two_nodes_or_a_class_have_becomes_the_whole_path(tmp_path: Path) -> None:
    leaves = "class,leaf\nx,Benign:Other\ny,Malignant:Other\nBlue,Benign:Nevus:Blue\n"
    tree, mapping = written(tmp_path, ISIC, leaves)
    found = import_table(tree, mapping, ["x", "y", "Blue"], levels=[3, 2])
    assert found["level_3"].to_list() == [
        "Benign:Other (no level 3)",
        "Malignant:Other (no level 3)",
        "Benign:Nevus:Blue",
    ]
    assert found["level_2"].to_list() == ["Benign:Other", "Malignant:Other", "Nevus"]


def test_codes_follow_their_parents_and_one_that_is_its_own_parent_is_a_root(
    tmp_path: Path,
) -> None:
    tree, mapping = written(tmp_path, ICD, "class,leaf\np,L20.0\nv,L80\nc,L76\n")
    assert read_tree(tree)["L20.0"] == (
        "12 Skin",
        "Eczema (L20-L30)",
        "L20 Atopic dermatitis",
        "L20.0 Prurigo",
    )
    found = import_table(tree, mapping, ["p", "v", "c"], levels=[3, 2])
    assert found["level_3"].to_list() == [
        "L20 Atopic dermatitis",
        "L80 Vitiligo",
        "L76 Complications (no level 3)",
    ]
    assert found["level_2"].to_list()[2] == "L76 Complications (no level 2)"


def test_any_tree_becomes_a_table_that_passes_every_check(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(20):
        paths = {":".join(rng.choices("abcd", k=rng.randint(1, 5))) for _ in range(12)}
        classes = [f"k{i}" for i in range(6)] + ["a:b"]
        leaves = "".join(f"{name},{rng.choice(sorted(paths))}\n" for name in classes)
        text = "path\n" + "".join(f"{p}\n" for p in sorted(paths))
        tree, mapping = written(tmp_path, text, f"class,leaf\n{leaves}")
        try:
            table = import_table(tree, mapping, classes, levels=[4, 3, 2, 1])
        except InputError as error:
            assert "is a class and" in str(error)
            continue
        tables.write_csv(tmp_path / "taxonomy.csv", table)
        taxonomy = read_taxonomy(tmp_path / "taxonomy.csv", classes)
        assert taxonomy.ranks == ("class", "level_4", "level_3", "level_2", "level_1")


@pytest.mark.parametrize(
    ("tree", "leaves", "says"),
    [
        pytest.param(ISIC, "a,Benign:Nevus:Bleu\nb,Benign", 'leaves.csv row 2, column leaf: "Beni'
                     'gn:Nevus:Bleu" is no node of tree.csv.*nearest "Benign:Nevus:Blue"',
                     id="no_node"),
        pytest.param(ISIC, "a,\nb,Benign", 'row 2, column leaf: ""', id="no_leaf"),
        pytest.param(ISIC, "a,Benign\nc,Benign", 'row 3, column class: unknown class "c"',
                     id="no_class"),
        pytest.param(ISIC, "a,Benign\na,Benign", "row 3.*second time", id="class_twice"),
        pytest.param(ISIC, "a,Benign", "1 class has no row: 'b'", id="class_missing"),
        pytest.param("path\nA\nA::B\n", "a,A\nb,A", 'row 3, column path: "A::B" has an empty part',
                     id="empty_part"),
        pytest.param("path\nA\nA\n", "a,A\nb,A", 'row 3, column path: "A" a second', id="twice"),
        pytest.param("path\na\nb\n", "a,a\nb,b", '"a" is a class and, at level 1, a root',
                     id="root_is_class"),
        pytest.param("name\nA\n", "a,A\nb,A", "no column path", id="no_tree"),
        pytest.param("code,parent,description\nA,B,x\n", "a,A\nb,A",
                     'row 2, column parent: no code "B"', id="no_parent"),
        pytest.param("code,parent,description\nA,B,x\nB,A,y\n", "a,A\nb,A",
                     "is above itself", id="circle"),
        pytest.param("code,parent,description\nA,,x\nA,,y\n", "a,A\nb,A", 'row 3.*"A" a second',
                     id="code_twice"),
        pytest.param("code,parent,description\n,,x\n", "a,A\nb,A", "row 2, column code: empty",
                     id="no_code"),
        pytest.param("code,parent\nA,\n", "a,A\nb,A", "missing column 'description'",
                     id="no_description"),
    ],
)  # fmt: skip
def test_what_is_no_tree_or_no_mapping_is_refused(
    tmp_path: Path, tree: str, leaves: str, says: str
) -> None:
    files = written(tmp_path, tree, f"class,leaf\n{leaves}\n")
    with pytest.raises(InputError, match=says):
        import_table(*files, ["a", "b"], levels=[1])


@pytest.mark.parametrize("levels", [[], [0], [1, 2], [2, 2]])
def test_levels_are_finest_first(tmp_path: Path, levels: list[int]) -> None:
    files = written(tmp_path, ISIC, "class,leaf\na,Benign\n")
    with pytest.raises(InputError, match="finest"):
        import_table(*files, ["a"], levels=levels)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_shipped_tables_cover_the_demos_classes_and_say_that_nobody_validated_them(
    name: str,
) -> None:
    found = read_taxonomy(EXAMPLES[name], CLASSES)
    assert found.ranks == ("class", "family", "group")
    assert found.validated is False
    sizes = [len({line[rank] for line in found.lineages}) for rank in range(3)]
    assert sizes[0] == 25 > sizes[1] > sizes[2] > 1
    readme = EXAMPLES[name].with_name("README.md").read_text(encoding="utf-8")
    assert readme.startswith("# NOT CLINICALLY VALIDATED")


@pytest.mark.parametrize(
    ("name", "shared"), [("by_aetiology", (6, 8)), ("by_morphology", (11, 17))]
)
def test_look_alike_pairs_share_nodes_as_often_as_the_readme_says(
    name: str, shared: tuple[int, int]
) -> None:
    lines = {line[0]: line for line in read_taxonomy(EXAMPLES[name], CLASSES).lineages}
    pairs = [(lines[a], lines[b]) for a, b in LOOK_ALIKE_PAIRS]
    assert tuple(sum(a[rank] == b[rank] for a, b in pairs) for rank in (1, 2)) == shared
    readme = EXAMPLES[name].with_name("README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if f"`{name}.csv`" in line)
    assert row.endswith(f"| {shared[0]}, {shared[1]} |")


@real
def test_codes_of_chapter_12_are_in_the_blocks_that_the_shipped_table_says() -> None:
    paths = read_tree(DATA / "icd10cm_chapter12_skin.csv")
    table = tables.read_table(EXAMPLES["by_aetiology"], ["icd10", "family"])
    skin = table.filter(table["icd10"].str.starts_with("L"))
    assert skin.height == 16
    for code, family in skin.select("icd10", "family").iter_rows():
        block = paths[code][1].rsplit("(", 1)[1].rstrip(")")
        assert f"({block})" in family, code


@real
def test_the_real_trees_can_be_cut(tmp_path: Path) -> None:
    table = tables.read_table(EXAMPLES["by_aetiology"], ["icd10"])
    skin = table.filter(table["icd10"].str.starts_with("L"))
    leaves = tmp_path / "leaves.csv"
    tables.write_csv(leaves, skin.select("class", leaf="icd10"))
    classes = skin["class"].to_list()
    cut = import_table(DATA / "icd10cm_chapter12_skin.csv", leaves, classes, levels=[3, 2])
    tables.write_csv(tmp_path / "icd.csv", cut)
    found = read_taxonomy(tmp_path / "icd.csv", classes)
    assert found.lineages[0] == (
        "eczema_uns",
        "L30 Other and unspecified dermatitis",
        "Dermatitis and eczema (L20-L30)",
    )
    isic = DATA / "isic_diagnosis_hierarchical.csv"
    some_leaves = sorted(read_tree(isic))[::7]
    names = [f"class {i}" for i in range(len(some_leaves))]
    lines = (f'{n},"{leaf}"\n' for n, leaf in zip(names, some_leaves, strict=True))
    leaves.write_text("class,leaf\n" + "".join(lines), encoding="utf-8")
    tables.write_csv(tmp_path / "isic.csv", import_table(isic, leaves, names, levels=[5, 3, 2, 1]))
    assert len(read_taxonomy(tmp_path / "isic.csv", names).classes) == 60
