"""Evidence: what a score and a threshold can be trusted with, counted by patient.

Belongs: certificates, intervals, bootstrap, label noise; for any score and any claim.
Does not: tiers, policies, reports (``tiers``), files (``release``).
Concept: images of one patient are not independent, so every bound here is by patient.
"""
