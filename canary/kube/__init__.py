"""The API server: the only memory of the controller, and everything that talks to it.

`client` asks and writes under a fence, `http_transport` is the real wire, `watch` keeps caches and emits
keys, `queue` orders the work in two lanes, `lease` says who leads. Nothing here decides: these are hands.
"""
