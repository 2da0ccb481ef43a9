"""How results look in the Dagster UI: pictures, tables, links.

Belongs: turning lib's values into metadata, and publishing the full-size files beside them.
Does not: drawing (``lib``'s ``pictures`` modules) and never a patient's row: aggregates only.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.lib.files import publish_bytes
from dagster_project.settings import HAND_OUT, PACKETS, Settings

if TYPE_CHECKING:
    import polars as pl

    from dagster_project.lib.tiers.selection import ThresholdFit

MAX_INLINE_ROWS = 60
MAX_INLINE_BYTES = 100_000
"""A picture is stored about four times in the event log; larger ones are only linked."""


def picture(png: bytes, name: str, settings: Settings) -> dict[str, dg.MetadataValue[Any]]:
    """Publish ``report/<name>.png``; its path and link always, inline if it is small."""
    path = settings.report_dir / f"{name}.png"
    publish_bytes(path, png)
    shown = inline(png, name) if len(png) <= MAX_INLINE_BYTES else {}
    return {**shown, **link(path, settings)}


def published_picture(name: str, settings: Settings) -> dict[str, dg.MetadataValue[Any]]:
    """A drawing that was published before, shown again; nothing if it is not there.

    A large one is inline in fewer colours, if that makes it small enough.
    """
    from dagster_project.lib.pictures import fewer_colours

    path = settings.report_dir / f"{name}.png"
    if not path.is_file():
        return {}
    data = path.read_bytes()
    if len(data) > MAX_INLINE_BYTES:
        data = fewer_colours(data)
    shown = inline(data, name) if len(data) <= MAX_INLINE_BYTES else {}
    return {**shown, **link(path, settings)}


def inline(png: bytes, name: str) -> dict[str, dg.MetadataValue[Any]]:
    """A small picture behind the UI's [Show Markdown]."""
    data = base64.b64encode(png).decode()
    return {
        Path(name).name: dg.MetadataValue.md(f"![{Path(name).name}](data:image/png;base64,{data})")
    }


def link(
    path: Path, settings: Settings, name: str | None = None
) -> dict[str, dg.MetadataValue[Any]]:
    """Where a report file lies, and its address while `make ui` serves the report folder."""
    relative = path.relative_to(settings.report_dir).as_posix()
    name = name or path.name
    return {
        f"{name} (file)": dg.MetadataValue.path(path),
        f"{name} (link)": dg.MetadataValue.url(f"{settings.report_url}/{relative}"),
    }


def packet_links(folder: Path, settings: Settings) -> dict[str, dg.MetadataValue[Any]]:
    """Where a packet lies, and the address of each reviewer's page while `make ui` serves it.

    Only ``hand_out`` is ever served: the key that tells which row is which stays a file.
    """
    pages = sorted((folder / HAND_OUT).glob("*/index.html")) if settings.photos_in_ui else []
    addresses = {
        page.parent.name: page.relative_to(settings.packets_dir).as_posix() for page in pages
    }
    return {
        "packet (folder)": dg.MetadataValue.path(folder),
        **{
            f"page of {name} (link)": dg.MetadataValue.url(
                f"{settings.report_url}/{PACKETS}/{address}"
            )
            for name, address in addresses.items()
        },
    }


def table(frame: "pl.DataFrame", limit: int = MAX_INLINE_ROWS) -> dg.MetadataValue[Any]:
    """A small aggregate table, inline."""
    records = [
        dg.TableRecord({k: _cell(v) for k, v in row.items()})
        for row in frame.head(limit).to_dicts()
    ]
    if not records:
        return dg.MetadataValue.text("no rows")
    schema = dg.TableSchema(
        [dg.TableColumn(name=n, type=_json_type(t)) for n, t in frame.schema.items()]
    )
    return dg.MetadataValue.table(records, schema=schema)


def tier_table(report: Mapping[str, Any]) -> "pl.DataFrame":
    """The tiers of a report, one row each."""
    import polars as pl

    rows = [{"tier": name, **values} for name, values in report["tiers"].items()]
    schema = {"tier": pl.String, "n": pl.Int64}
    rates = {"share": pl.Float64, "top1": pl.Float64, "top3": pl.Float64}
    return pl.DataFrame(rows, schema={**schema, **rates})


