"""The table of kinds that the embedded API server knows: their paths, names, rules and columns.

`builtin_kinds.py` fills it at the start; creating a CustomResourceDefinition adds to it. The store asks it
what an object must look like, the API server which kind a path means, and kubectl (through discovery) what
there is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from canary.kube.resources import Resource
from canary.lab.apiserver.api_error import ApiError, StatusReason
from canary.lab.apiserver.objects import Object
from canary.lab.apiserver.printer import PLAIN_COLUMNS, Column, columns_of_definition
from canary.lab.apiserver.schema import Schema, refuse_unknown_rules

CRD_GROUP = "apiextensions.k8s.io"


def _no_further_rules(_new: Object, _old: Object | None) -> Iterator[str]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Kind(Resource):
    """Everything that tells one kind of object from another."""

    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()
    counts_generations: bool = False
    stops_gracefully: bool = False
    schema: Schema = field(default_factory=lambda: {"x-kubernetes-preserve-unknown-fields": True})
    columns: tuple[Column, ...] = PLAIN_COLUMNS
    defaults: Callable[[Object], None] | None = None
    rules: Callable[[Object, Object | None], Iterator[str]] = _no_further_rules

    @property
    def name(self) -> str:
        return self.kind

    @property
    def resource(self) -> str:
        """The plural with its group, as error messages say it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def key(self) -> tuple[str, str]:
        return (self.group, self.plural)

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources


class Kinds:
    """The registry; every look-up is a dict access."""

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self._by_key: dict[tuple[str, str], Kind] = {}
        for kind in kinds:
            self.add(kind)

    def __iter__(self) -> Iterator[Kind]:
        return iter(tuple(self._by_key.values()))

    def add(self, kind: Kind) -> None:
        self._by_key[kind.key] = kind

    def remove(self, kind: Kind) -> None:
        self._by_key.pop(kind.key, None)

    def find(self, group: str, plural: str) -> Kind | None:
        return self._by_key.get((group, plural))

    def named(self, name: str) -> Kind:
        """Return the kind called `name` (`Deployment`); an unknown name is the caller's defect."""
        return next(kind for kind in self._by_key.values() if kind.name == name)

    def of(self, group: str, version: str, plural: str) -> Kind:
        """Return the kind that a path names; raise a 404 for an unknown one."""
        kind = self.find(group, plural)
        if kind is None or kind.version != version:
            raise ApiError(StatusReason.NOT_FOUND, "the server could not find the requested resource")
        return kind


def kind_of_definition(definition: Mapping[str, Any]) -> Kind:
    """Return the kind that a CustomResourceDefinition describes; raise a 422 for unreadable rules."""
    spec = definition["spec"]
    names = spec["names"]
    version = next(entry for entry in spec["versions"] if entry.get("storage"))
    schema: Schema = version["schema"]["openAPIV3Schema"]
    refuse_unknown_rules(schema)
    return Kind(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=frozenset(version.get("subresources") or {}) & {"status"},
        counts_generations=True,
        schema=schema,
        columns=columns_of_definition(version),
    )
