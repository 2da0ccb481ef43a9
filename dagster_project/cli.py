"""`tier-refit`: the same functions without Dagster.

Belongs: arguments, progress, exit codes. One function a command, thin over ``lib``.
Does not: anything a notebook would want to call (``lib``).

Exit codes: 0 done; 2 bad input or usage, nothing written; 3 it ran and the answer is no; 1 a fault
of ours, or the disk is full; 130 Ctrl-C; 141 whoever read our output has gone.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dagster_project import cli_arguments
from dagster_project.lib import progress
from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.settings import load_settings

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.labels.cleaning import Cleaning
    from dagster_project.lib.labels.drop import Drop
    from dagster_project.lib.probability_table import ProbabilityTable
    from dagster_project.lib.review.packet import PacketDesign, PacketSource
    from dagster_project.lib.tiers.thresholds import Thresholds

Command = Callable[[argparse.Namespace], None]
Arguments = Callable[[argparse.ArgumentParser], None]

EXIT_FAULT = 1
EXIT_INPUT = 2
EXIT_REFUSED = 3
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; one line on stderr and an exit code for what is not our fault."""
    options = build_parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()  # a closed pipe shows here, where it can be answered
    except InputError as error:
        print(f"tier-refit: {error}", file=sys.stderr)
        return EXIT_INPUT
    except RefusedError as error:
        print(f"tier-refit: {error}", file=sys.stderr)
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at exit
        return EXIT_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"tier-refit: {error}; make room and run it again", file=sys.stderr)
        return EXIT_FAULT
    return 0


def sync(options: argparse.Namespace) -> None:
    """Fetch, verify and publish a model artifact; the last line is the published folder."""
    from dagster_project.lib import model_store

    _check_writable(options.dest)
    with progress.bar("sync", "byte") as show:
        artifact = model_store.sync(
            options.model_uri,
            options.dest,
            on_progress=show,
            on_note=_note,
            fast=options.fast,
            public_key=load_settings().model_public_key,
        )
    print(artifact.path)


def dump(options: argparse.Namespace) -> None:
    """Probabilities of one split, or of one shard of it."""
    from dagster_project.lib import dataset, model_store
    from dagster_project.lib.embedding_table import embeddings_beside
    from dagster_project.lib.inference.dump import DumpOptions, dump_to, plan_dump
    from dagster_project.lib.probability_table import too_many_errors
    from dagster_project.lib.signature import require_signature

    if options.out.suffix != ".parquet":
        raise InputError(f"{options.out}: the output is a parquet file; name it *.parquet")
    _check_writable(options.out.parent)
    if options.out.is_dir():
        raise InputError(f"{options.out}: is a folder, a file is needed; pass another --out")
    model_dir = options.model_dir.resolve()  # one model, should `current` flip meanwhile
    key = load_settings().model_public_key
    if key is not None:
        require_signature(model_dir, key)
    shard, n_shards = options.shard
    index = dataset.dataset_index(options.dataset_dir)
    with progress.bar(f"plan {options.split}", "image") as show:
        plan = plan_dump(
            model_dir=model_dir,
            tree_hash=model_store.read_artifact(model_dir).tree_hash,
            dataset_dir=options.dataset_dir,
            rows=dataset.shard_rows(dataset.split_rows(index, options.split), shard, n_shards),
            shard=shard,
            n_shards=n_shards,
            options=DumpOptions(
                null_fields=options.null_fields,
                tta=options.tta,
                batch_size=options.batch_size,
                dtype=options.dtype,
                device=options.device,
                embeddings=options.embeddings,
            ),
            on_progress=show,
        )
    segments = options.out.parent / f".{options.out.name}.segments"
    with progress.bar(f"dump {options.split}") as show:
        dumped = dump_to(plan, options.out, segments, on_progress=show)
    with suppress(OSError):  # not there, or another dump of this file is at work
        segments.rmdir()
    reused = "an equal dump was there, nothing computed"
    note = reused if dumped.reused else f"{dumped.failed} with an error"
    print(f"{options.out}: {dumped.rows} rows, {note}")
    if dumped.without_embedding is not None:
        beside = embeddings_beside(options.out)
        print(f"{beside}: {dumped.rows - dumped.without_embedding} embeddings")
    refusal = too_many_errors(dumped.failed, dumped.rows, options.max_error_share)
    if refusal:
        raise RefusedError(f"{options.out} is written, but {refusal}")


