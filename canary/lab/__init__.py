"""The embedded cluster: what demo, rehearse and the tests run on, so that nobody needs a Kubernetes to see
canary work.

One room each: `apiserver/` keeps objects with the semantics of an API server and speaks its protocol, in process and
over HTTP (the real kubectl works against it); `controllers/` turns Deployments into pods and EndpointSlices, and routes
into a table; `shop/` sells on the pods, on real ports or on simulated time, with bugs to order; `demo/` and
`rehearsal/` play the whole product on it; `contracts/` says what its parts, and yours, must do. `cluster.py` wires the
first two on a `Clock`: the wall clock, or `clock.SimClock`, which jumps from one due moment to the next. Where the lab
and a real API server differ, the lab is wrong: `contracts/api.py` is the judge of both.
"""
