"""The embedded cluster: what demo, rehearse and the tests run on, so that nobody needs a Kubernetes to see
canary work.

`store.py` keeps objects with the semantics of an API server, `apiserver.py` speaks its protocol in process
and `serving.py` over HTTP (the real kubectl works against it), `controllers.py` turns Deployments into pods
and EndpointSlices. All of it runs on a `Clock`: the wall clock, or `clock.SimClock`, which jumps from one due
moment to the next. Where the lab and a real API server differ, the lab is wrong: `api_contract.py` is the
judge of both.
"""