def mislabels(options: argparse.Namespace) -> None:
    """Suspicious labels, worst first, with counts, confusions and a picture."""
    from dagster_project.lib import dataset
    from dagster_project.lib.mislabels.candidates import (
        IN_SAMPLE_WORD,
        find_candidates,
        write_candidates,
    )
    from dagster_project.lib.mislabels.montage import montage
    from dagster_project.lib.mislabels.out_of_fold import check_folds, in_sample_of
    from dagster_project.lib.mislabels.weak_classes import weak_classes, write_weak_classes
    from dagster_project.lib.probability_table import read_probabilities
    from dagster_project.lib.release.inputs import labels_of

    _check_writable(options.out)
    table = read_probabilities(options.probs, options.classes, row_ids=options.row_ids)
    folder = options.dataset_dir
    images = None if folder is None else dataset.read_manifest(folder)
    if images is not None and "patient_id" not in table.frame.columns:
        patients = images.select("image_uuid", "patient_id")
        frame = table.frame.join(patients, on="image_uuid", how="left", maintain_order="left")
        table = replace(table, frame=frame)
    folds = check_folds(table.frame, options.probs, assignment=options.folds)
    found = find_candidates(
        table,
        labels_of(options.labels, table),
        in_sample=in_sample_of(options.in_sample, folds),
        method=options.method,
        quality=options.quality,
        paths=None if images is None else images.select("image_uuid", "image_path"),
    )
    if folds is not None:
        found = found.meaning(folds.means)
    worst = montage(found.issues, folder, in_sample=found.in_sample) if folder else None
    write_candidates(found, options.out, worst)
    weak = weak_classes(found.rows, found.rows, table.classes)
    summary = found.summary
    write_weak_classes(
        weak,
        options.out,
        words=IN_SAMPLE_WORD[found.in_sample],
        patients_known=summary["n_patients"] is not None,
    )
    print(f"{options.out}: {summary['n_issues']} of {summary['n']} labels are suspicious")
    print(summary["in_sample_means"])


def packet(options: argparse.Namespace) -> None:
    """A blind review packet: a folder and a zip file for each reviewer, and the key that stays."""
    from dagster_project.lib.review.packet import build_packet, plan_packet

    if options.out is None and not options.plan:
        raise InputError("packet: --out is missing; pass the folder of packets, or --plan")
    if options.out is not None and not options.plan:
        _check_writable(options.out)
    similar = _look_alikes(options.similar) if options.similar else None
    returned = _returned(options.returned) if options.returned else None
    source, design = _packet_inputs(options)
    if options.plan:
        planned = plan_packet(source, design)
        print("\n".join([*planned.table_lines(), "", *planned.sentences()]))
        return
    with progress.bar("packet", "photograph") as show:
        made = build_packet(
            source, design, options.out, similar=similar, reviews=returned, on_progress=show
        )
    print("\n".join(made["can_show"]))
    print(f"{made['folder']}{'' if made['built'] else ': an equal packet was there'}")


def folds(options: argparse.Namespace) -> None:
    """Assign images to k folds for training elsewhere: patients whole, classes spread evenly."""
    from dagster_project.lib import dataset
    from dagster_project.lib.folds import assign_folds, fold_summary, write_folds

    if options.out.suffix not in (".parquet", ".csv"):
        raise InputError(f"{options.out}: name it *.parquet or *.csv")
    if options.out.is_dir():
        raise InputError(f"{options.out}: is a folder, a file is needed; pass another --out")
    _check_writable(options.out.parent)
    images = dataset.read_manifest(options.dataset_dir).select("image_uuid", "patient_id", "label")
    if options.split is not None:
        index = dataset.dataset_index(options.dataset_dir)
        chosen = dataset.split_rows(index, options.split)["image_uuid"]
        images = images.join(chosen.to_frame(), on="image_uuid", how="semi")
    _note(f"assigning {images.height} images")
    made = assign_folds(images, options.k, seed=options.seed)
    write_folds(options.out, made, seed=options.seed)
    print(f"{options.out}: {made.height} images in {options.k} folds")
    for line in fold_summary(made, images):
        print(line)


