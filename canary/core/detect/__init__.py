"""The detector: from raw counters of two arms to a verdict with a promise attached to it.

Readings of pods enter `counters.fold`, which gives the increments of one look as a `Sample`; `family.update` folds
samples into a small state, and `family.judge` reads the verdict from it. The promise: a healthy run is rolled back with
probability at most `false_rollback`, over all monitors together and however often one looks.

`startmix` is one monitor, `monitors` the table of all of them, `ratio` the confidence sequence that lets a step
pass, `noise` and `forecast` measure what the monitors must be told, `onset` tells when it began and what it cost.
"""
