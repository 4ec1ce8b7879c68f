"""The kernel's own file systems inside a container: procfs, sysfs, cgroups, devices, mounts."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy_common.linux import mounts as m
from kubeletpy_proto import cri_pb2 as cri
from tests.root.attacks.attacker import attack, python_mounts
from tests.root.runtime.cri.node import SLEEP, Node, refused
from tests.support import ociimage

pytestmark = pytest.mark.root

# What a kubelet sends for a container that is not privileged (ProcMount Default).
MASKED = (
    "/proc/asound /proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list "
    "/proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware "
    "/sys/devices/virtual/powercap"
).split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
PATHS = {"masked_paths": MASKED, "readonly_paths": READ_ONLY}
SWITCHES = ("kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "vm/panic_on_oom")


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    """What attackers of the kernel's files are after."""
    files = [path for name in SWITCHES if (path := Path("/proc/sys") / name).exists()]
    before = [path.read_text() for path in files]
    yield
    assert [path.read_text() for path in files] == before


@pytest.mark.parametrize(
    "target",
    ["/proc", "/proc/", "//proc", "/x/../proc", "/proc/self", "/proc/self/attr", "/proc/sys",
     "/proc/1", "/proc/sys/kernel/core_pattern", "/x/../proc/sys"],
)  # fmt: skip
def test_no_volume_lies_on_procfs(node: Node, tmp_path: Path, target: str) -> None:
    """CVE-2019-16884, CVE-2023-27561: what the runtime writes to procfs goes to a volume."""
    (tmp_path / "canary").write_text("canary")
    source = tmp_path / "canary" if target.endswith("pattern") else tmp_path
    mounts = [cri.Mount(container_path=target, host_path=str(source))]
    with node.pod() as sandbox:
        config = node.container_config("true", mounts=mounts)
        error = refused(lambda: node.start(node.create(sandbox, config)))
        assert "proc" in (error.details() or "")
    assert os.listdir(tmp_path) == ["canary"]


@pytest.mark.parametrize("kind", ["link to a directory", "link to the root", "file", "volume"])
def test_procfs_is_where_it_belongs_or_nothing_starts(
    node: Node, tmp_path: Path, kind: str
) -> None:
    """CVE-2019-19921, CVE-2023-28642: the image, or a volume of it, is at /proc instead."""
    entry: dict[str, ociimage.Entry] = {
        "link to a directory": ociimage.Symlink("home"),
        "link to the root": ociimage.Symlink("/"),
        "file": ociimage.File(b"x"),
        "volume": ociimage.Directory(),
    }
    volumes: dict[str, dict[str, str]] = (
        {"/proc": {}, "/proc/self/attr": {}} if kind == "volume" else {}
    )
    name = f"tests/proc-{kind.replace(' ', '-')}"
    reference = node.push(name, {"proc": entry[kind]}, Volumes=volumes)
    image = cri.ImageSpec(image=node.pull(reference))
    with node.pod() as sandbox:
        config = node.container_config(*SLEEP, image=image, security=PATHS)
        error = refused(lambda: node.start(node.create(sandbox, config)))
        assert "/proc" in (error.details() or "")


