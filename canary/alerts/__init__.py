"""Telling people: from the notices in a run's status to an acknowledgement, at least once.

`outbox` decides (pure), `sink` is the seam and carries, `sinks` opens what is configured; `webhook` and `alertmanager`
speak through `posting`. The texts come from `core.telling`. The operator calls all of it, outside the rollback lane.
"""
