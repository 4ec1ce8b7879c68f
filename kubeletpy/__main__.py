"""``python3 -m kubeletpy``: get the environment ready, then run the command line in it.

Runs on the bare interpreter of a fresh machine: nothing here or in ``bootstrap`` may import a
package from outside the standard library.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit code.

    Returns:
        0 on success, 1 when the environment cannot be made ready; the reason is on stderr.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - an older interpreter must get this very line
        sys.stderr.write(
            f"kubeletpy: needs Python 3.11 or newer, this is {sys.version.split()[0]} "
            f"({sys.executable}); start it with a newer one\n"
        )
        return 1
    from kubeletpy import bootstrap

    try:
        bootstrap.enter(sys.argv[1:])
    except bootstrap.BootstrapError as error:
        sys.stderr.write(f"kubeletpy: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("kubeletpy: interrupted; nothing half-made was left\n")
        return 130
    from kubeletpy.cli import main as run_command_line

    run_command_line(prog_name="kubeletpy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
