"""Scorecard: which training recipe is worth shipping, decided on the same rows by a declared rule.

Belongs: measures of a checkpoint, paired differences by patient, verdicts on checkpoints and on
recipes, what label noise could change, which combinations were never tried, the report of it all.
Does not: calibration of one model (``calibration``), thresholds (``tiers``), dumps (``inference``).
Concept: a *checkpoint* is one file of weights, judged on test rows; a *recipe* is what was changed
in training, judged over seeds. M configurations, N images, P patients, K classes.
"""
