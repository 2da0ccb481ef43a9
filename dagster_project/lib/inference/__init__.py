"""From photographs to probabilities: the only room that runs the network.

Belongs: architectures, preprocessing, questionnaire encoding, checkpoint loading, the dump.
Does not: labels (a dump has none), fetching artifacts (``model_store``), anything fitted.
"""
