"""From the wheels of an installed package to a release that runs; called by its maintainer scripts.

    PYTHONPATH=kubeletpy-VERSION.whl python3.11 -m kubeletpy.packaging.release configure

Standard library only, and no network: a release is a virtual environment without pip, made under
another name and renamed when it is whole and on the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from kubeletpy.packaging import compiled
from kubeletpy.packaging.manifest import FILE_NAME, Compiled, Manifest, ManifestError, Pinned
from kubeletpy_common.releases import RELEASE_FILE, ROOT, ReleaseError, Releases

WHEELS: Final = Path("/usr/lib/kubeletpy")
NODE: Final = Path("/etc/kubeletpy/node.yaml")
"""Where ``kubeletpy install`` keeps what it was told: there is a node on this machine."""
SETTINGS: Final = Path("/etc/kubeletpy/runtime.toml")
"""The runtime's, on a node that ``kubeletpy install`` set up."""
_SYSTEMD: Final = Path("/run/systemd/system")
# `install` has its own limits, for each daemon; these are for what hangs on slow machines, too.
_CHECK_SECONDS: Final = 300
_RESTART_SECONDS: Final = 3600
# In the order in which they start; each one keeps what the others made.
_UNITS: Final = (
    *("runtime", "apiserver", "controllers", "network", "proxy", "dns", "metrics", "kubelet"),
)
_ENTRY: Final = """\
#!{python} -P
import sys
from kubeletpy.cli import main
sys.exit(main(prog_name="kubeletpy"))
"""


