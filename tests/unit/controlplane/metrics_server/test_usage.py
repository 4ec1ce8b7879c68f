"""What kubelets and pods tell, and what is made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from controlplane.metrics_server.collecting import kubelet_url, url_of
from controlplane.metrics_server.documents import cores, duration, memory, number, stamp
from controlplane.metrics_server.scraping import ScrapeError
from controlplane.metrics_server.series import (
    MOST_LABELS,
    Samples,
    SeriesStore,
    aliases,
    read_samples,
)
from controlplane.metrics_server.usage import (
    Point,
    TextError,
    Usage,
    UsageStore,
    read_scrape,
    usage_between,
)

TEXT = """\
# HELP container_cpu_usage_seconds_total x
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="a",namespace="n",pod="p"} 4.5 1700000000000
container_memory_working_set_bytes{container="a",namespace="n",pod="p"} 2048 1700000000500
container_start_time_seconds{container="a",namespace="n",pod="p"} 1699999000.25
node_cpu_usage_seconds_total 100 1700000000000
node_memory_working_set_bytes 1.5e+06 1700000000000
pod_cpu_usage_seconds_total{namespace="n",pod="p"} 9 1700000000000
node_swap_usage_bytes NaN
resource_scrape_error 0
"""


def test_a_kubelets_text() -> None:
    scrape = read_scrape(TEXT, 5)
    assert scrape.node == Point(1700000000, 100, 1.5e6)
    assert scrape.pods == {("n", "p"): {"a": Point(1700000000.5, 4.5, 2048, 1699999000.25)}}


@pytest.mark.parametrize("text", ["a b c d", "x{", 'x{a="b} 1', "<html>", "x{a=1} 2"])
def test_what_is_no_text_of_metrics(text: str) -> None:
    with pytest.raises(TextError):
        read_scrape(text, 5)
    with pytest.raises(TextError):
        read_samples(text, 5)


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (Point(100, 10, 1), Point(115, 13, 7), Usage(115, 15, 200_000_000, 7)),
        (Point(100, 10, 1), Point(100, 10, 7), None),
        (None, Point(115, 13, 7), None),
        (Point(100, 10, None), Point(115, 13, 7), None),
        (Point(100, 10, 1), Point(115, None, 7), None),
        # Started anew: what it used since then counts, if that is long enough.
        (Point(100, 10, 1), Point(115, 2, 7, start=103), Usage(115, 12, 166_666_667, 7)),
        (Point(100, 10, 1), Point(115, 2, 7, start=110), None),
        (None, Point(115, 2, 7, start=103), Usage(115, 12, 166_666_667, 7)),
        (None, Point(115, 2, 7, start=15), None),
        # A counter that went back, and no word of a start.
        (Point(100, 10, 1), Point(115, 2, 7), None),
    ],
)
def test_two_points_make_a_usage(before: Any, after: Point, wanted: Usage | None) -> None:
    assert usage_between(before, after, 15) == wanted


def test_a_pod_is_known_when_all_of_it_is() -> None:
    store = UsageStore(15)
    scrape = read_scrape(TEXT, 5)
    store.take("node", scrape)
    assert store.node("node") is None
    later = read_scrape(TEXT.replace("1700000000", "1700000010").replace(" 4.5 ", " 5.5 "), 5)
    store.take("node", later)
    found = store.pod("n", "p")
    assert found is not None
    assert found["a"].cpu == 100_000_000
    # The same answer once more changes nothing.
    store.take("node", later)
    assert store.pod("n", "p") == found
    other = 'container_memory_working_set_bytes{container="b",namespace="n",pod="p"} 1\n'
    store.take("node", read_scrape(TEXT.replace("1700000000", "1700000020") + other, 5))
    assert store.pod("n", "p") is None
    store.keep(["other"])
    assert store.node("node") is None
    assert store.pod("n", "p") is None


def everything(labels: Mapping[str, str]) -> bool:
    return True


POD = """\
# TYPE http_requests counter
http_requests_total{code="200",path="/"} %d
http_requests_total{code="500",path="/"} %d
http_requests_created{code="200",path="/"} 1.7e9
# TYPE queue_depth gauge
queue_depth 7
# TYPE bad gauge
bad NaN
# TYPE took histogram
took_bucket{le="+Inf"} %d
took_sum 3
took_count 4
untyped 5
"""


def test_a_pods_text() -> None:
    samples = read_samples(POD % (1, 2, 3), 10)
    assert set(samples.values) == {"http_requests_total", "queue_depth", "took_bucket", "took_sum",
                                   "took_count", "untyped"}  # fmt: skip
    assert samples.growing == {"http_requests_total", "took_bucket", "took_sum", "took_count"}


def test_counters_become_rates() -> None:
    store = SeriesStore()
    store.take("u", read_samples(POD % (10, 0, 0), 100))
    assert list(store.values("u", "http_requests_total", everything)) == []
    assert [one.value for one in store.values("u", "queue_depth", everything)] == [7]
    store.take("u", read_samples(POD % (30, 5, 0), 110))
    for name in ("http_requests_total", "http_requests", "http_requests_per_second"):
        found = {dict(one.labels)["code"]: (one.value, one.at, one.window)
                 for one in store.values("u", name, everything)}  # fmt: skip
        assert found == {"200": (2, 110, 10), "500": (0.5, 110, 10)}
    only = store.values("u", "http_requests", lambda labels: labels["code"] == "500")
    assert [one.value for one in only] == [0.5]
    # It was started anew.
    store.take("u", read_samples(POD % (4, 6, 0), 120))
    assert [one.value for one in store.values("u", "http_requests", everything)] == [0.4, 0.1]
    assert list(store.values("u", "queue_depth_per_second", everything)) == []
    assert list(store.values("other", "queue_depth", everything)) == []
    assert store.count == 7
    store.keep([])
    assert store.count == 0


def test_too_much_is_left_out() -> None:
    text = "".join(f'x{{n="{n}"}} 1\n' for n in range(20))
    samples = read_samples(text, 1, most=5)
    assert (samples.count, samples.left_out) == (5, 15)
    labels = ",".join(f'l{n}="1"' for n in range(MOST_LABELS + 1))
    assert read_samples(f"x{{{labels}}} 1\n", 1).left_out == 1


@pytest.mark.parametrize(
    "text",
    [
        'x{a="' + "\\" * 30_000 + '"} 1\n',
        "x{" + "," * 60_000 + "} 1\n",
        "# HELP x " + "y" * 60_000 + "\n",
        "x" * 60_000 + " 1\n",
        'x{a="' + '}" ' * 15_000 + '"} 1\n',
        ("x" + "{" * 60_000) + "\n",
        "# TYPE x histogram\n" + 'x_bucket{le="1"} 1\n' * 20_000,
    ],
    ids=["backslashes", "commas", "help", "name", "braces", "open", "repeated"],
)
def test_hostile_texts_take_little_time(text: str) -> None:
    begun = time.process_time()
    try:
        read_samples(text, 1)
    except TextError:
        pass
    assert time.process_time() - begun < 5


def test_names() -> None:
    assert aliases("a") == ("a", "a_total", "a")
    assert aliases("a_per_second") == ("a_per_second", "a_total", "a")
    assert Samples(1).count == 0


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, "http://10.0.0.1:9100/metrics"),
        ({"port": "8080", "path": "/m?x=1"}, "http://10.0.0.1:8080/m?x=1"),
        ({"scheme": "https"}, "https://10.0.0.1:9100/metrics"),
        ({"scheme": "file"}, ""),
        ({"scrape": "false"}, ""),
        ({"port": "0"}, ""),
        ({"port": "99999"}, ""),
        ({"port": "80@evil"}, ""),
        ({"path": "metrics"}, ""),
        ({"path": "/a b"}, ""),
        ({"path": "/\r\nHost: x"}, ""),
    ],
)
def test_where_a_pod_tells_its_metrics(change: dict[str, str], wanted: str) -> None:
    notes = {f"prometheus.io/{key}": text for key, text in {"scrape": "true", **change}.items()}
    container = {"name": "c", "ports": [{"containerPort": 53, "protocol": "UDP"},
                                        {"containerPort": 9100}]}  # fmt: skip
    pod = {"metadata": {"name": "p", "annotations": notes}, "spec": {"containers": [container]},
           "status": {"phase": "Running", "podIP": "10.0.0.1"}}  # fmt: skip
    assert url_of(pod) == wanted


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::1", "", "evil", "0.0.0.0",
                                     "::ffff:127.0.0.1", "224.0.0.1", "fe80::1"])  # fmt: skip
def test_a_pod_does_not_lead_elsewhere(address: str) -> None:
    meta = {"name": "p", "annotations": {"prometheus.io/scrape": "true"}}
    status = {"phase": "Running", "podIP": address}
    pod = {"metadata": meta, "spec": {"containers": []}, "status": status}
    assert url_of(pod) == ""


def test_where_a_kubelet_is() -> None:
    node = {"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "fd00::1"},
                      {"type": "Hostname", "address": "n"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10350}}}}  # fmt: skip
    assert kubelet_url(node, ("InternalIP",), 0) == "https://[fd00::1]:10350/metrics/resource"
    assert kubelet_url(node, ("Hostname", "InternalIP"), 1) == "https://n:1/metrics/resource"
    with pytest.raises(ScrapeError):
        kubelet_url(node, ("ExternalIP",), 0)


def test_words() -> None:
    assert [cores(0), cores(12)] == ["0", "12n"]
    assert [memory(0), memory(2048), memory(2049)] == ["0", "2Ki", "2049"]
    assert [duration(15.0123), duration(60.5), duration(3600)] == ["15.012s", "1m0.5s", "1h0m0s"]
    assert [number(0.4), number(20), number(1e30), number(-1.5)] == [
        "400m", "20", "9223372036854775807m", "-1500m"]  # fmt: skip
    assert stamp(0) == "1970-01-01T00:00:00Z"