def image_issues(options: argparse.Namespace) -> None:
    """Pictures that are no skin, outliers, copies, leaks, and labels that contradict each other."""
    from dagster_project.lib import dataset
    from dagster_project.lib.embedding_table import read_embeddings
    from dagster_project.lib.image_issues import clusters, find, fingerprints
    from dagster_project.lib.labels.given import read_labels

    _check_writable(options.out)
    folder = options.dataset_dir
    index = dataset.images(folder)
    if index["split"].is_null().all():
        _note(f"{folder}: no splits.csv or splits.parquet, so leaks across splits are not known")
    table = _optional_table(options)
    classes = table.classes if table else None
    labels = (
        read_labels(options.labels, classes) if options.labels else dataset.given_labels(folder)
    )
    judged = clusters.predicted_rows(table, labels) if table else None
    embeddings = read_embeddings(options.embeddings) if options.embeddings else None
    store = options.out / find.FINGERPRINTS
    with progress.bar("fingerprints", "image") as show:
        known = fingerprints.read_known(store)
        prints = fingerprints.fingerprint_images(index, folder, known=known, on_progress=show)
    fingerprints.write_known(store, prints)
    with progress.bar("compare", "image") as show:
        found = find.compare_images(index, prints, embeddings=embeddings, on_progress=show)
    labelled = find.find_label_issues(found.pairs, labels, judged, index)
    counts = find.write_image_issues(found, options.out, folder, labelled)
    for kind, n in counts.items():
        print(f"{kind}: {'not looked for' if n is None else n}")
    print(options.out)


def reviews(options: argparse.Namespace) -> None:
    """Reviews in a drop, the labels they make, what they teach; exit 3 if a file is refused."""
    from dagster_project.lib import tables
    from dagster_project.lib.labels.cleaning import clean_drop, write_cleaning
    from dagster_project.lib.labels.consensus import ConsensusPolicy
    from dagster_project.lib.labels.given import read_labels, verified_images
    from dagster_project.lib.labels.next_reviews import next_reviews
    from dagster_project.lib.probability_table import read_classes
    from dagster_project.lib.review.findings_page import sentences, write_findings

    _check_writable(options.out)
    classes, settings = read_classes(options.classes), load_settings()
    given = read_labels(options.labels, classes)
    index = tables.read_table(options.metadata, ["image_uuid"]) if options.metadata else None
    rule = settings.verified_labels
    if rule is not None and index is None:
        raise InputError("TIER_REFIT_VERIFIED_LABELS is set: pass --metadata with that column")
    table = _optional_table(options)
    cleaning = clean_drop(
        options.drop,
        given,
        classes,
        policy=ConsensusPolicy(
            min_agreeing=settings.consensus_min_agreeing,
            single=settings.consensus_single,
            conflict=settings.consensus_conflict,
            references=settings.references,
        ),
        verified=None if rule is None or index is None else verified_images(index, rule),
        patients=index if index is not None and "patient_id" in index.columns else None,
        also=_repeats(options.packets),
    )
    found = None if options.packets is None else _findings(options.packets, cleaning)
    write_cleaning(cleaning, options.out)
    if found is not None:
        write_findings(found, options.out)
    if table is not None:
        ranked = next_reviews(cleaning.cleaned, cleaning.drop.reviews, table)
        tables.write_csv(options.out / "next_reviews.csv", ranked)
    lines = [] if found is None else sentences(found)
    print("\n".join([f"{options.out}: {cleaning.line()}", *lines]))
    _tell_refusals(cleaning.drop, options)


def _tell_refusals(drop: Drop, options: argparse.Namespace) -> None:
    """Each refusal and warning on a line; raise if a file is refused."""
    for refusal in (*drop.refusals, *drop.warnings):
        _note(str(refusal))
    unknown = any(refusal.kind == "unknown image" for refusal in drop.refusals)
    if unknown and options.packets is None:
        _note("images shown twice come back under ids of their own: pass --packets to know them")
    refused = len({refusal.file for refusal in drop.refusals})
    if refused:
        raise RefusedError(
            f"{refused} of {drop.n_files} files are refused and count for nothing; "
            f"{options.out / 'refusals.csv'} says why"
        )


