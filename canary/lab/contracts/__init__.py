"""What canary relies on at a sink, as named checks that need no test runner: at its own, and at those you install.

What API servers, workload controllers, routers and sources must do is in `tests/contracts`.
"""
