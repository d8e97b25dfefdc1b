"""What is taken from PyTorch's inside: it is there, one module takes it, and a PyTorch without it is survived."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffcheck import check, gradcheck, rule, torch_internals, versions
from diffcheck.audit.database import entries
from diffcheck.audit.judge import Plan
from diffcheck.audit.run import audit
from diffcheck.declare.operation import operation
from diffcheck.errors import DiffcheckError
from diffcheck.torch_internals import HOOKS
from diffcheck.verdict import Result, Verdict
from tests.support.loaded import real

PACKAGE = Path(torch_internals.__file__).parent
X = torch.tensor([0.3, -1.2], dtype=torch.float64)


# ---------------------------------------------------------------------------------------------------------------------
# They are there
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOOKS)
def test_this_pytorch_has_it(name: str):
    assert torch_internals.find(name) is not None, f"torch {torch.__version__} has no {name}, which {HOOKS[name]}"


# ---------------------------------------------------------------------------------------------------------------------
# Nothing goes past the one module
# ---------------------------------------------------------------------------------------------------------------------

PRIVATE = re.compile(r"torch(\.\w+)*\._(?!_\w+__$)")


def written_out(node: ast.AST) -> str:
    """A dotted name as text; empty of anything else."""
    if isinstance(node, ast.Attribute):
        before = written_out(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def private_names(source: str) -> set[str]:
    """The names of PyTorch's inside that a module imports or writes out."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            found.add(written_out(node))
    return {name for name in found if PRIVATE.match(name)}


def test_private_names_are_seen():
    source = "import torch._C\nfrom torch.utils import _pytree\ndef f(x): return torch._ops.x, x._C, torch.sin"
    assert private_names(source) == {"torch._C", "torch.utils._pytree", "torch._ops.x", "torch._ops"}


def test_no_other_module_knows_pytorchs_inside():
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "torch_internals.py"]
    assert len(files) > 50
    found = {str(file.relative_to(PACKAGE)): private_names(file.read_text(encoding="utf-8")) for file in files}
    assert {name: names for name, names in found.items() if names} == {}


# ---------------------------------------------------------------------------------------------------------------------
# A PyTorch to come, which lacks one of them
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Takes a hook away."""
    resolved = torch_internals._resolved

    def forget() -> None:
        torch_internals._known.cache_clear()
        operation.cache_clear()

    def take(name: str) -> None:
        def lacking(wanted: str) -> Any:
            if wanted == name:
                raise AttributeError(wanted)
            return resolved(wanted)

        monkeypatch.setattr(torch_internals, "_resolved", lacking)
        forget()

    yield take
    monkeypatch.undo()
    forget()


@torch.library.custom_op("diffcheck_hooks::halved", mutates_args=())
def halved(x: Tensor) -> Tensor:
    """A custom operation whose function can be followed."""
    return x / 2


halved.register_autograd(lambda ctx, grad: grad / 2)


def checked(function: Any, *args: Any, mode: str = "reverse", **options: Any) -> list[Result]:
    return list(check(function, *args, modes=mode, dtypes=["float64"], seed=1, **options))


def audited() -> list[Result]:
    return [r for done in audit(entries(["expm1"]), Plan(("reverse",), samples=1)) for r in done.results]


def of_rule() -> list[Result]:
    given = rule(torch.ops.diffcheck_hooks.halved, lambda x: x / 2)
    return checked(lambda x: halved(x), X, rules=[given])


def without_a_name() -> list[Result]:
    rule("diffcheck_hooks::halve", lambda x: x / 2)
    return []


def in_batches() -> list[Result]:
    leaf = X.clone().requires_grad_()
    assert gradcheck(torch.sin, (leaf,), check_forward_ad=True, check_batched_forward_grad=True)
    return []


def sums(x: Tensor) -> tuple[Tensor, ...]:
    return x.sum(), x * 2


NEEDS: dict[str, Callable[[], list[Result]]] = {
    "torch._C._is_fwd_grad_enabled": lambda: checked(lambda x: x.detach() * x, X),
    "torch._C.DispatchKey.CompositeImplicitAutograd": lambda: checked(halved, X),
    "torch._C._dispatch_has_kernel": of_rule,
    "torch._C._jit_get_all_schemas": without_a_name,
    "torch._ops.OpOverload": of_rule,
    "torch._ops.OpOverloadPacket": of_rule,
    "torch.ops.aten.add.Tensor._schema": lambda: checked(torch.exp, X),
    "torch.ops.aten.add.Tensor._overloadname": lambda: checked(torch.exp, X),
    "torch.ops.aten.add.Tensor._overloadpacket": lambda: checked(torch.exp, X),
    "torch.ops.aten.add.Tensor.has_kernel_for_dispatch_key": lambda: checked(halved, X),
    "torch._decomp.decomposition_table": lambda: checked(halved, X),
    "torch._library.custom_ops.OPDEFS": lambda: checked(halved, X),
    "torch._vmap_internals._vmap": in_batches,
    "torch.overrides._get_current_function_mode_stack": lambda: checked(torch.exp, X),
    "torch.utils._python_dispatch._get_current_dispatch_mode_stack": lambda: checked(torch.exp, X),
    "torch.utils._python_dispatch._disable_current_modes": lambda: checked(
        halved, torch.ones(30_000, dtype=torch.float64), inputs={"x": real("n")}, reference=lambda x: x / 2
    ),
    "torch.utils._pytree.tree_flatten_with_path": lambda: checked(lambda p: p["a"] * 2, {"a": X}),
    "torch.utils._pytree.tree_leaves": lambda: checked(sums, X),
    "torch.utils._pytree.tree_map": audited,
    "torch.utils._pytree.tree_unflatten": lambda: checked(lambda p: p["a"] * 2, {"a": X}),
    "torch.UntypedStorage._cdata": lambda: checked(torch.exp, X),
    "torch.Tensor._is_zerotensor": lambda: checked(torch.exp, X, mode="forward-over-reverse"),
    "torch.testing._internal.common_methods_invocations.op_db": audited,
}
"""What can't be done without a hook."""
DONE_WITHOUT = {
    "torch._C._current_graph_task_id": lambda: checked(torch.exp, X),
    "torch._C._set_grad_enabled": lambda: checked(lambda x: x.detach() * x, X),
    "torch._compile._disable_dynamo": lambda: checked(torch.exp, X, mode="forward"),
    "torch._decomp.decompositions_for_jvp": lambda: checked(torch.exp, X, mode="forward"),
    "torch.testing._internal.common_utils": audited,
    "torch.testing._internal.opinfo.core": audited,
}
"""What only takes longer without it, or is known with less certainty."""
APART = {
    "torch.utils._python_dispatch.TorchDispatchMode",  # see below
    "torch.ops.aten.add.Tensor.decompose",  # of operations that autograd resolves before a mode sees them
}


