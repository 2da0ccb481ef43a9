"""What ``report.html`` is made of: its words, numbers and drawings, and the template beside them.

Belongs: the view model of the page (``sections`` and what it calls, ``slider``, ``drawing``), the
template, the style sheet and the script.
Does not: any statistic; the page as bytes (``lib.release.html``).
Concept: everything is a table, a list, a sentence or a drawing of numbers that are in the report.
"""
