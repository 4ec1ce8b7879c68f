"""Ingresses become a site, and the site a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.ingress.annotations import options_of
from controlplane.ingress.merging import is_ours, merged
from controlplane.ingress.model import CONTROLLER, PREFIX
from controlplane.ingress.rendering import Listening, rendered
from tests.support.circumstances import examples

from .objects import backend, ingress, rule, world

LISTENING = Listening(("0.0.0.0", "::"), 80, 443, Path("/run/x"))


def problems(*ingresses: Any, **more: Any) -> list[tuple[str, str, str]]:
    found = merged(ingresses, world(**more))[1]
    return [(one.ingress, one.reason, one.message) for one in found]


def test_the_older_one_has_a_path_and_the_younger_one_is_told() -> None:
    old = ingress("old", rule("a.test", Prefix_x="one"), age=9)
    young = ingress("young", rule("a.test", Prefix_x="two", Prefix_y="three"))
    site, told = merged([young, old], world())
    assert [(one.path, one.exact) for one in site.hosts[0].locations] == [("/x", False),
                                                                         ("/y", False)]  # fmt: skip
    assert [(one.ingress, one.reason) for one in told] == [("default/young", "Conflict")]
    assert "default/old" in told[0].message


def test_a_default_backend_has_what_no_path_has() -> None:
    own = ingress("own", rule("a.test", Prefix_x="one"), defaultBackend=backend("rest"))
    every = ingress("every", defaultBackend=backend("rest"))
    site, _ = merged([own, every], world())
    assert [(host.name, [one.path for one in host.locations]) for host in site.hosts] == [
        ("", ["/"]), ("a.test", ["/", "/x"]),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("backing", "services", "message"),
    [
        (backend("gone"), {}, "there is no Service default/gone"),
        (backend("s", 81), {"s": {"spec": {"ports": [{"port": 80}]}}}, "has no port 81"),
        (backend("s", "x"), {"s": {"spec": {"ports": [{"port": 80}]}}}, "has no port 'x'"),
        (backend("s"), {"s": {"spec": {"type": "ExternalName", "ports": [{"port": 80}]}}},
         "is an ExternalName"),
        (backend("s"), {"s": {"spec": {"clusterIP": "1; }", "ports": [{"port": 80}]}}},
         "does not appear to be an IPv4 or IPv6 address"),
        ({"resource": {"kind": "x"}}, {}, "other than Services"),
    ],
)  # fmt: skip
def test_backends_that_cannot_be_served(
    backing: dict[str, Any], services: dict[str, Any], message: str
) -> None:
    one = ingress("one", defaultBackend=backing)
    site, told = merged([one], world(services))
    assert message in told[0].message
    assert "return 503;" in rendered(site, LISTENING)


@pytest.mark.parametrize(
    ("spec", "annotations", "classes", "ours"),
    [
        ({"ingressClassName": "k"}, {}, [("k", CONTROLLER, False)], True),
        ({"ingressClassName": "k"}, {}, [("k", "other", True)], False),
        ({"ingressClassName": "k"}, {}, [], False),
        ({}, {"kubernetes.io/ingress.class": "kubeletpy"}, [], True),
        ({}, {"kubernetes.io/ingress.class": "nginx"}, [("k", CONTROLLER, True)], False),
        ({}, {}, [("k", CONTROLLER, False)], False),
        ({}, {}, [("k", CONTROLLER, True)], True),
    ],
)
def test_which_ingresses_are_ours(
    spec: dict[str, Any], annotations: dict[str, str], classes: list[Any], ours: bool
) -> None:
    known = [
        {"metadata": {"name": name, "annotations": {
            "ingressclass.kubernetes.io/is-default-class": str(default).lower()}},
         "spec": {"controller": controller}}
        for name, controller, default in classes
    ]  # fmt: skip
    assert is_ours({"metadata": {"annotations": annotations}, "spec": spec}, known) is ours


GUARDS = [
    {"auth-type": "digest"},
    {"auth-type": "basic"},
    {"auth-type": "basic", "auth-secret": "gone"},
    {"auth-type": "basic", "auth-secret": "other/users"},
    {"auth-type": "basic", "auth-secret": "users", "auth-realm": 'x"; return 200 "'},
    {"auth-type": "basic", "auth-secret": "users", "auth-realm": "$host"},
    {"auth-type": "basic", "auth-secret": "bad"},
    {"auth-type": "basic", "auth-secret": "users", "auth-secret-type": "file"},
    {"auth-secret": "users"},
    {"whitelist-source-range": "10.0.0.0/8, all; }"},
    {"denylist-source-range": "everyone"},
    {"limit-rps": "many"},
    {"limit-rps": "1; return 200"},
    {"limit-connections": "-1"},
]
SECRETS = {"users": {"auth": b"# people\nann:$apr1$abc$def\n"}, "bad": {"auth": b"a:b\n;} c"}}


@pytest.mark.parametrize("annotations", GUARDS, ids=str)
def test_a_guard_that_cannot_be_kept_keeps_everybody_out(annotations: dict[str, str]) -> None:
    one = ingress("one", defaultBackend=backend("s"), annotations=annotations)
    site, told = merged([one], world(secrets=SECRETS))
    assert told
    text = rendered(site, LISTENING)
    assert "proxy_pass" not in text
    assert "return 503;" in text


HARMLESS = [
    {"rewrite-target": "/$1"},
    {"rewrite-target": "/x; return 200"},
    {"rewrite-target": '/"'},
    {"proxy-body-size": "8m; }"},
    {"proxy-read-timeout": "1s"},
    {"backend-protocol": "GRPC"},
    {"ssl-redirect": "yes"},
    {"configuration-snippet": "return 200;"},
]


@pytest.mark.parametrize("annotations", HARMLESS, ids=str)
def test_others_have_no_effect_and_are_told(annotations: dict[str, str]) -> None:
    plain = ingress("one", defaultBackend=backend("s"))
    one = ingress("one", defaultBackend=backend("s"), annotations=annotations)
    site, told = merged([one], world())
    assert [problem.reason for problem in told] == ["Annotation"]
    assert site == merged([plain], world())[0]


def test_what_annotations_say() -> None:
    given = {
        "auth-type": "basic", "auth-secret": "users", "auth-realm": "Come in", "limit-rps": "5",
        "limit-connections": "2", "limit-allowlist": "10.1.2.3/8", "rewrite-target": "/new",
        "whitelist-source-range": "10.0.0.0/8,fd00::1/64", "proxy-body-size": "8M",
        "force-ssl-redirect": "true", "backend-protocol": "https", "proxy-read-timeout": "7",
    }  # fmt: skip
    one = ingress("one", annotations=given)
    options, wrong = options_of(one, world(secrets=SECRETS).secret)
    assert not wrong
    assert options.auth is not None
    assert options.auth.users == "ann:$apr1$abc$def\n"
    assert options.limits is not None
    assert (options.limits.per_second, options.limits.burst) == (5, 25)
    assert options.limits.exempt == ("10.0.0.0/8",)
    assert options.allowed == ("10.0.0.0/8", "fd00::/64")
    assert (options.redirect, options.rewrite, options.body, options.read, options.tls) == (
        "always", "/new", "8m", 7, True,
    )  # fmt: skip


@pytest.mark.parametrize("host", ['a"b', "a;b", "a b", "*", "*.*.test", "$host", "a\nb", "-a.test"])
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    one = ingress("one", rule(host, Prefix_x="s"))
    assert [told[1] for told in problems(one)] == ["Rejected"]
    assert not merged([one], world())[0].hosts


TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(
    ['"', "\\", "\\\\", '\\"', "; }", "$host", "\n", "%0a", "%22", "{", "}", "#", "'", "/../", " "]
)


@given(st.lists(TEXTS, max_size=4).map(lambda parts: "/" + "".join(parts)), TEXTS, TEXTS)
@settings(max_examples=examples(300), deadline=None, derandomize=True)
def test_nothing_that_a_user_says_ends_its_quotes(path: str, host: str, value: str) -> None:
    one = ingress(
        "one",
        {"host": host, "http": {"paths": [
            {"path": path, "pathType": "Prefix", "backend": backend("s")}]}},
        annotations={"auth-type": "basic", "auth-secret": "users", "auth-realm": value or "x"},
        defaultBackend=backend("s"),
    )  # fmt: skip
    one["metadata"]["annotations"] |= {PREFIX + "rewrite-target": value}
    text = rendered(merged([one], world(secrets=SECRETS))[0], LISTENING)
    for statement in directives(text):
        assert statement[0] in DIRECTIVES, statement


DIRECTIVES = frozenset(
    "access_log server_tokens tcp_nodelay keepalive_timeout keepalive_requests"
    " client_header_timeout client_body_timeout large_client_header_buffers"
    " server_names_hash_bucket_size"
    " server_names_hash_max_size variables_hash_max_size ssl_protocols ssl_session_cache"
    " ssl_session_timeout ssl_session_tickets map default proxy_http_version proxy_buffering"
    " proxy_next_upstream proxy_next_upstream_tries proxy_ssl_server_name client_body_temp_path"
    " proxy_temp_path fastcgi_temp_path uwsgi_temp_path scgi_temp_path upstream server keepalive"
    " listen server_name ssl_certificate ssl_certificate_key location return auth_basic"
    " auth_basic_user_file proxy_connect_timeout proxy_send_timeout proxy_read_timeout"
    " proxy_set_header rewrite proxy_pass user worker_processes worker_shutdown_timeout pid"
    " error_log events worker_connections multi_accept http if".split()
) | {'""'}


def directives(text: str) -> list[list[str]]:
    """Split a configuration as nginx does: words and quoted texts, up to ; { or }."""
    found: list[list[str]] = []
    words: list[str] = []
    position, size = 0, len(text)
    while position < size:
        char = text[position]
        if char in "\"'":
            end = position + 1
            while text[end] != char:
                end += 2 if text[end] == "\\" else 1
            words.append(text[position : end + 1])
            position = end + 1
        elif char in ";{}":
            if words:
                found.append(words)
            words, position = [], position + 1
        elif char.isspace():
            position += 1
        else:
            end = position
            while end < size and not text[end].isspace() and text[end] not in ";{}":
                end += 1
            words.append(text[position:end])
            position = end
    assert not words
    return found
