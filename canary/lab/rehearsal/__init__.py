"""`canary rehearse`: the whole controller on simulated time, with the user's own policy.

`scenario.py` is one simulated run (the simulations of the tests use it, too), `rehearse.py` plays many, `figures.py`
counts them.
"""
