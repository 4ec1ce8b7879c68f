"""Generate the Python code of ``kubeletpy_proto`` from the ``.proto`` files beside this script.

Run it after a change of a ``.proto`` file: ``python proto/generate.py``. It needs the ``dev`` extra
of this project (grpcio-tools and mypy-protobuf). The result is committed, so users need neither.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

HERE = Path(__file__).resolve().parent
PACKAGE = HERE / "kubeletpy_proto"
_PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")


def generate(target: Path) -> None:
    """Compile every ``.proto`` file of this directory into ``target``.

    Raises:
        SystemExit: protoc refused a file; its own message is on stderr.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    sources = sorted(path.name for path in HERE.glob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={HERE}",
            f"--proto_path={Path(grpc_tools.__file__).parent / '_proto'}",
            # The plugins are installed beside the interpreter, which need not be on PATH.
            *(f"--plugin={name}={scripts / name}" for name in _PLUGINS),
            f"--python_out={target}",
            f"--mypy_out=quiet:{target}",
            f"--grpc_python_out={target}",
            f"--mypy_grpc_out=quiet:{target}",
            *sources,
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status} on {', '.join(sources)}")
    for path in [*target.glob("*_pb2_grpc.py*"), *target.glob("*_pb2.pyi")]:
        _make_imports_relative(path)


def _make_imports_relative(path: Path) -> None:
    # protoc writes absolute imports of sibling modules, which only resolve if this package's
    # directory itself is on sys.path.
    text = path.read_text()
    text = re.sub(r"^import (\w+_pb2)", r"from . import \1", text, flags=re.MULTILINE)
    path.write_text(text)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE)
