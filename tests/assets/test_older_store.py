"""A store that an older version of the package wrote: what is lacking, and how it is made again."""

from __future__ import annotations

import dagster as dg
import pytest
from harness import Harness

from dagster_project.defs.parquet_io import table_path
from dagster_project.defs.probabilities import shard_keys
from dagster_project.lib import tables


def forget(harness: Harness, key: str, asset: str, partition: str | None = None) -> None:
    """As if the table had been written before there was this key."""
    path = table_path(harness.settings, asset, partition)
    table = tables.read_arrow(path)
    kept = {k: v for k, v in tables.metadata_of(table).items() if k != key}
    assert kept != tables.metadata_of(table)
    tables.write_arrow(path, tables.with_metadata(table, kept))


def said(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step says."""
    assert not result.success
    (failure,) = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    assert failure.error is not None
    assert failure.error.cause is not None
    return failure.error.cause.message


def test_a_key_that_an_older_table_lacks_is_named_with_the_asset_to_make_again(
    fitted: Harness,
) -> None:
    forget(fitted, "files_refused", "expert_reviews")
    message = said(fitted.run_job("refit_job", ["label_history"]))
    assert message.startswith("dagster_project.lib.errors.InputError: expert_reviews: ")
    assert message.endswith('no "files_refused" (another version of this package wrote it); '
                            "materialize expert_reviews again\n")  # fmt: skip
    assert fitted.run_job("refit_job", ["expert_reviews", "label_history"]).success


@pytest.mark.parametrize(
    ("key", "asset"),
    [
        pytest.param("tta", "scored_test_rows", id="of_all_shards"),
        pytest.param("classes", "expert_reviews", id="of_one_shard"),
    ],
)
def test_of_a_dump_it_is_said_to_run_its_job(ready: Harness, key: str, asset: str) -> None:
    assert ready.run_job("refit_job", ["expert_reviews", "cleaned_labels"]).success
    for shard in shard_keys(ready.settings):
        forget(ready, key, "test_probabilities", shard)
    message = said(ready.run_job("refit_job", [asset]))
    assert f'test_probabilities: the stored table says no "{key}"' in message
    assert message.endswith("run dump_job\n")
