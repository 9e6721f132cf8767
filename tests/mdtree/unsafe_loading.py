"""A search through source code for whatever loads, imports or runs what a file says.

Names are followed through imports and their aliases, so that ``from torch import load as read`` is seen for what it is.
A mere mention counts as a use: ``partial(pickle.loads)`` calls nothing yet.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MODULES = frozenset(
    {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "jsonpickle", "shelve", "marshal", "runpy", "imp", "code"}
)
"""Any use of them loads or runs."""

NAMES = frozenset(
    {"builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__", "importlib.import_module"}
    | {
        "importlib.__import__",
        "importlib.reload",
        "importlib.util.spec_from_file_location",
        "importlib.util.module_from_spec",
    }
    | {"joblib.load", "numpy.load", "pandas.read_pickle", "yaml.load", "yaml.load_all", "yaml.full_load"}
    | {"yaml.unsafe_load", "yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader"}
    | {"torch.load", "torch.serialization.load", "torch.jit.load", "torch.export.load", "torch.ops.load_library"}
    | {"torch.serialization.safe_globals", "torch.serialization.add_safe_globals"}
    | {"torch.distributed.checkpoint.load", "torch.distributed.checkpoint.load_state_dict"}
    | {"torch.distributed.checkpoint.FileSystemReader", "torch.utils.cpp_extension.load"}
    | {"datasets.load_dataset", "ctypes.CDLL", "ctypes.cdll", "os.system", "os.popen"}
    | {"pip.main", "urllib.request.urlretrieve", "urllib.request.urlopen"}
)
PACKAGES = ("torch.hub.", "torch.package.", "huggingface_hub.", "torch.distributed.checkpoint.format_utils.")
METHODS = frozenset(
    {"read_pickle", "load_from_checkpoint", "unsafe_load", "full_load", "exec_module", "load_module", "from_pretrained"}
)
"""Dangerous whatever they are called on."""

NEEDED = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "from_pretrained": ("local_files_only", True),
}
"""What makes a call harmless, if it stands there as a literal."""

FIXED = {
    "trust_remote_code": False,
    "allow_pickle": False,
    "weights_only": True,
    "pretrained": False,
    "download": False,
}
"""Arguments that may have no other value, in whatever call."""

OPENED = frozenset({"torch", "builtins", "os", "importlib", "numpy", "sys"})
"""Modules out of which no attribute is taken by a name that is computed."""

SWITCHES = ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "HF_HUB_ENABLE_REMOTE_CODE", "TRUST_REMOTE_CODE")


@dataclass(frozen=True, order=True)
class Finding:
    """One use: the file, the innermost function around it (or "module"), and what is used."""

    file: str
    function: str
    used: str


class _Search(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file = file
        self.names: dict[str, str] = {}
        self.functions: list[str] = []
        self.judged: set[int] = set()
        self.found: set[Finding] = set()
        self.harmless: set[Finding] = set()

    def here(self, used: str) -> Finding:
        return Finding(self.file, self.functions[-1] if self.functions else "module", used)

    def add(self, used: str) -> None:
        self.found.add(self.here(used))

    def dotted(self, node: ast.AST) -> str:
        """The full name of an expression; empty for one that has none."""
        if isinstance(node, ast.Name):
            known = self.names.get(node.id)
            return known if known is not None else f"builtins.{node.id}"
        if isinstance(node, ast.Attribute):
            inner = self.dotted(node.value)
            return f"{inner}.{node.attr}" if inner else ""
        if isinstance(node, ast.Call) and self.dotted(node.func) == "builtins.getattr" and len(node.args) > 1:
            inner, name = self.dotted(node.args[0]), node.args[1]
            return f"{inner}.{name.value}" if isinstance(name, ast.Constant) else ""
        return ""

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.names[alias.asname or alias.name.partition(".")[0]] = (
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
            self.mention(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            self.names[alias.asname or alias.name] = full
            if alias.name == "*":
                self.add(full)
            # what can be called safely is judged at its calls
            if full not in NEEDED:
                self.mention(full)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions.append(node.name)
        self.generic_visit(node)
        self.functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Call(self, node: ast.Call) -> None:
        name = self.dotted(node.func)
        last = node.func.attr if isinstance(node.func, ast.Attribute) else name.rpartition(".")[2]
        given = {word.arg: word.value for word in node.keywords}
        needed = NEEDED.get(name) or NEEDED.get(last)
        if needed and None not in given and _is(given.get(needed[0]), needed[1]):
            self.judged.add(id(node.func))
            self.harmless.add(self.here(name))
        if name == "importlib.import_module" and node.args and isinstance(node.args[0], ast.Constant):
            self.judged.add(id(node.func))
        for word, value in FIXED.items():
            if word in given and not _is(given[word], value):
                self.add(f"{word} is not {value}")
        if name == "builtins.getattr" and len(node.args) > 1 and not isinstance(node.args[1], ast.Constant):
            module = self.dotted(node.args[0])
            if module in OPENED:
                self.add(f"getattr({module}, a computed name)")
        self.mention(self.dotted(node))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if id(node) not in self.judged:
            self.mention(self.dotted(node) or f"?.{node.attr}")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if id(node) not in self.judged and isinstance(node.ctx, ast.Load):
            self.mention(self.dotted(node))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and any(switch in node.value for switch in SWITCHES):
            self.add(node.value)

    def mention(self, name: str) -> None:
        if (
            name.partition(".")[0] in MODULES
            or name in NAMES
            or f"{name}.".startswith(PACKAGES)
            or name.rpartition(".")[2] in METHODS
        ):
            self.add(name)


def _is(node: ast.AST | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def unsafe_loading(source: str, file: str = "source") -> set[Finding]:
    """What a piece of source code uses of all that loads, imports or runs what a file says."""
    search = _Search(file)
    search.visit(ast.parse(source))
    # of pickle.Unpickler and pickle one is enough
    longer = {(one.function, one.used.rpartition(".")[0]) for one in search.found}
    return {one for one in search.found if (one.function, one.used) not in longer}


def harmless_loading(source: str, file: str = "source") -> set[Finding]:
    """The calls that are harmless for an argument that stands there: ``torch.load(..., weights_only=True)``."""
    search = _Search(file)
    search.visit(ast.parse(source))
    return search.harmless


def over_packages(search: Callable[[str, str], set[Finding]], root: Path, *packages: str) -> set[Finding]:
    """One of the two searches over all files of packages, named from `root`."""
    found: set[Finding] = set()
    for package in packages:
        files = sorted((root / package).rglob("*.py"))
        if not files:
            raise FileNotFoundError(root / package)
        for file in files:
            found |= search(file.read_text(encoding="utf-8"), file.relative_to(root).as_posix())
    return found


def unguarded_calls(source: str, function: str, word: str, file: str = "source") -> set[Finding]:
    """Calls of a function that stand under no condition in which `word` occurs."""
    found: set[Finding] = set()

    def walk(node: ast.AST, inside: str, guarded: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = node.name
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == function and not guarded:
            found.add(Finding(file, inside, function))
        if isinstance(node, ast.If | ast.IfExp):
            walk(node.test, inside, guarded)
            bodies = [node.body] if isinstance(node, ast.IfExp) else node.body
            others = [node.orelse] if isinstance(node, ast.IfExp) else node.orelse
            names = {n.id for n in ast.walk(node.test) if isinstance(n, ast.Name)}
            names |= {n.attr for n in ast.walk(node.test) if isinstance(n, ast.Attribute)}
            denied = any(isinstance(n, ast.Not) for n in ast.walk(node.test))
            for body in bodies:
                walk(body, inside, guarded or (word in names and not denied))
            for other in others:
                walk(other, inside, guarded or (word in names and denied))
            return
        for child in ast.iter_child_nodes(node):
            walk(child, inside, guarded)

    walk(ast.parse(source), "module", False)
    return found
