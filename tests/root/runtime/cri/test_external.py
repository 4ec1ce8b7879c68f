"""Pods whose containers an external OCI runtime runs: runc, by a runtime handler's name.

Besides what is special about them: tests of other modules, which hold for these pods as well.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri import (
    test_attach,
    test_events,
    test_exec,
    test_image_volumes,
    test_lifecycle,
    test_limits,
    test_recovery,
    test_seccomp,
    test_security,
    test_stats,
    test_updates,
)
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, Place, refused, wait_until

pytestmark = pytest.mark.root

RUNC = "/usr/sbin/runc"

test_life = test_lifecycle.test_a_pod_and_its_container_from_start_to_end
test_idempotence = test_lifecycle.test_stopping_and_removing_are_idempotent
test_stop_signal = test_lifecycle.test_the_stop_signal_is_the_requests_or_the_images
test_exec_timeout = test_lifecycle.test_exec_with_a_timeout_is_killed
test_callers_end = test_lifecycle.test_a_command_ends_when_its_caller_goes_away
test_half_close = test_exec.test_websocket_v5_half_closes_stdin
test_terminal_size = test_exec.test_a_terminal_has_the_size_that_the_client_says
test_leaving_client = test_exec.test_a_client_that_leaves_takes_its_command_along
test_many_sessions = test_exec.test_many_sessions_at_once
test_attached_terminal = test_attach.test_a_terminal_is_typed_into_and_resized
test_stdin_once = test_attach.test_stdin_once_ends_with_the_first_client
test_oom = test_limits.test_memory_beyond_the_limit_is_oomkilled
test_pod_cgroup = test_limits.test_the_containers_cgroup_is_below_the_pods_and_gone_with_it
test_left_processes = test_limits.test_what_a_container_leaves_behind_ends_with_it
test_killed_daemon = test_recovery.test_a_killed_daemon_loses_nothing
test_killed_shim = test_recovery.test_a_killed_shim_harms_one_pod_only
test_killed_both = (
    test_recovery.test_a_shim_that_dies_without_a_daemon_is_reported_at_the_next_start
)
test_seccomp_default = test_seccomp.test_runtime_default_follows_the_capabilities
test_mounts = test_security.test_mounts
test_masked_paths = test_security.test_masked_and_read_only_paths
test_usage = test_stats.test_cpu_and_memory_agree_with_the_cgroup_files
test_update = test_updates.test_limits_change_while_the_container_runs
test_early_update = test_updates.test_a_created_container_starts_with_the_new_limits
test_image_volume = test_image_volumes.test_layers_are_merged_read_only_and_reported
test_sub_paths = test_image_volumes.test_sub_paths_stay_inside_the_image
test_story = test_events.test_events_tell_the_whole_story_in_order
container = test_exec.container
volume = test_image_volumes.volume


# Knows user namespaces, and refuses to create with a look at the root as the container's root.
LOOKING = r"""#!/bin/sh
if [ "$1" = features ]; then
    echo '{"linux":{"namespaces":["user"],"mountExtensions":{"idmap":{"enabled":true}}}}'
    exit
fi
while [ "$1" != --log ]; do shift; done
log=$2
while [ "$1" != create ]; do [ $# -gt 1 ] || exit 0; shift; done
root=$(sed 's/.*"root": {"path": "\([^"]*\)".*/\1/' "$3/config.json")
setpriv --reuid 300000 --regid 300000 --clear-groups ls -lnd "$root/bin/sh" >> "$log" 2>&1
exit 1
"""


@pytest.fixture(scope="module")
def settings(place: Place) -> str:
    refusing = place.directory / "refusing"
    # What crun 1.8 writes to its log, and how it ends, where cgroups are hybrid.
    refusing.write_text(
        "#!/bin/sh\n"
        'while [ "$1" != --log ]; do shift; done\n'
        """echo '{"msg":"cgroups in hybrid mode not supported, drop all controllers from """
        """cgroupv2","level":"error","time":"2026-11-21T11:00:00Z"}' >> "$2"\nexit 1\n"""
    )
    refusing.chmod(0o755)
    looking = place.directory / "looking"
    looking.write_text(LOOKING)
    looking.chmod(0o755)
    return (
        'default_runtime = "runc"\n[streaming]\nping_seconds = 0.3\n'
        f'[runtimes.runc]\npath = "{RUNC}"\n'
        f'[runtimes.refusing]\npath = "{refusing}"\n'
        f'[runtimes.looking]\npath = "{looking}"\n'
        f'[runtimes.absent]\npath = "{place.directory}/absent"\n'
        f'[runtimes.elsewhere]\npath = "{RUNC}"\nroot = "{place.directory}/elsewhere"\n'
        'args = ["--debug"]\n'
    )