def _findings(folder: Path, cleaning: Cleaning) -> dict[str, Any]:
    """What the reviews taught about the frames of these packets, as ``review_findings`` has it."""
    import polars as pl

    from dagster_project.lib.review.findings import Returned, review_findings
    from dagster_project.lib.review.sample import read_packets, read_repeats

    packets, repeats = read_packets(folder), read_repeats(folder)
    if any(packet.design["split"].null_count() for packet in packets):
        _note(f"{folder}: images of a data set without splits are called test images here")
        split = pl.col("split").fill_null("test")
        packets = [replace(one, design=one.design.with_columns(split)) for one in packets]
    return review_findings(Returned(packets, cleaning.cleaned, cleaning.drop.reviews, repeats))


def _repeats(packets: Path | None) -> list[str]:
    """Ids under which images of these packets are shown again; none where no folder is given."""
    from dagster_project.lib.review.sample import read_repeats

    if packets is None:
        return []
    if not any(packets.glob("*/key.parquet")):
        raise InputError(f"{packets}: no packet there; pass the folder that holds them")
    repeats: list[str] = read_repeats(packets)["presented_uuid"].to_list()
    return repeats


def refit(options: argparse.Namespace) -> None:
    """Thresholds with their evidence and release, from probabilities and labels."""
    from dagster_project.lib.evidence.looks import count_look
    from dagster_project.lib.release import inputs
    from dagster_project.lib.release import refit as fitting
    from dagster_project.lib.release.diff import deployed_lines
    from dagster_project.lib.release.people import os_user, run_facts
    from dagster_project.lib.release.signatures import releases_root

    _check_writable(options.out)
    out = fitting.prepare_out(options.out)
    if releases_root(out) is not None:
        raise InputError(
            f"{out}: lies among releases, which are never replaced; pass another --out"
        )
    _check_writable(out.parent)  # an existing folder is replaced there
    files = inputs.named_files(
        options.probs,
        options.baseline_probs or (),
        labels=options.labels,
        baseline_labels=options.baseline_labels,
        reviewed_labels=options.reviewed_labels,
        metadata=options.metadata,
        classes=options.classes,
        row_ids=options.row_ids,
        folds=options.folds,
        policy=options.policy,
        deployed=options.deployed,
    )
    chosen = _refit_options(options)
    look = partial(count_look, options.ledger) if options.ledger else None
    result = inputs.refit_files(files, chosen, look=look)
    certificate = result.fit.certificate
    chosen["looks"] = None if certificate is None else certificate.looks
    run = {
        "command": shlex.join(["tier-refit", *sys.argv[1:]]),
        **run_facts(os_user()),
        inputs.RECORD: inputs.record(files, chosen),
    }
    fitting.write_refit(result, out, run=run)
    at = result.fit.thresholds
    print(f"confident {at.confident:.3f}  refer {at.refer:.3f}  possible item {at.possible_item}")
    for line in deployed_lines(result.report):
        print(line)
    print(out)
    if result.blocked:
        raise RefusedError(f"nothing deployable written: {'; '.join(result.blocked)}")


