"""Scalar gates: a threshold below which a model gives no answer, chosen and frozen with evidence.

Belongs: any score with a strict threshold: sweep, operating points, gray zone, bundle, applying it.
Does not: the three tiers (``tiers``), roll-up; counting by score, certificates, patients
(``evidence``), sealed folders (``lib.sums``), which all of them share.
Concept: score < tau is "no answer" (bottom); everything else is configuration. N = rows, T = taus.
"""
