"""The rules of who may change what, when: facts about a change that the gates ask for before exposure rises.

`origin.py` says whose work a change is, `approvals.py` whose word counts, `effective.py` which safety policies are in
force, `limits.py` what they bound, and `patterns.py` looks for known failures. None of it can keep exposure up.
"""
