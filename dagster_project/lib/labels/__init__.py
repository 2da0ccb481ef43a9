"""Labels: what the dataset gives, what dermatologists return, and the one label that follows.

Belongs: given labels, the review drop, consensus, label versions.
Does not: finding suspicious labels (``mislabels``), watching the drop (``defs``).
Concept: labels are joined by ``image_uuid`` and have versions of their own, so that a new label
never makes a probability dump stale.
"""