def release_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Candidate or approved, in a word and a sentence; each threshold with its label version."""
    import polars as pl

    return {
        "release_state": state["state"],
        "release": state["words"],
        "thresholds_and_labels": table(pl.DataFrame(state["thresholds"])),
    }


def rule_table(fit: "ThresholdFit") -> "pl.DataFrame":
    """The rule behind each threshold and what the other rules would have chosen, one row each."""
    import polars as pl

    rows: list[tuple[str, str, bool, float, float | None, float | None]] = []
    for name, rule in (("confident", fit.confident_rule), ("refer", fit.refer_rule)):
        rows.append((name, rule.rule, True, rule.target, rule.fitted, rule.released))
        rows += [(name, a.rule, False, a.target, a.fitted, a.released) for a in rule.alternatives]
    texts = {"threshold": pl.String, "rule": pl.String, "chosen": pl.Boolean}
    numbers = {"target": pl.Float64, "fitted": pl.Float64, "released": pl.Float64}
    return pl.DataFrame(rows, schema={**texts, **numbers}, orient="row")


def certificate(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the certificate says: a row a claim, and why not, in words."""
    import polars as pl

    found = report["selection"]["confident"]["certificate"]
    if found is None:
        return {"certificate": "not asked for"}
    rows = [
        (claim["quantity"], claim["target"], claim["observed"], found["status"],
         found["threshold"], found["coverage"], found["released_is_certified"])
        for claim in found["claims"]
    ]  # fmt: skip
    names = ("bound", "observed", "status", "certified_at", "coverage", "released_holds")
    types = (pl.Float64, pl.Float64, pl.String, pl.Float64, pl.Float64, pl.Boolean)
    schema = {"claim": pl.String, **dict(zip(names, types, strict=True))}
    shown = {"certificate": table(pl.DataFrame(rows, schema=schema, orient="row"))}
    return shown if found["reason"] is None else {**shown, "not_certified": found["reason"]}


def subgroup_table(report: Mapping[str, Any]) -> "pl.DataFrame":
    """The subgroups with most confident wrong answers, worst first; all are in the page."""
    import polars as pl

    rows = [row for row in report["subgroups"] or () if row["confident_wrong"] is not None]
    rows.sort(key=lambda row: (-row["confident_wrong"], row["column"], row["group"]))
    texts = {"column": pl.String, "group": pl.String}
    numbers = {"n": pl.Int64, "n_patients": pl.Int64, "coverage": pl.Float64}
    rates = dict.fromkeys(("covered_top1", "confident_wrong", "refer_share"), pl.Float64)
    schema = {**texts, **numbers, **rates, "too_few": pl.Boolean}
    return pl.DataFrame([{name: row[name] for name in schema} for row in rows], schema=schema)


def moved_table(report: Mapping[str, Any]) -> "pl.DataFrame":
    """Paired differences against what is in service: tiers and top-1, one row each."""
    import polars as pl

    moved = report["moved"]
    rows = [] if moved is None else [
        *({"what": f"share {row['tier']}", **row} for row in moved["tiers"]),
        {"what": "top-1", **moved["top1"]},
    ]  # fmt: skip
    numbers = dict.fromkeys(("before", "after", "difference", "low", "high"), pl.Float64)
    return pl.DataFrame(
        [{name: row[name] for name in ("what", "n", *numbers)} for row in rows],
        schema={"what": pl.String, "n": pl.Int64, **numbers},
    )


def scalars(values: Mapping[str, float | int | str | bool | None]) -> dict[str, Any]:
    """Numbers with stable names, which the UI plots over time; an undefined one is left out."""
    return {name: value for name, value in values.items() if value is not None}


def reasons(values: Sequence[str]) -> dg.MetadataValue[Any]:
    """A list of sentences."""
    return dg.MetadataValue.md("\n".join(f"- {value}" for value in values) or "none")


def _cell(value: object) -> str | float | int | bool | None:
    if isinstance(value, float):
        return round(value, 4)
    return value if isinstance(value, (int, str, bool)) or value is None else str(value)


def _json_type(dtype: "pl.DataType") -> str:
    import polars as pl

    if dtype == pl.Boolean:
        return "bool"
    return "int" if dtype.is_integer() else "float" if dtype.is_float() else "string"
