"""Routers: how a slice of traffic is given and taken back. One file is one kind of router.

`router.py` has the seam, `brake.py` the one write of a rollback, `httproute.py` the Gateway API's routes,
`endpointslice.py` a Service's pods; `kinds.py` chooses between them.
"""
