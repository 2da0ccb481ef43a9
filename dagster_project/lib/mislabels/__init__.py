"""Mislabels: which given labels are probably wrong, and what that explains.

Belongs: candidates by confident learning, their tables and pictures; whether probabilities are out
of sample; which weak classes labels explain; what may be dropped.
Does not: asking reviewers (``review``), deciding what a label is (``labels``); nothing here changes
or drops a row.
Concept: confident learning (arXiv 1911.00068) on the probabilities of the deployed model.
"""
