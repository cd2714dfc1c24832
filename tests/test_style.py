"""The house rules that a script can check: who imports whom, how long things are, what docstrings say."""

import ast
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tsforecast"
MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in MODULES}

# A module imports from its own room and from those before it. The rooms of single files stand with the packages.
ROOMS = ("base", "backends", "nn", "data", "estimators", "forecasting", "cli")
ROOM_OF_FILE = {
    "cells": "base",
    "parameters": "base",
    "spec": "base",
    "topology": "base",
    "exceptions": "base",
    "_files": "base",
    "_container": "base",
    "persistence": "data",
    "datasets": "data",
    "metrics": "data",
    "_scores": "data",
    "_compat": "estimators",
    "__main__": "cli",
    "_arguments": "cli",
    "_commands": "cli",
}
# Libraries beyond the standard one that a room may use; numpy everywhere.
LIBRARIES = {
    "base": set(),
    "backends": {"numba", "llvmlite", "cuda"},
    "nn": set(),
    "data": {"pandas", "narwhals"},
    "estimators": {"pandas", "narwhals", "sklearn", "scipy", "matplotlib"},
    "forecasting": {"pandas", "narwhals", "sklearn", "matplotlib", "pyarrow"},
    "cli": {"pandas", "narwhals", "sklearn", "matplotlib", "pyarrow", "numba", "llvmlite"},
}
EVERYWHERE = {"numpy"}
FILE_LINES, LONG_FILE_LINES, FUNCTION_LINES = 250, 300, 60
# One concern each, which a cut would only spread: the first two are mostly docstring and signature, the others kernels
# that share their letters, their buffers and the numbers of their lines.
LONG_FILES = (
    "tsforecast/forecasting/forecaster.py",
    "tsforecast/estimators/lstm.py",
    "tsforecast/backends/cpu/lstm.py",
    "tsforecast/backends/cpu/layer_norm.py",
    "tsforecast/backends/cuda/",
)


def name_of(path):
    return str(path.relative_to(PACKAGE.parent))


def room_of(parts):
    """Room of the module ``tsforecast.<parts>``; the package itself holds only names and the version."""
    if not parts:
        return "base"
    return ROOM_OF_FILE.get(parts[0], parts[0])


def imports_of(tree):
    """Modules that a tree imports, anywhere but under TYPE_CHECKING, as dotted names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            # ``from tsforecast import datasets`` imports a module, ``from tsforecast.spec import CELLS`` a name.
            yield from (
                (f"{node.module}.{alias.name}" for alias in node.names)
                if node.module == "tsforecast"
                else ([node.module])
            )
        else:
            yield from imports_of(node)


@pytest.mark.parametrize("path", [path for path in MODULES if path != PACKAGE / "__init__.py"], ids=name_of)
def test_imports_go_one_way(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    room = room_of(parts)
    for module in imports_of(TREES[path]):
        head, *rest = module.split(".")
        if head == "tsforecast":
            assert ROOMS.index(room_of(rest)) <= ROOMS.index(room), f"{name_of(path)} ({room}) imports {module}"
        elif head not in sys.stdlib_module_names:
            assert head in LIBRARIES[room] | EVERYWHERE, f"{name_of(path)} ({room}) imports {head}"


def functions_of(tree):
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def test_files_and_functions_are_short():
    long = []
    for path in MODULES:
        lines = len(path.read_text().splitlines())
        if lines > (LONG_FILE_LINES if name_of(path).startswith(LONG_FILES) else FILE_LINES):
            long.append(f"{name_of(path)}: {lines} lines")
        for node in functions_of(TREES[path]):
            body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
            size = node.end_lineno - body[0].lineno + 1
            # What makes kernels for a size is as long as what it holds besides them; they are judged by themselves.
            inside = [child for child in body if isinstance(child, ast.FunctionDef)] if "backends" in path.parts else []
            size -= sum(child.end_lineno - child.lineno + 1 for child in inside)
            # An estimator's __init__ stores one parameter a line, and nothing else.
            if size > FUNCTION_LINES and not all(ast.unparse(line).startswith("self.") for line in body):
                long.append(f"{name_of(path)}:{node.lineno} {node.name}: {size} lines")
    assert long == []


def test_no_forbidden_jit_options():
    """No fastmath and no parallel loops, so that a seed gives the same bits; no cache=True, which can go stale."""
    found = [
        f"{name_of(path)}:{node.lineno} {ast.unparse(keyword)}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg in ("fastmath", "parallel", "cache") and ast.unparse(keyword.value) != "False"
    ]
    assert found == []


def documented_parameters(docstring):
    """Names in the Parameters section of a numpydoc docstring, in order; None without that section."""
    match = re.search(r"^Parameters\n-{3,}\n(.*?)(?=^\S[^\n]*\n-{3,}$|\Z)", docstring, re.DOTALL | re.MULTILINE)
    if match is None:
        return None
    heads = [line.split(" : ")[0] for line in match[1].splitlines() if re.match(r"[\w*]", line)]
    return [name.strip() for head in heads for name in head.split(",")]


def signature_of(node):
    """Names of the parameters of a function, or of what a class is made from."""
    if isinstance(node, ast.ClassDef):
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        if not inits:  # a dataclass
            return [
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and "init=False" not in ast.unparse(item)
            ]
        node = inits[0]
    args = node.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
    names += [f"*{args.vararg.arg}"] if args.vararg else []
    names += [arg.arg for arg in args.kwonlyargs]
    names += [f"**{args.kwarg.arg}"] if args.kwarg else []
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def documented_nodes():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield path, node, ast.get_docstring(node) or ""


def test_docstrings_name_the_parameters_of_the_signature():
    wrong = []
    for path, node, docstring in documented_nodes():
        found = documented_parameters(docstring)
        if found is not None and sorted(found) != sorted(signature_of(node)):
            odd = sorted(set(found) ^ set(signature_of(node)))
            wrong.append(f"{name_of(path)}:{node.lineno} {node.name}: {', '.join(odd) or 'a name twice'}")
    assert wrong == []


def test_numpydoc_sections_are_known_and_in_order():
    known = [
        "Parameters",
        "Attributes",
        "Returns",
        "Yields",
        "Raises",
        "Warns",
        "See Also",
        "Notes",
        "References",
        "Examples",
    ]
    for path, node, docstring in documented_nodes():
        heads = [a for a, b in pairwise(docstring.splitlines()) if re.fullmatch(r"-{3,}", b)]
        places = [known.index(head) if head in known else -1 for head in heads]
        assert -1 not in places and places == sorted(places), f"{name_of(path)}:{node.lineno} {node.name}: {heads}"  # noqa: PT018
