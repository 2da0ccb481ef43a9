"""Image issues: what is wrong with the pictures themselves, and with labels of equal pictures.

Belongs: finding pictures that are no skin, outliers, copies and look-alikes (within and across
patients and splits), copies whose labels differ, and systematic clusters; tables and pictures.
Does not: single wrong labels (``mislabels``), the embeddings (``inference``); nothing here changes
or drops a row.
Concept: each kind has its own table, count and picture, because each has another remedy.
"""
