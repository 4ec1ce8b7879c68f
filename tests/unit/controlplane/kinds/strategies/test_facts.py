"""Kinds as kube-apiserver has them: facts/*.yaml holds its answers, ours must be the same."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.admission.classes import InUseProtection
from controlplane.api.errors import ApiError
from controlplane.api.fieldsets import FieldSets
from controlplane.api.registry import Registry
from controlplane.api.resource import Context, Object, Resource
from controlplane.kinds.catalog import Catalog, builtin_resources
from controlplane.kinds.strategies import STRATEGIES
from controlplane.kinds.types import builtin_types
from controlplane.server.tables import make_table
from controlplane.store.local import LocalStore
from controlplane.store.log import SqliteLog

FACTS = [
    fact
    for file in sorted((Path(__file__).parent / "facts").glob("*.yaml"))
    for fact in yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader)
]
TYPES = builtin_types()
CATALOG = Catalog(builtin_resources(TYPES, STRATEGIES))
NOW = "2026-11-21T10:00:00Z"
# What objects have in common, and answers do not show here.
SHOWN = ("labels", "annotations", "finalizers", "generation", "ownerReferences")


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    store = LocalStore(SqliteLog(tmp_path / "store.db"))
    await store.open()
    yield Registry(store, TYPES, FieldSets(TYPES), admission=[InUseProtection()])
    await store.close()


@pytest.mark.parametrize(
    "fact",
    FACTS,
    ids=[f"{n}-{fact['resource'].rpartition('/')[2]}" for n, fact in enumerate(FACTS)],
)
async def test_a_kind_is_as_kubernetes_has_it(fact: dict[str, Any], registry: Registry) -> None:
    group_version, _, plural = fact["resource"].rpartition("/")
    group, _, version = group_version.rpartition("/")
    resource = CATALOG.find(group, version, plural)
    assert resource is not None
    kind = _Kind(registry, resource, fact["object"])
    made = await kind.create({})
    assert _shown(made) == _shown(fact["becomes"])
    wrong = [
        (case["set"], found, case["causes"])
        for case in fact.get("created", [])
        if (found := await kind.causes(kind.create(case["set"]))) != _sorted(case["causes"])
    ]
    kept = await kind.create({}, keep=True)
    if "status" in fact:
        kept = await kind.update({**kept, "status": fact["status"]}, "status", keep=True)
    wrong += await kind.compare(fact.get("changed", []), kept, "")
    wrong += await kind.compare(fact.get("status_changed", []), kept, "status")
    assert wrong == []
    _check_table(resource, kept, fact)


def _check_table(resource: Resource, value: Object, fact: dict[str, Any]) -> None:
    table = make_table(resource, [value], {}, "None")
    columns = [
        f"{c['name']} | {c['type']} | {c['format']} | {c['priority']}"
        for c in table["columnDefinitions"]
    ]
    assert columns == fact["columns"]
    cells = [
        wanted if wanted in ("*", "AGE") else _unnamed(cell, value)
        for wanted, cell in zip(fact["cells"], table["rows"][0]["cells"], strict=True)
    ]
    assert cells == fact["cells"]


def _unnamed(cell: Any, value: Object) -> Any:
    if isinstance(cell, str):
        return cell.replace(value["metadata"]["uid"], "UID").replace("the-name", "NAME")
    return cell


class _Kind:
    """Writes objects of one kind."""

    def __init__(self, registry: Registry, resource: Resource, base: Object) -> None:
        self._registry, self._resource, self._base = registry, resource, base
        self._namespace = "default" if resource.namespaced else ""

    def _context(self, subresource: str = "", *, keep: bool = False) -> Context:
        return Context(now=NOW, dry_run=not keep, manager="test", subresource=subresource)

    async def create(self, sets: dict[str, Any], *, keep: bool = False) -> Object:
        value = copy.deepcopy(self._base)
        value.setdefault("metadata", {})["name"] = "the-name"
        context = self._context(keep=keep)
        value = self._registry.clean(self._resource, _with(value, sets), context, "Strict")
        return await self._registry.create(self._resource, self._namespace, value, context)

    async def update(self, value: Object, subresource: str, *, keep: bool = False) -> Object:
        context = self._context(subresource, keep=keep)
        new = self._registry.clean(self._resource, copy.deepcopy(value), context, "Strict")

        async def change(_: Object) -> Object:
            return copy.deepcopy(new)

        return await self._registry.update(
            self._resource, self._namespace, "the-name", change, context
        )

    async def compare(self, cases: list[Any], kept: Object, subresource: str) -> list[Any]:
        wrong: list[Any] = []
        for case in cases:
            answers: list[Object] = []

            async def write(answers: list[Object] = answers, sets: Any = case["set"]) -> Object:
                answers.append(await self.update(_with(kept, sets), subresource))
                return answers[0]

            causes = await self.causes(write())
            if causes != _sorted(case["causes"]):
                wrong.append((case["set"], causes, case["causes"]))
            meta = answers[0]["metadata"] if answers else {}
            if "generation" in case and meta.get("generation", 0) != case["generation"]:
                wrong.append((case["set"], "generation", meta.get("generation")))
            for key, item in case.get("metadata", {}).items():
                if meta.get(key) != item:
                    wrong.append((case["set"], key, meta.get(key)))
        return wrong

    @staticmethod
    async def causes(write: Any) -> list[list[str]]:
        try:
            await write
        except ApiError as error:
            causes = error.to_status().get("details", {}).get("causes", [])
            return _sorted([[c["reason"], c["field"]] for c in causes]) or [[error.reason]]
        return []


def _sorted(causes: list[list[str]]) -> list[list[str]]:
    return [list(cause) for cause in sorted({(*cause,) for cause in causes})]


def _shown(value: Object) -> Object:
    shown = {k: v for k, v in value.items() if k not in ("apiVersion", "kind", "metadata")}
    meta = {key: item for key, item in value["metadata"].items() if key in SHOWN}
    text = yaml.dump({**shown, "metadata": meta}, Dumper=yaml.CSafeDumper)
    for uid in filter(None, [value["metadata"].get("uid")]):
        text = text.replace(uid, "UID")
    text = text.replace("the-name", "NAME").replace(f"'{NOW}'", "T")
    found: Object = yaml.load(text, Loader=yaml.CSafeLoader)
    return found


def _with(value: Object, sets: dict[str, Any]) -> Object:
    """Return a copy with other values at some paths; None takes a field away."""
    value = copy.deepcopy(value)
    for path, item in sets.items():
        *above, last = path.split(".")
        at: Any = value
        for key in above:
            at = at[int(key)] if isinstance(at, list) else at.setdefault(key, {})
        if item is None:
            at.pop(last, None)
        else:
            at[int(last) if isinstance(at, list) else last] = copy.deepcopy(item)
    return value
