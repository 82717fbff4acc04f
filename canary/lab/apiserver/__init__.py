"""A Kubernetes API server in process, as far as canary relies on one.

`store.py` keeps the objects (versions, generations, conflicts, deletion), by the kinds of `resources.py`; `protocol.py`
answers requests on it, `serving.py` does so on a port, and `admission.py` says who may change what.
"""
