"""Queries for logs of services: what is asked, and what is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application
from multidict import MultiDict

from kubeletpy.server.log_query import LogQueries, QueryError, arguments, parse
from kubeletpy.server.system_logs import SystemLogs

JOURNALCTL = """#!/bin/sh
if [ "$1" = --field ]; then printf 'kubelet.service\\nother.service\\n'; exit; fi
echo "$@"
"""


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ([("query", "kubelet")], ["--unit=kubelet"]),
        ([("query", "a"), ("query", "b@1.x")], ["--unit=a", "--unit=b@1.x"]),
        (
            [("query", "a"), ("tailLines", "5"), ("boot", "-1"), ("pattern", "x; rm -rf /")],
            ["--pager-end", "--lines=5", "--unit=a", "--grep=x; rm -rf /",
             "--case-sensitive=false", "--boot=-1"],
        ),
        (
            [("query", "a"), ("sinceTime", "2026-01-02T03:04:05+01:00"),
             ("untilTime", "2026-01-02T03:04:05Z")],
            ["--since=2026-01-02 02:04:05", "--until=2026-01-02 03:04:05", "--unit=a"],
        ),
    ],
)  # fmt: skip
def test_what_journalctl_is_asked(query: Sequence[tuple[str, str]], expected: list[str]) -> None:
    asked = parse(MultiDict(query))
    assert asked is not None
    assert arguments(asked) == ["--utc", "--no-pager", "--output=short-precise", *expected]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ([("query", "  ")], 400, "cannot be empty"),
        ([("tailLines", "5")], 400, "cannot be empty"),
        ([("query", "a"), ("tailLines", "many")], 400, "tailLines"),
        ([("query", "a"), ("boot", "1e1")], 400, "boot"),
        ([("query", "a"), ("sinceTime", "yesterday")], 400, "sinceTime"),
        ([("query", "a"), ("sinceTime", "2026-01-02T03:04:05")], 400, "sinceTime"),
        ([("query", "a b")], 406, "unsupported characters"),
        ([("query", "a\n")], 406, "unsupported characters"),
        ([("query", "é")], 406, "unsupported characters"),
        ([("query", "a" * 257)], 406, "length"),
        ([("query", one) for one in "abcde"], 406, "at most 4"),
        ([("query", "a"), ("query", "/b.log")], 406, "a file and service"),
        ([("query", "/a.log"), ("query", "/b.log")], 406, "more than one file"),
        ([("query", "/a.log"), ("pattern", "x")], 406, "file with options"),
        ([("query", "a"), ("boot", "1")], 406, "less than 1"),
        ([("query", "a"), ("tailLines", "100001")], 406, "tailLines"),
        ([("query", "a"), ("pattern", "x\0")], 406, "pattern"),
        ([("query", "a"), ("sinceTime", "2026-01-02T03:04:06Z"),
          ("untilTime", "2026-01-02T03:04:05Z")], 406, "untilTime"),
    ],
)  # fmt: skip
def test_what_is_not_answered(query: Sequence[tuple[str, str]], status: int, words: str) -> None:
    with pytest.raises(QueryError, match=words) as caught:
        parse(MultiDict(query))
    assert caught.value.status == status


def test_no_query_is_none() -> None:
    assert parse(MultiDict({"verbose": "1"})) is None


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[TestClient]:  # type: ignore[type-arg]
    program, root = tmp_path / "journalctl", tmp_path / "log"
    program.write_text(JOURNALCTL)
    program.chmod(0o755)
    (root / "web").mkdir(parents=True)
    (root / "web/web.log").write_text("of web\n")
    (root / "db.log").write_text("of db\n")
    (tmp_path / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    application = Application()
    logs = SystemLogs(root, LogQueries(root, str(program)))
    for path in ("/logs", "/logs/{path:.*}"):
        application.router.add_get(path, logs.serve)
    async with TestClient(TestServer(application)) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/logs/?query=kubelet&tailLines=2", 200, "--lines=2 --unit=kubelet"),
        ("/logs/?query=web&query=db", 200, "of web\nof db\n"),
        ("/logs/?query=none", 200, "log not found for none"),
        ("/logs/?query=web&boot=0", 200, "try without specifying options"),
        ("/logs/?query=out", 200, "error getting log for out"),
        ("/logs/?query=/db.log", 200, "of db"),
        ("/logs/?query=/../secret", 403, ""),
        ("/logs/db.log", 200, "of db"),
        ("/logs/?query=a%20b", 406, "unsupported characters"),
        ("/logs/?query=a&boot=x", 400, "boot"),
    ],
)
async def test_answers(
    client: TestClient,  # type: ignore[type-arg]
    path: str,
    status: int,
    words: str,
) -> None:
    async with client.get(path) as answer:
        text = await answer.text()
    assert answer.status == status
    assert words in text
    assert "secret" not in text


async def test_without_a_journal_files_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("of a\n")
    application = Application()
    logs = SystemLogs(tmp_path, LogQueries(tmp_path, str(tmp_path / "missing")))
    application.router.add_get("/logs/", logs.serve)
    async with (
        asyncio.timeout(30),
        TestClient(TestServer(application)) as client,
        client.get("/logs/?query=a") as answer,
    ):
        assert await answer.text() == "of a\n"
