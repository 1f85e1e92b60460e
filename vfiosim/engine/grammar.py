"""The small language of kernel functions: what one may be made of. Asked of its text, before anything runs.

Locals, `if`, `while`, `for`, `try … except KernelError`, `async with`, comprehensions, awaits of effects and of kernel functions,
and a short list of builtins: that is all kernel code needs. So whatever one call knows of another is in a field of the kernel,
where a search of schedules sees it, and no function can catch what ends it. `gates.py` says what names may stand for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias, get_origin

from ..uapi import KernelError
from .effects import KernelOops
from .kinds import instead_of_store
from .scopes import Function, bound, evaluated

Refusal: TypeAlias = tuple[ast.AST, str]  # where, and what is to be written instead

_STATEMENTS = (
    ast.Expr, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Raise, ast.If, ast.For, ast.While, ast.Try, ast.With,
    ast.AsyncWith, ast.Assert, ast.Pass, ast.Break, ast.Continue, ast.FunctionDef, ast.AsyncFunctionDef,
)  # fmt: skip
_EXPRESSIONS = (
    ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Call, ast.Await, ast.BinOp, ast.UnaryOp, ast.BoolOp,
    ast.Compare, ast.IfExp, ast.Tuple, ast.List, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
    ast.JoinedStr, ast.FormattedValue, ast.Starred, ast.NamedExpr,
)  # fmt: skip
_PARTS = (
    ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.arguments, ast.arg, ast.keyword, ast.withitem,
    ast.comprehension, ast.ExceptHandler,
)  # fmt: skip
_KEEPS = "keeps something from one call to the next: shared state must be a field that the kernel has"
_NO_YIELD = "yields: kernel code awaits effects, and answers by `return`"
_NO_IMPORT = "imports something: write the import above the function"
_INSTEAD: dict[type[ast.AST], str] = {
    ast.Global: _KEEPS,
    ast.Nonlocal: _KEEPS,
    ast.Import: _NO_IMPORT,
    ast.ImportFrom: _NO_IMPORT,
    ast.ClassDef: "declares a class: the kernel's structs are there already, write functions",
    ast.Lambda: "has a lambda: write a `def` with a name",
    ast.Yield: _NO_YIELD,
    ast.YieldFrom: _NO_YIELD,
    ast.AsyncFor: "has an `async for`: write `for` or `while`, and await in its body",
    ast.Delete: "deletes something: store None in a field, and just leave a local variable alone",
}
MUTATING = frozenset((
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort",
    "update",
))  # fmt: skip
_FRESH = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp)
_MAKES = (list, dict, set, sorted, bytearray)
INSIDE_OF_CELLS = {"value", "held", "slots", "holder", "readers"}


def refusals(function: Function, names: Mapping[str, Any], strict: bool = False) -> Iterator[Refusal]:
    """What a function has that kernel code must not have. `names`: what the names from outside of it stand for.

    `strict`: a store to an attribute must be one to a struct of the call for certain; otherwise that is asked again while it runs.
    """
    return _Reader(function, names, strict, set()).read()


class _Reader:
    """Reads one function, and those that stand in it."""

    def __init__(self, function: Function, names: Mapping[str, Any], strict: bool, around: set[str]) -> None:
        self._function, self._names, self._strict = function, names, strict
        self._parents = {child: parent for parent in ast.walk(function) for child in ast.iter_child_nodes(parent)}
        self._bound = around | bound(function)
        arguments = function.args
        self._parameters = {one.arg: one for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        self._given: dict[str, list[ast.expr | None]] = {}  # by name: what it is given; None for what is not known
        self._asked: set[str] = set()  # what it is being found out about: it may be given a part of itself
        for node in evaluated(function):
            if not isinstance(node, Function):
                self._note(node)

    def read(self) -> Iterator[Refusal]:
        """All that is refused."""
        yield from self._head()
        for node in evaluated(self._function):
            if self._inner(node) is self._function:
                inside = _Reader(node, self._names, self._strict, self._bound) if isinstance(node, Function) else None
                yield from inside.read() if inside else self._node(node)

    def _inner(self, node: ast.AST) -> ast.AST:
        """The function that a node stands in. A default value stands around its function."""
        before, node = node, self._parents[node]
        while not isinstance(node, Function) or (isinstance(before, ast.arguments) and node is not self._function):
            before, node = node, self._parents[node]
        return node

    def _note(self, node: ast.AST) -> None:
        pairs: list[tuple[ast.expr, ast.expr | None]] = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign):
            pairs = [(node.target, node.annotation if self._is_of_one_call(node.annotation) else node.value)]
        elif isinstance(node, ast.NamedExpr):
            pairs = [(node.target, node.value)]
        elif isinstance(node, ast.For | ast.comprehension):
            pairs = [(node.target, self._element(node.iter))]
        elif isinstance(node, ast.withitem) and node.optional_vars:
            pairs = [(node.optional_vars, None)]
        for target, value in pairs:
            self._give(target, value)

    def _element(self, values: ast.expr) -> ast.expr | None:
        """What a parameter consists of, if it is declared as a list of structs of the call; None otherwise."""
        declared = self._declared(values)
        if isinstance(declared, ast.Subscript) and self._is_of_one_call(declared.slice):
            return declared.slice
        return None

    def _declared(self, node: ast.expr) -> ast.expr | None:
        parameter = self._parameters.get(node.id) if isinstance(node, ast.Name) else None
        return parameter.annotation if parameter is not None else None

    def _give(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self._given.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
            values = value.elts if same and isinstance(value, ast.Tuple | ast.List) else [None] * len(target.elts)
            for one, its in zip(target.elts, values, strict=True):
                self._give(one, its)
        elif isinstance(target, ast.Starred):
            self._give(target.value, None)

    # ---- one node

    def _head(self) -> Iterator[Refusal]:
        function = self._function
        for decorator in function.decorator_list:
            yield decorator, f"has a decorator, @{ast.unparse(decorator)}: write the function without it"

    def _node(self, node: ast.AST) -> Iterator[Refusal]:
        if not isinstance(node, (*_STATEMENTS, *_EXPRESSIONS, *_PARTS)):
            yield node, _INSTEAD.get(type(node), f"has a {type(node).__name__.lower()}, which kernel code does without")
            return
        look = getattr(self, f"on_{type(node).__name__.lower()}", None)
        if look is not None:
            yield from look(node)

    def on_attribute(self, node: ast.Attribute) -> Iterator[Refusal]:
        written = ast.unparse(node)
        if node.attr.startswith("_"):
            yield node, f"reaches for `{written}`: what begins with an underscore is Python's, and not the kernel's"
        elif node.attr in INSIDE_OF_CELLS and not self._strict:
            yield node, f"looks into a field, `{written}`: write `await load({ast.unparse(node.value)})`"
        elif isinstance(node.ctx, ast.Store):
            yield from self._instead(node)

    def _instead(self, node: ast.Attribute) -> Iterator[Refusal]:
        root: ast.expr = node.value
        while isinstance(root, ast.Attribute):
            root = root.value
        sure = isinstance(root, ast.Name) and self._stands_for_a_struct(root.id)
        given = isinstance(root, ast.Name) and root.id in self._given and root.id not in self._parameters
        good = self._is_assigned(node) and (sure or (given and not self._strict))
        if not good and not _is_pythons(node.value):
            assigned = self._parents[node]
            value = ast.unparse(assigned.value) if isinstance(assigned, ast.Assign) else "…"
            yield node, instead_of_store(ast.unparse(node.value), node.attr, value)

    def _is_assigned(self, node: ast.AST) -> bool:
        """Does it stand on the left of an `=`? It may be a loop variable too."""
        parent = self._parents[node]
        while isinstance(parent, ast.Tuple | ast.List | ast.Starred):
            parent = self._parents[parent]
        return isinstance(parent, ast.Assign | ast.AnnAssign | ast.AugAssign)

    def _stands_for_a_struct(self, name: str) -> bool:
        """Is all that a name is ever given a struct of this call alone?"""
        if name in self._parameters:
            return name not in self._given and self._is_of_one_call(self._parameters[name].annotation)
        values = self._given.get(name, [])
        if name in self._asked or not values:
            return False
        self._asked.add(name)
        sure = all(value is not None and self._makes_a_struct(value) for value in values)
        self._asked.remove(name)
        return sure

    def _makes_a_struct(self, value: ast.expr) -> bool:
        """A class of structs by itself stands for what is declared to be one."""
        if isinstance(value, ast.Call):
            made = value.func
            if isinstance(made, ast.Attribute) and made.attr == "from_buffer_copy":
                made = made.value
            return self._is_of_one_call(made)
        return self._is_of_one_call(value) or self._is_inside_of_a_struct(value)

    def _is_inside_of_a_struct(self, value: ast.expr) -> bool:
        """A part of what belongs to this call, such as the argument of the call."""
        if not isinstance(value, ast.Attribute):
            return False
        if isinstance(value.value, ast.Name):
            if value.value.id not in self._parameters:
                return self._stands_for_a_struct(value.value.id)
            parts = getattr(self.resolved(self._declared(value.value)), "of_one_call", ())
            return parts is True or (isinstance(parts, tuple) and value.attr in parts)
        return self._is_inside_of_a_struct(value.value)

    def _is_of_one_call(self, node: ast.expr | None) -> bool:
        return bool(getattr(self.resolved(node), "of_one_call", False))

    def resolved(self, node: ast.expr | None) -> Any:
        """What a name from outside stands for, also with a module before it; None where that is not known."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            with suppress(SyntaxError):
                node = ast.parse(node.value, mode="eval").body
        if isinstance(node, ast.Name):
            return None if node.id in self._bound else self._names.get(node.id)
        return getattr(self.resolved(node.value), node.attr, None) if isinstance(node, ast.Attribute) else None

    def _is_fresh(self, value: ast.expr | None) -> bool:
        """Is it a list, a set or a dictionary that is made here?"""
        if isinstance(value, ast.Call):
            made = self.resolved(value.func)
            return any(made is one for one in _MAKES)
        if isinstance(value, ast.IfExp):
            return self._is_fresh(value.body) and self._is_fresh(value.orelse)
        if isinstance(value, ast.BinOp):
            return self._is_fresh(value.left) or self._is_fresh(value.right)
        return isinstance(value, _FRESH)

    def _is_mine(self, node: ast.expr) -> bool:
        """A local variable that only ever stands for a list, a set or a dictionary that was made here."""
        if not isinstance(node, ast.Name) or node.id in self._parameters:
            return False
        values = self._given.get(node.id, [])
        return bool(values) and all(map(self._is_fresh, values))

    def _is_callers(self, node: ast.expr) -> bool:
        """A parameter that is declared as a list, into which a caller wants to have something: `found: list[Page]`."""
        declared = self._declared(node)
        by_name = get_origin(self.resolved(declared)) is list
        return by_name or (isinstance(declared, ast.Subscript) and self.resolved(declared.value) is list)

    def on_subscript(self, node: ast.Subscript) -> Iterator[Refusal]:
        if not isinstance(node.ctx, ast.Load) and not self._is_mine(node.value) and not _is_pythons(node.value):
            written = ast.unparse(node.value)
            yield (
                node,
                f"changes a part of `{written}`, which was not made in this function: "
                "a table of the kernel is changed by `await xa_store(table, slot, value)`",
            )

    def on_call(self, node: ast.Call) -> Iterator[Refusal]:
        called = node.func
        changes = isinstance(called, ast.Attribute) and called.attr in MUTATING and not self._is_awaited(node)
        if (
            isinstance(called, ast.Attribute)
            and changes
            and not (self._is_mine(called.value) or self._is_callers(called.value))
        ):
            yield (
                node,
                f"changes `{ast.unparse(called.value)}`, which was not made in this function: store a new tuple in a field, "
                "`await store(field, (*before, new))`",
            )

    def _is_awaited(self, node: ast.AST) -> bool:
        return isinstance(self._parents[node], ast.Await)

    def on_generatorexp(self, node: ast.GeneratorExp) -> Iterator[Refusal]:
        if not isinstance(self._parents[node], ast.Call | ast.Starred):
            yield node, "keeps a generator: write a list, [… for …]"
        later = (
            node.elt,
            *(part for one in node.generators for part in one.ifs),
            *(one.iter for one in node.generators[1:]),
        )
        for inside in (one for part in later for one in ast.walk(part) if isinstance(one, ast.Await)):
            yield inside, "awaits inside of a generator: write a list, [await … for …]"

    def on_comprehension(self, node: ast.comprehension) -> Iterator[Refusal]:
        if node.is_async:
            yield node.iter, _INSTEAD[ast.AsyncFor]

    def on_try(self, node: ast.Try) -> Iterator[Refusal]:
        if node.finalbody:
            yield (
                node.finalbody[0],
                "has a `finally`: write `except KernelError:` with what is to be undone, and `raise`",
            )

    def on_excepthandler(self, node: ast.ExceptHandler) -> Iterator[Refusal]:
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if not all(_is_kind(self.resolved(kind), KernelError) for kind in kinds):
            what = f"`except {ast.unparse(node.type)}`" if node.type else "a bare `except`"
            yield node, f"catches too much, {what}: kernel code fails with a KernelError, so write `except KernelError`"

    def on_raise(self, node: ast.Raise) -> Iterator[Refusal]:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        caught = isinstance(raised, ast.Name) and raised is node.exc and raised.id in self._bound
        kind = self.resolved(raised)
        if raised is not None and not caught and not (_is_kind(kind, KernelError) or _is_kind(kind, KernelOops)):
            yield (
                node,
                f"raises {ast.unparse(raised)}: kernel code fails by `await refuse_if(condition, errno, name, sentence)`",
            )

    def on_with(self, node: ast.With) -> Iterator[Refusal]:
        for item in node.items:
            made = item.context_expr
            good = isinstance(made, ast.Call) and self.resolved(made.func) is suppress
            good = good and all(_is_kind(self.resolved(one), KernelError) for one in made.args)  # type: ignore[attr-defined]
            if not good or item.optional_vars:
                yield (
                    made,
                    f"has `with {ast.unparse(made)}`: a lock is taken by `async with lock:`; else there is only "
                    "`with suppress(KernelError):`",
                )

    def on_joinedstr(self, node: ast.JoinedStr) -> Iterator[Refusal]:
        for part in node.values:
            spec = part.format_spec if isinstance(part, ast.FormattedValue) else None
            if spec is not None and (
                re.search(r"\d{4}", ast.unparse(spec))
                or any(isinstance(one, ast.FormattedValue) for one in ast.walk(spec))
            ):
                yield node, "writes a text of unknown width: a format has a fixed width of at most 999"


def _is_pythons(node: ast.AST) -> bool:
    """Does something in it begin with an underscore? That is refused by itself."""
    return any(isinstance(one, ast.Attribute) and one.attr.startswith("_") for one in ast.walk(node))


def _is_kind(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)