def test_no_file_of_the_kernel_can_be_changed(node: Node) -> None:
    """CVE-2023-25809, CVE-2022-0492: cgroups, release_agent, sysctls, sysrq, sysfs."""
    program = """
done = []
for top in ("/sys", "/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs"):
    for directory, names, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            try:
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                done.append(path)
            except OSError:
                pass
        if top == "/sys" and not directory.startswith("/sys/fs/cgroup"):
            continue
        try:
            os.mkdir(os.path.join(directory, "evil"))
            done.append(directory)
        except OSError:
            pass
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern"):
    tried(path, lambda: os.open(path, os.O_WRONLY))
for name in sorted(os.listdir("/sys/fs/cgroup")):
    path = f"/sys/fs/cgroup/{name}"
    # MS_REMOUNT | MS_BIND, then a new mount of the same hierarchy.
    tried("remount", lambda: os.stat(path) and mount(None, path, None, 0x1020))
try:
    # A hierarchy of version 1, which the kernel lets root of any user namespace mount anew.
    mount(b"cgroup", b"/home", b"cgroup", 0, b"devices")
    print("MOUNTED", os.listdir("/home"))
    tried("agent", lambda: os.open("/home/release_agent", os.O_WRONLY))
    tried("allow", lambda: os.write(os.open("/home/devices.allow", os.O_WRONLY), b"a"))
except OSError as error:
    tried("agent", lambda: os.open("/sys/fs/cgroup/devices/release_agent", os.O_WRONLY))
    tried("allow", lambda: os.open("/sys/fs/cgroup/devices/devices.allow", os.O_WRONLY))
tried("mount", lambda: mount(b"proc", b"/home", b"proc", 0))
tried("umount", lambda: umount("/proc/timer_list"))
print("walked", len(os.listdir("/sys/fs/cgroup")), "written", done)
"""
    mount = """
def mount(source, target, kind, flags, data=None):
    target = target.encode() if isinstance(target, str) else target
    if libc.mount(source, target, kind, flags, data) < 0:
        raise OSError(ctypes.get_errno(), "mount")
def umount(target):
    if libc.umount2(target.encode(), 2) < 0:
        raise OSError(ctypes.get_errno(), "umount")
"""
    inside = """
# CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWCGROUP: root of a user namespace of one's own.
call("unshare", 0x10000000 | 0x20000 | 0x2000000)
print("LIVE in a user namespace")
print("capabilities", [l.split()[1] for l in open("/proc/self/status") if l.startswith("CapEff")])
"""
    with node.pod() as sandbox:
        for name, text in (("plain", mount + program), ("nested", mount + inside + program)):
            output = attack(node, sandbox, text, name=name, security=PATHS)
            assert "written []" in output, output
            assert "DID" not in output, output
            assert output.count("failed") >= 7
            assert ("LIVE" in output) == (name == "nested")
        # The default system call filter lets nobody come that far.
        profile = cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault)
        text = 'tried("unshare", lambda: call("unshare", 0x10000000))'
        output = attack(node, sandbox, text, name="filtered", security={"seccomp": profile})
        assert output == "unshare failed EPERM"


def test_masks_cannot_be_lifted_in_a_user_namespace_of_ones_own(node: Node) -> None:
    """A second procfs would be without masks: the kernel refuses while ours covers something."""
    program = """
def mount(source, target, kind, flags):
    if libc.mount(source, target, kind, flags, None) < 0:
        raise OSError(ctypes.get_errno(), "mount")
# CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET
call("unshare", 0x10000000 | 0x20000 | 0x20000000 | 0x40000000)
child = os.fork()
if child == 0:
    print("LIVE", os.getpid(), flush=True)
    tried("tmpfs", lambda: mount(b"none", b"/home", b"tmpfs", 0))
    tried("proc", lambda: mount(b"proc", b"/home", b"proc", 0))
    tried("sysfs", lambda: mount(b"sysfs", b"/home", b"sysfs", 0))
    for path in (b"/proc/timer_list", b"/proc/sys", b"/sys/firmware"):
        def lift():
            if libc.umount2(path, 2) < 0:
                raise OSError(ctypes.get_errno(), "umount")
        tried("umount", lift)
        tried("remount", lambda: mount(None, path, None, 0x1020))
    os._exit(0)
os.waitpid(child, 0)
"""
    with node.pod() as sandbox:
        output = attack(node, sandbox, program, security=PATHS)
    assert "LIVE 1" in output
    assert "tmpfs DID" in output
    assert output.count("DID") == 1, output
    assert output.count("failed") == 8, output


def test_devices_of_the_host_cannot_be_opened(node: Node) -> None:
    """Nodes made by mknod, and those that come with a layer of the image or with a volume."""
    disk = os.stat("/").st_dev
    nodes = {"mem": ("c", 1, 1), "kmsg": ("c", 1, 11), "port": ("c", 1, 4)}
    layer: dict[str, ociimage.Entry] = {
        f"nodes/{name}": ociimage.Node(kind, major, minor, 0o666)  # type: ignore[arg-type]
        for name, (kind, major, minor) in nodes.items()
    }
    layer["nodes/disk"] = ociimage.Node("b", os.major(disk), os.minor(disk), 0o666)
    image = cri.ImageSpec(image=node.pull(node.push("tests/nodes", layer)))
    program = f"""
for name in sorted(os.listdir("/nodes")):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        tried(name, lambda: os.open(f"/nodes/{{name}}", flags))
for name, (kind, major, minor) in {nodes}.items():
    os.mknod(f"/tmp/{{name}}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    tried(name, lambda: os.open(f"/tmp/{{name}}", os.O_RDONLY))
os.mknod("/tmp/disk", 0o666 | stat.S_IFBLK, {disk})
tried("disk", lambda: os.open("/tmp/disk", os.O_RDONLY))
tried("fine", lambda: os.open("/dev/zero", os.O_RDONLY))
"""
    with node.pod() as sandbox:
        output = attack(node, sandbox, program, image=image)
        assert output.count("failed EPERM") == 16, output
        assert output.count("DID") == 1
    with node.pod(privileged=True) as sandbox:
        # It is live: the same node of the same layer opens for a privileged container.
        live = node.run(sandbox, *SLEEP, image=image, security={"privileged": True})
        node.shell(live, ": < /nodes/kmsg")


