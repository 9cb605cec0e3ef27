"""The floors of docs/architecture.md: imports go down, and stand at the top of a module."""

from __future__ import annotations

import ast
from pathlib import Path

import flask_redis_queue

PACKAGE = Path(flask_redis_queue.__file__).parent
FLOORS = [
    ["exceptions", "signals", "keys", "retry", "durations", "functions", "memory"],
    [
        *("codec", "envelope", "protocol", "options", "contracts", "schemas", "handlers"),
        *("registry", "config", "board", "voice"),
    ],
    [
        "clients",
        "diagnosis",
        "scripts",
        "broker",
        "browse",
        "inspector",
        "server",
        "timetravel",
        "acl",
    ],
    ["guard", "processor", "judging", "outcomes", "publisher", "unsent"],
    [
        *("consumer", "subscription", "runners", "lease", "pace", "outage", "pausing"),
        *("stopping", "waiting", "farewell", "holdings", "scales"),
    ],
    ["state", "context"],
    ["cli", "supervisor", "burial", "plan", "testing"],
    ["extension", "__init__"],
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def rooms() -> list[tuple[str, Path, ast.Module]]:
    """:return: Each module: its room, its path, its syntax."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return [
        (p.relative_to(PACKAGE).parts[0].removesuffix(".py"), p, ast.parse(p.read_text()))
        for p in paths
    ]


def imports(tree: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """:return: Every import below a node."""
    return [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


def own_targets(path: Path, node: ast.Import | ast.ImportFrom) -> list[str]:
    """:return: Which rooms of this package an import names."""
    if not isinstance(node, ast.ImportFrom) or not node.level:
        return []
    depth = len(path.relative_to(PACKAGE).parts) - 1
    if node.level <= depth:
        return []  # inside one room
    return [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]


def test_imports_go_down_or_along() -> None:
    """No room imports from a higher floor, and the floors name every room."""
    wrong, edges = [], {}
    for room, path, tree in rooms():
        for node in imports(tree):
            for target in own_targets(path, node):
                edges.setdefault(room, set()).add(target)
                if FLOOR[target] > FLOOR[room]:
                    wrong.append(f"{room} -> {target}")
    assert [] == wrong

    def reaches(start: str, goal: str, seen: set[str]) -> bool:
        nexts = edges.get(start, set()) - seen
        return goal in nexts or any(reaches(n, goal, seen | nexts) for n in nexts)

    assert [] == [room for room in edges if reaches(room, room, set())]


def test_no_import_inside_a_function() -> None:
    """An import stands where a reader looks for it."""
    functions = [
        (path.name, inner.lineno)
        for _, path, tree in rooms()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in imports(node)
    ]
    assert [] == functions


def test_flask_stays_upstairs_and_the_inspector_apart() -> None:
    """Flask is for floors 6 to 8; senders and consumers never import the inspector."""
    wrong = []
    for room, path, tree in rooms():
        for node in imports(tree):
            name = node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
            if name.split(".")[0] == "flask" and FLOOR[room] < FLOOR["state"]:
                wrong.append(f"{room} imports {name}")
            looking = {"acl", "browse", "inspector"} & set(own_targets(path, node))
            if looking and FLOOR[room] not in (FLOOR["broker"], *range(FLOOR["state"], 99)):
                wrong.append(f"{room} imports {', '.join(looking)}")
    assert [] == wrong


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """:return: Its lines, without those of its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def test_modules_and_functions_stay_small() -> None:
    """One duty each: at most 300 lines a module, 40 a function and its documentation."""
    assert [] == [p.name for _, p, _ in rooms() if len(p.read_text().splitlines()) > 300]
    long = [
        f"{path.name}: {node.name}"
        for _, path, tree in rooms()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and length(node) > 40
    ]
    assert [] == long
