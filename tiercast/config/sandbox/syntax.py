"""Checks a parsed template, and rewrites its operators to those of this package."""

# ruff: noqa: N802 - Jinja names the methods of a visitor after its classes

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, NoReturn

from jinja2 import meta, nodes
from jinja2.visitor import NodeTransformer

from .environment import Sandbox
from .filters import FILTERS, TESTS
from .operations import TABLE_METHODS, TEXT_METHODS
from .vocabulary import fault

#: Everything else (macros, imports, blocks, ...) is refused: it is of no use in a short text, and could loop.
_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.For,
    nodes.If,
    nodes.Assign,
    nodes.With,
    nodes.Name,
    nodes.Const,
    nodes.Tuple,
    nodes.List,
    nodes.Dict,
    nodes.Pair,
    nodes.Keyword,
    nodes.CondExpr,
    nodes.Filter,
    nodes.Test,
    nodes.Call,
    nodes.Getitem,
    nodes.Getattr,
    nodes.Slice,
    nodes.Concat,
    nodes.Compare,
    nodes.Operand,
    nodes.BinExpr,
    nodes.UnaryExpr,
)

#: Names that a template cannot use for its own values.
_TAKEN = frozenset({"event", "job", "loop", "range"})

#: What a template can know of its job.
_OF_JOB = frozenset({"key"})

_TAGS: dict[type[nodes.Node], str] = {
    nodes.Macro: "{% macro %}",
    nodes.CallBlock: "{% call %}",
    nodes.Import: "{% import %}",
    nodes.FromImport: "{% from %}",
    nodes.Include: "{% include %}",
    nodes.Extends: "{% extends %}",
    nodes.Block: "{% block %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.AssignBlock: "{% set %} around text",
    nodes.Scope: "{% autoescape %}",
    nodes.NSRef: "namespace",
}


