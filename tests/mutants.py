"""Mistakes put into the models, one at a time, and whether the tests see them:

    python tests/mutants.py [K]     lists the survivors of all mutants, or each K-th; exit status 1

A mutant has another node in the syntax tree of its model section, to the end of block 'learning'.
"""
import ast
import builtins
import collections
import itertools
import re
import sys
import types

import numpy as np
from loading import ROOT, SIZES, load
from test_mutants import fate

PAIRS = ("MatMult Mult,Mult Pow,Add Sub,Mult Div,Eq NotEq,Is IsNot,In NotIn,any all,max min,"
         "maximum minimum,sum mean,exp expm1,log log1p,sqrt tanh,zeros_like ones_like")
SWAP = {getattr(ast, x, x): getattr(ast, y, y) for pair in PAIRS.split(",")
        for x, y in (pair.split(), pair.split()[::-1])}
COMMUTATIVE = "dot", "min", "np.maximum", "np.minimum"
NUMPY = types.ModuleType("numpy")       # its empty is nan, or could hold what a mutant before left
vars(NUMPY).update(vars(np), empty=lambda shape, dtype=float: np.full(shape, np.nan, dtype),
                   empty_like=lambda x: np.full_like(x, np.nan))


def variants(node, names):
    """What else could stand there; names: the variables of the statement, and x_ for x."""
    match node:
        case ast.BinOp(left, op, right):
            yield from (left, right, ast.BinOp(left, SWAP[type(op)](), right))
        case ast.AugAssign(target, op, value):
            yield from (ast.Pass(), ast.AugAssign(target, SWAP[type(op)](), value))
        case ast.Compare(left, [op], values):
            yield ast.Compare(left, [SWAP[type(op)]()], values)
        case ast.If() | ast.Expr(ast.Call()) | ast.Assign([ast.Subscript()]):
            yield ast.Pass()
        case ast.Assign([ast.Name(name)]) if name in names:
            yield ast.Pass()
        case ast.IfExp(_, value, other):
            yield from (value, other)
        case ast.Constant(bool() | int() | float() as value):
            yield from map(ast.Constant, {bool: [not value], float: [10 * value],
                                          int: [value + 1, max(value - 1, 0)]}[type(value)])
        case ast.Constant(str() as value) if re.fullmatch(r"[\w.,]+->\w+", value):     # of einsum
            yield from (ast.Constant(value[:-1] + index) for index in sorted(
                set(filter(str.isalpha, value)) - {value[-1]}))
        case ast.Name(name, ast.Load()) if name in names:
            yield from (ast.Name(other, ast.Load()) for other in sorted(names - {name}))
        case (ast.UnaryOp(_, value) | ast.Attribute(value, "T") | ast.Call(ast.Name("reversed"),
              [value]) | ast.Call(ast.Attribute(value, "swapaxes" | "transpose"))):
            yield value
        case ast.Attribute(value, name) if name in SWAP:
            yield ast.Attribute(value, SWAP[name], ast.Load())
        case ast.Call(function, [x, y], keywords) if ast.unparse(function) not in COMMUTATIVE:
            yield ast.Call(function, [y, x], keywords)


def mutants(script, done):
    """Function, a line, the line as it is now, and the module; without the functions in done."""
    source = (ROOT / script).read_text(encoding="utf-8").split("# ---- common: text")[0]
    section = [x for x in ast.parse(source).body if ast.unparse(x).startswith(("def", "EPS"))]
    code = compile(ast.Module(section, []), script, "exec")
    for root in (node for node in section if ast.unparse(node) not in done):
        done.add(ast.unparse(root))
        inside = {}                             # node: the statement that it is in
        for statement in (node for node in ast.walk(root) if isinstance(node, ast.stmt)):
            inside.update(dict.fromkeys(ast.walk(statement), statement))
        every = {node.id for node in inside if isinstance(node, ast.Name)}
        for node, statement in inside.items():
            near = [other for other in inside if inside[other] is statement]
            names = {x.id for x in near if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Load)}
            names |= {twin for x in names for twin in (x + "_", x.rstrip("_"))} & every
            names -= {"np", "math", *dir(builtins), *(
                getattr(x.func, "id", "") for x in near if isinstance(x, ast.Call))}
            kept, line = (node.__class__, node.__dict__), ast.unparse(statement).split("\n")[0]
            for new in [*variants(node, names)]:
                node.__class__, node.__dict__ = new.__class__, {**kept[1], **new.__dict__}
                changed, model = ast.unparse(statement).split("\n")[0], types.ModuleType("mutant")
                vars(model).update({**vars(load(script)), "np": NUMPY})
                exec(code, vars(model))
                exec(compile(ast.Module([root], []), "mutant", "exec"), vars(model))
                node.__class__, node.__dict__ = kept
                if changed != line:
                    yield getattr(root, "name", "constants"), line, changed, model


def main(argv):
    """Exit status 1 if a mutant survives that is not known to be equivalent."""
    every, done, count = int(argv[0]) if argv else 1, set(), collections.Counter()
    for script in SIZES:
        for *mutant, model in itertools.islice(mutants(script, done), 0, None, every):
            result = fate(script, *mutant, model)
            count[script, result] += 1
            if result == "unseen":
                print("{}\n  - {}\n  + {}".format(*mutant))
    print(*(f"{script}: {n:,} {result}" for (script, result), n in count.items()), sep="\n")
    return int(any(result == "unseen" for _, result in count))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
