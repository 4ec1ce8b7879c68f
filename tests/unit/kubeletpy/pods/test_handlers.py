"""Runtime classes and what the runtime's handlers can do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubeletpy.pods import handlers
from kubeletpy.pods.handlers import HandlerError, RuntimeHandlers
from kubeletpy_common.apiclient.reflector import Changed, Synced
from kubeletpy_proto import cri_pb2

from .build import pod


def runtime_class(name: str, handler: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "handler": handler}


def status(**users: bool) -> cri_pb2.StatusResponse:
    return cri_pb2.StatusResponse(
        runtime_handlers=[
            cri_pb2.RuntimeHandler(
                name="" if name == "default" else name,
                features=cri_pb2.RuntimeHandlerFeatures(user_namespaces=able),
            )
            for name, able in users.items()
        ]
    )


@pytest.fixture
async def classes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RuntimeHandlers]:
    """Runtime classes: ``plain`` -> run, ``gone`` deleted, ``late`` added later."""

    class Script:
        def __init__(self, client: Any, path: str) -> None:
            assert path == "/apis/node.k8s.io/v1/runtimeclasses"

        async def __aiter__(self) -> AsyncIterator[Synced | Changed]:
            first, gone = runtime_class("plain", "run"), runtime_class("gone", "run")
            yield Synced([first, gone])
            yield Changed("DELETED", gone)
            yield Changed("ADDED", runtime_class("late", "other"))
            followed.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(handlers, "Reflector", Script)
    followed = asyncio.Event()
    made = RuntimeHandlers()
    changes: list[int] = []
    task = asyncio.create_task(made.follow(Any, lambda: changes.append(1)))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        await followed.wait()
    assert len(changes) == 3
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_class_names_a_handler(classes: RuntimeHandlers) -> None:
    assert await classes.of(pod("a")) == ""
    assert await classes.of(pod("a", runtime_class_name="")) == ""
    assert await classes.of(pod("a", runtime_class_name="plain")) == "run"
    assert await classes.of(pod("a", runtime_class_name="late")) == "other"


@pytest.mark.parametrize("name", ["gone", "never"])
async def test_a_class_that_does_not_exist(classes: RuntimeHandlers, name: str) -> None:
    with pytest.raises(HandlerError, match=f'runtimeclass.node.k8s.io "{name}" not found'):
        await classes.of(pod("a", runtime_class_name=name))


async def test_without_an_api_server_there_is_no_class() -> None:
    with pytest.raises(HandlerError, match="no API server"):
        await RuntimeHandlers().of(pod("a", runtime_class_name="x"))


async def test_user_namespaces_need_a_handler_that_has_them(classes: RuntimeHandlers) -> None:
    classes.learn(status(default=True, run=False, other=True))
    assert await classes.of(pod("a", host_users=False)) == ""
    assert await classes.of(pod("a", host_users=False, runtime_class_name="late")) == "other"
    with pytest.raises(HandlerError, match='RuntimeClass handler "run" does not support'):
        await classes.of(pod("a", host_users=False, runtime_class_name="plain"))
    assert await classes.of(pod("a", host_users=True, runtime_class_name="plain")) == "run"
    classes.learn(status())
    with pytest.raises(HandlerError, match="runtime does not support user namespaces"):
        await classes.of(pod("a", host_users=False))
