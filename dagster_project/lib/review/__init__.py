"""Review: asking dermatologists blindly, and what their answers say of labels nobody asked about.

Belongs: the sampling design of a packet, the packet and its offline page, the estimates that rest
on the design (precision and recall of flags, noise rates, self-agreement).
Does not: which labels look wrong (``mislabels``), reading the drop and consensus (``labels``).
Concept: two-phase sampling (Sarndal, Swensson, Wretman, Model Assisted Survey Sampling, 1992): a
review can speak for unreviewed rows only through the recorded probability of being asked.
"""
