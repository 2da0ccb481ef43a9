"""Tiers: confident, possible, refer; where the thresholds come from and what they cost.

Belongs: scored rows, the coverage curve, selection rules, reports.
Does not: statistics of patients (``evidence``), files (``release``), label content (``labels``).
Concept: confident if score >= ``confident``, refer if score < ``refer``, possible between.
"""
