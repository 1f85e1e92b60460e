"""The text of a function in the small language, made ready to be run: led through the gates of `gates.py`, each on its own line.

The names of the gates begin with an `@`, so no text can reach for them.
"""

from __future__ import annotations

import ast
from copy import deepcopy
from typing import Any, TypeVar

from .scopes import Function

N = TypeVar("N", bound=ast.AST)
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "minus",
    ast.Mult: "mult",
    ast.Pow: "power",
    ast.LShift: "lshift",
    ast.Mod: "mod",
}


def lowered(function: Function) -> Function:
    """The function as it is run. What it was made from stays as it is written."""
    made = _Lowering().visit(deepcopy(function))
    assert isinstance(made, Function)
    made.args.defaults, made.args.kw_defaults = [], [None] * len(made.args.kwonlyargs)
    return ast.fix_missing_locations(made)


def _gate(name: str, where: ast.AST, *given: ast.expr) -> ast.Call:
    return _at(ast.Call(_at(ast.Name(f"@{name}", ast.Load()), where), list(given), []), where)


def _at(node: N, where: ast.AST) -> N:
    return ast.copy_location(node, where)


class _Lowering(ast.NodeTransformer):
    def _function(self, node: Any) -> Any:
        """Without annotations, and with a tick at its beginning, which is one at each call."""
        node.decorator_list, node.returns, node.type_params = [], None, []
        for one in ast.walk(node.args):
            if isinstance(one, ast.arg):
                one.annotation = None
        self.visit(node.args)
        described = ast.get_docstring(node, clean=False) is not None
        tick = _at(ast.Expr(_gate("spend", node)), node)
        node.body = [*node.body[:described], tick, *self._block(node.body[described:])]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_While(self, node: ast.While) -> ast.AST:
        self.generic_visit(node)
        node.test = _at(ast.BoolOp(ast.And(), [_gate("spend", node), node.test]), node)
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = _gate("ticking", node.iter, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.iter = _gate("ticking", node.iter, node.iter)
        return node

    def visit_Assign(self, node: ast.Assign) -> Any:
        value = self.visit(node.value)
        if not any(isinstance(part, ast.Attribute | ast.Tuple) for part in node.targets):
            return _at(ast.Assign([self._target(one) for one in node.targets], value), node)
        return self._stores(node, node.targets, value)

    def _stores(self, node: ast.stmt, targets: list[ast.expr], value: ast.expr) -> list[ast.stmt]:
        """Stores to attributes are calls of a gate; the values of several are first kept in names that no text can have."""
        kept: list[tuple[ast.Attribute, str]] = []

        def plain(target: ast.expr) -> ast.expr:
            if isinstance(target, ast.Attribute):
                kept.append((target, f"@kept{len(kept)}"))
                return _at(ast.Name(kept[-1][1], ast.Store()), target)
            if isinstance(target, ast.Tuple | ast.List):
                return _at(ast.Tuple([plain(one) for one in target.elts], ast.Store()), target)
            return self._target(target)

        several = any(isinstance(one, ast.Tuple | ast.List) for one in targets)
        first = ast.Assign([plain(one) for one in targets], _gate("ordered", value, value) if several else value)
        return [_at(first, node), *(self._store(node, target, name) for target, name in kept)]

    def _store(self, node: ast.stmt, target: ast.Attribute, name: str) -> ast.stmt:
        value = _at(ast.Name(name, ast.Load()), node)
        owner = self.visit(target.value)
        return _at(ast.Expr(_gate("assign", target, owner, _at(ast.Constant(target.attr), target), value)), node)

    def _target(self, target: ast.expr) -> ast.expr:
        if isinstance(target, ast.Subscript):
            return _at(ast.Subscript(self.visit(target.value), self.visit(target.slice), target.ctx), target)
        return target

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            return _at(ast.Pass(), node)
        return self.visit_Assign(_at(ast.Assign([node.target], node.value), node))

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        loaded: Any = ast.parse(ast.unparse(node.target), mode="eval").body
        for one in ast.walk(loaded):
            _at(one, node.target)
        value = _at(ast.BinOp(loaded, node.op, node.value), node)
        return self.visit_Assign(_at(ast.Assign([node.target], value), node))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.body = self._block(node.body)
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        lines: list[ast.stmt] = []
        for one in body:
            made = self.visit(one)
            lines += made if isinstance(made, list) else [made]
        return lines

    def visit_With(self, node: ast.With) -> ast.AST:
        node.body = self._block(node.body)
        return node

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        self.generic_visit(node)
        for item in node.items:
            item.context_expr = _gate("locked", item.context_expr, item.context_expr)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [self.visit(one) for one in node.exc.args]
        return node

    # ---- expressions

    def visit_Call(self, node: ast.Call) -> ast.AST:
        named = [_at(ast.keyword(one.arg, self.visit(one.value)), one) for one in node.keywords]
        given = [self.visit(one) for one in node.args]
        if isinstance(node.func, ast.Attribute):
            function = [self.visit(node.func.value), _at(ast.Constant(node.func.attr), node.func)]
            made = _gate("method", node, *function, *given)
        else:
            made = _gate("call", node, self.visit(node.func), *given)
        made.keywords = named
        return made

    def visit_Await(self, node: ast.Await) -> ast.AST:
        value = node.value
        if isinstance(value, ast.Call) and isinstance(
            value.func, ast.Attribute
        ):  # of a table of operations, and no method
            function = self.visit(value.func)
            call = _gate("call", value, function, *(self.visit(one) for one in value.args))
            call.keywords = [_at(ast.keyword(one.arg, self.visit(one.value)), one) for one in value.keywords]
            return _at(ast.Await(_gate("awaited", value, call)), node)
        return _at(ast.Await(_gate("awaited", value, self.visit(value))), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return _gate("read", node, self.visit(node.value), _at(ast.Constant(node.attr), node))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        name = _OPERATORS.get(type(node.op))
        return _gate(name, node, node.left, node.right) if name else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        node.left, *node.comparators = (_compared(one) for one in (node.left, *node.comparators))
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        return _gate("made", node, node) if isinstance(node.slice, ast.Slice) else node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        self.generic_visit(node)
        node.value = _gate("ordered", node.value, node.value)
        return node

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        return _at(
            ast.FormattedValue(_gate("shown", node.value, self.visit(node.value)), node.conversion, node.format_spec),
            node,
        )

    def _made(self, node: ast.expr) -> ast.AST:
        self.generic_visit(node)
        return _gate("made", node, node)

    visit_JoinedStr = visit_List = visit_Set = visit_Dict = _made
    visit_ListComp = visit_SetComp = visit_DictComp = _made

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        return self._made(node) if isinstance(node.ctx, ast.Load) else node


def _compared(node: ast.expr) -> ast.expr:
    return node if isinstance(node, ast.Constant) else _gate("compared", node, node)
