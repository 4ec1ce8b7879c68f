"""The runtime's settings: a TOML file, with the command line's flags on top of it."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from runtime.images import pins

BUILT_IN: Final = "kubeletpy"
"""Name of the runtime handler that needs no other program."""

# Kubernetes takes a RuntimeClass' handler only as a DNS label (RFC 1123).
_HANDLER: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class ConfigError(ValueError):
    """The settings cannot be used; the text names the file and the key."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table whose unknown keys are errors: a slip must not silently mean a default."""


class NetworkSettings(_Strict, frozen=True):
    """The default network. Two runtimes on one machine need different ones.

    Attributes:
        bridge: name of the bridge.
        subnet_v4: the pods' IPv4 network.
        subnet_v6: the pods' IPv6 network; "" for IPv4 only.
        mtu: bytes; 0 takes it from the link of the default route; with ``from_node`` it has room
            for VXLAN, or is what `kubeletpy network` says.
        ipv6_required: a machine without IPv6 is an error.
        from_node: the subnets are those that the cluster gives the node (Node.spec.podCIDRs), which
            the kubelet tells; until then no pod gets a network.
        no_masquerade: networks that pods reach with their own address: the pods of all nodes.
        node_file: where `kubeletpy network` says the MTU of pods.
    """

    bridge: str = "kubeletpy0"
    subnet_v4: str = "10.88.0.0/16"
    subnet_v6: str = "fd88::/64"
    mtu: int = 0
    ipv6_required: bool = False
    from_node: bool = False
    no_masquerade: tuple[str, ...] = ()
    node_file: str = "/run/kubeletpy/network/pod-network.json"


class CniSettings(_Strict, frozen=True):
    """Pods' networks by CNI plugins instead of the default network.

    Attributes:
        conf_dir: where configuration lists are; "" or without any, pods get the default network.
        bin_dirs: where plugins are, searched in order.
        plugin_seconds: that one run of a plugin may take.
        pod_cidrs: networks for plugins with the capability ``ipRanges``, until a client names
            others by UpdateRuntimeConfig.
    """

    conf_dir: str = ""
    bin_dirs: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni")
    plugin_seconds: float = 60.0
    pod_cidrs: tuple[str, ...] = ()


class CgroupSettings(_Strict, frozen=True):
    """Where cgroups are, and who makes them.

    Attributes:
        driver: ``cgroupfs``, or ``systemd`` where that is PID 1 and cgroups are of version 2.
        mountpoint: of the cgroup file systems.
        parent: for pods whose client names no ``cgroup_parent``: a path, with the driver systemd a
            slice; "" for /kubeletpy or kubeletpy.slice.
    """

    driver: str = "cgroupfs"
    mountpoint: str = "/sys/fs/cgroup"
    parent: str = ""

    @property
    def parent_path(self) -> str:
        """The cgroup path of ``parent``."""
        if self.driver == "systemd":
            # Not for who only asks for --help.
            from kubeletpy_common.cgroups.systemd import slice_path

            return slice_path(self.parent or "kubeletpy.slice")
        return self.parent or "/kubeletpy"


class RegistrySettings(_Strict, frozen=True):
    """How to reach one registry.

    Attributes:
        plain_http: HTTP instead of HTTPS; absent: HTTP for loopback hosts only.
        ca_file: PEM file of authorities trusted for it, instead of the system's.
        client_cert: PEM file of the client certificate.
        client_key: PEM file of its key.
        mirrors: ``host[:port]`` of registries asked first, in order.
    """

    plain_http: bool | None = None
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    mirrors: tuple[str, ...] = ()


class ImageSettings(_Strict, frozen=True):
    """Images and where they come from.

    Attributes:
        config_path: directories, separated by colons, with a directory per registry and a
            ``hosts.toml`` in it, as containerd has them; the first that knows a registry decides.
            Read anew for every pull; missing ones do not count. Goes before ``registries``.
        pinned: names of images that the kubelet must not remove to make room; ``*`` stands for
            any characters of the whole name.
        parallel_downloads: layers fetched at a time, of all pulls together.
        attempts: tries of one request to a registry.
        progress_seconds: without any progress of a download after which it is tried again.
    """

    config_path: str = "/etc/containerd/certs.d:/etc/docker/certs.d"
    pinned: tuple[str, ...] = ()
    parallel_downloads: int = 3
    attempts: int = 5
    progress_seconds: float = 60.0

    @property
    def directories(self) -> tuple[Path, ...]:
        """The directories of ``config_path``."""
        return tuple(Path(part) for part in self.config_path.split(":") if part)


class SysctlSettings(_Strict, frozen=True):
    """Which sysctls pods may set.

    Attributes:
        allowed_unsafe: beyond Kubernetes' safe list; a trailing ``*`` stands for any rest. None:
            all that the client sends, whose ``allowedUnsafeSysctls`` decide. Only sysctls that
            belong to a namespace of the pod are ever set.
        unprivileged_ports: pods with an own network may bind ports below 1024 without a
            capability, as with containerd.
        unprivileged_icmp: likewise may send ICMP echo requests.
    """

    allowed_unsafe: tuple[str, ...] | None = None
    unprivileged_ports: bool = True
    unprivileged_icmp: bool = True


