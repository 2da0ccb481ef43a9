"""Release: the files that may be deployed, with their evidence, and what becomes of them.

Belongs: the bundle and its hashes, the conditions that block it, its words, the refit's folder.
Does not: any statistic (``tiers``, ``evidence``, ``calibration``).
Concept: a folder named by its content; the bytes depend on the inputs alone.
"""
