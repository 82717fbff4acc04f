"""What people are told: sentences, pages, screens and conditions, all made from a run or a policy as it is stored.

`stored.py` reads the raw objects, `wording.py` writes numbers, `explain.py` makes the sentences that command line,
Events, pages and conditions share. Nothing here is asked by a decision.
"""