class Refused(Exception):
    """A template that cannot be used: `line` is where, counted from 1 within the template's text."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def prepare(tree: nodes.Template, environment: Sandbox, roots: frozenset[str]) -> nodes.Template:
    """Check and rewrite a template's tree; `roots` are the names that it may begin with, `event` among them.

    Raises:
        Refused: it uses what is not allowed, or names what no event has.
    """
    _Rewriter().visit(tree)
    tree.set_environment(environment)
    _check_names(tree, roots)
    return tree


def _check_names(tree: nodes.Template, roots: frozenset[str]) -> None:
    unknown = meta.find_undeclared_variables(tree) - roots
    for node in tree.find_all(nodes.Name):
        if node.name in unknown and node.ctx == "load":
            near = get_close_matches(node.name, ["event"])
            hint = "did you mean event?" if near else "all there is stands in event"
            raise Refused(f'there is no "{node.name}"; {hint}', node.lineno)


def _internal(name: str, node: Any, arguments: list[nodes.Expr]) -> nodes.Filter:
    return nodes.Filter(node, name, arguments, [], None, None, lineno=node.lineno)


def event_path(node: nodes.Node) -> list[Any] | None:
    """The names and numbers of `event.a["b"][0]`, or None for anything else."""
    parts: list[Any] = []
    while True:
        if isinstance(node, nodes.Getattr):
            parts.append(node.attr)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            if not isinstance(node.arg.value, str | int):
                return None
            parts.append(node.arg.value)
        elif isinstance(node, nodes.Name) and node.name == "event":
            return parts[::-1]
        else:
            return None
        node = node.node


class _Rewriter(NodeTransformer):
    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(node, _ALLOWED):
            self._refuse(node, f"{_TAGS.get(type(node), type(node).__name__)} cannot be used here")
        return super().visit(node, *args, **kwargs)

    def visit_Name(self, node: nodes.Name) -> nodes.Node:
        if node.ctx != "load" and node.name in _TAKEN:
            self._refuse(node, f'"{node.name}" cannot be set')
        if node.ctx == "load" and node.name == "event":
            self._refuse(node, "event by itself is no value; name a field of it, such as event.type")
        if node.ctx == "load" and node.name == "job":
            self._refuse(node, "job by itself is no value; name a field of it: job.key")
        if node.name == "self":
            self._refuse(node, '"self" cannot be used here')
        return node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:
        if isinstance(node.node, nodes.Name) and node.node.name == "job":
            if node.attr not in _OF_JOB:
                self._refuse(node, f"there is no job.{node.attr}; a job has {', '.join(sorted(_OF_JOB))}")
            return node
        return self._looked_up(node) or self.generic_visit(node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        if isinstance(node.arg, nodes.Slice):
            bounds = [part or nodes.Const(None, lineno=node.lineno) for part in _bounds(node.arg)]
            return _internal("part of", self.visit(node.node), [self.visit(bound) for bound in bounds])
        return self._looked_up(node) or self.generic_visit(node)

    def _looked_up(self, node: nodes.Expr) -> nodes.Node | None:
        parts = event_path(node)
        if parts is None:
            return None
        wrong = fault(parts)
        if wrong:
            self._refuse(node, wrong)
        root = nodes.Name("event", "load", lineno=node.lineno)
        return _internal("look up", root, [nodes.Const(part, lineno=node.lineno) for part in parts])

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self._plain_arguments(node)
        called = node.node
        if isinstance(called, nodes.Name) and called.name == "range" and node.args and not node.kwargs:
            return _internal("numbers to", self.visit(node.args[0]), [self.visit(one) for one in node.args[1:]])
        if isinstance(called, nodes.Getattr):
            if isinstance(called.node, nodes.Name) and called.node.name == "loop":
                return self.generic_visit(node)
            if called.attr in TEXT_METHODS | TABLE_METHODS and not node.kwargs:
                arguments: list[nodes.Expr] = [nodes.Const(called.attr, lineno=node.lineno)]
                arguments += [self.visit(one) for one in node.args]
                return _internal("call method", self.visit(called.node), arguments)
            raise Refused(f".{called.attr}() cannot be called; use a filter", node.lineno)
        raise Refused("only range() and some methods of text and tables can be called; use a filter", node.lineno)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:
        self._plain_arguments(node)
        if node.name not in FILTERS:
            self._refuse(node, f'there is no filter "{node.name}"{_near(node.name, FILTERS)}')
        return self.generic_visit(node)

    def visit_Test(self, node: nodes.Test) -> nodes.Node:
        self._plain_arguments(node)
        if node.name not in TESTS:
            self._refuse(node, f'there is no test "{node.name}"{_near(node.name, TESTS)}')
        return self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        first = node.ops[0]
        if len(node.ops) == 1 and first.op in {"eq", "ne"} and (_is_none(first.expr) or _is_none(node.expr)):
            # An explicit question about null, and so not one that meets it.
            asked = node.expr if _is_none(first.expr) else first.expr
            test = nodes.Test(self.visit(asked), "none", [], [], None, None, lineno=node.lineno)
            return test if first.op == "eq" else nodes.Not(test, lineno=node.lineno)
        arguments: list[nodes.Expr] = []
        for operand in node.ops:
            arguments += [nodes.Const(operand.op, lineno=node.lineno), self.visit(operand.expr)]
        return _internal("compare with", self.visit(node.expr), arguments)

    def visit_Not(self, node: nodes.Not) -> nodes.Node:
        return _internal("opposite of", self.visit(node.node), [])

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        parts = nodes.List([self.visit(part) for part in node.nodes], lineno=node.lineno)
        return _internal("joined by tilde", parts, [])

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._weighed(node, node.items)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        if node.ctx != "load":
            return self.generic_visit(node)
        return self._weighed(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._weighed(node, [pair.value for pair in node.items])

    def _weighed(self, node: nodes.Expr, parts: list[nodes.Expr]) -> nodes.Node:
        if all(isinstance(part, nodes.Const) for part in parts):
            return node
        self.generic_visit(node)
        return _internal("weighed literal", node, [])

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.recursive:
            self._refuse(node, "a loop cannot be recursive here")
        self.generic_visit(node)
        node.iter = _internal("counted items", node.iter, [])
        return node

    def _plain_arguments(self, node: Any) -> None:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            self._refuse(node, "arguments cannot be given with * or **")

    def _refuse(self, node: nodes.Node, message: str) -> NoReturn:
        raise Refused(message, node.lineno)


def _bounds(node: nodes.Slice) -> tuple[nodes.Expr | None, nodes.Expr | None, nodes.Expr | None]:
    return node.start, node.stop, node.step


def _is_none(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const) and node.value is None


def _near(name: str, known: dict[str, Any]) -> str:
    near = get_close_matches(name, known, 1, 0.6)
    return f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(sorted(known))}"
