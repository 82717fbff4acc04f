"""The audit: every production change on record, in a chain that shows what was done to it afterwards.

`chain.py` is the chain, `store.py` and `object_store.py` keep it, `entries.py` says what a run's decisions are in it,
`revisions.py` finds the changes that no run decided. `attest.py` signs and verifies statements about their origin.
"""
