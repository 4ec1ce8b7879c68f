from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden
from controlplane.api.resource import AGE, Column, Context, Object, Strategy
from controlplane.server.tables import columns_of
from tests.unit.controlplane.server.client import Api, running_api

MERGE = "application/merge-patch+json"
PATH = "/apis/apps/v1/namespaces/default/deployments"


class Sample(Strategy):
    columns = (Column("Replicas", "integer"), Column("Paused", "boolean", priority=1))

    def default(self, value: Object) -> None:
        value.setdefault("spec", {}).setdefault("replicas", 1)

    def prepare_create(self, value: Object, context: Context) -> None:
        value["spec"]["minReadySeconds"] = value["spec"]["replicas"]

    def prepare_status(self, value: Object, old: Object, context: Context) -> None:
        value["metadata"]["labels"] = old["metadata"].get("labels", {})

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        return [forbidden("spec.paused", "never")] if value["spec"].get("paused") else []

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        replicas = value.get("status", {}).get("replicas", 0)
        return [forbidden("status.replicas", "too many")] if replicas > 3 else []

    def warnings(self, value: Object) -> list[str]:
        return ["heard"]

    def row(self, value: Object) -> list[Any]:
        return [value["spec"]["replicas"], value["spec"].get("paused", False)]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies={"apps/deployments": Sample()}) as made:
        yield made


async def test_defaults_stand_before_anything_else_looks(api: Api) -> None:
    made = await api.make("a", PATH)
    assert made["spec"] == {"replicas": 1, "minReadySeconds": 1}
    bare = {"metadata": {"name": "a", "annotations": {}}, "spec": {"minReadySeconds": 1}}
    assert (await api.call("PUT", f"{PATH}/a", bare))[1]["metadata"] == made["metadata"]


async def test_a_status_update_has_checks_of_its_own_and_may_write_metadata(api: Api) -> None:
    await api.make("a", PATH, metadata={"labels": {"x": "1"}})
    patch = {
        "metadata": {"annotations": {"seen": "yes"}, "labels": {"x": "2"}},
        "spec": {"paused": True},
        "status": {"replicas": 2},
    }
    status, value = await api.call("PATCH", f"{PATH}/a/status", patch, kind=MERGE)
    assert (status, value["status"], value["spec"].get("paused")) == (200, {"replicas": 2}, None)
    assert value["metadata"]["annotations"] == {"seen": "yes"}
    assert value["metadata"]["labels"] == {"x": "1"}
    assert value["metadata"]["generation"] == 1
    status, error = await api.call(
        "PATCH", f"{PATH}/a/status", {"status": {"replicas": 4}}, kind=MERGE
    )
    assert (status, error["details"]["causes"][0]["field"]) == (422, "status.replicas")


async def test_warnings_come_with_each_generation(api: Api) -> None:
    made = await api.send("POST", PATH, {"metadata": {"name": "a"}})
    heard = []
    for spec in ({"replicas": 1}, {"replicas": 2}):
        answer = await api.send("PATCH", f"{PATH}/a", {"spec": spec}, kind=MERGE)
        heard.append(answer.headers.get("Warning"))
    assert (made.headers.get("Warning"), heard) == ('299 - "heard"', [None, '299 - "heard"'])


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ((), ["Name", "Age"]),
        ((Column("A"), Column("B", priority=1)), ["Name", "A", "Age", "B"]),
        ((Column("A"), AGE, Column("B")), ["Name", "A", "Age", "B"]),
        ((Column("A"), Column("Name")), ["A", "Name"]),
    ],
)
def test_where_the_name_and_the_age_stand(columns: tuple[Column, ...], names: list[str]) -> None:
    strategy = Strategy()
    strategy.columns = columns
    assert [column.name for column in columns_of(strategy)] == names


async def test_a_table_has_a_cell_for_each_column(api: Api) -> None:
    await api.make("a", PATH)
    accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    _, table = await api.call("GET", PATH, headers=accept)
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Replicas", "Age", "Paused"]
    name, replicas, age, paused = table["rows"][0]["cells"]
    assert (name, replicas, paused) == ("a", 1, False)
    assert age.endswith("s")


async def test_the_books_of_owners_are_closed_by_an_empty_entry_only(api: Api) -> None:
    made = await api.make("a", PATH)
    cases: list[tuple[list[Any], bool]] = [([], True), ([{}], False)]
    for books, kept in cases:
        sent = {**made, "metadata": {"name": "a", "managedFields": books}}
        _, value = await api.call("PUT", f"{PATH}/a", sent)
        assert ("managedFields" in value["metadata"]) is kept
