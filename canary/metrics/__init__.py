"""Where counts come from: one file for each source, all behind the `Source` seam of `source.py`.

`scrape.py` reads the pods' own metrics endpoints, `prometheus.py` asks a Prometheus. In go the pods of a run and what
to count; out comes, for each pod, one `Reading` of raw cumulative counters with its own time, or `Missing` with a
reason. Nothing here computes a rate, fills a gap or turns an absent number into zero. `operator/look.py` calls it.
"""
