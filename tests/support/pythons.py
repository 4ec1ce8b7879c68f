"""Other Pythons of this machine; standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def find_python(version: str) -> str | None:
    """Return an interpreter of ``version`` that can make environments, on PATH or of pyenv."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which(f"python{version}")]
    candidates += [str(path) for path in sorted(root.glob(f"versions/{version}*/bin/python3"))]
    for candidate in candidates:
        # A shim of pyenv may be on PATH and yet refuse to run.
        if candidate and _works(candidate):
            return candidate
    return None


def _works(python: str) -> bool:
    probe = [python, "-c", "import ensurepip, venv"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
