"""The domain: plain functions over polars, numpy and torch.

Belongs: everything that would be true without an orchestrator.
Does not: anything of Dagster's (``defs``), argument parsing (``cli``), environment (``settings``).
"""
