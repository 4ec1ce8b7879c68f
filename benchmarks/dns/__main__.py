"""How many queries the DNS of a cluster answers, and how fast: ``python -m benchmarks.dns``.

A server of our own on loopback, in a process of its own, knows 1,000 Services; one client keeps
some queries under way by one socket.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import socket
import time
from multiprocessing.connection import Connection

import dns.message

from controlplane.dns.zone import Service
from tests.support.dnslab import HOST, PlainDirectory, answering

SERVICES = 1_000


def serve(pipe: Connection) -> None:
    """Serve until the other end of the pipe is closed."""

    async def run() -> None:
        services = [
            Service("default", f"web-{number}", (f"10.96.{number // 250}.{number % 250 + 1}",))
            for number in range(SERVICES)
        ]
        async with answering(PlainDirectory(*services)) as server:
            pipe.send(server.port)
            await asyncio.to_thread(pipe.poll, None)

    asyncio.run(run())


def ask(port: int, seconds: float, window: int) -> tuple[int, list[float]]:
    """Ask for so long, so many at a time; return the number of answers and each one's seconds."""
    messages = [
        dns.message.make_query(f"web-{number}.default.svc.cluster.local", "A").to_wire()[2:]
        for number in range(SERVICES)
    ]
    sent: dict[int, float] = {}
    times: list[float] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.connect((HOST, port))
        end = time.perf_counter() + seconds
        number = 0
        while (now := time.perf_counter()) < end:
            while len(sent) < window:
                sent[number & 0xFFFF] = now
                one.send((number & 0xFFFF).to_bytes(2, "big") + messages[number % SERVICES])
                number += 1
            answer = one.recv(512)
            times.append(time.perf_counter() - sent.pop(int.from_bytes(answer[:2], "big")))
    return len(times), times


def main() -> None:
    """Print a line for each number of queries at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs,))
    process.start()
    try:
        port = ours.recv()
        for window in (1, 16, 64):
            count, times = ask(port, seconds, window)
            times.sort()
            middle, late = times[count // 2] * 1e6, times[count * 99 // 100] * 1e6
            print(f"{window:3} at a time: {count / seconds:8.0f} a second, "
                  f"p50 {middle:6.0f} us, p99 {late:6.0f} us")  # fmt: skip
    finally:
        ours.send(None)
        process.join(5)


if __name__ == "__main__":
    main()
