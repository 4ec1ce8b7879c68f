"""The virtual machine's disks: a small Debian, made once, and the checkout, made for each run.

Everything comes from Debian's packages, by the mirror of this machine's apt. The image is kept in
``.vm/`` of the checkout under a name that is a hash of what it was made from.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy import debian
from tests.vm import systems
from tests.vm.systems import ImageError as ImageError
from tests.vm.systems import Packages, System

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = CHECKOUT / ".vm"
PACKAGES: Final = (
    debian.Package("mmdebstrap", "makes the tests' virtual machine", "mmdebstrap"),
    debian.Package("qemu-system-x86", "runs the tests' virtual machine", "qemu-system-x86_64"),
    debian.Package("e2fsprogs", "makes the virtual machine's disks", "mkfs.ext4"),
)
_INSIDE: Final = (
    *("systemd", "systemd-sysv", "dbus", "kmod", "procps", "nfs-common", "nfs-kernel-server"),
    *("python3", "libseccomp2", "e2fsprogs"),
    *(package.name for package in debian.TESTS),
)
_KEYRING: Final = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
_DISK: Final = "3G"  # sparse: what the tests write is on top of it, and thrown away
# Tools of development, which no test needs inside.
_LEFT_OUT: Final = (
    *("mypy*", "ruff*", "grpc_tools", "pip", "pip-*", "setuptools*", "*-stubs"),
    *("grimp*", "importlinter", "ast_serialize*", "librt*", "*__mypyc*", "_distutils_hack"),
    *("__editable__*", "*.pth"),
)
UNIT: Final = "kubeletpy-tests.service"
TOLD: Final = Path("/srv/data/told")
"""Where the machine finds the texts of :func:`make_data_disk`."""
_INITRAMFS: Final = """\
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\\nFSTYPE=ext4\\n' > "$1/etc/initramfs-tools/conf.d/vm"
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
"""
# All that systemd starts at boot: emulated, the usual services take a minute. ttyS0 is the kernel's
# console, ttyS1 takes what the tests print and, last, their exit status.
_UNIT: Final = """\
[Unit]
DefaultDependencies=no
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=exec
ExecStartPre=/bin/mount -o ro -t ext4 /dev/vdb /srv/data
ExecStart=/bin/sh -c '/usr/bin/python3 -X utf8 -m tests.vm.inside; echo "vm-exit: $?"'
WorkingDirectory=-/srv/data/checkout
Environment=PYTHONPATH=/srv/data/site PYTHONDONTWRITEBYTECODE=1 HOME=/root
Environment=KUBELETPY_TESTS_ALONE=1 TERM=dumb
StandardInput=null
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS1
"""
# The distribution's own initial file system starts udev, which takes long when emulated; this one
# loads three modules.
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done < /modules/order
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""
_CUSTOMIZE: Final = f"""\
set -e
cat > "$1/etc/systemd/system/{UNIT}" <<'UNIT'
{_UNIT}UNIT
mkdir -p "$1/srv/data" "$1/boot/vm"
for folder in bin modules dev root; do mkdir -p "$1/boot/i/$folder"; done
echo vm > "$1/etc/hostname"
: > "$1/etc/fstab"
cp "$1/bin/busybox" "$1/boot/i/bin/"
cat > "$1/boot/i/init" <<'INIT'
{_INIT}INIT
chmod 755 "$1/boot/i/init"
version=$(ls "$1/lib/modules")
for module in virtio_pci virtio_blk ext4; do
    chroot "$1" modprobe -S "$version" --show-depends "$module"
done | sed -n 's/^insmod //p' | while read -r file rest; do
    case $file in
        *.xz) plain="xz -dc" ;;
        *.zst) plain="zstd -dc" ;;
        *) plain=cat ;;
    esac
    name=$(basename "$file" | sed 's/[.]ko.*/.ko/')
    [ -e "$1/boot/i/modules/$name" ] || echo "$name" >> "$1/boot/i/modules/order"
    chroot "$1" $plain "$file" > "$1/boot/i/modules/$name"
