"""Roll-up: when the leaf is unsure, a coarser answer that is sure enough; nothing is run again.

Belongs: taxonomies, class masks, normalisation, rules that place a row at a rank, fitted
thresholds, the append-only record of what was said, its evaluation against truth.
Does not: models and dumps (``inference``), tiers (``tiers``), certificates as such (``evidence``).
Concept: post-processing of stored probabilities. Below the confident tier "an eczematous
dermatitis" may be the honest answer. N = images, K = classes, R = ranks with the class as rank 0.
"""
