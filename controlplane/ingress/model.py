"""What is served: hosts, their paths, and where requests go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONTROLLER: Final = "kubeletpy.io/ingress"
"""``spec.controller`` of the IngressClasses that are ours."""
CLASS: Final = "kubeletpy"
"""Name of the class that is made where there is none of ours."""
PREFIX: Final = "nginx.ingress.kubernetes.io/"
"""Of the annotations; they are those of the widest-spread controller, so that objects fit both."""


@dataclass(frozen=True, slots=True)
class BasicAuth:
    """Who may come in, by name and password.

    Attributes:
        realm: what browsers show.
        users: lines of a file of htpasswd(1).
    """

    realm: str
    users: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one address may ask for.

    Attributes:
        zone: name, unlike all others; the counters are those of one Ingress.
        per_second, per_minute: requests; 0: as many as they like.
        burst: requests beyond the rate that are still answered at once.
        connections: at once; 0: as many as they like.
        exempt: networks that the limits do not hold for.
    """

    zone: str
    per_second: int = 0
    per_minute: int = 0
    burst: int = 0
    connections: int = 0
    exempt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What annotations say about the paths of an Ingress.

    Attributes:
        auth: names and passwords; None: everyone may come in.
        limits: of each client; None: none.
        allowed, denied: networks of clients; ``allowed`` empty: all.
        redirect: HTTP is answered by sending clients to HTTPS: "" if the host has TLS, else
            ``always`` or ``never``.
        rewrite: path that is asked for in place of the client's; "": the client's.
        body: bytes that a request may have, as nginx writes it (``8m``); "": 1 MiB.
        connect, read, send: seconds of the backend; 0: as configured for all.
        tls: whether the backend is spoken to by TLS.
        direct: whether requests go to the endpoints, past the Service's address.
        blocked: why requests are refused with 503: an option cannot be kept, and serving without
            it would let in whom it is to keep out.
    """

    auth: BasicAuth | None = None
    limits: Limits | None = None
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    redirect: str = ""
    rewrite: str = ""
    body: str = ""
    connect: int = 0
    read: int = 0
    send: int = 0
    tls: bool = False
    direct: bool = False
    blocked: str = ""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where requests go.

    Attributes:
        name: unlike all others; letters, digits, underscores.
        servers: ``address:port`` of each, IPv6 in brackets; none: requests get 503.
    """

    name: str
    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """A path of a host.

    Attributes:
        path: without a slash at its end, except ``/`` itself and exact ones.
        exact: whether only this very path is meant, or all below it, too.
        upstream: where requests go.
        options: of its Ingress.
    """

    path: str
    exact: bool
    upstream: Upstream
    options: Options


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, PEM.

    Attributes:
        name: file name, unlike all others; it changes with the content.
    """

    name: str
    chain: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Host:
    """A name that is served.

    Attributes:
        name: as ``www.example.org`` or ``*.example.org``; "": all that nobody else has.
        locations: each (path, exact) once.
        certificate: None: the default one.
        tls: whether an Ingress asks for TLS.
    """

    name: str
    locations: tuple[Location, ...]
    certificate: Certificate | None = None
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """All that is served; equal ones need no reload."""

    hosts: tuple[Host, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of an Ingress that cannot be served as it says.

    Attributes:
        ingress: ``namespace/name``.
        reason: one word.
        message: for people.
    """

    ingress: str
    reason: str
    message: str
