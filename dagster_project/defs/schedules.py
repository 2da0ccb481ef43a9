"""Schedules: a weekly refit for those who want one whatever lands.

Belongs: clocks. Does not: labels landing (``label_sensor``, which needs no clock).
"""

import dagster as dg

from dagster_project.defs import jobs

WEEKLY_CRON = "0 6 * * 1"
"""Mondays 06:00 UTC, before the reviewers' week."""


@dg.schedule(
    job_name=jobs.REFIT_JOB,
    cron_schedule=WEEKLY_CRON,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Refit every Monday 06:00 UTC. Off by default: the label sensor covers what lands.",
)
def weekly_refit() -> dg.RunRequest:
    """One refit of what depends on test labels."""
    return dg.RunRequest(
        asset_selection=jobs.refit_assets(with_train_side=False),
        asset_check_keys=jobs.REFIT_CHECKS,
    )
