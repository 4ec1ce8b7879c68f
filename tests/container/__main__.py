"""Run root tests in a privileged container.

    sudo python3 -m tests.container [--brief] [--cgroupns host] [PYTEST ARGUMENT...]

What they print is printed; the exit status is theirs. Nothing is left but the image.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kubeletpy import bootstrap, debian
from tests.container.image import CHECKOUT, PACKAGES, Storage, run
from tests.vm.image import ImageError

_SECONDS: Final = 5400.0
_BRIEF: Final = (
    "tests/root/common/test_cgroups.py",
    "tests/root/e2e/test_up.py::test_tour_shows_a_running_pod_and_leaves_nothing",
)
"""Each cgroup operation, and a whole node from its start to its end."""
# Overlay mounts cannot have their upper directory on the container's own file system, which is one.
VOLUMES: Final = ("/srv/checkout", "/tmp", "/var/lib", "/var/log", "/mnt", "/root")
# Where hard limits cannot be raised, not even by root, podman's defaults are refused.
_LOW: Final = ("--ulimit", "nofile=1024:4096", "--ulimit", "nproc=4096:4096")


def main(arguments: Sequence[str]) -> int:
    """Make the image if there is none, run; return the exit status of the tests."""
    parsed, given = _parser().parse_known_args(arguments)
    if os.geteuid() != 0:
        print("tests.container: needs root: start it with sudo")
        return 1
    # The container is not ours by descent: it has to be removed by who is told to end.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    storage = Storage()
    try:
        debian.install(debian.missing(PACKAGES))
        began = time.monotonic()
        image = storage.ensure_image()
        options = working_options(storage, image)
        print(f"tests.container: ready after {time.monotonic() - began:.0f} s", flush=True)
        options += ["--cgroupns", parsed.cgroupns]
        return _run(storage, image, options, chosen(given, parsed.brief))
    except (debian.PackageError, ImageError) as error:
        print(f"tests.container: {error}")
        return 1
    finally:
        storage.close()


def chosen(given: Sequence[str], brief: bool) -> list[str]:
    """Return pytest's arguments: what was given, and the tests if none is named (pure)."""
    if brief:
        return [*_BRIEF, *given]
    named = any((CHECKOUT / one.partition("::")[0]).exists() for one in given)
    return [*given] if named else ["tests/root", *given]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.container", description="Run root tests in a privileged container."
    )
    parser.add_argument("--brief", action="store_true", help="the essence only: half a minute")
    parser.add_argument(
        "--cgroupns", choices=("private", "host"), default="private",
        help="the container's cgroup namespace (default: %(default)s)",
    )  # fmt: skip
    return parser


def working_options(storage: Storage, image: str) -> list[str]:
    """Return the options with which podman starts a container here, found out by trying.

    Raises:
        ImageError: it does with none; the text is what the last try said.
    """
    tries: list[list[str]] = [[], ["--runtime", "runc"], ["--runtime", "runc", *_LOW]]
    said = ""
    for options in tries:
        try:
            run(_container(storage, [*options, "--cgroupns", "private"], image, ["true"]))
        except ImageError as error:
            said = str(error)
        else:
            return options
    raise ImageError(f"podman starts no privileged container here: {said}")


def _container(
    storage: Storage, options: Sequence[str], image: str, command: Sequence[str]
) -> list[str]:
    # --runtime is an option of podman itself, the others are of `run`.
    runtime = ["--runtime", "runc"] if "--runtime" in options else []
    rest = [one for one in options if one not in ("--runtime", "runc")]
    arguments = ["run", "--rm", "--interactive", "--privileged", "--network", "none", "--tz", "UTC"]
    return [*storage.command(*runtime), *arguments, *rest, image, *command]


def _run(storage: Storage, image: str, options: Sequence[str], tests: Sequence[str]) -> int:
    site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    mounts = ["--volume", f"{CHECKOUT}:/src:ro", "--volume", f"{site}:{_site()}:ro"]
    name = f"kubeletpy-tests-{os.getpid()}"
    mounts += volumes(name)
    # In the host's namespace the cgroups of others are seen, which come and go.
    alone = {"KUBELETPY_TESTS_ALONE": "1"} if "private" in options else {}
    environment = {**alone, "KUBELETPY_TESTS_CONTAINER": "1", **_passed()}
    mounts += [f"--env={key}={value}" for key, value in environment.items()]
    pytest = ["/opt/venv/bin/python", "-X", "utf8", "-m", "pytest", "-p", "no:cacheprovider"]
    inside = ["python3", "/src/tests/container/inside.py", *pytest, *tests]
    listed = run(
        ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    )
    there = "\0".join(name for name in listed.split("\0") if (CHECKOUT / name).is_file())
    command = _container(storage, [*options, "--name", name, *mounts], image, inside)
    try:
        done = subprocess.run(command, input=there.encode(), timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"tests.container: no end within {_SECONDS:.0f} s")
        return 1
    finally:
        kept = [f"{name}-{number}" for number in range(len(VOLUMES))]
        for left in (["rm", "--force", "--ignore", name], ["volume", "rm", "--force", *kept]):
            subprocess.run(storage.command(*left), stdout=subprocess.DEVNULL, check=False)
    return done.returncode


def volumes(name: str) -> list[str]:
    """Return podman's options for volumes of a container, whose names begin with its own (pure).

    Those without a name could not have devices and programs that change who runs them.
    """
    options: list[str] = []
    for number, path in enumerate(VOLUMES):
        options += ["--volume", f"{name}-{number}:{path}:dev,exec,suid"]
    return options


def _site() -> str:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return f"/opt/venv/lib/python{version}/site-packages"


def _passed() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key.startswith("KUBELETPY_")}


if __name__ == "__main__":
    # The packages that the tests need are those of the checkout's environment.
    if not any(path.startswith(str(CHECKOUT / ".venv")) for path in sys.path):
        python = bootstrap.ensure_environment(("dev",)).python
        os.execv(python, [str(python), "-m", "tests.container", *sys.argv[1:]])
    sys.exit(main(sys.argv[1:]))
