"""Load on one address, as a program: ``python -m tests.support.load HOST PORT CLIENTS``.

Each request is a connection of its own. It asks until SIGTERM, and then prints how many requests
were answered and what became of the others, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter

SECONDS = 10.0
"""That a request may take."""


async def ask(host: str, port: int) -> str:
    """Ask once; return "" for an answer with status 200, else what went wrong."""
    try:
        async with asyncio.timeout(SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")
                answer = await reader.read(65536)
                while more := await reader.read(65536):
                    answer += more
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    return "" if answer.split(b" ")[1:2] == [b"200"] else f"answered {answer[:80]!r}"


async def main(host: str, port: int, clients: int) -> None:
    """Ask until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    answered = 0
    failures: Counter[str] = Counter()
    when: list[str] = []

    async def client() -> None:
        nonlocal answered
        while not stop.is_set():
            wrong = await ask(host, port)
            if wrong:
                failures[wrong] += 1
                when.append(time.strftime("%H:%M:%S"))
            else:
                answered += 1
            # Some hundred requests a second are enough, and leave the machine to the others.
            await asyncio.sleep(0.01)

    print("begun", flush=True)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    print(json.dumps({"answered": answered, "failures": failures, "when": when[:20]}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
