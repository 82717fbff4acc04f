"""The contract: what the API server stores. Imports pydantic and nothing else of ours but `errors`.

`reasons` holds every machine-readable word; `types` the bricks; `policy`, `run` (with `change` and `notice`), `request`
and `safety` the four kinds. `kinds` is their table, from which `crd`, `read` and `reference` are made.
"""
