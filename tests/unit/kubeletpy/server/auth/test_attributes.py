"""What a request is, in words of authorization."""

from __future__ import annotations

import pytest

from kubeletpy.server.auth.attributes import subresources_of, verb_of


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pods", ("pods", "proxy")),
        ("/pods/", ("pods", "proxy")),
        ("/podsx", ("proxy",)),
        ("/runningpods/", ("pods", "proxy")),
        ("/runningpods", ("pods", "proxy")),
        ("/healthz", ("healthz", "proxy")),
        ("/healthz/ping", ("healthz", "proxy")),
        ("/configz", ("configz", "proxy")),
        ("/stats/summary", ("stats",)),
        ("/metrics", ("metrics",)),
        ("/metrics/cadvisor", ("metrics",)),
        ("/metricsx", ("proxy",)),
        ("/logs/", ("log",)),
        ("/logs", ("log",)),
        ("/checkpoint/a/b/c", ("checkpoint",)),
        ("/statusz", ("statusz",)),
        ("/flagz", ("configz",)),
        ("/exec/a/b/c", ("proxy",)),
        ("/containerLogs/a/b/c", ("proxy",)),
        ("/", ("proxy",)),
        ("", ("proxy",)),
        ("//pods", ("proxy",)),
        ("//stats", ("proxy",)),
        ("/Pods", ("proxy",)),
    ],
)
def test_subresources(path: str, expected: tuple[str, ...]) -> None:
    assert subresources_of(path) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("GET", "get"),
        ("POST", "create"),
        ("PUT", "update"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
        ("HEAD", ""),
        ("get", ""),
    ],
)
def test_verbs(method: str, expected: str) -> None:
    assert verb_of(method) == expected
