"""Tiers: confident, possible, refer; where the thresholds come from and what they cost.

Belongs: scored rows, the coverage curve, selection rules, reports, the release and its gate.
Does not: certificates, inversion intervals (a later stage), label content (``labels``).
Concept: confident if score >= ``confident``, refer if score < ``refer``, possible between.
"""
