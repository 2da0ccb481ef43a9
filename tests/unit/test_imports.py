"""Nothing imports what pyproject.toml does not declare."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(tree: ast.Module) -> set[str]:
    """Top-level modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_third_party_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    # stubs are imported for type checking, what an extra brings inside the function that needs it
    optional = [d for d in extras["dev"] if d.startswith("types-")] + extras["signing"]
    declared = {
        normal(re.split(r"[<>=\[]", d, maxsplit=1)[0])
        for d in [*project["dependencies"], *optional]
    }
    # a stub package brings one distribution a service, imported for type checking only
    declared |= {"types-boto3-s3"}
    providers = packages_distributions()
    missing = set()
    for path in (ROOT / "dagster_project").rglob("*.py"):
        names = imported(ast.parse(path.read_text())) - sys.stdlib_module_names
        for name in names - {"dagster_project"}:
            if not {normal(d) for d in providers.get(name, [])} & declared:
                missing.add(f"{name} ({path.relative_to(ROOT)})")
    assert not missing
