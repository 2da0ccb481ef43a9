"""What test-time augmentation is worth: TTA against plain, from the views of one dump.

Belongs: both views' measures and their paired difference.
Does not: computing a view (``inference.views``), other pairs than the one in service.
Concept: one dump has both answers to every image, so the gain costs no second dump. TTA is the mean
of the sigmoids of the image and its mirror image.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from dagster_project.lib.evidence.bootstrap import SEED
from dagster_project.lib.scorecard.answers import same_rows
from dagster_project.lib.scorecard.measures import measures
from dagster_project.lib.scorecard.paired import compare
from dagster_project.lib.scorecard.resampled import DRAWS

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.probability_table import ProbabilityTable

PLAIN = "probs_production_plain"


def tta_gain(
    table: ProbabilityTable, labels: pl.DataFrame, *, draws: int = DRAWS, seed: int = SEED
) -> dict[str, Any]:
    """TTA against plain on the production-shaped questionnaire, as plain JSON.

    Parameters
    ----------
    table : a dump; its ``probs`` are TTA where its metadata say ``tta`` is true.
    labels : ``image_uuid, label``, as ``answers.same_rows``.

    Returns
    -------
    ``plain``, ``tta`` (each of ``measures.measures``), ``comparison`` (``baseline, config,
    differences, per_class`` of ``comparison.Comparison``; TTA minus plain), ``reason``. Without two
    views the first three are null and ``reason`` says why; else ``reason`` is null.

    Raises
    ------
    InputError
        As ``answers.same_rows``.
    """
    reason = _without(table)
    if reason is not None:
        return {"plain": None, "tta": None, "comparison": None, "reason": reason}
    plain = same_rows({"plain": table}, labels, view=PLAIN)
    both = dataclasses.replace(
        plain, probs={**plain.probs, **same_rows({"tta": table}, labels).probs}
    )
    found = dataclasses.asdict(compare(both, "plain", draws=draws, seed=seed)["tta"])
    return {
        "plain": measures(both, "plain"),
        "tta": measures(both, "tta"),
        "comparison": {**found, "per_class": list(found["per_class"])},
        "reason": None,
    }


def _without(table: ProbabilityTable) -> str | None:
    said = table.metadata.get("tta", "").lower()
    if said in ("false", "0"):
        return "the dump was made without TTA; dump it again with TTA to see what it gains"
    if said not in ("true", "1"):
        return "the table does not say that its probabilities are TTA; only a dump says so"
    if PLAIN not in table.views:
        return f"the table has no view {PLAIN} beside its TTA; a dump has both"
    return None
