"""Dagster wiring: one file a stage of the lineage, plus automation, storage and display.

Belongs: assets, checks, jobs, sensors, and what they show in the UI.
Does not: maths, pixels, file formats (``lib``).
Habits of this room: ``lib`` is imported inside functions, so that loading the definitions costs
little more than ``import dagster``; assets hand each other ``StoredTable``; an asset calls lib and
returns value, data version and metadata. Dagster reads annotations of ``context`` as they are
written, hence no ``from __future__ import annotations`` here.
"""
