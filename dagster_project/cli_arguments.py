"""The arguments of each command of `tier-refit`, and how their text becomes values.

Belongs: options, their help, their types; one function a command, of the same name.
Does not: what a command does (``cli``).
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from dagster_project.lib.errors import InputError
from dagster_project.settings import DEMO_ROOT


def sync(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit sync``."""
    command.add_argument("model_uri", help="s3://bucket/prefix/ or a folder")
    command.add_argument("dest", type=Path, help="folder of published artifacts")
    command.add_argument(
        "--fast",
        action="store_true",
        help="from S3: do not hash an unchanged artifact again if its files look untouched",
    )


def dump(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit dump``."""
    command.add_argument("--model-dir", type=Path, required=True)
    command.add_argument("--dataset-dir", type=Path, required=True)
    command.add_argument("--split", required=True)
    command.add_argument("-o", "--out", type=Path, required=True, help="a parquet file")
    command.add_argument(
        "--shard", type=_shard, default=(0, 1), metavar="I/N", help="zero-based, such as 3/16"
    )
    command.add_argument(
        "--null-fields",
        type=_names,
        metavar="A,B",
        help="questionnaire fields unknown in the deployed view; default: those the app lacks",
    )
    command.add_argument(
        "--no-tta", dest="tta", action="store_false", help="no flip: probs is the plain view"
    )
    command.add_argument("--batch-size", type=_positive, default=64)
    command.add_argument(
        "--dtype",
        type=_dtype,
        default="float32",
        help="float32 (the default), tf32, bfloat16 or float16, or fp32, bf16, fp16",
    )
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    command.add_argument(
        "--embeddings",
        action="store_true",
        help="also what the encoder makes of each image, in F.embeddings.parquet beside F.parquet",
    )
    command.add_argument(
        "--max-error-share",
        type=_share,
        default=1.0,
        metavar="X",
        help="exit 3 if more of the rows than this share lack probabilities; default: no limit",
    )


def mislabels(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit mislabels``."""
    _table_arguments(command)
    command.add_argument("--dataset-dir", type=Path, help="for the photographs in the picture")
    command.add_argument("--method", default="prune_by_noise_rate", help="a cleanlab filter")
    command.add_argument(
        "--quality",
        default="self_confidence",
        help="order of the list: self_confidence (the default) or normalized_margin",
    )
    command.add_argument(
        "--in-sample",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="whether the model was trained on these rows; recorded, and said beside the numbers",
    )


def folds(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit folds``."""
    command.add_argument("--dataset-dir", type=Path, required=True)
    command.add_argument("--k", type=_positive, default=5, help="number of folds; default: 5")
    command.add_argument("-o", "--out", type=Path, required=True, help="*.parquet or *.csv")
    command.add_argument("--split", help="only images of this split; default: all")
    command.add_argument("--seed", type=_seed, default=0, help="breaks ties; default: 0")


def packet(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit packet``."""
    _table_arguments(command, needs_out=False)
    command.add_argument("--thresholds", type=Path, required=True, help="thresholds.json: tiers")
    command.add_argument("--dataset-dir", type=Path, required=True, help="manifest and photographs")
    command.add_argument(
        "--reviewers", type=_names, required=True, metavar="A,B", help="who gets a packet"
    )
    command.add_argument("--n", type=_positive, default=200, help="images asked about, at most")
    command.add_argument(
        "--certain", type=int, help="of them the worst flagged ones; default: a quarter"
    )
    command.add_argument("--repeats", type=int, help="images shown twice; default: about 5 %%")
    command.add_argument(
        "--columns", type=_names, default=(), metavar="A,B", help="metadata that reviewers may see"
    )
    command.add_argument(
        "--class-descriptions", type=Path, metavar="F", help="CSV class,description for reviewers"
    )
    _files_argument(
        command,
        "--similar",
        "F",
        "pairs that look alike (*_duplicates.csv of image-issues): never shown in a row",
    )
    _files_argument(
        command,
        "--returned",
        "F",
        "review files that came back: nobody is shown again what he has judged",
    )
    command.add_argument("--method", default="prune_by_noise_rate", help="a cleanlab filter")
    command.add_argument("--seed", type=int, default=0, help="of the draw and the orders")
    command.add_argument(
        "--plan", action="store_true", help="print strata and what they can show; write nothing"
    )


def image_issues(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit image-issues``."""
    command.add_argument("--dataset-dir", type=Path, required=True)
    _files_argument(
        command, "--probs", "P", "probability parquet files; without: no systematic clusters"
    )
    _row_ids_argument(command)
    command.add_argument("--labels", type=Path, help="image_uuid, label; default: the data set's")
    command.add_argument("--classes", type=Path, help="labels.txt, if the parquet names none")
    command.add_argument("-o", "--out", type=Path, required=True, help="output folder")
    _files_argument(
        command,
        "--embeddings",
        "E",
        "files of dump --embeddings; without: no outliers and no look-alikes",
    )


def reviews(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit reviews``."""
    command.add_argument("drop", help="folder or s3://bucket/prefix with review files (*.csv)")
    command.add_argument("--classes", type=Path, required=True, help="labels.txt of the model")
    command.add_argument(
        "--labels", type=Path, required=True, help="image_uuid, label: given labels of all images"
    )
    command.add_argument(
        "--metadata",
        type=Path,
        metavar="F",
        help="image_uuid and patient_id (intervals by patient), and the column of verified labels",
    )
    command.add_argument(
        "--packets",
        type=Path,
        metavar="DIR",
        help="the folder of packets: their repeats are known, and what the reviews taught about "
        "flags and labels is said: review_findings.json, .csv, .png",
    )
    _files_argument(
        command,
        "--probs",
        "P",
        "rank what to review next with these probabilities: next_reviews.csv",
    )
    _row_ids_argument(command)
    command.add_argument("-o", "--out", type=Path, required=True, help="output folder")


def refit(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit refit``."""
    _table_arguments(command)
    _files_argument(command, "--baseline-probs", "P", "to compare")
    command.add_argument(
        "--baseline-labels", type=Path, help="labels of the baseline; default: those in force"
    )
    _reviewed_labels_argument(command)
    command.add_argument(
        "--metadata", type=Path, metavar="F", help="image_uuid and columns to show subgroups of"
    )
    command.add_argument(
        "--subgroups",
        type=_names,
        metavar="A,B",
        help="columns of --metadata; default: those with few groups",
    )
    command.add_argument(
        "--ledger",
        type=Path,
        metavar="F",
        help="count the looks at these rows in this file; default: not counted",
    )
    _policy_arguments(command)
    command.add_argument(
        "--reviewed", action="store_true", help="these labels are reviewed, not provisional"
    )


def scorecard(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit scorecard``."""
    command.add_argument(
        "--probs",
        nargs="+",
        action="extend",
        required=True,
        metavar="NAME=P",
        help="a configuration and its probability parquet file; files that follow without a name "
        "are further shards of it",
    )
    command.add_argument(
        "--baseline",
        metavar="NAME",
        help="what the others are compared with; default: what --checkpoints says, else the first",
    )
    command.add_argument(
        "--labels", type=Path, help="image_uuid, label in force; default: those in P"
    )
    command.add_argument(
        "--given-labels",
        type=Path,
        metavar="F",
        help="the labels before they were cleaned: the same table on them, side by side",
    )
    command.add_argument("--classes", type=Path, help="labels.txt, if the parquet names none")
    command.add_argument(
        "--checkpoints",
        type=Path,
        metavar="F",
        help="checkpoints.toml: what was changed, seeds, and the rule; default: the built-in rule",
    )
    _policy_arguments(command)
    command.add_argument("-o", "--out", type=Path, required=True, help="output folder")
    command.add_argument("--json", action="store_true", help="also everything as JSON on stdout")
    command.add_argument("--fail", action="store_true", help="exit 3 if one is REJECTed")


def rollup(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit rollup``."""
    _files_argument(
        command,
        "--probs",
        "P",
        "probability parquet files; several are shards of one table",
        required=True,
    )
    _files_argument(
        command,
        "--taxonomy",
        "T",
        "class,family,group as CSV, or by_morphology, by_aetiology (examples, not clinically "
        "validated); of further ones only the confusions they hold are told",
        required=True,
    )
    command.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="C",
        help="JSON: mask, normalisation, rule, thresholds (docs/rollup-report.md)",
    )
    command.add_argument(
        "--labels",
        type=Path,
        help="image_uuid, label, to fit and to judge; default: those in P, if any",
    )
    _reviewed_labels_argument(command)
    command.add_argument("--classes", type=Path, help="labels.txt, if the parquet names none")
    _row_ids_argument(command)
    command.add_argument(
        "--deployed",
        type=Path,
        help="thresholds.json of the tiers in service; default: the environment",
    )
    command.add_argument(
        "--ledger",
        type=Path,
        metavar="F",
        help="count the looks at these labels in this file, another one than refit's; default: not "
        "counted",
    )
    command.add_argument(
        "-o", "--out", type=Path, required=True, help="output folder; predictions in it are kept"
    )
    command.add_argument("--json", action="store_true", help="the report as JSON on stdout")
    command.add_argument(
        "--fail", action="store_true", help="exit 3 if thresholds are fitted and not certified"
    )


def import_taxonomy(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit import-taxonomy``."""
    told = {
        "--tree": "ISIC's path, or ICD-10-CM's code, parent, description; one row a node",
        "--leaves": "class,leaf: which path or code each class of the model is",
        "--classes": "labels.txt, in the model's order",
    }
    for name, about in told.items():
        command.add_argument(name, type=Path, required=True, metavar="F", help=about)
    command.add_argument(
        "--levels",
        type=int,
        nargs="+",
        required=True,
        metavar="L",
        help="levels that become ranks, counted from the root (1), finest first",
    )
    command.add_argument("-o", "--out", type=Path, required=True, help="the table, CSV")


def gate(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit gate``."""
    command.add_argument(
        "--scores",
        nargs="+",
        action="extend",
        required=True,
        metavar="S",
        help="parquet: score, in_range, optional direction_true, direction_pred, fault, group; "
        "several models or seeds as rational@0=r0.parquet mlp@0=m0.parquet are compared, too, and "
        "the first one is gated",
    )
    command.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="C",
        help="JSON: what the score is (gauge), taus, operating points, what to freeze "
        "(docs/gate.md)",
    )
    command.add_argument(
        "--point", metavar="NAME", help="freeze this operating point; default: what C says"
    )
    command.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        help="output folder; without metadata.json, and exit 3, if the point is not backed",
    )
    command.add_argument(
        "--json", action="store_true", help="operating_points.json on stdout, in place of words"
    )


def verify(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit verify``."""
    _release_argument(command, "folder")
    command.add_argument(
        "--recompute",
        action="store_true",
        help="refit from the inputs that run.json records, too, and compare every hashed file",
    )


def approve(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit approve``."""
    _release_argument(command, "folder")
    command.add_argument("--as", dest="name", required=True, metavar="NAME", help="who signs")
    command.add_argument(
        "--meaning",
        choices=("review", "approval"),
        required=True,
        help="approval puts the release in service; review only signs",
    )


def diff(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit diff``."""
    _release_argument(command, "a")
    _release_argument(command, "b")
    command.add_argument("--json", action="store_true", help="as JSON on stdout")
    command.add_argument(
        "--atol",
        type=_tolerance,
        default=0.0,
        metavar="X",
        help="numbers this close are equal, and bytes of files are not compared; default: 0",
    )
    command.add_argument("--fail", action="store_true", help="exit 3 if they differ")


def check_model(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit check-model``."""
    command.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="a folder with a model artifact"
    )


def demo(command: argparse.ArgumentParser) -> None:
    """Of ``tier-refit demo``."""
    command.add_argument("--root", type=Path, default=DEMO_ROOT, help=f"default: {DEMO_ROOT}")


def _files_argument(
    command: argparse.ArgumentParser, name: str, metavar: str, about: str, *, required: bool = False
) -> None:
    """An option that takes several files, and may be repeated."""
    command.add_argument(
        name,
        type=Path,
        nargs="+",
        action="extend",
        required=required,
        metavar=metavar,
        help=about,
    )


def _table_arguments(command: argparse.ArgumentParser, *, needs_out: bool = True) -> None:
    _files_argument(
        command,
        "--probs",
        "P",
        "probability parquet files; several are shards of one table",
        required=True,
    )
    command.add_argument("--labels", type=Path, help="image_uuid, label; default: those in P")
    command.add_argument("--classes", type=Path, help="labels.txt, if the parquet names none")
    _row_ids_argument(command)
    command.add_argument(
        "--folds",
        type=Path,
        metavar="F",
        help="assignment of `tier-refit folds` that the column fold must agree with",
    )
    command.add_argument("-o", "--out", type=Path, required=needs_out, help="output folder")


def _policy_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--policy", type=Path, help="tier policy JSON; default: the built-in one")
    command.add_argument(
        "--deployed", type=Path, help="thresholds.json in service; default: the environment"
    )


def _reviewed_labels_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--reviewed-labels",
        type=Path,
        metavar="F",
        help="image_uuid, label, inclusion_probability[, stratum]: reviewed labels, and how "
        "probably each image was drawn for review (docs/label-noise.md)",
    )


def _row_ids_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--row-ids",
        type=Path,
        metavar="F",
        help="file, row (0 is the first), image_uuid: ids of every row of files that have none",
    )


def _release_argument(command: argparse.ArgumentParser, name: str) -> None:
    command.add_argument(
        name, type=Path, metavar="DIR", help="a release, or the output folder of refit"
    )


def named_paths(values: Sequence[str]) -> dict[str, list[Path]]:
    """``NAME=FILE`` and files that follow -> files by name, in the order of the names.

    A name that comes again goes on; a file without a name before it is an error. ``a/b=c`` is a
    file: a name has no slash.

    >>> named_paths(["focal=f0.parquet", "f1.parquet", "base=b=1.parquet"])["base"]
    [PosixPath('b=1.parquet')]
    """
    found: dict[str, list[Path]] = {}
    last: str | None = None
    for value in values:
        named = _NAMED.fullmatch(value)
        last, file = (named["name"], named["file"]) if named else (last, value)
        if last is None or not file:
            raise InputError(f"--probs {value}: expected NAME=FILE, such as focal=focal.parquet")
        found.setdefault(last, []).append(Path(file).expanduser())
    return found


_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)=(?P<file>.*)", re.DOTALL)


def _shard(text: str) -> tuple[int, int]:
    """``3/16`` -> (3, 16): zero-based, so ``16/16`` is an error."""
    try:
        shard, n_shards = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 3/16") from None
    if not 0 <= shard < n_shards:
        raise argparse.ArgumentTypeError(
            f"{text!r}: shards are zero-based, 0/{n_shards} to {n_shards - 1}/{n_shards}"
        )
    return shard, n_shards


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 32:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from 0 to {(1 << 32) - 1}"
        )
    return int(text)


def _dtype(text: str) -> str:
    from dagster_project.lib.inference.precision import dtype_name

    try:
        return dtype_name(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def _tolerance(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