def main(arguments: Sequence[str]) -> int:
    """Carry out one step; return the exit code, the reason of a failure is on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kubeletpy.packaging.release")
    parser.add_argument("step", choices=["configure", "check-removal", "remove", "collect"])
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--wheels", type=Path, default=WHEELS)
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    parsed = parser.parse_args(arguments)
    releases = Releases(parsed.root)
    try:
        if parsed.step == "configure":
            configure(releases, parsed.wheels, parsed.settings)
        elif parsed.step == "check-removal":
            check_removal(releases)
        elif parsed.step == "remove":
            remove(releases)
        for name in releases.collect() if parsed.step in ("configure", "collect") else []:
            print(f"kubeletpy: removed release {name}: no process uses it")  # noqa: T201
    except (ReleaseError, ManifestError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"kubeletpy: {error}\n")
        return 1
    return 0


def configure(releases: Releases, wheels: Path, settings: Path = SETTINGS) -> None:
    """Make the release of the package, and let everything new start from it.

    What runs goes on undisturbed until the new release is in place.

    Args:
        releases: those of this machine.
        wheels: where the package's wheels and their manifest are.
        settings: of the runtime, which tell where its state is; may be absent.

    Raises:
        ReleaseError: this Python is not among the package's, or the machine's pods need another
            release; nothing was changed then.
        ManifestError: a wheel is damaged.
        OSError: the disk is full, or cannot be written.
    """
    manifest = Manifest.from_json((wheels / FILE_NAME).read_text())
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python not in manifest.pythons:
        raise ReleaseError(
            f"this package has nothing for Python {python} ({sys.executable}), only for "
            f"{', '.join(sorted(manifest.pythons))}: build one by `python3 -m kubeletpy package "
            f"deb --python {python}`"
        )
    name = manifest.release_name(python)
    with releases.locked():
        before = releases.current()
        release = releases.directory / name
        if not release.is_dir():
            release = _make(releases, manifest, python, wheels)
        if before not in (None, release):
            _check_state(release, settings)
        if before == release:
            return
        releases.switch(release)
    print(f"kubeletpy: release {name} is in place")  # noqa: T201
    if NODE.exists() and _SYSTEMD.is_dir() and releases.root == ROOT:
        _restart(release)


def _make(releases: Releases, manifest: Manifest, python: str, wheels: Path) -> Path:
    name = manifest.release_name(python)
    final = releases.directory / name
    made = releases.making(name)
    shutil.rmtree(made, ignore_errors=True)
    inside = Path("lib", f"python{python}", "site-packages")
    site = made / inside
    current = releases.current()
    had = _wheels_of(current, python)
    try:
        site.mkdir(parents=True)
        unpacked: dict[str, list[str]] = {}
        for wheel in manifest.pythons[python]:
            path = wheels / wheel.file
            wheel.verify(path)
            same = current is not None and wheel in had
            if not (same and current and share(path, current / inside, site)):
                unpacked[wheel.sha256] = unpack(path, site)
        _make_environment(made, final, python)
        (made / RELEASE_FILE).write_text(
            Manifest(manifest.version, {python: manifest.pythons[python]}).to_json()
        )
        left = add_compiled(manifest.compiled.get(python), wheels, unpacked, site)
        _compile(made, final, left)
        _try(made)
        return releases.publish(made, name)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _wheels_of(release: Path | None, python: str) -> frozenset[Pinned]:
    """Return the wheels that a release was made of; none if it is of another Python."""
    if release is None:
        return frozenset()
    try:
        manifest = Manifest.from_json((release / RELEASE_FILE).read_text())
    except (OSError, ManifestError):
        return frozenset()
    return frozenset(manifest.pythons.get(python, ()))


def share(wheel: Path, before: Path, site: Path) -> bool:
    """Link a wheel's files, with what was compiled of them, from another release's site-packages.

    Releases never change, so that they can share files: most wheels are those of the release
    before. Neither room on the disk nor compiling is needed for them.

    Returns:
        False if they are not there, or if the file system has no hard links.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        for name in filter(None, map(_target, names)):
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(before / name, site / name)
            if name.endswith(".py"):
                compiled = Path(importlib.util.cache_from_source(name))
                (site / compiled).parent.mkdir(exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    os.link(before / compiled, site / compiled)
    except (OSError, zipfile.BadZipFile):
        return False
    return True


def unpack(wheel: Path, site: Path) -> list[str]:
    """Unpack a wheel into ``site``, without its scripts: none but ours is wanted.

    Returns:
        the names of its modules, in the wheel.

    Raises:
        ManifestError: it is no wheel, or a name in it leads elsewhere.
        OSError: it cannot be written.
    """
    modules = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                target = _target(entry.filename)
                if target is None or entry.is_dir():
                    continue
                _extract(archive, entry, site / target)
                if target.endswith(".py"):
                    modules.append(entry.filename)
    except zipfile.BadZipFile as error:
        raise ManifestError(f"{wheel}: {error}; install the package again") from error
    return modules


def add_compiled(
    archive: Compiled | None, wheels: Path, unpacked: Mapping[str, Sequence[str]], site: Path
) -> list[Path]:
    """Add the compiled modules that the package has for wheels that were unpacked.

    Args:
        archive: what it has for this Python, if anything.
        wheels: where that is.
        unpacked: the names of modules, in wheels, by the wheel's SHA-256.
        site: where they were unpacked.

    Returns:
        the modules that it has nothing for.

    Raises:
        ManifestError: the archive is damaged.
        OSError: a file cannot be written.
    """
    known: dict[str, dict[str, zipfile.ZipInfo]] = {}
    with contextlib.ExitStack() as stack:
        if archive is not None and archive.magic == compiled.MAGIC and any(unpacked.values()):
            archive.verify(wheels / archive.file)
            opened = stack.enter_context(zipfile.ZipFile(wheels / archive.file))
            known = compiled.members(opened)
        left = []
        for digest, names in unpacked.items():
            entries = known.get(digest, {})
            for name in names:
                path = site / str(_target(name))
                if name in entries:
                    _extract(opened, entries[name], _cache(path))
                elif not entries:
                    left.append(path)
                # else it does not compile: it is for another version.
        return left


def _cache(module: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(module)))


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    # It may be another release's file, by a hard link.
    path.unlink(missing_ok=True)
    try:
        copy = open(path, "xb")  # noqa: SIM115
    except FileNotFoundError:
        path.parent.mkdir(parents=True)
        copy = open(path, "xb")  # noqa: SIM115
    with copy, archive.open(entry) as source:
        shutil.copyfileobj(source, copy, 1 << 20)