def run_pod(node: Node, handler: str) -> str:
    request = cri.RunPodSandboxRequest(config=node.pod_config(), runtime_handler=handler)
    return node.runtime.RunPodSandbox(request, timeout=CALL_SECONDS).pod_sandbox_id


@pytest.fixture
def pod_of(node: Node, request: pytest.FixtureRequest) -> Iterator[str]:
    sandbox = run_pod(node, request.param)
    yield sandbox
    node.remove_pod(sandbox)


def test_status_lists_handlers_and_features(node: Node) -> None:
    answer = node.runtime.Status(cri.StatusRequest(verbose=True), timeout=CALL_SECONDS)
    handlers = {handler.name: handler.features for handler in answer.runtime_handlers}
    assert list(handlers) == ["", "kubeletpy", "absent", "elsewhere", "looking", "refusing", "runc"]
    assert handlers[""] == handlers["runc"]
    assert handlers["runc"].recursive_read_only_mounts
    assert handlers["kubeletpy"].recursive_read_only_mounts
    assert handlers["looking"].user_namespaces
    assert not handlers["runc"].user_namespaces
    assert handlers["absent"] == cri.RuntimeHandlerFeatures()
    details = json.loads(answer.info["runtimeHandlers"])
    assert details["runc"] == {"path": RUNC, "problem": ""}
    assert "No such file" in details["absent"]["problem"]