class StreamingSettings(_Strict, frozen=True):
    """The HTTP server of Exec, Attach and PortForward.

    Attributes:
        address: the IP address to listen on, which clients are told as well. Beyond loopback it
            needs TLS: whoever sees a token can use it.
        port: 0 takes any that is free.
        idle_seconds: without a byte after which a session is ended.
        creation_seconds: that a client may take to open the streams of a session.
        ping_seconds: between the pings by which a client that is gone without a word is noticed.
        max_sessions: open at once.
        tls_cert: PEM file of the certificate, with those of its issuers.
        tls_key: PEM file of its key; absent: in ``tls_cert``.
    """

    address: str = "127.0.0.1"
    port: int = 0
    idle_seconds: float = 4 * 3600.0
    creation_seconds: float = 30.0
    ping_seconds: float = 10.0
    max_sessions: int = 1000
    tls_cert: Path | None = None
    tls_key: Path | None = None


class CdiSettings(_Strict, frozen=True):
    """Devices by the Container Device Interface.

    Attributes:
        spec_dirs: directories of spec files, of which a later one goes before an earlier one;
            none: there are no such devices.
    """

    spec_dirs: tuple[Path, ...] = (Path("/etc/cdi"), Path("/var/run/cdi"))


class Limits(_Strict, frozen=True):
    """Bounds and deadlines.

    Attributes:
        start_seconds: until a container's process must have been executed.
        sandbox_seconds: until a pod's shim must listen.
        exec_output_bytes: of stdout and stderr together that one ExecSync answers with.
        event_queue: events that wait for one client of GetContainerEvents.
        shm_bytes: size of a pod's /dev/shm.
        shutdown_seconds: that calls under way have to end when the daemon is told to stop.
    """

    start_seconds: float = 60.0
    sandbox_seconds: float = 30.0
    exec_output_bytes: int = (16 << 20) - (64 << 10)
    event_queue: int = 1000
    shm_bytes: int = 64 << 20
    shutdown_seconds: float = 5.0


class RuntimeSettings(_Strict, frozen=True):
    """An external OCI runtime, which pods name as their runtime handler.

    Attributes:
        path: of its program. It may be absent as long as no pod asks for it.
        root: directory for the state of its containers; absent: one in each pod's directory.
        args: further global options, given before the operation.
    """

    path: Path
    root: Path | None = None
    args: tuple[str, ...] = ()


class Config(_Strict, frozen=True):
    """All settings; each has a default, so that the file may be empty or absent.

    Attributes:
        address: ``unix://`` and the absolute path of the CRI socket.
        root: what survives a reboot: images, the state file.
        state: what need not: pods' directories, sockets.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
        default_runtime: the handler of pods that name none.
        runtimes: external OCI runtimes by their handler's name.
    """

    address: str = "unix:///run/kubeletpy/runtime.sock"
    root: Path = Path("/var/lib/kubeletpy/runtime")
    state: Path = Path("/run/kubeletpy/runtime")
    log_level: str = "info"
    network: NetworkSettings = NetworkSettings()
    cni: CniSettings = CniSettings()
    cgroups: CgroupSettings = CgroupSettings()
    images: ImageSettings = ImageSettings()
    cdi: CdiSettings = CdiSettings()
    registries: dict[str, RegistrySettings] = {}
    sysctls: SysctlSettings = SysctlSettings()
    limits: Limits = Limits()
    streaming: StreamingSettings = StreamingSettings()
    default_runtime: str = BUILT_IN
    runtimes: dict[str, RuntimeSettings] = {}

    @property
    def socket(self) -> Path:
        """The path of the CRI socket."""
        return Path(self.address.removeprefix("unix://"))


def load_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """Read the file, put the flags on top, and check everything.

    Args:
        path: the TOML file; None for defaults.
        overrides: top-level keys given on the command line; None values do not count, and a
            dictionary adds to the table of that name.

    Raises:
        ConfigError: the file cannot be read or parsed, has an unknown key or a bad value.
    """
    values = _read(path) if path is not None else {}
    for key, value in overrides.items():
        if isinstance(value, dict):
            table = values.get(key, {})
            given = {name: item for name, item in value.items() if item is not None}
            values[key] = {**table, **given} if isinstance(table, dict) else table
        elif value is not None:
            values[key] = value
    where = str(path) if path is not None else "the command line"
    try:
        config = msgspec.convert(values, Config, dec_hook=_decode, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(error)}") from error
    _check(config, where)
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"read the config file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _decode(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise TypeError(f"Expected a path, got {value!r}")


def _explain(error: msgspec.ValidationError) -> str:
    # msgspec writes "Object contains unknown field `x` - at `$.network`".
    text, _, place = str(error).partition(" - at ")
    key = place.strip("`").removeprefix("$").removeprefix(".")
    text = text.replace("Object contains unknown field", "unknown key")
    return f"[{key}]: {text}" if key else text


