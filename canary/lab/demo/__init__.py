"""`canary demo`: four stories, told by the real parts.

`play.py` plays a story on a `stage.py`, `showing.py` shows it, `measured.py` counts what it cost.
"""
