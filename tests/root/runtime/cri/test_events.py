"""GetContainerEvents: order, content, and clients that do not read."""

from __future__ import annotations

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto.cri_pb2_grpc import RuntimeServiceStub
from tests.root.runtime.cri.node import Node, refused

pytestmark = pytest.mark.root

CREATED = cri.CONTAINER_CREATED_EVENT
STARTED = cri.CONTAINER_STARTED_EVENT
STOPPED = cri.CONTAINER_STOPPED_EVENT
DELETED = cri.CONTAINER_DELETED_EVENT


@pytest.fixture(scope="module")
def settings() -> str:
    return "[limits]\nevent_queue = 8\n"


def test_events_tell_the_whole_story_in_order(node: Node) -> None:
    with node.events() as events:
        sandbox = node.run_pod()
        container = node.run_to_end(sandbox, "sh", "-c", "exit 3").id
        node.remove(container)
        node.remove_pod(sandbox)
        seen = [next(events) for _ in range(8)]
    story = [(event.container_id, event.container_event_type) for event in seen]
    assert story == [
        (sandbox, CREATED),
        (sandbox, STARTED),
        (container, CREATED),
        (container, STARTED),
        (container, STOPPED),
        (container, DELETED),
        (sandbox, STOPPED),
        (sandbox, DELETED),
    ]
    assert [e.created_at for e in seen] == sorted(e.created_at for e in seen)
    assert all(event.pod_sandbox_status.id == sandbox for event in seen)
    stopped = seen[4]
    assert [(s.id, s.exit_code) for s in stopped.containers_statuses] == [(container, 3)]
    assert [event.pod_sandbox_status.state for event in seen[-2:]] == [cri.SANDBOX_NOTREADY] * 2


def test_a_client_that_does_not_read_is_let_go_and_holds_up_nobody(node: Node) -> None:
    options = [("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0)]
    channel = grpc.insecure_channel(f"unix://{node.place.socket}", options=options)
    # Labels make the events large, so that few of them fill the socket's buffers.
    labels = {f"label{n}": "x" * 4000 for n in range(60)}
    with channel, node.pod(labels=labels) as sandbox:
        slow = RuntimeServiceStub(channel).GetContainerEvents(cri.GetEventsRequest())
        slow.initial_metadata()
        with node.events() as events:
            for _ in range(12):
                container = node.create(sandbox, node.container_config("true"))
                node.remove(container)
                assert [next(events).container_event_type for _ in range(2)] == [CREATED, DELETED]
        error = refused(lambda: list(slow))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "missed" in (error.details() or "")


def test_the_end_of_the_daemon_ends_the_stream(node: Node) -> None:
    with node.events() as events:
        node.daemon.stop()
        assert refused(lambda: next(events)).code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        )
    node.daemon.start()
    node.connect()
