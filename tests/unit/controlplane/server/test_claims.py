"""What is claimed for an object follows its write; names."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from controlplane.api.errors import ApiError
from controlplane.api.metadata import check_metadata
from controlplane.api.resource import Context, Object, Strategy
from controlplane.store.model import StoreError
from tests.unit.controlplane.server.client import MAPS, Api, running_api


@pytest.mark.parametrize(
    ("names", "name", "good"),
    [
        ("subdomain", "a.b", True),
        ("subdomain", "A", False),
        ("subdomain", "a" * 254, False),
        ("label", "1a", True),
        ("label", "a.b", False),
        ("label", "a" * 64, False),
        ("path", "system:Node", True),
        ("path", "a/b", False),
        ("path", "..", False),
    ],
)
def test_names(names: str, name: str, good: bool) -> None:
    causes = check_metadata({"name": name}, namespaced=False, names=names)
    assert [cause.field for cause in causes] == ([] if good else ["metadata.name"])


class Tickets:
    """One ticket for each value of ``data.ticket``."""

    def __init__(self) -> None:
        self.taken: dict[str, str] = {}

    def claim(self, value: Object, old: Object | None, context: Context) -> Ticket:
        name = value["metadata"]["name"]
        wanted = value.get("data", {}).get("ticket", "")
        if self.taken.get(wanted, name) != name:
            raise ApiError("Invalid", f"{wanted} is taken")
        before = old.get("data", {}).get("ticket", "") if old else ""
        new = wanted if wanted not in self.taken else ""
        self.taken[wanted] = name
        return Ticket(self, new, before if before != wanted else "")

    def release(self, old: Object) -> None:
        self.taken.pop(old["data"]["ticket"])


class Ticket:
    def __init__(self, tickets: Tickets, new: str, before: str) -> None:
        self.tickets, self.new, self.before = tickets, new, before

    def keep(self) -> None:
        if self.before:
            self.tickets.taken.pop(self.before)

    def drop(self) -> None:
        if self.new:
            self.tickets.taken.pop(self.new)


class Claiming(Strategy):
    def validate(self, value: Object, old: Object | None) -> list[Any]:
        return (
            []
            if value["data"].get("good", "yes") == "yes"
            else check_metadata({"name": "A"}, namespaced=False)
        )


async def test_claims_follow_their_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tickets = Tickets()
    taken = tickets.taken
    async with running_api(tmp_path, strategies={"/configmaps": Claiming()}) as api:
        api.plane.registry.claims["/core/configmaps/"] = tickets

        async def change(method: str, path: str, ticket: str, **data: str) -> int:
            body = {"metadata": {"name": "a"}, "data": {"ticket": ticket, **data}}
            return (await api.call(method, path, body))[0]

        assert await change("POST", f"{MAPS}?dryRun=All", "1") == 201
        assert await change("POST", MAPS, "1", good="no") == 422
        assert taken == {}
        assert await change("POST", MAPS, "1") == 201
        assert await change("POST", MAPS, "2") == 409
        assert await change("PUT", f"{MAPS}/a?dryRun=All", "2") == 200
        assert taken == {"1": "a"}
        assert await change("PUT", f"{MAPS}/a", "2") == 200
        assert taken == {"2": "a"}
        await _fail_and_cancel(api, monkeypatch, taken)
        assert (await api.call("DELETE", f"{MAPS}/b"))[0] == 200
        assert (await api.call("DELETE", f"{MAPS}/a"))[0] == 200
        assert taken == {}


async def _fail_and_cancel(
    api: Api, monkeypatch: pytest.MonkeyPatch, taken: dict[str, str]
) -> None:
    resource = next(r for r in api.plane.catalog.all() if r.plural == "configmaps")

    def make(ticket: str) -> Any:
        value: Object = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "b"}}
        value["data"] = {"ticket": ticket}
        return api.plane.registry.create(resource, "default", value, Context(now="x"))

    put = api.store.put

    async def failing(*arguments: Any, **more: Any) -> Any:
        raise StoreError("the disk is full")

    monkeypatch.setattr(api.store, "put", failing)
    with pytest.raises(StoreError):
        await make("3")
    assert taken == {"2": "a"}
    written, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any, **more: Any) -> Any:
        written.set()
        await may_go_on.wait()
        return await put(*arguments, **more)

    monkeypatch.setattr(api.store, "put", slow)
    writer = asyncio.create_task(make("3"))
    await written.wait()
    writer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writer
    assert taken == {"2": "a", "3": "b"}, "the write goes on, so what it took stays taken"
    monkeypatch.setattr(api.store, "put", put)
    may_go_on.set()
    watch = api.store.watch("/core/configmaps/default/", api.store.revision)
    async with asyncio.timeout(10):
        assert await watch.wait()
    watch.close()
    assert taken == {"2": "a", "3": "b"}
