"""Calibration: whether a probability means what it says, and how well it ranks right over wrong.

Belongs: reliability, calibration error, temperature, areas under risk-coverage curves.
Does not: tiers and thresholds (``tiers``), certificates (``evidence``), files (``release``).
Concept: the top probability is a forecast of "the top class is right". Everything here judges that
forecast on labelled rows; nothing here changes a probability that is served.
"""
