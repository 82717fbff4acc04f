"""The contract: what the API server stores. Imports pydantic and nothing else of ours."""
