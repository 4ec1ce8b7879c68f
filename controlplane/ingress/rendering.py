"""The configuration of nginx for a site (pure).

What comes from users was checked where it came in; here every text is also quoted, so that a value
stays one value. See https://nginx.org/en/docs/ for the directives.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .certificates import DEFAULT
from .model import BasicAuth, Host, Limits, Location, Options, Site, Upstream

_DEFAULT_SECONDS: Final = (5, 60, 60)
_UNAVAILABLE: Final = "return 503;"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where nginx listens, and what it has for itself.

    Attributes:
        addresses: of this machine.
        http, https: ports.
        directory: its own, with ``certificates`` and ``users``.
        user: that its workers run as; "": the one that starts it.
        workers: processes.
    """

    addresses: tuple[str, ...]
    http: int
    https: int
    directory: Path
    user: str = "www-data"
    workers: int = 2


def quoted(text: str) -> str:
    """Return a parameter of a directive that is this very text.

    Raises:
        ValueError: it has a character that no quoting makes safe.
    """
    if not text.isprintable():
        raise ValueError(f"{text!r} cannot be written into a configuration")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def users_name(auth: BasicAuth) -> str:
    """Return the name of the file of an Ingress's users; it changes with the content."""
    return f"p{hashlib.sha256(auth.users.encode()).hexdigest()[:32]}"


def rendered(site: Site, listening: Listening) -> str:
    """Return the whole configuration."""
    return "\n".join((*_head(listening), *_http(site, listening), "}", ""))


def _head(listening: Listening) -> Iterator[str]:
    if listening.user:
        yield f"user {listening.user};"
    yield f"worker_processes {listening.workers};"
    # Old workers end with their last request, and not later than this.
    yield "worker_shutdown_timeout 240s;"
    yield f"pid {quoted(str(listening.directory / 'nginx.pid'))};"
    yield "error_log stderr warn;"
    yield "events { worker_connections 8192; multi_accept on; }"


def _http(site: Site, listening: Listening) -> Iterator[str]:
    yield "http {"
    yield from (
        "access_log off;", "server_tokens off;", "tcp_nodelay on;", "keepalive_timeout 75s;",
        "keepalive_requests 10000;", "client_header_timeout 60s;", "client_body_timeout 60s;",
        "large_client_header_buffers 4 8k;", "server_names_hash_bucket_size 512;",
        "server_names_hash_max_size 65536;", "variables_hash_max_size 2048;",
        "ssl_protocols TLSv1.2 TLSv1.3;", "ssl_session_cache shared:tls:10m;",
        "ssl_session_timeout 10m;", "ssl_session_tickets off;",
        'map $http_upgrade $upgrade_to { default "upgrade"; "" ""; }',
        "proxy_http_version 1.1;", "proxy_buffering off;", "proxy_next_upstream error timeout;",
        "proxy_next_upstream_tries 3;", "proxy_ssl_server_name on;",
    )  # fmt: skip
    for kind in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
        name = "client_body_temp_path" if kind == "body" else f"{kind}_temp_path"
        yield f"{name} {quoted(str(listening.directory / 'temp' / kind))};"
    yield from _zones(site)
    for upstream in _upstreams(site):
        yield from _upstream(upstream)
    catch_all = next((host for host in site.hosts if not host.name), Host("", ()))
    yield from _server(catch_all, listening)
    for host in site.hosts:
        if host.name:
            yield from _server(host, listening)


def _options(site: Site) -> Iterator[Options]:
    for host in site.hosts:
        for location in host.locations:
            yield location.options


def _zones(site: Site) -> Iterator[str]:
    seen: set[str] = set()
    for limits in (options.limits for options in _options(site)):
        if limits is None or limits.zone in seen:
            continue
        seen.add(limits.zone)
        key = "$binary_remote_addr"
        if limits.exempt:
            yield f"geo $geo_{limits.zone} {{ default 1;"
            yield from (f"{network} 0;" for network in limits.exempt)
            yield "}"
            yield f'map $geo_{limits.zone} $key_{limits.zone} {{ 0 ""; default {key}; }}'
            key = f"$key_{limits.zone}"
        if limits.per_second:
            rate = f"{limits.per_second}r/s"
            yield f"limit_req_zone {key} zone={limits.zone}s:5m rate={rate};"
        if limits.per_minute:
            rate = f"{limits.per_minute}r/m"
            yield f"limit_req_zone {key} zone={limits.zone}m:5m rate={rate};"
        if limits.connections:
            yield f"limit_conn_zone {key} zone={limits.zone}c:5m;"


