"""A full sample of ``tier_reports.json``: real counts of given rows, plausible values elsewhere.

Belongs: one place that names every key that the page may meet.
Does not: statistics; nothing here is a claim about the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from dagster_project.lib.evidence.label_noise import label_noise_report
from dagster_project.lib.probability_table import ProbabilityTable
from dagster_project.lib.tiers.evaluation import Context, LabelsInfo, full_report
from dagster_project.lib.tiers.policy import DEFAULT_POLICY, Accept, TierNoise, TierPolicy
from dagster_project.lib.tiers.scored_rows import score_rows
from dagster_project.lib.tiers.selection import fit_thresholds
from dagster_project.lib.tiers.thresholds import Thresholds

DEPLOYED = Thresholds(0.83, 0.433, 0.25)
POLICY = DEFAULT_POLICY.model_copy(update={"accept": Accept(covered_top1=0.9)})
HOSTILE = """</script><img src=x onerror=alert(1)> "it's" & {{ 7*7 }}"""


def made_rows(n: int, *, classes: int = 5, seed: int = 1, sharp: float = 4.0) -> pl.DataFrame:
    """Scored rows of a model that is mostly right; float32, two images a patient."""
    rng = np.random.default_rng(seed)
    logits = sharp * rng.random((n, classes))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = [int(rng.choice(classes, p=row)) for row in probs]
    names = tuple(f"class_{i}" for i in range(classes))
    ids = [f"image_{i:05d}" for i in range(n)]
    patients = [f"patient_{i // 2:05d}" for i in range(n)]
    frame = pl.DataFrame({"image_uuid": ids, "patient_id": patients})
    labels = pl.DataFrame({"image_uuid": ids, "label": [names[i] for i in truth]})
    table = ProbabilityTable(names, frame, {"probs": probs.astype(np.float32)})
    return score_rows(table, labels)


def plain_report(rows: pl.DataFrame, policy: TierPolicy = DEFAULT_POLICY) -> dict[str, Any]:
    """What ``full_report`` gives, with nothing deployed and no baseline."""
    labels = LabelsInfo("v1", provisional=False, n_reviewed=None)
    return full_report(rows, fit_thresholds(rows, policy), policy, Context(labels))


def sample_report(rows: pl.DataFrame) -> dict[str, Any]:
    """Every key filled in; of ``POLICY``."""
    labels = LabelsInfo("2026-11-20", provisional=True, n_reviewed=600)
    context = Context(labels, reviews(), deployed=DEPLOYED, baseline=rows)
    report = full_report(rows, fit_thresholds(rows, POLICY), POLICY, context)
    sides = report["selection"]
    sides["confident"] |= {
        "ci95_set": [[0.797, 0.81], [0.813, 0.834]],
        "certificate": certificate(),
    }
    reviewed = {
        "tiers": [
            {"tier": tier, "n": 5000, "n_reviewed": 200, "eta": 0.04, "ci95": [0.02, 0.07]}
            for tier in ("confident", "possible", "refer")
        ]
    }
    noise = POLICY.model_copy(
        update={"label_noise": TierNoise(confident=0.03, possible=0.08, refer=0.12)}
    )
    return {
        **report,
        **_evidence(),
        **_where(),
        "moved": {**report["moved"], **_moved()},
        "label_noise": label_noise_report(report, noise, 25, reviewed=reviewed),
    }


def reviews() -> dict[str, Any]:
    """Two readers of a packet, of whom one has a hostile name."""
    readers = [
        {"reviewer": "reader_a", "n": 600, "n_unsure": 14, "n_not_usable": 3,
         "agreement_with_consensus": 0.912, "ci95": [0.885, 0.934]},
        {"reviewer": HOSTILE, "n": 12, "n_unsure": 12, "n_not_usable": 0,
         "agreement_with_consensus": None, "ci95": None},
    ]  # fmt: skip
    return {
        "policy": {"min_agreeing": 2, "references": ["histology"]},
        "images": {"confirmed": 402, "corrected": 151, "tie": 31, "single": 9, "not_usable": 7},
        "agreement": {
            "n_images_two_readers": 588, "alpha": 0.713, "alpha_ci95": [0.68, 0.745],
            "reviewers": readers,
        },
        "packet": {"name": "0123abcd", "n_asked": 620, "n_returned": 600},
    }  # fmt: skip


def certificate() -> dict[str, Any]:
    """A certificate at .852, stricter than the released value."""
    claims = [
        {"quantity": "confident_wrong_share", "target": 0.041, "observed": 0.0339, "holds": True},
        {"quantity": "covered_top1", "target": 0.9, "observed": 0.9267, "holds": True},
    ]
    scope = [
        "It speaks of patients exchangeable with these.",
        "Refer share, truth in the best three, outcome mix and highlight are not certified.",
        "Target, model and policy were fixed before the labels were seen.",
    ]
    return {
        "status": "certified", "threshold": 0.852, "claims": claims, "delta": 0.05,
        "method": "betting test on patients, grid of 0.001, strict to loose", "estimand": "images",
        "start": 0.95, "min_coverage": 0.1, "max_images_per_patient": 5, "n_images": 15561,
        "n_patients": 7781, "n_dropped": 0, "patients_known": True, "coverage": 0.4408,
        "released_is_certified": False, "reason": None, "rows_needed": 21400, "looks": 1,
        "scope": scope,
    }  # fmt: skip


def _evidence() -> dict[str, Any]:
    bins = []
    for i in range(15):
        mean = 0.25 + 0.05 * i
        right = mean - 0.12 * mean * (1 - mean) * 4 * (0.5 + mean)
        bins.append({"n": 1037, "mean_score": mean, "accuracy": right, "low": right - 0.03,
                     "high": min(1.0, right + 0.03)})  # fmt: skip
    return {
        "calibration": {
            "ece": 0.0812, "ece_debiased": 0.0795, "temperature": 1.31, "nll_before": 1.204,
            "nll_after": 1.127, "mapped_thresholds": {"confident": 0.756, "refer": 0.457},
            "aurc": 0.1432, "e_aurc": 0.0911, "reliability": bins,
        },
    }  # fmt: skip


def _where() -> dict[str, Any]:
    names = ["eczema", "psoriasis", "tinea corporis", HOSTILE, "hidradenitis suppurativa"]
    names += [f"class_{i:02d}" for i in range(5, 25)]
    classes = []
    for i, title in enumerate(names):
        recall = None if i == 24 else 0.88 - 0.02 * ((i * 7) % 23)
        classes.append({
            "class": title, "n": 0 if i == 24 else 900 - 35 * i, "n_patients": 450 - 17 * i,
            "recall": recall, "recall_low": recall and recall - 0.04,
            "recall_high": recall and recall + 0.04,
            "confident_share": recall and recall * 0.6,
            "possible_share": recall and 0.87 - recall * 0.6, "refer_share": recall and 0.13,
            "n_predicted_confident": 310 - 12 * i,
            "confident_wrong_predicted": None if i == 24 else 0.05 + 0.005 * i, "too_few": i > 22,
        })  # fmt: skip
    groups = []
    for column, values in {"sex": ("f", "m"), "fitzpatrick": ("I-II", "III-IV", "V-VI")}.items():
        for i, group in enumerate(values):
            few = group == "V-VI"
            groups.append({
                "column": column, "group": group, "n": 91 if few else 5200 - 900 * i,
                "n_patients": 44 if few else 2600 - 400 * i, "coverage": 0.49 - 0.03 * i,
                "covered_top1": None if few else 0.92 - 0.012 * i,
                "confident_wrong": 0.039 + 0.004 * i, "refer_share": 0.13 + 0.01 * i,
                "too_few": few, "holds": None if few else i == 0, "p": None if few else 0.003,
            })  # fmt: skip
    groups.append({**groups[0], "column": "clinic", "group": HOSTILE})
    return {"per_class": classes, "subgroups": groups}


def _moved() -> dict[str, Any]:
    thresholds = [
        {"name": "confident", "old": 0.83, "new": 0.815, "inside_interval": True},
        {"name": "refer", "old": 0.433, "new": 0.444, "inside_interval": False},
    ]
    classes = [
        {"class": f"class_{i:02d}", "before": 0.6 + 0.01 * i, "after": 0.61 + 0.009 * i,
         "difference": 0.01 - 0.001 * i, "low": -0.01 - 0.001 * i, "high": 0.03 - 0.001 * i}
        for i in range(25)
    ]  # fmt: skip
    tiers = ("confident", "possible", "refer")
    crossings = [
        {"old_tier": a, "new_tier": b, "n": 40 * (i != j) * (i + 1), "n_wrong": 9 * (i + 1)}
        for i, a in enumerate(tiers)
        for j, b in enumerate(tiers)
        if i != j
    ]
    return {
        "verdict": "nudge",
        "sentence": "Both thresholds move by less than 0.02; only refer leaves its interval.",
        "thresholds": thresholds,
        "old_on_new": ["0.433 now refers only 12.1 % of images, not 13.0 %"],
        "crossings": crossings, "into_confident_wrong": 23, "classes": classes,
    }  # fmt: skip
