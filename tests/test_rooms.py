"""The rooms of the package: imports between them go one way, and the wheel holds them all."""

from __future__ import annotations

import ast
import re
import zipfile
from pathlib import Path

from workflow.carried import OF_THE_WORKFLOW
from workflow.chapters import ROOT

PACKAGE = ROOT / "addlib"


def order_of_rooms() -> dict[str, int]:
    """Each room and loose module with its row in the README's table of rooms."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## What is where")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    order = {}
    for number, row in enumerate(rows):
        for name in re.findall(r"`(\w+)/?`", row.split("|")[1]):
            order[name] = number
    return order


def room_of(path: Path) -> str:
    """The room of a file of the package, or the module itself where it is a loose one."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a module imports, at its top, in a function or for types."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("addlib."):
            rooms.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "addlib":
            rooms |= {name.name for name in node.names}
        elif isinstance(node, ast.Import):
            names = [name.name.split(".") for name in node.names]
            rooms |= {parts[1] for parts in names if parts[0] == "addlib" and len(parts) > 1}
    return rooms - {"__version__"}


def test_every_room_stands_in_the_readme_and_nothing_else_does() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE]
    loose = [path for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    assert {room_of(path) for path in [*files, *loose]} == set(order_of_rooms())


def test_imports_between_rooms_go_one_way() -> None:
    order = order_of_rooms()
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = room_of(path)
        for room in imported_rooms(path) - {own}:
            loose = order[room] == order[own] == 0  # the small modules on top may use each other
            if order[room] > order[own] or (order[room] == order[own] and not loose):
                wrong.append(f"{path.relative_to(ROOT)} imports {room}, which stands below {own}")
    assert not wrong, "\n".join(wrong)


def test_the_wheel_holds_every_module_and_every_data_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    data = [path for path in (PACKAGE / "data").glob("*.json") if path.name not in OF_THE_WORKFLOW]
    wanted = [*PACKAGE.rglob("*.py"), *data]
    assert {str(path.relative_to(ROOT)) for path in wanted} <= held