def scorecard(options: argparse.Namespace) -> None:
    """Which training recipe is worth shipping: checkpoints on the same rows, by a declared rule."""
    from dagster_project.lib.scorecard import publish, words
    from dagster_project.lib.scorecard.inputs import ScorecardFiles, read_inputs
    from dagster_project.lib.scorecard.scorecard import make_scorecard
    from dagster_project.lib.tiers.policy import DEFAULT_POLICY, read_policy
    from dagster_project.lib.tiers.thresholds import read_deployed

    _check_writable(options.out)
    out = publish.prepare_out(options.out)
    _check_writable(out.parent)  # an existing folder is replaced there
    files = ScorecardFiles(
        probs=cli_arguments.named_paths(options.probs),
        baseline=options.baseline,
        labels=options.labels,
        given_labels=options.given_labels,
        classes=options.classes,
        checkpoints=options.checkpoints,
    )
    policy = read_policy(options.policy) if options.policy else DEFAULT_POLICY
    deployed = read_deployed(options.deployed) if options.deployed else _deployed_now()
    with progress.bar("read", "step") as show:
        inputs = read_inputs(files, thresholds=deployed, policy=policy, on_progress=show)
    with progress.bar("scorecard", "step") as show:
        card = make_scorecard(inputs, on_progress=show)
    with progress.bar("write", "file") as show:
        publish.write_scorecard(card, inputs.answers, out, on_progress=show)
    if options.json:
        print(publish.scorecard_json(card), end="")
    else:
        print("\n".join([*words.verdict_lines(card), str(out)]))
    rejected = [row["config"] for row in card["configs"] if row["verdict"] == "REJECT"]
    if options.fail and rejected:
        raise RefusedError(f"{', '.join(rejected)}: REJECT; {out / 'scorecard.md'} says why")


def rollup(options: argparse.Namespace) -> None:
    """When unsure, say less: class mask and roll-up to a coarser rank, judged where labels are."""
    from dagster_project.lib.evidence.looks import count_look
    from dagster_project.lib.rollup import publish, words
    from dagster_project.lib.rollup.inputs import RollupFiles, read_inputs
    from dagster_project.lib.rollup.report import roll_up
    from dagster_project.lib.tiers.thresholds import read_deployed

    _check_writable(options.out)
    out = publish.prepare_out(options.out)
    files = RollupFiles(
        probs=options.probs,
        taxonomies=options.taxonomy,
        config=options.config,
        labels=options.labels,
        reviewed_labels=options.reviewed_labels,
        classes=options.classes,
        row_ids=options.row_ids,
    )
    deployed = read_deployed(options.deployed) if options.deployed else _deployed_now()
    inputs = read_inputs(files, thresholds=deployed)
    look = partial(count_look, options.ledger) if options.ledger else None
    with progress.bar("rollup", "step") as show:
        found = roll_up(inputs, look=look, on_progress=show)
    with progress.bar("write", "file") as show:
        new = publish.write_rollup(found, out, on_progress=show)
    if options.json:
        print(publish.report_json(found.report), end="")
    else:
        added = "added" if new else "was there already, nothing added"
        record = f"{found.record.file_name}: {added}"
        print("\n".join([*words.summary_lines(found.report), record, str(out)]))
    fit = found.report["fit"]
    if options.fail and fit is not None and fit["certificate"]["status"] != "certified":
        raise RefusedError(f"thresholds are not certified; {out / publish.NOTE} says why")


def import_taxonomy(options: argparse.Namespace) -> None:
    """A table for rollup's --taxonomy, cut from the ISIC diagnosis tree or ICD-10-CM."""
    from dagster_project.lib import tables
    from dagster_project.lib.probability_table import read_classes
    from dagster_project.lib.rollup.imports import import_table

    _check_writable(options.out.absolute().parent)
    classes = read_classes(options.classes)
    table = import_table(options.tree, options.leaves, classes, levels=options.levels)
    tables.write_csv(options.out, table)
    print(f"{options.out}: {', '.join(table.columns)}; NOT CLINICALLY VALIDATED")


def gate(options: argparse.Namespace) -> None:
    """Below which score to give no answer: swept, chosen with a bound, frozen with its evidence."""
    from dagster_project.lib.gate import publish, words
    from dagster_project.lib.gate.inputs import changes_since, read_inputs
    from dagster_project.lib.gate.report import gate_report
    from dagster_project.lib.release.people import os_user, run_facts

    _check_writable(options.out)
    out = publish.prepare_out(options.out)
    _check_writable(out.parent)  # an existing folder is replaced there
    with progress.bar("read", "file") as show:
        inputs = read_inputs(options.scores, options.config, point=options.point, on_progress=show)
    for change in changes_since(out, inputs.scores):
        _note(f"since the gate in {options.out}: {change}")
    with progress.bar("gate", "step") as show:
        report = gate_report(inputs, on_progress=show)
    run = {"command": shlex.join(["tier-refit", *sys.argv[1:]]), **run_facts(os_user())}
    with progress.bar("write", "file") as show:
        publish.write(report, out, run=run, on_progress=show)
    if options.json:
        print((out / publish.POINTS).read_text(), end="")
    else:
        print("\n".join([*words.summary_lines(report.points), str(out)]))
    if report.bundle is None:
        raise RefusedError(
            f"nothing is frozen: {report.points['freeze']['reason']}; "
            f"{out / publish.POINTS_NOTE} says more"
        )


