"""Shows what ``up`` is doing, on stderr: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True)
class Timing:
    """How long a step took."""

    step: str
    seconds: float


class Progress:
    """Reports steps and keeps their times.

    Attributes:
        timings: the steps that ended well, in order.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self.timings: list[Timing] = []

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show ``title`` while the block runs, and how long it took or that it failed."""
        begun = time.monotonic()
        spinner = (
            self.console.status(escape(f"{title} ..."))
            if self.console.is_terminal
            else contextlib.nullcontext()
        )
        try:
            with spinner:
                yield
        except BaseException:
            self.console.print(f"[red]✗[/red] {escape(title)}")
            raise
        seconds = time.monotonic() - begun
        self.timings.append(Timing(title, seconds))
        self.console.print(f"[green]✓[/green] {escape(title)} [dim]({seconds:.2f} s)[/dim]")

    def say(self, text: str) -> None:
        """Write a line."""
        self.console.print(escape(text))

    def fail(self, text: str) -> None:
        """Write an error."""
        self.console.print(f"[bold red]error:[/bold red] {escape(text)}", soft_wrap=True)
