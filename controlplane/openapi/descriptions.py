"""What fields are for, in the words of the official Python client, where that is installed.

Its models carry the descriptions of the API. They are read as text, not imported: a model is some
dozen milliseconds and half a megabyte otherwise.
"""

from __future__ import annotations

import ast
import re
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Final

from controlplane.openapi.schemas import Describe

# The generator's way from the name of a class to that of its file.
_WORDS: Final = (
    re.compile(r"(.)([A-Z][a-z]+)"),
    re.compile(r"([a-z0-9])([A-Z])"),
)
_MARK: Final = re.compile(r"\s*# noqa: E501")


def describer() -> tuple[Describe, str]:
    """Return what tells descriptions, and a word that changes when they do.

    Without the package ``kubernetes`` it tells none.
    """
    found = PathFinder.find_spec("kubernetes")
    places = list(found.submodule_search_locations or []) if found else []
    models = Path(places[0]) / "client" / "models" if places else None
    if models is None or not models.is_dir():
        return lambda name, field: "", ""
    known: dict[str, dict[str, str]] = {}

    def describe(name: str, field: str) -> str:
        if name not in known:
            known[name] = _of_type(models, name)
        return known[name].get(field, "")

    return describe, str(models.stat().st_mtime_ns)


def _of_type(models: Path, name: str) -> dict[str, str]:
    group, _, rest = name.partition(".")
    version, _, kind = rest.rpartition(".")
    for stem in (f"{version}.{kind}", f"{group}.{version}.{kind}"):
        title = "".join(part[:1].upper() + part[1:] for part in stem.split("."))
        try:
            text = (models / f"{_snake(title)}.py").read_text()
        except OSError:
            continue
        return read_model(text)
    return {}


def read_model(text: str) -> dict[str, str]:
    """Return the descriptions in the source of a model, by field; "" for the model itself."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            about = (ast.get_docstring(node) or "").partition("\n\nAttributes:")[0].strip()
            if about and not about.startswith(("NOTE:", "V1", "V2")):
                found[""] = about
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign):
                    found.update(_of_attribute(statement))
                elif isinstance(statement, ast.FunctionDef):
                    found.update(_of_property(statement))
    return found


def _of_attribute(statement: ast.AnnAssign) -> dict[str, str]:
    """Read ``name: type = Field(serialization_alias=..., description=...)``."""
    value = statement.value
    if not isinstance(statement.target, ast.Name) or not isinstance(value, ast.Call):
        return {}
    words = {
        word.arg: word.value.value
        for word in value.keywords
        if isinstance(word.value, ast.Constant) and isinstance(word.value.value, str)
    }
    text = words.get("description")
    return {words.get("serialization_alias", statement.target.id): text} if text else {}


def _of_property(function: ast.FunctionDef) -> dict[str, str]:
    """Read the property of a model as older generators wrote it."""
    first, _, rest = (ast.get_docstring(function) or "").partition("\n\n")
    if not first.startswith("Gets the "):
        return {}
    text = _MARK.sub("", rest.partition(":return:")[0]).strip()
    head, *tail = function.name.strip("_").split("_")
    return {head + "".join(part.capitalize() for part in tail): text} if text else {}


def _snake(title: str) -> str:
    for words in _WORDS:
        title = words.sub(r"\1_\2", title)
    return title.lower()
