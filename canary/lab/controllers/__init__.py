"""What a cluster brings along: Deployments become ReplicaSets, pods and EndpointSlices, routes become a table.

`loop.py` decides who has to look at what after a write; each other module is one controller, or a part of one.
"""