def verify(options: argparse.Namespace) -> None:
    """Whether a release or gate is still what was written and signed; each fault on a line."""
    from dagster_project.lib.gate import publish
    from dagster_project.lib.release.inputs import recompute
    from dagster_project.lib.release.signatures import release_problems
    from dagster_project.lib.sums import read_sums

    if options.recompute:
        _check_release(options.folder)
    problems = release_problems(options.folder)
    if options.recompute and not problems:
        problems = recompute(options.folder)
    for problem in problems:
        print(problem)
    if problems:
        raise RefusedError(f"{options.folder}: {problems[0]} ({len(problems)} in all, see above)")
    again = ", and comes out the same again" if options.recompute else ""
    listed = read_sums(options.folder)
    if publish.is_gate(options.folder):
        frozen = "a threshold is frozen" if publish.BUNDLE in listed else "no threshold is frozen"
        what = f"is what gate wrote, {frozen}"
    elif "thresholds.json" in listed:
        what = "is what was released"
    else:
        what = "is what a blocked refit wrote, nothing was released"
    print(f"{options.folder}: {what}{again}")


def approve(options: argparse.Namespace) -> None:
    """Sign a release; an approval puts it in service (link `current`, line in releases.jsonl)."""
    from dagster_project.lib.release import approval
    from dagster_project.lib.release.people import os_user

    _check_release(options.folder)
    done = approval.approve(
        options.folder,
        name=options.name,
        meaning=options.meaning,
        user=os_user(),
        now=datetime.now(UTC),
    )
    by = done.signature
    before = "" if done.signed else "already "
    print(
        f"{options.folder}: {before}signed as {by.meaning} by {by.name} (user {by.user}) {by.time}"
    )
    if done.action:
        print(f"in service by {done.action}; before: {done.previous or 'nothing'}")
    elif done.in_service:
        print("in service as before")
    elif by.meaning == "approval":
        print("no folder of releases: nothing is put in service")


def diff(options: argparse.Namespace) -> None:
    """What differs between two releases: thresholds, tiers, outcomes, labels, model, files."""
    from dagster_project.lib.release.diff import compare, table_lines
    from dagster_project.lib.release.signatures import release_problems

    for folder in (options.a, options.b):
        _check_release(folder)
    found = compare(options.a, options.b, atol=options.atol)
    for folder in (options.a, options.b):
        for problem in release_problems(folder):
            _note(f"{folder}: {problem}")
    if options.json:
        print(json.dumps(found, indent=2, allow_nan=False))
    else:
        print("\n".join(table_lines(found)))
    if options.fail and found["differ"]:
        raise RefusedError(f"{options.a} and {options.b} differ")


def check_model(options: argparse.Namespace) -> None:
    """Whether models can be used: signature, hashes, a safe load, golden cases; a line each."""
    from dagster_project.lib.inference.model_check import check_models

    refused = 0
    for verdict in check_models(options.folders, load_settings().model_public_key):
        print(verdict.line(), flush=True)
        refused += verdict.reason is not None
    if refused:
        raise InputError(f"{refused} of {len(options.folders)} artifacts are refused (see above)")


def demo(options: argparse.Namespace) -> None:
    """The whole chain on a made-up world, through a real Dagster instance."""
    _check_writable(options.root)
    from dagster_project.walkthrough import run_demo

    run_demo(options.root)


