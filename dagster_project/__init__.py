"""Re-fit, with evidence, what a skin classifier may say on its own.

Three rooms and one direction: ``definitions -> defs -> lib`` and ``cli -> lib``.
``lib`` is the domain and knows no Dagster; ``defs`` is the wiring and knows no maths.
"""