done
touch "$1/boot/i/modules/order"
chroot "$1" sh -c 'cd /boot/i && find . | busybox cpio -o -H newc' | gzip -1 > "$1/boot/vm/initrd"
mv "$1"/boot/vmlinuz-* "$1/boot/vm/kernel"
rm -rf "$1/usr/sbin/policy-rc.d" "$1/boot/i" "$1"/boot/System.map* "$1"/boot/initrd.img* \\
    "$1"/var/lib/apt/lists/*
"""


@dataclass(frozen=True)
class Image:
    """A machine that can be booted: kernel, initial file system and disk, each a file."""

    kernel: Path
    initrd: Path
    disk: Path


def ensure_image(cache: Path = CACHE, system: System | None = None) -> Image:
    """Return the image of a system (see :mod:`tests.vm.systems`), made unless it is kept already.

    Raises:
        ImageError: it could not be made; nothing half-made is kept.
    """
    system = system or systems.chosen()
    inputs = (repr(system), os.uname().machine, _DISK, _INITRAMFS, _CUSTOMIZE, *_INSIDE)
    digest = hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:16]
    directory = cache / f"{system.name}-{digest}"
    image = Image(directory / "kernel", directory / "initrd", directory / "disk")
    cache.mkdir(exist_ok=True)
    with open(cache / f"{system.name}.lock", "w") as lock:
        # A second run waits for the first one's image instead of making it too.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.is_dir():
            _make_image(system, cache, directory)
    return image


def _make_image(system: System, cache: Path, directory: Path) -> None:
    for old in cache.glob(f"{system.name}-*"):
        # Those of earlier recipes, and what a killed run left; a machine that still uses one has
        # its disk open.
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f"{system.name}-making-") as temporary:
        made = Path(temporary, "image")
        made.mkdir()
        tree = Path(temporary, "tree")
        _make_tree(system, tree, Path(temporary))
        for name in ("kernel", "initrd"):
            shutil.move(tree / "boot/vm" / name, made / name)
        _make_disk(tree, made / "disk", _DISK)
        made.rename(directory)


def make_data_disk(path: Path, packages: Packages, told: Mapping[str, str]) -> None:
    """Make a disk with the checkout as it is now and the Python packages of an environment.

    ``told`` are texts by name: firmware files would need a module that not all kernels have.

    Raises:
        ImageError: it could not be made.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="data-") as temporary:
        copy_checkout(Path(temporary, "checkout"))
        Path(temporary, TOLD.name).mkdir()
        for name, text in told.items():
            Path(temporary, TOLD.name, name).write_text(text)
        left_out = shutil.ignore_patterns(*_LEFT_OUT)
        shutil.copytree(packages.site, Path(temporary, "site"), ignore=left_out)
        # Of the same version, so the interpreter inside takes what this one has compiled.
        run([str(packages.python), "-m", "compileall", "-q", "-j", "0", temporary])
        _make_disk(Path(temporary), path, "600M")


def copy_checkout(target: Path) -> None:
    """Copy the checkout as it is now, without what git ignores, to a new directory.

    Raises:
        ImageError: git could not list it.
    """
    target.mkdir()
    listing = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others"]
    for name in filter(None, run([*listing, "--exclude-standard"]).split("\0")):
        source = CHECKOUT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def _make_tree(system: System, tree: Path, temporary: Path) -> None:
    absent = system.absent
    inside = [*system.packages, *(name for name in _INSIDE if name not in absent)]
    # Nobody minds a half-written tree: it is thrown away.
    options = ["--variant=minbase", f"--include={','.join(inside)}", "--dpkgopt=force-unsafe-io"]
    for folder in ("doc", "man", "locale", "info"):
        options += [f"--dpkgopt=path-exclude=/usr/share/{folder}/*"]
    options += [f"--essential-hook={_INITRAMFS}", f"--customize-hook={_CUSTOMIZE}"]
    options += [f"--components={system.components}"]
    if system.distribution == "ubuntu":
        options += [f"--keyring={_ubuntu_keyring(temporary / 'keyring')}"]
    _mmdebstrap(options, system.suite, tree, system.distribution)


def _ubuntu_keyring(directory: Path) -> Path:
    """Fetch Ubuntu's public keys, which a package of Debian's has, and return their file."""
    installed = Path("/", _KEYRING)
    if installed.exists():
        return installed
    options = ["--variant=extract", "--include=ubuntu-archive-keyring"]
    _mmdebstrap(options, systems.SYSTEMS["debian-13"].suite, directory, "debian")
    return directory / _KEYRING


def _mmdebstrap(options: Sequence[str], suite: str, tree: Path, distribution: str) -> None:
    # It mounts in the namespace that it finds, where tests beside it would see that.
    command = ["unshare", "--mount", "--", "mmdebstrap", "--mode=root", "--quiet", *options]
    # Without a mirror of its own, mmdebstrap takes the distribution's.
    run([*command, suite, str(tree), *_mirrors(distribution)[:1]], seconds=1500)


def _mirrors(distribution: str) -> list[str]:
    """Return where this machine's apt has a distribution from, its security updates not."""
    name = distribution.capitalize()
    target = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    return run([*target, f"Origin: {name}", f"Label: {name}"]).split()


def _make_disk(tree: Path, path: Path, size: str) -> None:
    run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", "-d", str(tree), str(path), size])


def run(command: Sequence[str], seconds: float = 600) -> str:
    """Run a command; return what it printed.

    Raises:
        ImageError: it failed, with the end of its messages, or took longer than ``seconds``.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ImageError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        reason = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise ImageError(f"{command[0]} failed (exit {done.returncode}): {reason}")
    return done.stdout
