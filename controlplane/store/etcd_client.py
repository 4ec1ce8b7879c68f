"""Talking to the members of an etcd: connections, failover, errors as ours.

One member is asked until it fails; then the next. What reads is asked again there. What writes is
not: it may have been carried out, and whoever asked learns that nobody knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio

from controlplane.store.model import StoreError, TooLargeError
from kubeletpy_proto import etcd_pb2 as pb
from kubeletpy_proto.etcd_pb2_grpc import KVStub, WatchStub

_State = grpc.ChannelConnectivity
_CONNECT_SECONDS: Final = 2.0
_CALL_SECONDS: Final = 10.0
_PAUSE: Final = 0.05
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A member that has gone without a word is noticed in half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
# Another member, or the same one later, may do it (gRPC documentation, "Status codes").
_PASSING: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
)
# By etcd itself, and by its gRPC server.
_TOO_LARGE: Final = ("request is too large", "received message larger")
# With it a member ends a watch when it has lost its leader, rather than leave it silent.
_WITH_LEADER: Final = (("hasleader", "true"),)


@dataclass(frozen=True, slots=True)
class EtcdServers:
    """Where an etcd is.

    Attributes:
        urls: of its members, ``http://host:port`` or ``https://host:port``.
        ca_file: certificates that theirs are signed by; None: the system's.
        cert_file: of ours, if they ask for one.
        key_file: its key.
    """

    urls: tuple[str, ...]
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class CompactedHistoryError(Exception):
    """etcd has forgotten the revision that was asked for."""


class EtcdClient:
    """Asks one member after the other.

    Args:
        servers: where they are.
        observe: is told the name of each call and its seconds.

    Raises:
        StoreError: a URL or a file cannot be used.
    """

    def __init__(self, servers: EtcdServers, observe: Callable[[str, float], None]) -> None:
        self._urls = servers.urls
        self._observe = observe
        self._channels = [_channel(url, servers) for url in servers.urls]
        self._current = 0

    async def close(self) -> None:
        """Let go of the connections."""
        for channel in self._channels:
            await channel.close()

    async def range(self, request: pb.RangeRequest) -> pb.RangeResponse:
        """Read keys.

        Raises:
            CompactedHistoryError: their state at that revision is forgotten.
            StoreError: no member answers.
        """
        failed: grpc.aio.AioRpcError | None = None
        end = time.monotonic() + _CALL_SECONDS
        while (begun := time.monotonic()) < end:
            channel = await self._connected()
            try:
                return await KVStub(channel).Range(request, timeout=end - begun)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.OUT_OF_RANGE:
                    raise CompactedHistoryError(error.details()) from error
                if error.code() not in _PASSING:
                    raise self._refused("read from", error) from error
                failed = error
                self._turn(channel)
                await asyncio.sleep(_PAUSE)
            finally:
                self._observe("get" if request.limit else "list", time.monotonic() - begun)
        assert failed is not None
        raise StoreError(
            f"read from etcd at {self._named()}: {failed.details()}. If it has lost its leader, "
            "see that most of its members run"
        ) from failed

    async def write(self, request: pb.TxnRequest) -> pb.TxnResponse:
        """Carry out a transaction.

        Raises:
            TooLargeError: etcd takes no such large value.
            StoreError: it failed, or nobody knows.
        """
        channel = await self._connected()
        begun = time.monotonic()
        try:
            return await KVStub(channel).Txn(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if any(word in (error.details() or "") for word in _TOO_LARGE):
                raise TooLargeError(
                    f"the object is too large for etcd: {error.details()}"
                ) from error
            if error.code() not in _PASSING:
                raise self._refused("write to", error) from error
            self._turn(channel)
            raise StoreError(
                f"write to etcd at {self._named()}: {error.details()}. Whether it was written is "
                "not known: read it, then try again; if etcd has lost its leader, see that most of "
                "its members run"
            ) from error
        finally:
            self._observe("txn", time.monotonic() - begun)

    async def compact(self, revision: int) -> None:
        """Have etcd forget what was before a revision.

        Raises:
            StoreError: it failed.
        """
        channel = await self._connected()
        try:
            request = pb.CompactionRequest(revision=revision)
            await KVStub(channel).Compact(request, timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            # Another server may have done it already.
            if error.code() != grpc.StatusCode.OUT_OF_RANGE:
                raise self._refused("compact", error) from error

    async def watch(self, request: pb.WatchCreateRequest) -> AsyncIterator[pb.WatchResponse]:
        """Follow changes until the connection ends.

        Raises:
            StoreError: it has ended.
        """
        channel = await self._connected()
        call = WatchStub(channel).Watch(metadata=_WITH_LEADER)
        try:
            await call.write(pb.WatchRequest(create_request=request))
            async for response in call:
                yield response
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            self._turn(channel)
            text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
            raise StoreError(f"follow etcd at {self._named()}: {text}") from error
        finally:
            call.cancel()

    async def _connected(self) -> grpc.aio.Channel:
        """Return a connection to the first member that takes one, the current one first."""
        count = len(self._channels)
        for offset in range(count):
            index = (self._current + offset) % count
            channel = self._channels[index]
            if await _connect(channel):
                self._current = index
                return channel
        raise StoreError(
            f"no etcd takes connections at {self._named()}: see that it runs, and that "
            "--etcd-servers and its certificates are right"
        )

    def _turn(self, failed: grpc.aio.Channel) -> None:
        if self._channels[self._current] is failed:
            self._current = (self._current + 1) % len(self._channels)

    def _refused(self, what: str, error: grpc.aio.AioRpcError) -> StoreError:
        hint = ""
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            hint = ". If its space is exceeded: compact and defragment it, then disarm its alarm"
        return StoreError(f"{what} etcd at {self._named()}: {error.details()}{hint}")

    def _named(self) -> str:
        return ", ".join(self._urls)


async def _connect(channel: grpc.aio.Channel) -> bool:
    state = channel.get_state(try_to_connect=True)
    with suppress(TimeoutError):
        async with asyncio.timeout(_CONNECT_SECONDS):
            while state not in (_State.READY, _State.TRANSIENT_FAILURE, _State.SHUTDOWN):
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    return state == _State.READY


def _channel(url: str, servers: EtcdServers) -> grpc.aio.Channel:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StoreError(f"--etcd-servers: {url!r} is no URL such as https://127.0.0.1:2379")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    target = f"{host}:{parts.port or 2379}"
    if parts.scheme == "http":
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    try:
        ca, key, cert = (
            path.read_bytes() if path else None
            for path in (servers.ca_file, servers.key_file, servers.cert_file)
        )
    except OSError as error:
        raise StoreError(f"read a certificate or key for etcd: {error}") from error
    return grpc.aio.secure_channel(
        target, grpc.ssl_channel_credentials(ca, key, cert), options=_OPTIONS
    )
