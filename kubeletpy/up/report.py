"""Shows what the tour found: for people by rich, for programs as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kubeletpy.up.tour import Findings, PodView


def as_json(findings: Findings) -> str:
    """Return the findings as one JSON object."""
    pod = findings.pod
    document = {
        "apiServer": {
            "url": findings.api.url,
            "version": findings.api.version,
            "kubeconfig": str(findings.api.kubeconfig),
            "nodeRegistered": True,
        },
        "node": findings.node,
        "image": findings.image,
        "runtime": findings.runtime,
        "pod": {
            "name": pod.name,
            "phase": pod.status.get("phase"),
            "qosClass": pod.status.get("qosClass"),
            "ready": pod.ready,
            "ips": [entry["ip"] for entry in pod.status.get("podIPs", [])],
            "containers": [_container(status) for status in pod.containers],
        },
        "page": {"url": findings.url, "body": findings.page},
        "log": findings.log,
        "exec": asdict(findings.exec),
        "cluster": asdict(findings.cluster),
        "timings": [asdict(timing) for timing in findings.timings],
    }
    return json.dumps(document, indent=2)


def show(findings: Findings, console: Console) -> None:
    """Print the findings for a person."""
    console.print()
    console.print(_pod_table(findings.pod))
    seen = findings.exec
    command = " ".join(seen.command)
    console.print(_panel(f"page at {findings.url}", findings.page))
    console.print(_panel(f"log of container {seen.container}", "\n".join(findings.log)))
    console.print(_panel(f"`{command}` in container {seen.container}", seen.output))
    cluster = findings.cluster
    console.print(_panel(
        f"page of Deployment {cluster.deployment}, asked for by its name in a pod", cluster.page
    ))  # fmt: skip
    console.print(
        f"Deployment {cluster.deployment} at {cluster.address}: {cluster.replicas} pods, scaled to "
        f"{cluster.scaled}; {cluster.lost} was deleted, {cluster.healed} took its place",
        highlight=False,
    )
    console.print(_summary(findings))
    console.print(
        f"API server {findings.api.version} at {findings.api.url}; node {findings.node} is Ready",
        highlight=False,
    )


def _container(status: dict[str, Any]) -> dict[str, Any]:
    states: dict[str, dict[str, Any]] = status.get("state") or {"waiting": {}}
    state, details = next(iter(states.items()))
    return {
        "name": status["name"],
        "image": status.get("image", ""),
        "ready": bool(status.get("ready")),
        "restarts": status.get("restartCount", 0),
        "state": state,
        "reason": details.get("reason", ""),
    }


def _pod_table(pod: PodView) -> Table:
    title = f"pod {pod.name}: {pod.status.get('phase')}, {'Ready' if pod.ready else 'not Ready'}"
    addresses = ", ".join(entry["ip"] for entry in pod.status.get("podIPs", []))
    quality = pod.status.get("qosClass", "")
    table = Table(title=title, caption=f"{addresses}  {quality}", title_justify="left")
    for name in ("container", "state", "ready", "restarts", "image"):
        table.add_column(name, overflow="fold")
    for status in pod.containers:
        entry = _container(status)
        state = f"{entry['state']} ({entry['reason']})" if entry["reason"] else entry["state"]
        ready = "yes" if entry["ready"] else "no"
        table.add_row(entry["name"], state, ready, str(entry["restarts"]), entry["image"])
    return table


def _panel(title: str, content: str) -> Panel:
    return Panel(Text(content.strip("\n")), title=Text(title), title_align="left")


def _summary(findings: Findings) -> Group:
    table = Table(title="what took how long", title_justify="left", show_header=False)
    for timing in findings.timings:
        table.add_row(timing.step, f"{timing.seconds:.2f} s")
    total = sum(timing.seconds for timing in findings.timings)
    table.add_row("together", f"{total:.2f} s", style="bold")
    return Group(table)
