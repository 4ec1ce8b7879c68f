"""What gRPC's server does by itself with calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

_SERVER = """\
import asyncio, sys, time
import grpc
from runtime.daemon import SERVER_OPTIONS

async def work(request, context):
    if request == b"busy":
        print("busy", flush=True)
        time.sleep(32)
    return request

async def main():
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handlers = {"Work": grpc.unary_unary_rpc_method_handler(work)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    server.add_insecure_port(sys.argv[1])
    await server.start()
    print("serves", flush=True)
    await server.wait_for_termination()

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_call_waits_for_a_busy_daemon_as_long_as_its_caller_does(tmp_path: Path) -> None:
    """Half a minute is where gRPC gives it up by itself."""
    address = f"unix://{tmp_path}/socket"
    command = [sys.executable, "-c", _SERVER, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "serves\n"
            with grpc.insecure_channel(address) as channel:
                work: Any = channel.unary_unary("/test/Work")
                calls = [work.future(b"busy", timeout=60)]
                assert server.stdout.readline() == "busy\n"
                # It has asked gRPC for one more; the others stay with that one.
                calls += [work.future(b"waits", timeout=60) for _ in range(3)]
                assert [call.result() for call in calls] == [b"busy", *[b"waits"] * 3]
        finally:
            server.kill()
