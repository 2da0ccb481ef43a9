"""All definitions on one page: `defs` is what Dagster loads.

Belongs: assembling the rooms of ``defs/`` explicitly; tests pass other settings and resources.
Does not: any asset, any logic. No folder is scanned: an installed wheel has no project file.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from dagster_project.defs import (
    approval,
    checkpoints,
    dataset,
    gate,
    image_issues,
    jobs,
    label_sensor,
    labels,
    mislabels,
    model,
    probabilities,
    release,
    resources,
    review,
    review_findings,
    rollup,
    schedules,
    scorecard,
    thresholds,
    training,
)
from dagster_project.settings import Settings, load_settings


def build_definitions(settings: Settings, **overrides: Any) -> dg.Definitions:
    """The code location for ``settings``; ``overrides`` replace resources by name.

    Raises
    ------
    InputError
        A fault in the list of checkpoints, named: the location does not load until it is mended.
    """
    listed = checkpoints.configured(settings)
    beside = checkpoints.build_lineages(listed, settings)
    compared = scorecard.build_assets(listed)
    dumps = {split: probabilities.build_dump(split, settings) for split in probabilities.DUMPS}
    return dg.Definitions(
        assets=[
            *model.ASSETS,
            *dataset.ASSETS,
            *dumps.values(),
            *labels.ASSETS,
            *mislabels.ASSETS,
            *image_issues.ASSETS,
            *review.ASSETS,
            *thresholds.ASSETS,
            *review_findings.ASSETS,
            *release.ASSETS,
            *approval.ASSETS,
            *training.ASSETS,
            *rollup.ASSETS,
            *gate.ASSETS,
            *beside.assets,
            *compared,
        ],
        asset_checks=[
            *model.CHECKS,
            *(probabilities.build_dump_check(split, dump) for split, dump in dumps.items()),
            *labels.CHECKS,
            *thresholds.CHECKS,
            *rollup.CHECKS,
            *gate.CHECKS,
            *beside.checks,
            *scorecard.build_checks(compared),
        ],
        jobs=jobs.build_jobs(
            checkpoints.artifacts(listed),
            checkpoints.dumps(listed).values(),
            with_rollup=settings.taxonomy is not None,
        ),
        sensors=[label_sensor.label_sensor, approval.approval_sensor, gate.gate_scores_sensor],
        schedules=[schedules.weekly_refit],
        resources={**resources.build_resources(settings), **overrides},
    )


defs = build_definitions(load_settings())
