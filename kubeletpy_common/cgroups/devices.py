"""Which devices a container may use: the rules of OCI, reduced to what a kernel can enforce.

Cgroup v1 keeps a default and a set of exceptions, cgroup v2 asks a BPF program. Both are made from
the same reduced form, so that a list of rules means the same on both. The kernel's checks are in
security/device_cgroup.c: with a default of "deny" an access is allowed if one exception covers all
of it; with a default of "allow" it is denied if one exception covers any of it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from kubeletpy_common.cgroups.errors import CgroupError

READ: Final = "r"
WRITE: Final = "w"
MKNOD: Final = "m"
_ALL: Final = frozenset("rwm")

DeviceType = Literal["a", "b", "c"]


@dataclass(frozen=True)
class DeviceRule:
    """One rule of OCI ``linux.resources.devices``.

    Attributes:
        allow: whether the access is granted or taken.
        type: ``c`` character, ``b`` block, ``a`` both.
        major, minor: device numbers; None stands for all.
        access: letters of ``rwm`` (read, write, mknod).
    """

    allow: bool
    type: DeviceType = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"

    @classmethod
    def from_oci(cls, rule: Mapping[str, Any]) -> DeviceRule:
        """Build a rule from the OCI object (config-linux.md, "Allowed Device list").

        Raises:
            CgroupError: (EINVAL) unknown type or access, or a number out of range.
        """
        kind: Any = rule.get("type") or "a"
        access = rule.get("access") or "rwm"
        numbers = [_number(rule.get(key), rule) for key in ("major", "minor")]
        if kind not in ("a", "b", "c") or not set(access) <= _ALL:
            raise _bad(rule, "type must be a, b or c, access must be of the letters rwm")
        return cls(bool(rule.get("allow", False)), kind, numbers[0], numbers[1], access)


class Device(NamedTuple):
    """A set of device nodes: one type, one or all (None) major and minor numbers."""

    type: Literal["b", "c"]
    major: int | None
    minor: int | None

    def covers(self, other: Device) -> bool:
        """Tell whether all of ``other`` is part of this."""
        pairs = zip(self, other, strict=True)
        return all(mine is None or mine == theirs for mine, theirs in pairs)

    def overlaps(self, other: Device) -> bool:
        """Tell whether a device node can be part of both."""
        pairs = zip(self, other, strict=True)
        return all(a is None or b is None or a == b for a, b in pairs)


@dataclass
class DevicePolicy:
    """A default and its exceptions, ``{device: letters of access}``."""

    allow_by_default: bool = False
    exceptions: dict[Device, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def reduce(cls, rules: Iterable[DeviceRule]) -> DevicePolicy:
        """Apply ``rules`` in their order to a policy that denies everything.

        A list is the whole truth: what no rule grants is denied, whatever the parent allows.

        Raises:
            CgroupError: (EINVAL) a rule takes a part out of an earlier, wider exception, which a
                default with exceptions cannot express; loosening it silently would be unsafe.
        """
        policy = cls()
        for rule in rules:
            whole = rule.major is None and rule.minor is None and set(rule.access) == _ALL
            if rule.type == "a" and whole:
                policy = cls(allow_by_default=rule.allow)
                continue
            for kind in ("b", "c") if rule.type == "a" else (rule.type,):
                policy._apply(Device(kind, rule.major, rule.minor), rule)
        return policy

    def _apply(self, device: Device, rule: DeviceRule) -> None:
        access = frozenset(rule.access)
        if rule.allow != self.allow_by_default:
            self.exceptions[device] = self.exceptions.get(device, frozenset()) | access
            return
        for known, granted in list(self.exceptions.items()):
            if not (granted & access and device.overlaps(known)):
                continue
            if not device.covers(known):
                raise _bad(rule, f"it takes a part out of the wider rule {known}; reorder them")
            self.exceptions[known] = granted - access
            if not self.exceptions[known]:
                del self.exceptions[known]

    def v1_writes(self) -> list[tuple[Literal["allow", "deny"], str]]:
        """Return what to write, in order, to ``devices.allow`` and ``devices.deny`` of v1.

        The first write sets the default and forgets all exceptions (cgroup-v1/devices.rst).
        """
        default: Literal["allow", "deny"] = "allow" if self.allow_by_default else "deny"
        other: Literal["allow", "deny"] = "deny" if self.allow_by_default else "allow"
        writes = [(default, "a")]
        for device, access in self.exceptions.items():
            letters = "".join(letter for letter in "rwm" if letter in access)
            numbers = ":".join("*" if n is None else str(n) for n in device[1:])
            writes.append((other, f"{device.type} {numbers} {letters}"))
        return writes


def _number(value: Any, rule: object) -> int | None:
    # OCI leaves it out for "all"; CRI clients and runc's own profiles also say -1.
    if value is None or value == -1:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise _bad(rule, "device numbers are integers from 0 to 4294967295, or -1 for all")
    return value


def _bad(rule: object, reason: str) -> CgroupError:
    return CgroupError(errno.EINVAL, "devices", f"rule {rule!r} is refused", reason, "change it")
