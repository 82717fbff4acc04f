"""The judgement: pure functions from (policy, run, evidence, now) to (status, actions).

Nothing in here knows a clock, a random number, a socket, a file, a log or a thread; it imports `canary.api`,
`canary.errors` and the pure part of the standard library. That is what lets every question be put to it: all reachable
states in a second, six hours of shopping in milliseconds. `operator` gathers what it reads and does what it decides.
"""
