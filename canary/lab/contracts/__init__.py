"""What canary relies on, as named checks that need no test runner: for its own parts, the real ones, and yours.

One module a seam: API server, workload controllers, router and brake, metrics source, sink.
"""