def test_handlers_that_cannot_serve_say_why(node: Node) -> None:
    error = refused(lambda: run_pod(node, "nobody"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "absent, elsewhere, looking, refusing, runc" in str(error.details())
    error = refused(lambda: run_pod(node, "absent"))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert f"{node.place.directory}/absent is not there" in str(error.details())


@pytest.mark.parametrize("pod_of", ["refusing"], indirect=True)
def test_what_a_runtime_refuses_is_passed_on(node: Node, pod_of: str) -> None:
    created = node.create(pod_of, node.container_config("true"))
    error = refused(lambda: node.start(created))
    assert "runtime handler 'refusing': `" in str(error.details())
    assert "refusing create` failed with status 1: cgroups in hybrid mode" in str(error.details())
    status = node.status(created)
    assert (status.state, status.exit_code) == (cri.CONTAINER_EXITED, 128)
    assert "hybrid mode" in status.message


def test_a_missing_program_leaves_no_line_in_the_log(node: Node) -> None:
    with node.pod() as sandbox:
        created = node.create(sandbox, node.container_config("/no/such"))
        error = refused(lambda: node.start(created))
        assert "/no/such" in str(error.details())
        status = node.status(created)
        assert status.exit_code == 128
        assert node.output(status) == ""
        running = node.run(sandbox, *SLEEP, name="second")
        error = refused(lambda: node.exec(running, "/no/such"))
        assert "/no/such" in str(error.details())
        left = set(os.listdir(node.place.state / "containers" / running))
        assert left == {"config.json", "rootfs", "runc"}


def test_root_of_a_user_namespace_reaches_its_root_and_owns_it(node: Node) -> None:
    config = node.pod_config(namespaces=test_image_volumes.NAMESPACES)
    request = cri.RunPodSandboxRequest(config=config, runtime_handler="looking")
    sandbox = node.runtime.RunPodSandbox(request, timeout=CALL_SECONDS).pod_sandbox_id
    security = {"namespace_options": test_image_volumes.NAMESPACES}
    created = node.create(sandbox, node.container_config("true", security=security))
    error = str(refused(lambda: node.start(created)).details())
    assert " 300000 300000 " in error
    assert " /.kubeletpy/root/bin/sh" in error
    node.remove_pod(sandbox)
    config.linux.security_context.namespace_options.pid = cri.POD
    request.config.CopyFrom(config)
    error = str(refused(lambda: node.runtime.RunPodSandbox(request)).details())
    assert "PID mode CONTAINER" in error
    # runc of Debian 12 maps no ids of mounts.
    request.runtime_handler = "runc"
    error = str(refused(lambda: node.runtime.RunPodSandbox(request)).details())
    assert "cannot give pods a user namespace" in error


@pytest.mark.parametrize("pod_of", ["kubeletpy"], indirect=True)
def test_the_built_in_handler_is_there_beside_it(node: Node, pod_of: str) -> None:
    container = node.run(pod_of, *SLEEP)
    assert node.shell(container, "echo hello") == "hello"
    assert not (node.place.state / "containers" / container / "runc").exists()


@pytest.mark.parametrize("pod_of", ["elsewhere"], indirect=True)
def test_state_can_be_elsewhere_and_goes_with_the_container(node: Node, pod_of: str) -> None:
    container = node.run(pod_of, *SLEEP)
    directory = node.place.directory / "elsewhere"
    assert os.listdir(directory) == [container]
    node.wait_heeding(container)
    node.stop(container, timeout=10)
    assert node.status(container).exit_code == 0
    node.remove(container)
    assert os.listdir(directory) == []


def test_the_host_does_not_see_the_containers_file_systems(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        assert container not in Path("/proc/self/mountinfo").read_text()
        roots = node.place.state / "sandboxes" / sandbox / "roots"
        assert stat.S_IMODE(roots.stat().st_mode) == 0o700
        node.remove(container)
        assert os.listdir(roots) == []


def test_short_commands_all_tell_their_exit_code(node: Node) -> None:
    # Each ends before the shim can have read its process id.
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        codes = [node.exec(container, "sh", "-c", f"exit {n}").exit_code for n in range(1, 13)]
        assert codes == list(range(1, 13))
        short = [node.run(sandbox, "sh", "-c", f"exit {n}", name=f"c{n}") for n in range(1, 7)]
        assert [node.wait_exited(c).exit_code for c in short] == list(range(1, 7))


def test_a_command_given_up_ends_with_what_left_its_session(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        script = "setsid sleep 4321 & sleep 4321"
        error = refused(lambda: node.exec(container, "sh", "-c", script, timeout=1))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_until(lambda: test_exec.sleepers(node, container, 4321) == "0", "the tree's end", 10)
        assert node.exec(container, "sh", "-c", "exit 9").exit_code == 9


def test_a_shim_killed_during_a_start_takes_the_half_made_along(node: Node) -> None:
    with node.pod() as sandbox:
        token = secrets.token_hex(4)
        created = node.create(sandbox, node.container_config("sleep", f"1000.{token}"))
        call = node.runtime.StartContainer.future(
            cri.StartContainerRequest(container_id=created), timeout=CALL_SECONDS
        )
        shim = test_recovery.shim_of(sandbox)
        wait_until(lambda: bool(psutil.Process(shim).children()), "the launcher", 10)
        os.kill(shim, signal.SIGKILL)
        call.exception()
        status = node.wait_exited(created)
        assert status.exit_code in (128, 137)
        wait_until(lambda: not _alive(created, token), "all of it to end", 10)
        assert node.pod_status(sandbox).state == cri.SANDBOX_NOTREADY


def _alive(container: str, token: str) -> list[list[str]]:
    lines = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    return [line for line in lines if any(container in w or token in w for w in line)]
