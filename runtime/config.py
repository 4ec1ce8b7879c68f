"""The runtime's settings: a TOML file, with the command line's flags on top of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec


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
        mtu: bytes; 0 takes it from the link of the default route.
        ipv6_required: a machine without IPv6 is an error.
    """

    bridge: str = "kubeletpy0"
    subnet_v4: str = "10.88.0.0/16"
    subnet_v6: str = "fd88::/64"
    mtu: int = 0
    ipv6_required: bool = False


class CgroupSettings(_Strict, frozen=True):
    """Where cgroups are.

    Attributes:
        mountpoint: of the cgroup file systems.
        parent: for pods whose client names no ``cgroup_parent``.
    """

    mountpoint: str = "/sys/fs/cgroup"
    parent: str = "/kubeletpy"


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


class SysctlSettings(_Strict, frozen=True):
    """Which sysctls pods may set.

    Attributes:
        allowed_unsafe: beyond Kubernetes' safe list; a trailing ``*`` stands for any rest. Only
            sysctls that belong to a namespace of the pod are ever set.
        unprivileged_ports: pods with an own network may bind ports below 1024 without a
            capability, as with containerd.
        unprivileged_icmp: likewise may send ICMP echo requests.
    """

    allowed_unsafe: tuple[str, ...] = ()
    unprivileged_ports: bool = True
    unprivileged_icmp: bool = True


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


class Config(_Strict, frozen=True):
    """All settings; each has a default, so that the file may be empty or absent.

    Attributes:
        address: ``unix://`` and the absolute path of the CRI socket.
        root: what survives a reboot: images, the state file.
        state: what need not: pods' directories, sockets.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
    """

    address: str = "unix:///run/kubeletpy/runtime.sock"
    root: Path = Path("/var/lib/kubeletpy/runtime")
    state: Path = Path("/run/kubeletpy/runtime")
    log_level: str = "info"
    network: NetworkSettings = NetworkSettings()
    cgroups: CgroupSettings = CgroupSettings()
    registries: dict[str, RegistrySettings] = {}
    sysctls: SysctlSettings = SysctlSettings()
    limits: Limits = Limits()

    @property
    def socket(self) -> Path:
        """The path of the CRI socket."""
        return Path(self.address.removeprefix("unix://"))


def load_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """Read the file, put the flags on top, and check everything.

    Args:
        path: the TOML file; None for defaults.
        overrides: top-level keys given on the command line; None values do not count.

    Raises:
        ConfigError: the file cannot be read or parsed, has an unknown key or a bad value.
    """
    values = _read(path) if path is not None else {}
    values |= {key: value for key, value in overrides.items() if value is not None}
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
    if not config.cgroups.parent.startswith("/") or config.cgroups.parent == "/":
        raise ConfigError(f"{where}: [cgroups]: parent must be a path such as /kubeletpy")
    for name in Limits.__struct_fields__:
        if getattr(config.limits, name) <= 0:
            raise ConfigError(f"{where}: [limits]: {name} must be positive")
