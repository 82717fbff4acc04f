"""canary: a progressive-delivery controller that loses as few orders as an honest test can.

The idea is *a judge with hands*. The judge (`canary.core`) is a pure function

    (policy, run, evidence, now) -> (status, actions)

and the hands (`kube`, `metrics`, `traffic`, `alerts`) are thin adapters. The API server is the only memory. One
asymmetry carries safety: exposure falls first and rises last. What lowers exposure is done before the status is
written and needs nothing; what raises it is done only after the status write succeeded.

Reading order, for a newcomer:

1. `api/reasons.py`, `api/policy.py`, `api/run.py`: the words, and what the API server stores;
2. `core/evidence.py`, `core/machine.py`: one look at the world, and what follows from it;
3. `core/detect/family.py`: when the evidence says that orders are being lost;
4. `operator/tick.py`: the loop body, in nine steps;
5. `traffic/httproute.py`: how a slice of traffic is given and taken back;
6. `lab/demo/play.py`: all of it together, on one machine.
"""

__version__ = "0.1.0"