def test_every_hook_is_taken_away_once():
    assert {*NEEDS, *DONE_WITHOUT, *APART} == {*HOOKS}


@pytest.mark.parametrize("name", NEEDS)
def test_what_needs_a_missing_hook_is_unsupported_and_names_it(name: str, without: Callable[[str], None]):
    without(name)
    try:
        found = NEEDS[name]()
    except DiffcheckError as error:
        said = [str(error)]
    else:
        assert {r.verdict for r in found} <= {Verdict.UNSUPPORTED, Verdict.PROVED}, [r.reason for r in found]
        said = [r.reason for r in found if r.verdict is Verdict.UNSUPPORTED]
        assert said
    expected = f"torch {torch.__version__}: it has no {name}, which {HOOKS[name]}; {versions.tried()}"
    for text in said:
        assert expected in " ".join(text.split())


@pytest.mark.parametrize("name", NEEDS)
def test_what_does_not_need_it_is_proved(name: str, without: Callable[[str], None]):
    """All but those without which no operation is known."""
    without(name)
    (result,) = checked(torch.exp, X)
    needs_it = NEEDS[name].__code__.co_names == NEEDS["torch.UntypedStorage._cdata"].__code__.co_names
    assert result.verdict is (Verdict.UNSUPPORTED if needs_it else Verdict.PROVED), result.reason


@pytest.mark.parametrize("name", DONE_WITHOUT)
def test_what_can_be_done_without_a_hook_is_done(name: str, without: Callable[[str], None]):
    without(name)
    assert {r.verdict for r in DONE_WITHOUT[name]()} == {Verdict.PROVED}


def test_without_modes_everything_is_imported_and_nothing_is_followed():
    """The class is extended where the module is imported, and so has to be missing before."""
    program = (
        "import torch, torch.utils._python_dispatch as inside\n"
        "taken = inside.__dict__.pop('TorchDispatchMode')\n"
        "import diffcheck, diffcheck.api.gradcheck, diffcheck.compare.scale\n"
        "inside.TorchDispatchMode = taken  # PyTorch itself needs it\n"
        "print(diffcheck.check(torch.exp, torch.ones(2), modes='reverse')[0].reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "it has no torch.utils._python_dispatch.TorchDispatchMode, which shows operations as they run" in done.stdout
