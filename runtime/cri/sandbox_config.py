"""What a pod sandbox request asks for, checked and put into this runtime's terms (pure)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from kubeletpy_common.cgroups import LinuxResources
from kubeletpy_proto import cri_pb2 as cri
from runtime.config import SysctlSettings
from runtime.cri.errors import InvalidRequestError
from runtime.cri.pod_facts import pod_facts
from runtime.cri.sysctls import check_sysctls, default_sysctls
from runtime.network.request import PodFacts
from runtime.oci.mappings import Mapping
from runtime.oci.request import HostFacts
from runtime.oci.translate import refuse_apparmor, refuse_selinux
from runtime.oci.translate_limits import translate_resources
from runtime.oci.translate_users import read_mappings

# The kernel's limit (__NEW_UTS_LEN); what is a good name beyond that is DNS's affair.
_HOSTNAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_WORD: Final = re.compile(r"[!-~]{1,255}")
_MAX_DNS: Final = 64


@dataclass(frozen=True)
class SandboxNeeds:
    """A sandbox request in this runtime's terms.

    Attributes:
        own_network: a network namespace of its own, with IPC and UTS likewise below.
        own_ipc: see there.
        own_uts: see there.
        shared_pid: one PID namespace for all containers.
        hostname: of the pod, or the node's.
        sysctls: checked, the defaults included.
        resolv_conf: content of /etc/resolv.conf; None for a copy of the host's.
        facts: what its network is to know.
        uid_mappings: of its own user namespace; empty: the host's.
        gid_mappings: likewise.
        limits: of the pod as a whole, for a cgroup that is the runtime's own.
    """

    own_network: bool
    own_ipc: bool
    own_uts: bool
    shared_pid: bool
    hostname: str
    sysctls: dict[str, str]
    resolv_conf: str | None
    facts: PodFacts
    uid_mappings: tuple[Mapping, ...] = ()
    gid_mappings: tuple[Mapping, ...] = ()
    limits: LinuxResources = field(default_factory=LinuxResources)


def read_sandbox_config(
    config: cri.PodSandboxConfig, host: HostFacts, settings: SysctlSettings
) -> SandboxNeeds:
    """Check a request and return what it needs.

    Raises:
        InvalidRequestError, SysctlError, TranslationError: naming the field and the reason.
    """
    _check_metadata(config)
    _refuse_unsupported(config, host)
    options = config.linux.security_context.namespace_options
    own_network = _own("network", options.network)
    own_ipc = _own("ipc", options.ipc)
    if options.pid == cri.TARGET:
        raise InvalidRequestError("namespace_options.pid TARGET: a sandbox can target nothing")
    uids, gids = read_mappings(options)
    if uids:
        _check_with_user_namespace(options)
    sysctls = default_sysctls(
        own_network=own_network,
        unprivileged_ports=settings.unprivileged_ports,
        unprivileged_icmp=settings.unprivileged_icmp,
    ) | check_sysctls(
        config.linux.sysctls,
        own_network=own_network,
        own_ipc=own_ipc,
        allowed_unsafe=settings.allowed_unsafe,
    )
    return SandboxNeeds(
        own_network=own_network,
        own_ipc=own_ipc,
        # A pod in the host's network has the host's name as well, as with containerd.
        own_uts=own_network,
        shared_pid=options.pid == cri.POD,
        hostname=_hostname(config.hostname, host.hostname),
        sysctls=sysctls,
        resolv_conf=resolv_conf(config.dns_config) if config.HasField("dns_config") else None,
        uid_mappings=uids,
        gid_mappings=gids,
        limits=_limits(config.linux, host.cgroup_version),
        # Ports of a pod in the host's network are the host's already: mappings mean nothing.
        facts=pod_facts(config) if own_network else PodFacts(),
    )


def resolv_conf(dns: cri.DNSConfig) -> str | None:
    """Return the content of /etc/resolv.conf (resolv.conf(5)); None if nothing is configured.

    Raises:
        InvalidRequestError: an entry would change the meaning of the file.
    """
    if not (dns.servers or dns.searches or dns.options):
        return None
    if max(len(dns.servers), len(dns.searches), len(dns.options)) > _MAX_DNS:
        raise InvalidRequestError(f"dns_config: more than {_MAX_DNS} entries of one kind")
    for server in dns.servers:
        try:
            ipaddress.ip_address(server)
        except ValueError:
            raise InvalidRequestError(f"dns_config.servers: {server!r} is no IP address") from None
    for name, words in (("searches", dns.searches), ("options", dns.options)):
        for word in words:
            if not _WORD.fullmatch(word):
                raise InvalidRequestError(f"dns_config.{name}: {word!r} is not one word")
    lines = [f"nameserver {server}" for server in dns.servers]
    if dns.searches:
        lines.append(f"search {' '.join(dns.searches)}")
    if dns.options:
        lines.append(f"options {' '.join(dns.options)}")
    return "".join(f"{line}\n" for line in lines)


def _check_metadata(config: cri.PodSandboxConfig) -> None:
    if not config.HasField("metadata") or not config.metadata.name:
        raise InvalidRequestError("config.metadata.name is empty: a sandbox needs a name")
    for name in ("name", "namespace", "uid"):
        if "\0" in getattr(config.metadata, name):
            raise InvalidRequestError(f"config.metadata.{name} holds a NUL")
    if config.log_directory and not config.log_directory.startswith("/"):
        raise InvalidRequestError(f"config.log_directory {config.log_directory!r} is not absolute")


def _refuse_unsupported(config: cri.PodSandboxConfig, host: HostFacts) -> None:
    security = config.linux.security_context
    unsupported = {
        "windows": config.HasField("windows"),
    }
    found = [name for name, given in unsupported.items() if given]
    if found:
        raise InvalidRequestError(f"{', '.join(found)}: not supported yet; leave it out")
    refuse_selinux(security.selinux_options, host)
    # The sandbox has no process of its own, so a seccomp profile confines nothing and needs no
    # support, nor does AppArmor's RuntimeDefault; another one would be a promise for containers.
    default = cri.SecurityProfile.RuntimeDefault
    apparmor = security.apparmor if security.HasField("apparmor") else None
    refuse_apparmor(None if apparmor and apparmor.profile_type == default else apparmor, "", host)


def _check_with_user_namespace(options: cri.NamespaceOption) -> None:
    for name in ("network", "ipc", "pid"):
        if getattr(options, name) == cri.NODE:
            raise InvalidRequestError(
                f"namespace_options.{name} NODE: a pod with a user namespace of its own has no "
                "say in the host's namespaces"
            )


def _own(name: str, mode: cri.NamespaceMode.ValueType) -> bool:
    if mode not in (cri.POD, cri.NODE):
        raise InvalidRequestError(
            f"namespace_options.{name} {cri.NamespaceMode.Name(mode)}: only POD and NODE exist"
        )
    return mode == cri.POD


def _limits(linux: cri.LinuxPodSandboxConfig, cgroup_version: int) -> LinuxResources:
    # The overhead is part of what a client asks for; it is recorded, and checked like the rest.
    translate_resources(linux.overhead, cgroup_version)
    return LinuxResources.from_oci(translate_resources(linux.resources, cgroup_version))


def _hostname(asked: str, default: str) -> str:
    if asked and not _HOSTNAME.fullmatch(asked):
        raise InvalidRequestError(
            f"hostname {asked!r} is not 1 to 64 letters, digits, '-', '_' or '.'"
        )
    return asked or default