def _upstreams(site: Site) -> Iterable[Upstream]:
    found: dict[str, Upstream] = {}
    for host in site.hosts:
        for location in host.locations:
            if location.upstream.servers:
                found[location.upstream.name] = location.upstream
    return [found[name] for name in sorted(found)]


def _upstream(upstream: Upstream) -> Iterator[str]:
    # With one server nginx never counts it as failed; with several it comes back soon.
    servers = " ".join(f"server {one} fail_timeout=1s;" for one in upstream.servers)
    yield f"upstream {upstream.name} {{ {servers} keepalive 64; }}"


def _server(host: Host, listening: Listening) -> Iterator[str]:
    yield "server {"
    mark = "" if host.name else " default_server"
    for address in listening.addresses:
        shown = f"[{address}]" if ":" in address else address
        yield f"listen {shown}:{listening.http}{mark};"
        yield f"listen {shown}:{listening.https} ssl http2{mark};"
    yield f"server_name {_server_name(host.name)};"
    name = host.certificate.name if host.certificate is not None else DEFAULT
    folder = listening.directory / "certificates"
    yield f"ssl_certificate {quoted(str(folder / f'{name}.crt'))};"
    yield f"ssl_certificate_key {quoted(str(folder / f'{name}.key'))};"
    taken = {location.path for location in host.locations if location.exact}
    for location in host.locations:
        if location.exact:
            yield from _location(f"= {quoted(location.path)}", host, location, listening)
        elif location.path == "/":
            yield from _location('"/"', host, location, listening)
        else:
            # /foo is /foo itself and what is below /foo/, not /foobar.
            if location.path not in taken:
                yield from _location(f"= {quoted(location.path)}", host, location, listening)
            yield from _location(quoted(f"{location.path}/"), host, location, listening)
    if not any(one.path == "/" and not one.exact for one in host.locations):
        yield "location / { return 404; }"
    yield "}"


def _server_name(name: str) -> str:
    if name.startswith("*."):
        # A wildcard of Kubernetes is one label; that of nginx is many.
        return f'"~^[^.]+{re.escape(name[1:])}$"'
    return name or "_"


def _location(match: str, host: Host, location: Location, listening: Listening) -> Iterator[str]:
    options = location.options
    yield f"location {match} {{"
    if options.redirect == "always" or (host.tls and options.redirect != "never"):
        port = "" if listening.https == 443 else f":{listening.https}"
        yield f"if ($scheme = http) {{ return 308 https://$host{port}$request_uri; }}"
    if options.blocked or not location.upstream.servers:
        yield _UNAVAILABLE
    else:
        yield from _guards(options, listening)
        yield from _passing(location)
    yield "}"


def _guards(options: Options, listening: Listening) -> Iterator[str]:
    for network in options.denied:
        yield f"deny {network};"
    if options.allowed:
        yield from (f"allow {network};" for network in options.allowed)
        yield "deny all;"
    if options.auth is not None:
        yield f"auth_basic {quoted(options.auth.realm)};"
        path = listening.directory / "users" / users_name(options.auth)
        yield f"auth_basic_user_file {quoted(str(path))};"
    yield from _limited(options.limits)


def _limited(limits: Limits | None) -> Iterator[str]:
    if limits is None:
        return
    for given, mark in ((limits.per_second, "s"), (limits.per_minute, "m")):
        if given:
            yield f"limit_req zone={limits.zone}{mark} burst={limits.burst} nodelay;"
    if limits.connections:
        yield f"limit_conn {limits.zone}c {limits.connections};"
    yield "limit_req_status 429;"
    yield "limit_conn_status 429;"


def _passing(location: Location) -> Iterator[str]:
    options = location.options
    if options.body:
        yield f"client_max_body_size {options.body};"
    given = (options.connect, options.send, options.read)
    for name, seconds, usual in zip(("connect", "send", "read"), given, _DEFAULT_SECONDS,
                                    strict=True):  # fmt: skip
        yield f"proxy_{name}_timeout {seconds or usual}s;"
    # What a client says of itself is not passed on as the truth.
    yield from (
        "proxy_set_header Host $http_host;",
        "proxy_set_header X-Real-IP $remote_addr;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Host $http_host;",
        "proxy_set_header X-Forwarded-Port $server_port;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header X-Forwarded-Scheme $scheme;",
        "proxy_set_header X-Scheme $scheme;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection $upgrade_to;",
    )
    if options.rewrite:
        yield f"rewrite ^ {quoted(options.rewrite)} break;"
    scheme = "https" if options.tls else "http"
    yield f"proxy_pass {scheme}://{location.upstream.name};"
