"""A box for Vagrant's provider libvirt, made of the distribution's packages.

Public boxes have a boot loader, and are for machines with a real processor; this one brings
its kernel along, and says in its own Vagrantfile what an emulated machine needs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.vm import systems
from tests.vm.image import Image, ImageError, ensure_image, run
from tests.vm.machine import own_disk

NAME: Final = "kubeletpy/test"
# What every box has: logging in, becoming root, synced folders, DHCP on the first link.
_PACKAGES: Final = ("openssh-server", "sudo", "rsync", "ifupdown", "isc-dhcp-client", "udev")
_GIBIBYTES: Final = 8
_KEYS: Final = "/usr/share/rubygems-integration/all/gems", "vagrant-*/keys/vagrant.pub"
# Of the tests' own image, and of no use here: emulated, each service costs seconds of the boot.
_UNWANTED: Final = (
    "containerd.service docker-registry.service nginx.service nfs-server.service rpcbind.service "
    "rpcbind.socket e2scrub_reap.service e2scrub_all.timer apt-daily.timer "
    "apt-daily-upgrade.timer fstrim.timer"
)
_CUSTOMIZE: Final = f"""\
disk=$1 root=$2 key=$3
mount -o loop "$disk" "$root"
chroot "$root" useradd --create-home --shell /bin/bash vagrant
install -d -m 700 "$root/home/vagrant/.ssh"
install -m 600 "$key" "$root/home/vagrant/.ssh/authorized_keys"
chroot "$root" chown -R vagrant:vagrant /home/vagrant/.ssh
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"
printf 'UseDNS no\\nGSSAPIAuthentication no\\n' >> "$root/etc/ssh/sshd_config"
mkdir -p "$root/etc/network/interfaces.d"
cat > "$root/etc/network/interfaces" <<'LINKS'
auto lo
iface lo inet loopback
allow-hotplug eth0
iface eth0 inet dhcp
source /etc/network/interfaces.d/*
LINKS
chroot "$root" systemctl --quiet mask {_UNWANTED}
umount "$root"
"""
_VAGRANTFILE: Final = """\
Vagrant.configure("2") do |config|
  config.vm.boot_timeout = 1800
  config.vm.provider "libvirt" do |libvirt|
    libvirt.driver = "qemu"
    libvirt.cpu_mode = "custom"
    libvirt.cpu_model = "Nehalem"
    libvirt.cpu_feature name: "cx16", policy: "disable"
    libvirt.kernel = "{kernel}"
    libvirt.initrd = "{initrd}"
    libvirt.cmd_line = "{words}"
    libvirt.graphics_type = "none"
    libvirt.video_type = "none"
  end
end
"""
_WORDS: Final = (
    "console=ttyS0 panic=-1 net.ifnames=0 audit=0 mitigations=off random.trust_cpu=on "
    "systemd.unified_cgroup_hierarchy=1"
)


def make_box(directory: Path) -> Path:
    """Make a box of the system that is asked for (see :mod:`tests.vm.systems`); return its file.

    Raises:
        ImageError: it could not be made.
    """
    system = systems.chosen()
    image = ensure_image(
        system=replace(system, name=f"{system.name}.box", packages=(*system.packages, *_PACKAGES))
    )
    disk = own_disk(image, directory / "disk", f"{_GIBIBYTES}G").path
    root = directory / "root"
    root.mkdir()
    # It mounts where tests beside it do not see that.
    script = ["sh", "-euc", _CUSTOMIZE, "sh", str(disk), str(root), str(_public_key())]
    run(["unshare", "--mount", "--propagation", "private", *script])
    return _pack(directory, disk, image)


def _public_key() -> Path:
    """Return the key that Vagrant logs in with first, and replaces then."""
    folder, pattern = _KEYS
    found = next(Path(folder).glob(pattern), None)
    if found is None:
        raise ImageError(f"no {pattern} below {folder}: install Debian's package vagrant")
    return found


def _pack(directory: Path, disk: Path, image: Image) -> Path:
    content = directory / "content"
    content.mkdir()
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(disk), str(content / "box.img")])
    disk.unlink()
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": _GIBIBYTES}
    (content / "metadata.json").write_text(json.dumps(metadata))
    (content / "Vagrantfile").write_text(
        _VAGRANTFILE.format(kernel=image.kernel, initrd=image.initrd, words=_WORDS)
    )
    names = sorted(path.name for path in content.iterdir())
    box = directory / "test.box"
    run(["tar", "-C", str(content), "-cf", str(box), *names])
    return box
