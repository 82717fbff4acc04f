"""A shop to protect: pods that sell, the gateway before them, the customers, and what a bad version does to them.

On real ports each of the three is a process of its own (`child.py`); `simulated.py` is the same shop on simulated time.
"""
