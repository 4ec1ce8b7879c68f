"""The ``process`` part of an OCI configuration: command, environment, capabilities (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.defaults import DEFAULT_CAPABILITIES, DEFAULT_PATH
from runtime.oci.request import HostFacts, ImageDefaults, TranslationError, TranslationRequest

_OOM_RANGE = range(-1000, 1001)


def translate_process(request: TranslationRequest) -> dict[str, Any]:
    """Return the OCI ``process`` of the container.

    Raises:
        TranslationError: there is no command, a text holds a NUL, a capability is unknown, ...
    """
    container, security = request.container, request.security
    process: dict[str, Any] = {
        "terminal": container.tty,
        "user": {
            "uid": request.user.uid,
            "gid": request.user.gid,
            "additionalGids": list(request.user.groups),
        },
        "args": command_line(container.command, container.args, request.image),
        "env": environment(request),
        "cwd": working_directory(container.working_dir, request.image.working_dir),
        "capabilities": capabilities(security, request.host),
        "noNewPrivileges": security.no_new_privs,
    }
    if container.linux.HasField("resources"):
        process["oomScoreAdj"] = oom_score_adj(
            container.linux.resources.oom_score_adj, request.host
        )
    return process


def command_line(
    command: Sequence[str], arguments: Sequence[str], image: ImageDefaults
) -> list[str]:
    """Merge command and arguments of the request with entrypoint and command of the image.

    A command replaces the entrypoint, and with it the image's command; arguments alone replace
    the image's command (CRI ``ContainerConfig``, Kubernetes "Define a Command and Arguments").

    Raises:
        TranslationError: nothing is left to run, or a word holds a NUL.
    """
    first, rest = list(command), list(arguments)
    if not first:
        rest = rest or list(image.cmd)
        # An entrypoint of one empty word is how Docker's tools write "none".
        first = [] if list(image.entrypoint) == [""] else list(image.entrypoint)
    words = first + rest
    if not words or not words[0]:
        raise TranslationError(
            "there is no command to run: neither the request nor the image names one; give "
            "`command` or `args`"
        )
    for word in words:
        check_text(word, "a word of the command line")
    return words


def environment(request: TranslationRequest) -> list[str]:
    """Return ``NAME=value`` entries, each name once: image first, then the request over it.

    HOSTNAME always, TERM with a terminal, HOME and PATH only where nobody else gives them.

    Raises:
        TranslationError: a name is empty or holds ``=``, or an entry holds a NUL.
    """
    container = request.container
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": request.sandbox.hostname or request.host.hostname}
    if container.tty:
        values["TERM"] = "xterm"
    for entry in request.image.env:
        name, _, value = entry.partition("=")
        if name:
            values[name] = value
    for given in container.envs:
        if not given.key or "=" in given.key:
            raise TranslationError(f"environment name {given.key!r} is empty or holds '='")
        # A value is any bytes but NUL; Python's processes carry others as surrogates.
        values[given.key] = given.value.decode("utf-8", "surrogateescape")
    values.setdefault("HOME", request.user.home)
    for name, value in values.items():
        check_text(name + value, f"environment variable {name!r}")
    return [f"{name}={value}" for name, value in values.items()]


def working_directory(asked: str, default: str) -> str:
    """Return the absolute working directory.

    Raises:
        TranslationError: it is relative or holds a NUL.
    """
    path = asked or default or "/"
    check_text(path, "the working directory")
    if not path.startswith("/"):
        raise TranslationError(f"working directory {path!r} is not absolute")
    return path


def capabilities(
    security: cri.LinuxContainerSecurityContext, host: HostFacts
) -> dict[str, list[str]]:
    """Return the capability sets.

    ALL is looked at first, so that single ones can be taken off or added on top, as with
    containerd. Inheritable is empty but for ambient ones (CVE-2022-24769): the kernel wants
    those inheritable as well.

    Raises:
        TranslationError: the kernel does not know one, or the runtime does not hold it.
    """
    asked = security.capabilities
    if security.privileged:
        kept = set(host.capabilities)
    else:
        add, drop = _names(asked.add_capabilities), _names(asked.drop_capabilities)
        kept = set(host.capabilities if "CAP_ALL" in add else DEFAULT_CAPABILITIES)
        if "CAP_ALL" in drop:
            kept.clear()
        kept |= add - {"CAP_ALL"}
        kept -= drop
    ambient = _names(asked.add_ambient_capabilities)
    kept |= ambient
    missing = sorted(kept - set(host.capabilities))
    asked_missing = [name for name in missing if name not in DEFAULT_CAPABILITIES]
    if asked_missing:
        raise TranslationError(
            f"capabilities {', '.join(asked_missing)} cannot be given: the runtime does not hold "
            "them, or this kernel does not know them"
        )
    ordered = sorted(kept - set(missing))
    sets = {"bounding": ordered, "effective": ordered, "permitted": ordered}
    if ambient:
        sets |= {"ambient": sorted(ambient), "inheritable": sorted(ambient)}
    return sets


def oom_score_adj(asked: int, host: HostFacts) -> int:
    """Return the OOM score adjustment, not below what the runtime may set.

    Raises:
        TranslationError: it is not within -1000 to 1000.
    """
    if asked not in _OOM_RANGE:
        raise TranslationError(f"oom_score_adj {asked} is not within -1000 to 1000")
    return max(asked, host.lowest_oom_score_adj)


def check_text(text: str, what: str) -> None:
    """Refuse a text that the kernel would cut at its first NUL.

    Raises:
        TranslationError: it holds one.
    """
    if "\0" in text:
        raise TranslationError(f"{what} holds a NUL character: {text[:80]!r}")


def _names(given: Sequence[str]) -> set[str]:
    # CRI names have no prefix; some clients send one all the same.
    return {f"CAP_{name.upper().removeprefix('CAP_')}" for name in given}
