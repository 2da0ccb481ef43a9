"""Mislabels: which given labels are probably wrong, shown and sent out for review.

Belongs: candidates by confident learning, their tables and pictures, the blind review packet.
Does not: deciding what a label is (``labels``); nothing here changes or drops a row.
Concept: confident learning (arXiv 1911.00068) on the probabilities of the deployed model.
"""
