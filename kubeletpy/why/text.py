"""A story as text for a terminal; pure."""

from __future__ import annotations

from datetime import UTC, datetime

from kubeletpy.pods.backoff import go_duration

from .story import Happened, Story, Wait


def render(story: Story, now: float) -> str:
    """Return the story in lines.

    Args:
        story: of a pod.
        now: seconds since the epoch.
    """
    lines = [_head(story, now)]
    if story.reason or story.message:
        lines.append(f"  {': '.join(part for part in (story.reason, story.message) if part)}")
    if story.ending_until:
        left = story.ending_until - now
        end = f"within {_span(left)}" if left > 0 else f"overdue since {_span(-left)}"
        lines.append(f"It is being terminated, {end}.")
    lines += _section("Under way", [f"{one.what}, for {_span(now - one.since)}"
                                    for one in story.doing])  # fmt: skip
    if story.waits:
        lines += ["", "It waits for:"]
        for wait in story.waits:
            lines += _wait(wait, now)
    elif not story.doing:
        lines += ["", "It waits for nothing."]
    lines += _section("What happened", [_event(one, now) for one in story.happened])
    return "\n".join(lines) + "\n"


def _head(story: Story, now: float) -> str:
    since = f", for {_span(now - story.started_at)}" if story.started_at else ""
    ready = f", {story.ready} containers ready" if story.ready else ""
    return f"{story.namespace}/{story.name}: {story.phase or 'Pending'}{ready}{since}"


def _section(title: str, entries: list[str]) -> list[str]:
    return ["", f"{title}:", *(f"  - {entry}" for entry in entries)] if entries else []


def _wait(wait: Wait, now: float) -> list[str]:
    since = f", for {_span(now - wait.since)}" if wait.since else ""
    lines = [f"  - {wait.what} ({wait.reason}{since})"]
    if wait.cause:
        lines.append(f"      cause:  {wait.cause}")
    if wait.tried:
        lines.append(f"      tried:  {wait.tried} time{'s' if wait.tried != 1 else ''}")
    if wait.next_at > now:
        lines.append(f"      next:   in {_span(wait.next_at - now)}, at {_clock(wait.next_at)}")
    elif wait.tried:
        lines.append("      next:   now")
    if wait.advice:
        lines.append(f"      advice: {wait.advice}")
    return lines


def _event(event: Happened, now: float) -> str:
    times = f" (x{event.count})" if event.count > 1 else ""
    where = f" [{event.container}]" if event.container else ""
    mark = "! " if event.kind == "Warning" else ""
    ago = f"{_span(now - event.at)} ago" if event.at else "once"
    return f"{ago}{times}: {mark}{event.reason}{where}: {event.message}"


def _span(seconds: float) -> str:
    return go_duration(max(seconds, 0.0))


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")