def _check(config: Config, where: str) -> None:
    if not config.address.startswith("unix:///"):
        raise ConfigError(
            f"{where}: address {config.address!r} is not unix:// and an absolute path, such as "
            "unix:///run/kubeletpy/runtime.sock"
        )
    # unix(7): sun_path holds 108 bytes with the final NUL.
    if len(str(config.socket).encode()) > 107:
        raise ConfigError(f"{where}: the path of address {config.address!r} exceeds 107 bytes")
    for name in ("root", "state"):
        directory: Path = getattr(config, name)
        if not directory.is_absolute() or directory == Path("/"):
            raise ConfigError(f"{where}: {name} {str(directory)!r} must be an absolute directory")
    if config.root == config.state:
        raise ConfigError(f"{where}: root and state are both {config.root}: they must differ")
    if config.log_level not in ("debug", "info", "warning", "error"):
        raise ConfigError(
            f"{where}: log_level {config.log_level!r} is not debug, info, warning or error"
        )
    for directory in config.cdi.spec_dirs:
        if not directory.is_absolute():
            raise ConfigError(f"{where}: [cdi]: spec_dirs: {str(directory)!r} is not absolute")
    _check_cgroups(config.cgroups, f"{where}: [cgroups]")
    for name in Limits.__struct_fields__:
        if getattr(config.limits, name) <= 0:
            raise ConfigError(f"{where}: [limits]: {name} must be positive")
    _check_runtimes(config, where)
    _check_images(config.images, f"{where}: [images]")
    _check_cni(config.cni, f"{where}: [cni]")
    _check_streaming(config.streaming, f"{where}: [streaming]")


def _check_runtimes(config: Config, where: str) -> None:
    for name, settings in config.runtimes.items():
        table = f"{where}: [runtimes.{name}]"
        if not _HANDLER.fullmatch(name) or name == BUILT_IN:
            raise ConfigError(
                f"{table}: a handler's name is a DNS label other than {BUILT_IN!r}, which is the "
                "built-in one"
            )
        for key, path in (("path", settings.path), ("root", settings.root)):
            if path is not None and not path.is_absolute():
                raise ConfigError(f"{table}: {key} {str(path)!r} must be absolute")
    if config.default_runtime != BUILT_IN and config.default_runtime not in config.runtimes:
        raise ConfigError(
            f"{where}: default_runtime {config.default_runtime!r} has no table "
            f"[runtimes.{config.default_runtime}]"
        )


def _check_images(images: ImageSettings, where: str) -> None:
    for directory in images.directories:
        if not directory.is_absolute():
            raise ConfigError(f"{where}: config_path: {str(directory)!r} is not an absolute path")
    for name in ("parallel_downloads", "attempts", "progress_seconds"):
        if getattr(images, name) <= 0:
            raise ConfigError(f"{where}: {name} must be positive")
    if (wrong := pins.check(images.pinned)) is not None:
        raise ConfigError(f"{where}: pinned: {wrong}")


def _check_cgroups(cgroups: CgroupSettings, where: str) -> None:
    if cgroups.driver not in ("cgroupfs", "systemd"):
        raise ConfigError(f"{where}: driver {cgroups.driver!r} is not cgroupfs or systemd")
    try:
        parent = cgroups.parent_path
    except OSError as error:
        raise ConfigError(
            f"{where}: with the driver systemd parent must be a slice such as kubeletpy.slice: "
            f"{error}"
        ) from error
    if not parent.startswith("/") or parent == "/":
        raise ConfigError(f"{where}: parent must be a path such as /kubeletpy")


def _check_cni(cni: CniSettings, where: str) -> None:
    for directory in (*cni.bin_dirs, *([cni.conf_dir] if cni.conf_dir else [])):
        if not directory.startswith("/") or ":" in directory:
            raise ConfigError(f"{where}: {directory!r} must be an absolute directory without ':'")
    if not cni.bin_dirs:
        raise ConfigError(f"{where}: bin_dirs names no directory")
    if cni.plugin_seconds <= 0:
        raise ConfigError(f"{where}: plugin_seconds must be positive")
    for cidr in cni.pod_cidrs:
        try:
            ipaddress.ip_network(cidr)
        except ValueError as error:
            raise ConfigError(f"{where}: pod_cidrs: {error}") from error


def _check_streaming(streaming: StreamingSettings, where: str) -> None:
    try:
        address = ipaddress.ip_address(streaming.address)
    except ValueError as error:
        raise ConfigError(f"{where}: address: {error}") from error
    if address.is_unspecified:
        raise ConfigError(
            f"{where}: address {address} is none that clients could be told: name one of this "
            "machine's"
        )
    if not address.is_loopback and streaming.tls_cert is None:
        raise ConfigError(f"{where}: address {address} is not loopback: set tls_cert and tls_key")
    if not 0 <= streaming.port <= 65535:
        raise ConfigError(f"{where}: port {streaming.port} is not within 0 to 65535")
    for name in ("idle_seconds", "creation_seconds", "ping_seconds", "max_sessions"):
        if getattr(streaming, name) <= 0:
            raise ConfigError(f"{where}: {name} must be positive")