_COMMANDS: tuple[tuple[Command, Arguments, str], ...] = (
    (sync, cli_arguments.sync, "tier-refit sync s3://bucket/models/v7/ models"),
    (
        dump,
        cli_arguments.dump,
        "tier-refit dump --model-dir models/current --dataset-dir data --split test "
        "--shard 3/16 --out test_03.parquet",
    ),
    (
        mislabels,
        cli_arguments.mislabels,
        "tier-refit mislabels --probs p.parquet --labels l.csv --out out",
    ),
    (
        folds,
        cli_arguments.folds,
        "tier-refit folds --dataset-dir data --k 5 --split train --out folds.parquet",
    ),
    (
        packet,
        cli_arguments.packet,
        "tier-refit packet --probs p.parquet --labels l.csv --thresholds thresholds.json "
        "--dataset-dir data --reviewers ada,kim --n 200 --out packets",
    ),
    (
        image_issues,
        cli_arguments.image_issues,
        "tier-refit image-issues --dataset-dir data --probs test.parquet --labels cleaned.csv "
        "--embeddings test.embeddings.parquet --out issues",
    ),
    (
        reviews,
        cli_arguments.reviews,
        "tier-refit reviews s3://bucket/reviews --classes labels.txt --labels given.csv "
        "--packets packets --out out",
    ),
    (
        refit,
        cli_arguments.refit,
        "tier-refit refit --probs p0.parquet p1.parquet --labels cleaned.csv "
        "--policy policy.json --out release",
    ),
    (
        scorecard,
        cli_arguments.scorecard,
        "tier-refit scorecard --probs baseline=b.parquet --probs focal=f0.parquet f1.parquet "
        "--labels cleaned.csv --out scorecard",
    ),
    (
        rollup,
        cli_arguments.rollup,
        "tier-refit rollup --probs p.parquet --taxonomy families.csv --config rollup.json "
        "--labels cleaned.csv --out rollup",
    ),
    (
        import_taxonomy,
        cli_arguments.import_taxonomy,
        "tier-refit import-taxonomy --tree icd10cm.csv --leaves leaves.csv --classes labels.txt "
        "--levels 2 1 --out families.csv",
    ),
    (
        gate,
        cli_arguments.gate,
        "tier-refit gate --scores scores.parquet --config gate.json --point balanced --out gate",
    ),
    (verify, cli_arguments.verify, "tier-refit verify store/releases/current --recompute"),
    (
        approve,
        cli_arguments.approve,
        'tier-refit approve store/releases/latest --as "Dr. A. Example" --meaning approval',
    ),
    (diff, cli_arguments.diff, "tier-refit diff store/releases/current out --atol 0.001"),
    (check_model, cli_arguments.check_model, "tier-refit check-model models/current models/*/"),
    (demo, cli_arguments.demo, "tier-refit demo --root /tmp/tier-demo"),
)
"""What it does, what it takes, and an example; in the order of the help."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = _Parser(prog="tier-refit", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function, add_arguments, example in _COMMANDS:
        add_arguments(_command(commands, function, example))
    return parser


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Parser(argparse.ArgumentParser):
    """A usage error is one line, like every other."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and where help is."""
        self.exit(EXIT_INPUT, f"{self.prog}: {message}; see {self.prog} --help\n")


def _command(
    commands: argparse._SubParsersAction[_Parser],
    function: Command,
    example: str,
) -> argparse.ArgumentParser:
    """A subcommand named and described by its function."""
    name = str(getattr(function, "__name__", "")).replace("_", "-")
    about = str(function.__doc__)
    command = commands.add_parser(
        name,
        help=about.rstrip("."),
        description=about,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=function)
    return command


