"""The command line: `canary`, `kubectl canary`, and its completion.

`main` looks up the verb in one table and imports nothing but that verb's module. stdout is data, stderr is talk. Acting
verbs create one CanaryRequest and wait for its answer; only `abort` may write a route, with the caller's own rights.
"""