def test_mounts_of_a_container_reach_the_host_only_where_they_are_shared(
    node: Node, tmp_path: Path
) -> None:
    """From a privileged container, even beside a volume with BIDIRECTIONAL propagation."""
    for name in ("private", "slave", "shared"):
        (tmp_path / name).mkdir()
    m.mount(tmp_path, tmp_path, None, m.MS_BIND)
    m.mount(None, tmp_path, None, m.MS_SHARED)
    try:
        mounts = [
            cri.Mount(container_path=f"/{name}", host_path=str(tmp_path / name), propagation=mode)
            for name, mode in (("private", cri.PROPAGATION_PRIVATE),
                               ("slave", cri.PROPAGATION_HOST_TO_CONTAINER),
                               ("shared", cri.PROPAGATION_BIDIRECTIONAL))
        ]  # fmt: skip
        before = Path("/proc/self/mountinfo").read_text().splitlines()
        with node.pod(privileged=True) as sandbox:
            container = node.run(sandbox, *SLEEP, mounts=mounts, security={"privileged": True})
            for place in ("private", "slave", "shared", "home", "tmp", "etc", "proc", "sys", ""):
                node.shell(container, f"mkdir -p /{place}/m 2>/dev/null; "
                                      f"mount -t tmpfs kubeletpy-evil /{place}/m || "
                                      f"mount -t tmpfs kubeletpy-evil /{place}")  # fmt: skip
            after = Path("/proc/self/mountinfo").read_text().splitlines()
            spread = set(after) - set(before)
            evil = [line.split()[4] for line in spread if "kubeletpy-evil" in line]
            # It is live: where it is to spread, it does.
            assert evil == [str(tmp_path / "shared/m")]
            m.umount(tmp_path / "shared/m", m.MNT_DETACH)
    finally:
        m.umount(tmp_path, m.MNT_DETACH)


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_setuid_files_of_volumes(node: Node, tmp_path: Path, no_new_privs: bool) -> None:
    """With no_new_privs a setuid file of root makes nobody root; without it, it does."""
    program = tmp_path / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    os.chmod(program, 0o4755)
    os.chmod(tmp_path, 0o755)
    mounts = [*python_mounts(), cri.Mount(container_path="/volume", host_path=str(tmp_path))]
    security = {"run_as_user": cri.Int64Value(value=1000), "no_new_privs": no_new_privs}
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, mounts=mounts, security=security)
        seen = node.shell(container, "/volume/id -u; grep NoNewPrivs /proc/self/status")
        assert seen.split() == ["1000" if no_new_privs else "0", "NoNewPrivs:", str(+no_new_privs)]
    assert stat.S_IMODE(program.stat().st_mode) == 0o4755


def test_a_core_dump_stays_in_the_container(node: Node) -> None:
    """With a relative core_pattern it lands in the working directory: the container's own."""
    program = """
import resource
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
os.chdir("/tmp")
child = os.fork()
if child == 0:
    os.abort()
print("dumped", os.WCOREDUMP(os.waitpid(child, 0)[1]), os.listdir("/tmp"))
"""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    places = [Path("/"), node.place.directory, Path(f"/proc/{node.daemon.pid}/cwd").resolve()]
    before = [sorted(os.listdir(place)) for place in places]
    with node.pod() as sandbox:
        output = attack(node, sandbox, program)
        assert "dumped" in output
        if not pattern.startswith(("|", "/")):
            assert ("core" in output) == ("dumped True" in output), output
    assert [sorted(os.listdir(place)) for place in places] == before
