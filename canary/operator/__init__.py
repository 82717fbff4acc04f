"""The shell around the judge: it looks, lets the judge decide, acts, writes, and tells. The only part with threads.

`tick.py` is the loop body; `look.py` gathers evidence, `act.py` is the hands, `policies.py` does what a policy does
between runs, `tell.py` delivers what people must know, `run.py` wires everything by hand.
"""
