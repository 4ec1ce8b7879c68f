"""Clients that write and watch until the server is gone, and what they were promised."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

PATH = "/api/v1/namespaces/default/configmaps"
_GONE = (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError)


def content(rng: random.Random, number: int) -> dict[str, str]:
    """Return data of about a KiB that tells whether all of it is there."""
    pad = f"{rng.getrandbits(3600):x}"
    return {"n": str(number), "pad": pad, "sum": _sum(str(number), pad)}


def is_whole(data: dict[str, str]) -> bool:
    return data["sum"] == _sum(data["n"], data["pad"])


def _sum(number: str, pad: str) -> str:
    return hashlib.sha256(f"{number}/{pad}".encode()).hexdigest()


@dataclass
class Writer:
    """Creates, changes and deletes objects whose names are its own.

    Attributes:
        names: of its objects.
        kept: number in each object that was acknowledged last; None: it is not there.
        open: name and number of the write whose answer never came; number None: a deletion.
        acknowledged: revision of each write that was answered, with name and number.
    """

    names: Sequence[str]
    rng: random.Random
    kept: dict[str, int | None] = field(default_factory=dict)
    open: tuple[str, int | None] | None = None
    acknowledged: dict[int, tuple[str, int | None]] = field(default_factory=dict)
    count: int = 0

    async def run(self, http: aiohttp.ClientSession) -> None:
        """Write until the server is gone."""
        try:
            while True:
                await self._write(http)
        except _GONE:
            return

    async def _write(self, http: aiohttp.ClientSession) -> None:
        name = self.rng.choice(self.names)
        self.count += 1
        number: int | None = self.count
        body: dict[str, Any] = {"metadata": {"name": name}, "data": content(self.rng, self.count)}
        if self.kept.get(name) is None:
            method, url = "POST", PATH
        elif self.rng.random() < 0.25:
            method, url, number, body = "DELETE", f"{PATH}/{name}", None, {}
        else:
            method, url = "PUT", f"{PATH}/{name}"
        self.open = (name, number)
        async with http.request(method, url, json=body) as answer:
            value = await answer.json()
            assert answer.status in (200, 201), value
        self.open = None
        self.kept[name] = number
        if number is not None:
            self.acknowledged[int(value["metadata"]["resourceVersion"])] = (name, number)

    def compare(self, found: dict[str, dict[str, Any]]) -> None:
        """Check what there is against what was promised, and go on from what there is."""
        for name in self.names:
            data = found[name]["data"] if name in found else None
            assert data is None or is_whole(data), f"{name} is half there: {data}"
            number = int(data["n"]) if data else None
            allowed = {self.kept.get(name)}
            if self.open is not None and self.open[0] == name:
                allowed.add(self.open[1])
            assert number in allowed, f"{name}: {number} is there, promised was one of {allowed}"
            self.kept[name] = number
        self.open = None


@dataclass
class Watcher:
    """Follows all objects, going on where it was.

    Attributes:
        revision: of the last event.
        events: revision -> type, name and number.
    """

    revision: int
    events: dict[int, tuple[str, str, int]] = field(default_factory=dict)

    async def run(self, http: aiohttp.ClientSession, until: int | None = None) -> None:
        """Follow until the server is gone, or a revision is reached."""
        query = {"watch": "true", "resourceVersion": str(self.revision)}
        try:
            async with http.get(PATH, params=query) as answer:
                assert answer.status == 200, await answer.text()
                async for line in answer.content:
                    # The last line of a server that is killed may be cut.
                    if line.endswith(b"\n"):
                        self._take(json.loads(line))
                        if until is not None and self.revision >= until:
                            return
        except _GONE:
            return

    def _take(self, event: dict[str, Any]) -> None:
        assert event["type"] in ("ADDED", "MODIFIED", "DELETED"), event
        meta, data = event["object"]["metadata"], event["object"]["data"]
        revision = int(meta["resourceVersion"])
        assert revision > self.revision, f"revision {revision} after {self.revision}"
        assert is_whole(data)
        self.revision = revision
        self.events[revision] = (event["type"], meta["name"], int(data["n"]))

    def state(self) -> dict[str, int]:
        """Return what is there, as far as the events tell."""
        there: dict[str, int] = {}
        for revision in sorted(self.events):
            kind, name, number = self.events[revision]
            if kind == "ADDED":
                assert name not in there, f"{name} was made twice"
            else:
                assert name in there, f"{name} {kind} at {revision} was not there"
            if kind == "DELETED":
                assert there.pop(name) == number
            else:
                there[name] = number
        return there
