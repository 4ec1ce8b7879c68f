"""Seccomp profiles: which one a container asks for, the default one, and files read safely (pure).

A profile is the ``linux.seccomp`` object of an OCI configuration (config-linux.md, "Seccomp"),
which is also what a Localhost profile's file holds, as with containerd.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from kubeletpy_common.linux.seccomp import FILTER_FLAGS
from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.request import TranslationError

Profile = dict[str, Any]

PROFILE_LIMIT: Final = 1 << 20
"""Bytes that a Localhost profile may have."""

_DATA: Final = Path(__file__).with_name("seccomp_default.json")
_KIND = cri.SecurityProfile
_MAX_RULES: Final = 4096

# OCI config-linux.md, "Seccomp". SCMP_ACT_NOTIFY needs a supervisor that answers, which CRI has no
# way to name.
_ACTIONS: Final = frozenset(
    f"SCMP_ACT_{name}"
    for name in "KILL KILL_PROCESS KILL_THREAD TRAP ERRNO TRACE ALLOW LOG".split()
)
_OPERATORS: Final = frozenset(f"SCMP_CMP_{name}" for name in "NE LT LE EQ GE GT MASKED_EQ".split())


def requested_profile(
    security: cri.LinuxContainerSecurityContext,
) -> tuple[cri.SecurityProfile.ProfileType.ValueType, str]:
    """Return the kind of profile that a container asks for, and the path of a Localhost one.

    A privileged container is unconfined whatever it asks for, and so is one that says nothing, as
    with containerd. The deprecated ``seccomp_profile_path`` counts where the newer field is unset.

    Raises:
        TranslationError: a Localhost profile has no absolute path (CVE-2023-2431), or the kind is
            unknown.
    """
    if security.privileged:
        return _KIND.Unconfined, ""
    if security.HasField("seccomp"):
        kind, reference = security.seccomp.profile_type, security.seccomp.localhost_ref
        field = "seccomp.localhost_ref"
    else:
        kind, reference = _deprecated(security.seccomp_profile_path)
        field = "seccomp_profile_path"
    if kind != _KIND.Localhost:
        return kind, ""
    path = reference.removeprefix("localhost/")
    if not path.startswith("/") or "\0" in path:
        raise TranslationError(
            f"linux.security_context.{field} {reference!r}: a Localhost seccomp profile needs the "
            "absolute path of its file"
        )
    return kind, path


def _deprecated(text: str) -> tuple[cri.SecurityProfile.ProfileType.ValueType, str]:
    if text in ("", "unconfined"):
        return _KIND.Unconfined, ""
    if text in ("runtime/default", "docker/default"):
        return _KIND.RuntimeDefault, ""
    if text.startswith("localhost/"):
        return _KIND.Localhost, text
    raise TranslationError(
        f"linux.security_context.seccomp_profile_path {text!r} is none of 'unconfined', "
        "'runtime/default' and 'localhost/<absolute path>'"
    )


def default_profile(bounding: Iterable[str], machine: str) -> Profile:
    """Return RuntimeDefault: what containerd and Docker publish as their default profile.

    Args:
        bounding: names of the container's capabilities, each of which allows more.
        machine: as ``uname -m`` says it.
    """
    data = _data()
    held = sorted(set(bounding) & set(data["capabilities"]))
    names = [*data["always"], *data["machine"].get(machine, [])]
    names += [name for capability in held for name in data["capabilities"][capability]]
    rules = [{"names": sorted(set(names)), "action": "SCMP_ACT_ALLOW"}, *data["conditional"]]
    if "CAP_SYS_ADMIN" not in held:
        # clone3 passes its flags in memory, where no filter sees them: "no such call" makes the C
        # library fall back to clone, of which the filter forbids the flags for namespaces.
        rules += data["without_sys_admin"]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": data["architectures"].get(machine, []),
        "syscalls": rules,
    }


@functools.cache
def _data() -> Any:
    return json.loads(_DATA.read_bytes())


def parse_profile(data: bytes, source: str) -> Profile:
    """Read a Localhost profile.

    Args:
        data: the file's content.
        source: what to call it in errors.

    Raises:
        TranslationError: it is empty, no JSON, or asks for what cannot be done. An empty one would
            mean no confinement (CVE-2023-2431).
    """
    if len(data) > PROFILE_LIMIT:
        raise TranslationError(f"seccomp profile {source!r} is larger than {PROFILE_LIMIT} bytes")
    try:
        profile = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TranslationError(f"seccomp profile {source!r} is no JSON: {error}") from error
    try:
        return _checked(profile)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        text = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise TranslationError(f"seccomp profile {source!r}: {text}") from error


def _checked(profile: Any) -> Profile:
    if not isinstance(profile, Mapping) or not profile.get("defaultAction"):
        raise ValueError("defaultAction is missing: without it nothing would be confined")
    result: Profile = _action(profile, "defaultAction", "defaultErrnoRet")
    result["architectures"] = [_text(name) for name in profile.get("architectures") or []]
    flags = [_text(flag) for flag in profile.get("flags") or []]
    if unknown := sorted(set(flags) - set(FILTER_FLAGS)):
        raise ValueError(f"flags {', '.join(unknown)} are not supported")
    if flags:
        result["flags"] = flags
    if profile.get("listenerPath"):
        raise ValueError("listenerPath is not supported")
    rules = profile.get("syscalls") or []
    if not isinstance(rules, list) or len(rules) > _MAX_RULES:
        raise ValueError(f"syscalls is no list of at most {_MAX_RULES} rules")
    result["syscalls"] = [_rule(rule) for rule in rules]
    return result


def _rule(rule: Any) -> dict[str, Any]:
    names = [_text(name) for name in rule["names"]]
    if not names or len(names) > _MAX_RULES:
        raise ValueError("a rule of syscalls has no names, or too many")
    result = {"names": names, **_action(rule, "action", "errnoRet")}
    if arguments := rule.get("args"):
        result["args"] = [_argument(argument) for argument in arguments]
    return result


def _action(source: Mapping[str, Any], key: str, errno_key: str) -> dict[str, Any]:
    action = source[key]
    if action not in _ACTIONS:
        raise ValueError(f"{key} {action!r} is none of {', '.join(sorted(_ACTIONS))}")
    result = {key: action}
    number = source.get(errno_key)
    if number is not None:
        result[errno_key] = _number(number, 0xFFFF, errno_key)
    return result


def _argument(argument: Any) -> dict[str, Any]:
    if argument["op"] not in _OPERATORS:
        raise ValueError(f"op {argument['op']!r} is none of {', '.join(sorted(_OPERATORS))}")
    most = (1 << 64) - 1
    return {
        "index": _number(argument["index"], 5, "index"),
        "value": _number(argument["value"], most, "value"),
        "valueTwo": _number(argument.get("valueTwo") or 0, most, "valueTwo"),
        "op": argument["op"],
    }


def _number(value: Any, most: int, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{what} {value!r} is no number from 0 to {most}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isascii() or len(value) > 100:
        raise ValueError(f"{value!r} is no name")
    return value
