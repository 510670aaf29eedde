"""What a model's file does not tell, and how a chapter goes on without it.

A chapter asks for more than a file has: losses of the training, earlier weights, a shape like the
book's. Each statement that needs it is passed over, and the names that it would have set become
:class:`Unknown`. What uses such a name is passed over in turn, and a text with such a field gives
the reason in its place.
"""

from __future__ import annotations

import ast
from typing import Any, NoReturn

from IPython import get_ipython
from IPython.display import display

NO_TRAINING = "the file holds one state of the model and nothing of its training"
"""Why losses and earlier weights are missing."""


class LeftOut(Exception):
    """Something needs what is not known; the message says why it is not."""


class Unknown:
    """A value that is not known: any use raises :class:`LeftOut`.

    Args:
        reason: why, in half a sentence.
        shown: what a text has in its place; empty leaves the text out.
    """

    def __init__(self, reason: str, shown: str = "") -> None:
        self.reason = reason
        self.shown = shown

    def __format__(self, form: str) -> str:
        return self.shown or self._refuse()

    def __repr__(self) -> str:
        return f"Unknown({self.reason!r})"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # how Python and IPython ask whether it can do something
            raise AttributeError(name)
        return self._refuse()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise LeftOut(self.reason)

    __hash__ = object.__hash__


OPERATORS = (
    *("call", "getitem", "setitem", "iter", "len", "bool", "contains"),
    *("float", "int", "index", "array", "str", "neg", "abs", "eq", "ne", "lt", "le", "gt", "ge"),
    *(side + name for side in ("", "r") for name in ("add", "sub", "mul", "truediv", "floordiv")),
    *(side + name for side in ("", "r") for name in ("mod", "pow", "matmul", "and", "or")),
)
"""What Python's operators and built-in functions call on a value, without the underscores."""

for _name in OPERATORS:
    setattr(Unknown, f"__{_name}__", Unknown._refuse)

CHANGES = ("append", "extend", "update", "add", "insert", "setdefault")
"""Methods that change what they are called on."""


def leave_out() -> None:
    """From the next cell on, pass over statements that raise, and say so below the cell."""
    shell = get_ipython()
    if shell is None or any(isinstance(t, _PassOver) for t in shell.ast_transformers):
        return
    shell.user_ns["_pass_over"] = _pass_over
    shell.ast_transformers.append(_PassOver())


def leaves_out() -> bool:
    """Whether this notebook passes over what it can't do."""
    shell = get_ipython()
    return shell is not None and any(isinstance(t, _PassOver) for t in shell.ast_transformers)


def reason_of(error: Exception) -> str:
    """Why something was left out, in a line; of an error its kind and the first line it says."""
    if isinstance(error, LeftOut):
        return str(error)
    said = str(error).strip().splitlines()[:1]
    what = ": ".join([type(error).__name__, *said]).rstrip(".")
    return f"this step was written for models of another shape ({what})"


def note(reason: str) -> dict[str, object]:
    """What stands in the place of something left out, as a bundle to display."""
    return {"text/markdown": f"*Left out: {reason}.*", "text/plain": f"Left out: {reason}."}


def _pass_over(error: Exception, uses: tuple[str, ...], sets: tuple[str, ...]) -> None:
    """Called where a statement raised: the names that it would have set become unknown.

    Other libraries raise errors of their own where they meet an unknown value.
    """
    shell = get_ipython()
    used = [shell.user_ns.get(name) for name in uses]
    reasons = [value.reason for value in used if isinstance(value, Unknown)]
    reason = reason_of(error) if isinstance(error, LeftOut) or not reasons else reasons[0]
    for name in sets:
        shell.user_ns[name] = Unknown(reason)
    said = (shell.execution_count, reason)
    if said not in _said:
        _said.add(said)
        display(note(reason), raw=True)


_said: set[tuple[int, str]] = set()
"""Cells and reasons that were given below them: once is enough."""


class _PassOver(ast.NodeTransformer):
    """Puts each statement of a cell into a ``try`` of its own."""

    def visit_Module(self, module: ast.Module) -> ast.Module:
        body: list[ast.stmt] = []
        for statement in module.body:
            shown = statement is module.body[-1] and isinstance(statement, ast.Expr)
            tried: ast.stmt = statement
            if shown:
                target = ast.Name("_shown", ast.Store())
                tried = ast.Assign([target], statement.value)  # type: ignore[attr-defined]
            handler = ast.parse(
                f"try:\n    pass\nexcept Exception as _error:\n    _shown = None\n"
                f"    _pass_over(_error, {_names_used_by(statement)}, {_names_set_by(statement)})"
            ).body[0]
            assert isinstance(handler, ast.Try)
            handler.body = [tried]
            body.append(ast.copy_location(handler, statement))
            if shown:
                body.append(ast.copy_location(ast.Expr(ast.Name("_shown", ast.Load())), statement))
        module.body = body
        return ast.fix_missing_locations(module)


def _names_used_by(statement: ast.stmt) -> tuple[str, ...]:
    """All names in a statement that it reads."""
    nodes = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    return tuple(sorted({node.id for node in nodes if isinstance(node.ctx, ast.Load)}))


def _names_set_by(statement: ast.stmt) -> tuple[str, ...]:
    """The names that a statement sets or changes, not those inside its functions."""
    names = set()
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        if isinstance(
            node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
        ):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            names |= _owner(node)
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in CHANGES:
            names |= _owner(called.value)
        if isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        waiting += ast.iter_child_nodes(node)
    return tuple(sorted(names))


def _owner(node: ast.expr) -> set[str]:
    """The name in front of a chain of indices: ``kept[a][b]`` → ``kept``."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()
