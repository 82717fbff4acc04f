"""The guard: rules that the API server itself keeps, so that they hold while nothing of ours runs.

`policies.py` writes them down for a version of Kubernetes, `canary guard` prints them, `fingerprint.py` tells whether
what is installed is still that. Nothing here stands in the way of a request: no webhook, no server of ours.
"""
