"""Checks of probes and of the hooks of a container's life (pure).

Source: Kubernetes documentation, "Liveness, Readiness, and Startup Probes", "Container Lifecycle
Hooks"; KEP-4960 (stop signals).
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import header_problems, port_name_problems, range_problems
from controlplane.api.metadata import forbidden, required, unsupported, wrong
from controlplane.api.resource import Object

_OF_PROBES: Final = ("exec", "httpGet", "tcpSocket", "grpc")
_OF_HOOKS: Final = ("exec", "httpGet", "tcpSocket", "sleep")
_COUNTS: Final = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold",
                  "failureThreshold")  # fmt: skip
_SIGNALS: Final = {
    "linux": sorted([
        "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP",
        "SIGILL", "SIGINT", "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF",
        "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP",
        "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH",
        "SIGXCPU", "SIGXFSZ", "SIGRTMIN", "SIGRTMAX",
        *(f"SIGRTMIN+{number}" for number in range(1, 16)),
        *(f"SIGRTMAX-{number}" for number in range(1, 15)),
    ]),
    "windows": ["SIGKILL", "SIGTERM"],
}  # fmt: skip


def check_probes(container: Object, grace: int | None, path: str) -> list[Cause]:
    """Return what is wrong with the three probes of a container.

    Args:
        container: that has them.
        grace: seconds that the pod gives its containers to end.
        path: of the container.
    """
    causes: list[Cause] = []
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name not in container:
            continue
        probe, at = container[name], f"{path}.{name}"
        causes += _check_probe(probe, grace, at)
        if name != "readinessProbe":
            if probe.get("successThreshold") != 1:
                number = probe.get("successThreshold", 0)
                causes.append(wrong(f"{at}.successThreshold", number, "must be 1"))
        elif "terminationGracePeriodSeconds" in probe:
            number = probe["terminationGracePeriodSeconds"]
            text = "must not be set for readinessProbes"
            causes.append(wrong(f"{at}.terminationGracePeriodSeconds", number, text))
    return causes


def check_lifecycle(container: Object, grace: int | None, system: str, path: str) -> list[Cause]:
    """Return what is wrong with the hooks of a container.

    Args:
        container: that has them.
        grace: seconds that the pod gives its containers to end.
        system: name of the pod's operating system; "" if it does not say.
        path: of the container.
    """
    lifecycle = container.get("lifecycle", {})
    causes: list[Cause] = []
    for name in ("postStart", "preStop"):
        if name in lifecycle:
            at = f"{path}.lifecycle.{name}"
            causes += _check_handler(lifecycle[name], _OF_HOOKS, grace, at)
    if "stopSignal" in lifecycle:
        at, signal = f"{path}.lifecycle.stopSignal", lifecycle["stopSignal"]
        if not system:
            text = "may not be set for containers with empty `spec.os.name`"
            causes.append(forbidden(at, text))
        elif signal not in _SIGNALS.get(system, [signal]):
            causes.append(unsupported(at, signal, _SIGNALS[system]))
    return causes


def check_port(port: Any, path: str) -> list[Cause]:
    """Return what is wrong with a port that is a number or a name."""
    if isinstance(port, int):
        return [wrong(path, port, problem) for problem in range_problems(port, 1, 65535)]
    return [wrong(path, port, problem) for problem in port_name_problems(port)]


def _check_probe(probe: Object, grace: int | None, path: str) -> list[Cause]:
    causes = _check_handler(probe, _OF_PROBES, grace, path)
    causes += [
        wrong(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
        for name in _COUNTS
        if probe.get(name, 0) < 0
    ]
    seconds = probe.get("terminationGracePeriodSeconds")
    if seconds is not None and seconds <= 0:
        at = f"{path}.terminationGracePeriodSeconds"
        causes.append(wrong(at, seconds, "must be greater than 0"))
    return causes


def _check_handler(
    handler: Object, kinds: tuple[str, ...], grace: int | None, path: str
) -> list[Cause]:
    found = [name for name in kinds if name in handler]
    if not found:
        return [required(path, "must specify a handler type")]
    first, at = found[0], f"{path}.{found[0]}"
    action = handler[first]
    causes: list[Cause] = []
    if first == "exec":
        if not action.get("command"):
            causes.append(required(f"{at}.command"))
    elif first == "httpGet":
        causes += _check_http(action, at)
    elif first == "sleep":
        seconds = action.get("seconds", 0)
        if grace is not None and not 0 <= seconds <= grace:
            text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            causes.append(wrong(at, seconds, text))
    else:
        causes += check_port(action.get("port", 0), f"{at}.port")
    text = "may not specify more than 1 handler type"
    return causes + [forbidden(f"{path}.{name}", text) for name in found[1:]]


def _check_http(action: Object, path: str) -> list[Cause]:
    causes = [] if action.get("path") else [required(f"{path}.path")]
    causes += check_port(action.get("port", 0), f"{path}.port")
    if action.get("scheme", "") not in ("HTTP", "HTTPS"):
        causes.append(unsupported(f"{path}.scheme", action.get("scheme", ""), ["HTTP", "HTTPS"]))
    for header in action.get("httpHeaders", ()):
        name = header.get("name", "")
        causes += [wrong(f"{path}.httpHeaders", name, why) for why in header_problems(name)]
    return causes