def _target(name: str) -> str | None:
    """Return where a wheel's file belongs in site-packages; None if it does not belong there.

    Raises:
        ManifestError: it leads out of there.
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise ManifestError(f"a wheel has a file {name!r}, which leads out of its place")
    # Binary distribution format: *.data/{purelib,platlib} are for site-packages, too.
    if len(parts) > 2 and parts[0].endswith(".data"):
        return "/".join(parts[2:]) if parts[1] in ("purelib", "platlib") else None
    return name


def _make_environment(made: Path, final: Path, python: str) -> None:
    """Make what turns a directory into a virtual environment (PEP 405), and our command."""
    interpreter = Path(sys.executable).resolve()
    programs = made / "bin"
    programs.mkdir()
    for name in ("python", "python3", f"python{python}"):
        # By its version: `python3` is another one after an upgrade of the distribution.
        (programs / name).symlink_to(interpreter)
    version = ".".join(map(str, sys.version_info[:3]))
    (made / "pyvenv.cfg").write_text(
        f"home = {interpreter.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    )
    command = programs / "kubeletpy"
    command.write_text(_ENTRY.format(python=final / "bin" / "python"))
    command.chmod(0o755)


def _compile(made: Path, final: Path, modules: Sequence[Path]) -> None:
    """Compile modules: processes with a read-only system could not keep what they compile."""
    if not modules:
        return
    command = [str(made / "bin" / "python"), "-I", "-m", "compileall", "-q", "-j", "0"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(made), "-p", str(final)]
    # Some libraries carry files for other versions, which do not compile: that is no failure.
    subprocess.run(
        [*command, "-i", "-"], input="\n".join(map(str, modules)), text=True, check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _try(made: Path) -> None:
    """Start what is in a release.

    Raises:
        ReleaseError: it does not start.
    """
    done = subprocess.run(
        [str(made / "bin" / "python"), "-I", "-c", "import kubeletpy.cli"],
        capture_output=True, text=True, check=False, timeout=_CHECK_SECONDS,
    )  # fmt: skip
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ReleaseError(f"the new release does not start: {reason}")


def _check_state(release: Path, settings: Path) -> None:
    """Ask the new runtime whether it can go on with what is on this machine.

    Raises:
        ReleaseError: it cannot.
    """
    command = [str(release / "bin" / "kubeletpy"), "runtime", "--check", "--output", "json"]
    if settings.is_file():
        command += ["--config", str(settings)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_CHECK_SECONDS
    )
    try:
        found = {item["name"]: item for item in json.loads(done.stdout)}
    except ValueError:
        # It has more to say when it is started; what it asks of a machine is no matter here.
        return
    state = found.get("state", {"ok": True})
    if not state["ok"]:
        raise ReleaseError(
            f"release {release.name} cannot take over what runs here: {state['detail']}; "
            f"{state['remedy']}. The release that was current still is"
        )


def _restart(release: Path) -> None:
    """Restart the daemons of the node one by one; containers go on."""
    command = release / "bin" / "kubeletpy"
    known = subprocess.run(
        [str(command), "install", "--help"], capture_output=True, text=True, check=False,
        timeout=_CHECK_SECONDS,
    )  # fmt: skip
    if "--upgrade" in known.stdout:
        subprocess.run([str(command), "install", "--upgrade"], check=True, timeout=_RESTART_SECONDS)
        return
    for unit in _UNITS:
        done = subprocess.run(
            ["systemctl", "try-restart", f"kubeletpy-{unit}.service"],
            capture_output=True, text=True, check=False, timeout=_RESTART_SECONDS,
        )  # fmt: skip
        if done.returncode != 0 and "not found" not in done.stderr:
            raise ReleaseError(
                f"kubeletpy-{unit}.service did not start again: {done.stderr.strip()}; see "
                f"`journalctl -u kubeletpy-{unit}`"
            )


def check_removal(releases: Releases) -> None:
    """Tell whether the package may be removed.

    Raises:
        ReleaseError: the machine is a node, or containers run that nobody could stop afterwards.
    """
    if os.environ.get("KUBELETPY_REMOVE") == "force":
        return
    if NODE.exists():
        raise ReleaseError(
            "this machine is a node: `kubeletpy uninstall` first, which ends its pods and takes "
            "down what it set up; then remove the package"
        )
    users = [user for each in releases.users().values() for user in each]
    if users:
        shown = ", ".join(f"{user.pid} ({user.title.strip()})" for user in users[:5])
        raise ReleaseError(
            f"{len(users)} processes still run from {releases.root}: {shown}. Stop the daemons and "
            "remove their pods first, or set KUBELETPY_REMOVE=force: containers then go on with "
            "nobody to stop them"
        )


def remove(releases: Releases) -> None:
    """Remove all releases; called when nothing runs from them, or by force.

    Raises:
        OSError: something cannot be removed.
    """
    releases.link.unlink(missing_ok=True)
    if releases.directory.is_dir():
        shutil.rmtree(releases.directory)
    if releases.root.is_dir() and not any(releases.root.iterdir()):
        releases.root.rmdir()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
