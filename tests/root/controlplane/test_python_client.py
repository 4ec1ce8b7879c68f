"""The official Python client: typed, dynamic, its watches, and locks as controllers hold them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

pytestmark = pytest.mark.root

_LIMIT_SECONDS = 20


@pytest.fixture(scope="module")
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    """A client of the administrator."""
    made = config.new_client_from_config(str(kubeconfig))
    yield made
    made.close()


@pytest.fixture
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


def config_map(name: str, **data: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name), data=data)


def test_life_of_an_object(core: client.CoreV1Api, namespace: str) -> None:
    made = core.create_namespaced_config_map(namespace, config_map("one", a="1"))
    assert made.metadata.creation_timestamp.tzinfo is not None
    with pytest.raises(ApiException) as taken:
        core.create_namespaced_config_map(namespace, config_map("one"))
    assert (taken.value.status, taken.value.reason) == (409, "Conflict")
    patched = core.patch_namespaced_config_map("one", namespace, {"data": {"a": "2", "b": "3"}})
    assert patched.data == {"a": "2", "b": "3"}
    stale = core.read_namespaced_config_map("one", namespace)
    stale.metadata.resource_version = made.metadata.resource_version
    with pytest.raises(ApiException) as conflict:
        core.replace_namespaced_config_map("one", namespace, stale)
    assert conflict.value.status == 409
    core.delete_namespaced_config_map("one", namespace)
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("one", namespace)
    assert gone.value.status == 404


def test_lists_in_pages_are_of_one_moment(core: client.CoreV1Api, namespace: str) -> None:
    def make(name: str) -> None:
        secret = client.V1Secret(metadata=client.V1ObjectMeta(name=name))
        core.create_namespaced_secret(namespace, secret)

    for number in range(5):
        make(f"s{number}")
    page = core.list_namespaced_secret(namespace, limit=2)
    assert page.metadata.remaining_item_count == 3
    make("s9")
    names = [item.metadata.name for item in page.items]
    revision = page.metadata.resource_version
    while page.metadata._continue:
        page = core.list_namespaced_secret(namespace, limit=2, _continue=page.metadata._continue)
        assert page.metadata.resource_version == revision
        names += [item.metadata.name for item in page.items]
    assert names == ["s0", "s1", "s2", "s3", "s4"]


def test_watch_goes_on_where_it_was_left(core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("first"))
    revision = core.list_namespaced_config_map(namespace).metadata.resource_version
    seen: list[tuple[str, str]] = []
    for name in ("second", "third", "fourth"):
        core.create_namespaced_config_map(namespace, config_map(name))
        # A new watch each time, as after a lost connection: no gap, no event twice.
        for event in watch.Watch().stream(
            core.list_namespaced_config_map,
            namespace,
            resource_version=revision,
            timeout_seconds=_LIMIT_SECONDS,
        ):
            seen.append((event["type"], event["object"].metadata.name))
            revision = event["object"].metadata.resource_version
            break
    assert seen == [("ADDED", "second"), ("ADDED", "third"), ("ADDED", "fourth")]


def test_watch_hears_of_changes_while_it_waits(core: client.CoreV1Api, namespace: str) -> None:
    revision = core.list_namespaced_config_map(namespace).metadata.resource_version
    events: list[str] = []
    begun = threading.Event()

    def follow() -> None:
        watcher = watch.Watch()
        for event in watcher.stream(
            core.list_namespaced_config_map,
            namespace,
            resource_version=revision,
            timeout_seconds=_LIMIT_SECONDS,
        ):
            events.append(event["type"])
            begun.set()
            if event["type"] == "DELETED":
                watcher.stop()

    follower = threading.Thread(target=follow)
    follower.start()
    core.create_namespaced_config_map(namespace, config_map("one"))
    assert begun.wait(_LIMIT_SECONDS)
    core.patch_namespaced_config_map("one", namespace, {"data": {"a": "1"}})
    core.delete_namespaced_config_map("one", namespace)
    follower.join(_LIMIT_SECONDS)
    assert events == ["ADDED", "MODIFIED", "DELETED"]


def test_watch_of_the_future_is_refused(core: client.CoreV1Api, namespace: str) -> None:
    with pytest.raises(ApiException) as refused:
        core.list_namespaced_config_map(namespace, resource_version="no-number")
    assert refused.value.status == 400


def test_dynamic_client_finds_kinds_by_discovery(
    api: client.ApiClient, namespace: str, tmp_path: Path
) -> None:
    found = dynamic.DynamicClient(api, cache_file=str(tmp_path / "discovery.json"))
    maps = found.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {}}
    maps.create(body=body, namespace=namespace)
    applied = maps.server_side_apply(
        body={**body, "data": {"a": "1"}}, name="one", namespace=namespace, field_manager="me"
    )
    assert applied.data.a == "1"
    assert maps.get(name="one", namespace=namespace).metadata.namespace == namespace
    assert "one" in [item.metadata.name for item in maps.get(namespace=namespace).items]
    leases = found.resources.get(api_version="coordination.k8s.io/v1", kind="Lease")
    assert leases.namespaced
    assert leases.name == "leases"
    maps.delete(name="one", namespace=namespace)


def test_only_one_of_many_gets_a_lease(api: client.ApiClient, namespace: str) -> None:
    leases = client.CoordinationV1Api(api)
    leases.create_namespaced_lease(
        namespace,
        client.V1Lease(
            metadata=client.V1ObjectMeta(name="lock"),
            spec=client.V1LeaseSpec(lease_duration_seconds=15, lease_transitions=0),
        ),
    )
    won: list[str] = []
    lost: list[int] = []
    start = threading.Barrier(5)

    def acquire(name: str) -> None:
        lease: Any = leases.read_namespaced_lease("lock", namespace)
        start.wait(_LIMIT_SECONDS)
        lease.spec.holder_identity = name
        lease.spec.lease_transitions += 1
        lease.spec.acquire_time = lease.spec.renew_time = datetime.now(UTC)
        try:
            leases.replace_namespaced_lease("lock", namespace, lease)
        except ApiException as error:
            lost.append(error.status)
        else:
            won.append(name)

    threads = [threading.Thread(target=acquire, args=(f"holder-{n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LIMIT_SECONDS)
    lease = leases.read_namespaced_lease("lock", namespace)
    assert won == [lease.spec.holder_identity]
    assert lost == [409] * 4
    assert lease.spec.lease_transitions == 1
    assert lease.spec.renew_time == lease.spec.acquire_time, "to the microsecond"
