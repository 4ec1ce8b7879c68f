"""Text of Prometheus, written at once for thousands of samples (pure).

Source: Prometheus documentation, "Exposition formats", text-based format 0.0.4. Names are those of
cAdvisor and the Go kubelet; some counters there do not end in ``_total``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Families:
    """Metrics by name, in the order of their first samples."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, list[str]]] = {}

    def describe(self, name: str, kind: str, text: str) -> None:
        """Say what a metric is: ``counter`` or ``gauge``, and its meaning."""
        if name not in self._families:
            escaped = text.replace("\\", r"\\").replace("\n", r"\n")
            self._families[name] = (kind, escaped, [])

    def add(self, name: str, labels: str, value: float | int, time_ms: int | None = None) -> None:
        """Add a sample of a metric that was described.

        Args:
            name: of the metric.
            labels: as :func:`written` gives them.
            value: of it.
            time_ms: when it was measured; None: now.
        """
        head = f"{name}{{{labels}}}" if labels else name
        tail = "" if time_ms is None else f" {time_ms}"
        self._families[name][2].append(f"{head} {value!r}{tail}")

    def text(self) -> str:
        """Return all families that have samples."""
        lines: list[str] = []
        for name, (kind, text, samples) in self._families.items():
            if samples:
                lines.append(f"# HELP {name} {text}")
                lines.append(f"# TYPE {name} {kind}")
                lines += samples
        return "\n".join(lines) + "\n" if lines else ""


def written(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> str:
    """Return labels as they are written, sorted by name."""
    pairs = labels.items() if isinstance(labels, Mapping) else labels
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(pairs))


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value
