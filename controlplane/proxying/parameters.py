"""What a request for logs or streams asks for, and how a kubelet is asked for it (pure).

Source: Kubernetes API reference, ``PodLogOptions``, ``PodExecOptions``, ``PodAttachOptions``,
``PodPortForwardOptions``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from multidict import MultiDict

from controlplane.api import metadata
from controlplane.api.errors import Cause, bad_request, invalid

_STREAMS: Final = ("All", "Stderr", "Stdout")
# As the API names them, and as kubelets do.
_STREAM_NAMES: Final = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"),
                        ("tty", "tty"))  # fmt: skip
_NEGATIVE: Final = "must be greater than or equal to 0"
_ABOVE_ZERO: Final = "must be greater than 0"
Query = Any  # a multidict of text


def is_set(query: Query, name: str) -> bool:
    """Say whether a parameter is there and not ``0`` or ``false``; empty is set."""
    text: str | None = query.get(name)
    return text is not None and text.lower() not in ("0", "false")


def log_parameters(query: Query, pod: str) -> MultiDict[str]:
    """Return the parameters of a kubelet's ``/containerLogs``.

    Args:
        query: of the request.
        pod: its name, for errors.

    Raises:
        ApiError: a value is not of its type, or is not possible.
    """
    found: MultiDict[str] = MultiDict()
    for name in ("follow", "previous", "timestamps"):
        if is_set(query, name):
            found[name] = "true"
    numbers = {
        name: _integer(query[name])
        for name in ("sinceSeconds", "tailLines", "limitBytes")
        if name in query
    }
    if "sinceTime" in query:
        found["sinceTime"] = _moment(query["sinceTime"])
    stream = query.get("stream") or "All"
    causes = _wrong(numbers, stream, has_time="sinceTime" in query)
    if causes:
        raise invalid("PodLogOptions", "", pod, causes)
    found.update({name: str(number) for name, number in numbers.items()})
    found["stream"] = stream
    return found


def stream_parameters(query: Query, kind: str) -> MultiDict[str]:
    """Return the parameters of a kubelet's ``/exec`` or ``/attach``.

    What is missing in them is the kubelet's to refuse.
    """
    found: MultiDict[str] = MultiDict()
    for asked, name in _STREAM_NAMES:
        if is_set(query, asked):
            found[name] = "1"
    for word in query.getall("command", []) if kind == "exec" else []:
        found.add("command", word)
    return found


def port_parameters(query: Query) -> MultiDict[str]:
    """Return the parameters of a kubelet's ``/portForward``.

    Raises:
        ApiError: a port is none.
    """
    found: MultiDict[str] = MultiDict()
    listed = [text for value in query.getall("ports", []) for text in value.split(",")]
    for text in listed:
        if not 0 < _integer(text) < 65536:
            raise bad_request(f"the port {text!r} is not one from 1 to 65535")
    if listed:
        found["port"] = ",".join(listed)
    return found


def _wrong(numbers: dict[str, int], stream: str, *, has_time: bool) -> list[Cause]:
    causes: list[Cause] = []
    if numbers.get("tailLines", 0) < 0:
        causes.append(metadata.wrong("tailLines", numbers["tailLines"], _NEGATIVE))
    if numbers.get("limitBytes", 1) < 1:
        causes.append(metadata.wrong("limitBytes", numbers["limitBytes"], _ABOVE_ZERO))
    if has_time and "sinceSeconds" in numbers:
        text = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        causes.append(metadata.forbidden("", text))
    elif numbers.get("sinceSeconds", 1) < 1:
        causes.append(metadata.wrong("sinceSeconds", numbers["sinceSeconds"], _ABOVE_ZERO))
    if stream not in _STREAMS:
        causes.append(metadata.unsupported("stream", stream, list(_STREAMS)))
    elif stream != "All" and "tailLines" in numbers:
        text = "`tailLines` and specific `stream` are mutually exclusive for now"
        causes.append(metadata.forbidden("", text))
    return causes


def _integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isdecimal() or not digits.isascii() or len(digits) > 18:
        raise bad_request(f'parsing "{text[:40]}": invalid syntax')
    return int(text)


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError("no time zone")
    except ValueError as error:
        raise bad_request(f'sinceTime "{text[:60]}" is no time of RFC 3339: {error}') from error
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