def _packet_inputs(options: argparse.Namespace) -> tuple[PacketSource, PacketDesign]:
    from dagster_project.lib import dataset
    from dagster_project.lib.mislabels.candidates import find_candidates
    from dagster_project.lib.mislabels.out_of_fold import check_folds
    from dagster_project.lib.probability_table import read_probabilities
    from dagster_project.lib.release.inputs import labels_of
    from dagster_project.lib.review.design import Sampling
    from dagster_project.lib.review.packet import PacketDesign, PacketSource
    from dagster_project.lib.review.shown import read_descriptions
    from dagster_project.lib.tiers.thresholds import read_deployed

    thresholds = read_deployed(options.thresholds)
    table = read_probabilities(options.probs, options.classes, row_ids=options.row_ids)
    check_folds(table.frame, options.probs, assignment=options.folds)
    index = dataset.images(options.dataset_dir)
    described = options.class_descriptions
    found = find_candidates(
        table,
        labels_of(options.labels, table),
        in_sample=None,
        method=options.method,
        paths=index.select("image_uuid", "image_path"),
    )
    design = PacketDesign(
        reviewers=options.reviewers,
        classes=table.classes,
        sampling=Sampling(options.n, options.certain, seed=options.seed),
        n_repeats=options.repeats,
        descriptions={} if described is None else read_descriptions(described, table.classes),
        columns=options.columns,
    )
    return PacketSource(found.rows, index, options.dataset_dir, thresholds), design


def _optional_table(options: argparse.Namespace) -> ProbabilityTable | None:
    from dagster_project.lib.probability_table import read_probabilities

    if not options.probs:
        if options.row_ids:
            raise InputError("--row-ids: pass the files that it is for with --probs, too")
        return None
    return read_probabilities(options.probs, options.classes, row_ids=options.row_ids)


def _returned(paths: Sequence[Path]) -> pl.DataFrame:
    """``image_uuid, reviewer`` of what these files judge."""
    import polars as pl

    from dagster_project.lib import tables

    columns = ["image_uuid", "reviewer", "label"]
    read = [tables.read_table(path, columns).select(columns) for path in paths]
    return pl.concat(read).drop_nulls().select("image_uuid", "reviewer")


def _look_alikes(paths: Sequence[Path]) -> pl.DataFrame:
    """``image_uuid, group`` of the pairs in these files."""
    import polars as pl

    from dagster_project.lib import tables
    from dagster_project.lib.image_issues.look_alikes import similar_groups

    found = []
    for path in paths:
        needed = ["image_uuid", "other_uuid", "score"]
        pairs = tables.read_table(path, needed, may_be_empty=True).select(
            pl.col(needed[:2]).cast(pl.String), pl.col("score").cast(pl.Float64, strict=False)
        )
        if n := pairs["score"].null_count():
            raise InputError(f"{path.name}, column score: {n} are no numbers; correct them")
        found.append(pairs)
    return similar_groups(pl.concat(found))


def _check_writable(folder: Path) -> None:
    """Raise unless ``folder`` is one, or can be made: before any work is done."""
    at = folder.absolute()
    try:
        nearest = next(path for path in (at, *at.parents) if path.exists())
        if not nearest.is_dir():
            raise InputError(
                f"{folder}: {nearest} is a file, a folder is needed; pass another path"
            )
        # tried, not asked: os.access grants root everything, even where nothing can be made
        with tempfile.TemporaryDirectory(dir=nearest, prefix=".tier-refit-"):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); pass another path"
        ) from None


def _check_release(folder: Path) -> None:
    """Raise if it is a gate, which is sealed like a release and is none."""
    from dagster_project.lib.gate.publish import is_gate

    if is_gate(folder):
        raise InputError(
            f"{folder}: is a gate, a release is needed; a gate can be verified, and made again by "
            "the command in its run.json"
        )


def _refit_options(options: argparse.Namespace) -> dict[str, Any]:
    """What a refit needs besides files, as plain JSON that its ``run.json`` records."""
    from dagster_project.lib.tiers.policy import DEFAULT_POLICY

    settings, deployed = load_settings(), _deployed_now()
    return {
        "policy": DEFAULT_POLICY.model_dump(mode="json"),  # unless there is a policy file
        "deployed": None if deployed is None else deployed.as_dict(),  # unless there is a file
        "reviewed": options.reviewed,
        "subgroups": None if options.subgroups is None else list(options.subgroups),
        "max_change": settings.max_threshold_change,
    }


def _deployed_now() -> Thresholds | None:
    """The thresholds in service, as the environment says; None where it does not."""
    from dagster_project.lib.tiers.thresholds import known_or_none

    settings = load_settings()
    return known_or_none(
        settings.deployed_confident, settings.deployed_refer, settings.deployed_possible_item
    )


if __name__ == "__main__":
    sys.exit(main())
