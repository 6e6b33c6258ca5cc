"""Who may import whom. Read the design before moving a wall: a new module needs a line here."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import x402sms

PACKAGE = Path(x402sms.__file__).parent

# Left never imports right; neighbours in one layer do not know each other.
LAYERS = [
    {"errors", "money", "text", "driver", "steady", "clock", "_version"},
    {"protocol", "virtualsms", "pooling", "pacing", "sockets"},
    {"limits"},
    {"wallet", "ledger", "chain", "api_keys"},
    {"quoted"},
    {"paying", "purchase", "reconcile", "recovery", "export", "config", "webhooks"},
    {"transport"},
    {
        "exchange",
        "resources",
        "ledger_view",
        "bearer",
        "account_books",
        "topping_up",
        "job_options",
    },
    {"ordering"},
    {"looking"},
    {"charging"},
    {"base_client"},
    {"verifying"},
    {"client"},
    {"testing"},
    {"mcp_server", "pytest_plugin", "conformance"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
LEAVES = LAYERS[0]
ANYTHING = {"__init__", "sandbox"}  # with rules of their own, below

# What one part may know of ours, where that is less than all that is left of it.
ONLY = {
    "virtualsms": {"errors", "money", "text", "virtualsms"},
    "protocol": {"errors", "money", "text", "protocol"},
    "sandbox": {"errors", "money", "text", "sockets", "virtualsms", "sandbox", "_version"},
}
DRIVEN_BY = {"transport", "reconcile", "client", "verifying", "cli"}
# purchase reads a request, exchange and base_client make the client's.
HTTPX = {"transport", "client", "exchange", "base_client", "ordering", "purchase"}
HTTPX |= {"account_books", "charging"}
HTTPX |= {"steady", "pooling", "pacing", "bearer"}  # wrapped around what sends
WEB3 = {"chain", "reconcile", "sandbox"}
FREE = {"sandbox", "cli", "mcp_server", "testing", "pytest_plugin"}
NOT_PURE = {"httpx", "time", "random", "secrets", "os", "socket", "threading", "asyncio", "anyio"}


@dataclass(frozen=True)
class Import:
    module: str
    imported: str
    line: int
    at_runtime: bool

    @property
    def part(self) -> str:
        return part_of(self.module)

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.imported}"


def part_of(module: str) -> str:
    """`x402sms.protocol.wire` -> `protocol`, `x402sms` -> `__init__`."""
    return [*module.split("."), "__init__"][1]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def type_checking_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                lines.update(range(statement.lineno, (statement.end_lineno or 0) + 1))
    return lines


def own_module(name: str) -> str:
    """What `from x402sms import name` loads: a part, or the package's own list of names."""
    if name == "__version__":
        return "x402sms._version"
    return f"x402sms.{name}" if name in RANK.keys() | ANYTHING else "x402sms"


def imports_in(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module, unreal = module_name(path), type_checking_lines(tree)
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(parents) if node.level else ""
            home = ".".join(filter(None, (base, node.module)))
            names = [home]
            if home == "x402sms":  # from x402sms import money
                names = [own_module(alias.name) for alias in node.names]
        for name in names:
            line = getattr(node, "lineno", 0)
            yield Import(module, name, line, line not in unreal)


FILES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
IMPORTS = [each for path in FILES for each in imports_in(path) if each.at_runtime]
OURS = [each for each in IMPORTS if each.imported.split(".")[0] == "x402sms"]
OTHERS = [each for each in IMPORTS if each.imported.split(".")[0] != "x402sms"]


def breaches(found: list[Import]) -> list[str]:
    return [str(each) for each in found]


def knows(each: Import, *packages: str) -> bool:
    return each.imported.split(".")[0] in packages


def test_every_module_has_its_place() -> None:
    parts = {part_of(module_name(path)) for path in FILES}
    assert parts <= RANK.keys() | ANYTHING
    assert len(OURS) > 50


def test_left_never_imports_right() -> None:
    def allowed(each: Import) -> bool:
        target = part_of(each.imported)
        if each.part in ANYTHING or target == each.part:
            return True
        if target == "__init__":  # the public names are for those outside
            return each.part in FREE
        if target == "sandbox":
            return each.part in FREE
        return RANK[target] < RANK[each.part]

    assert breaches([each for each in OURS if not allowed(each)]) == []


@pytest.mark.parametrize("part", sorted(ONLY))
def test_some_parts_know_only(part: str) -> None:
    strangers = [
        each for each in OURS if each.part == part and part_of(each.imported) not in ONLY[part]
    ]
    assert breaches(strangers) == []


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_a_leaf_imports_nothing_of_ours(leaf: str) -> None:
    assert breaches([each for each in OURS if each.part == leaf]) == []


def test_only_what_performs_effects_knows_the_driver() -> None:
    users = [each for each in OURS if part_of(each.imported) == "driver"]
    assert breaches([each for each in users if each.part not in DRIVEN_BY]) == []


def test_the_sandbox_knows_nothing_of_how_the_client_signs_and_reads() -> None:
    ours = {"protocol", "wallet", "transport", "client", "chain", "ledger", "limits", "exchange"}
    knowing = [each for each in OURS if each.part == "sandbox" and part_of(each.imported) in ours]
    assert breaches(knowing) == []


def test_only_transport_and_client_know_httpx() -> None:
    users = [each for each in OTHERS if knows(each, "httpx", "httpcore", "httpx2")]
    assert breaches([each for each in users if each.part not in HTTPX | FREE]) == []


def test_only_what_reads_the_chain_knows_web3() -> None:
    users = [each for each in OTHERS if knows(each, "web3", "eth_typing", "requests")]
    assert breaches([each for each in users if each.part not in WEB3]) == []


def test_only_the_ledger_knows_psycopg() -> None:
    users = [each for each in OTHERS if knows(each, "psycopg", "psycopg_pool")]
    assert users
    assert breaches([each for each in users if each.part != "ledger"]) == []


def test_nothing_but_wallet_and_sandbox_knows_eth_account() -> None:
    users = [each for each in OTHERS if knows(each, "eth_account", "eth_keyfile", "eth_keys")]
    assert breaches([each for each in users if each.part not in {"wallet", "sandbox"}]) == []


@pytest.mark.parametrize("part", ["protocol", "limits", "money", "virtualsms"])
def test_what_is_pure_knows_no_clock_no_chance_and_no_network(part: str) -> None:
    impure = [each for each in OTHERS if each.part == part and knows(each, *NOT_PURE)]
    assert breaches(impure) == []


def clock_reads(path: Path) -> list[str]:
    """`datetime.now()` and its kin: the clock by another door."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        f"{path.name}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"now", "utcnow", "today"}
        and ast.unparse(node.value).rpartition(".")[2] in {"datetime", "date"}
    ]


@pytest.mark.parametrize("part", ["protocol", "limits", "money", "ledger"])
def test_what_is_pure_asks_no_datetime_for_the_time(part: str) -> None:
    paths = [path for path in FILES if part_of(module_name(path)) == part]
    assert paths
    assert [read for path in paths for read in clock_reads(path)] == []


# Seconds to wait: the only floats that these parts may have.
WAITING = {"pause", "pauses", "seconds", "_CHAIN_PAUSES"}


def seconds_to_wait(tree: ast.AST) -> set[ast.AST]:
    """The nodes of annotations and values that are of seconds to wait."""
    found: list[ast.AST | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)) if name in WAITING:
                found += [node.annotation, node.value]
            case ast.Assign(targets=[ast.Name(id=name)]) if name in WAITING:
                found.append(node.value)
            case ast.arg(arg=name) if name in WAITING:
                found.append(node.annotation)
            case _:
                pass
    return {inner for node in found if node is not None for inner in ast.walk(node)}


def test_no_module_has_a_float_for_money() -> None:
    """`float(` appears nowhere near amounts: in these parts only seconds to wait may be any.

    But for strict_json: numbers of a challenge that are not ours are echoed, never counted with.
    """
    for part in ("money", "limits", "protocol", "ledger", "wallet"):
        for path in (each for each in FILES if part_of(module_name(each)) == part):
            if path.name == "strict_json.py":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            allowed = seconds_to_wait(tree)
            for node in (each for each in ast.walk(tree) if each not in allowed):
                assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), path
                assert not (isinstance(node, ast.Name) and node.id == "float"), path


HEAVY = ["web3", "eth_account", "eth_keyfile", "eth_keys", "py_ecc", "requests", "fastapi"]
HEAVY += ["psycopg"]


@pytest.mark.parametrize(
    "statement",
    [
        "import x402sms",
        "import x402sms.errors, x402sms.money",
        "from x402sms import Wallet, X402Transport, SpendLimits, open_ledger",
        "from x402sms import Wallet; Wallet.generate().sign_digest(bytes(32))",
        "from x402sms import Client, AsyncClient",
    ],
)
def test_what_a_paying_client_imports_is_light(statement: str) -> None:
    program = f"import sys; {statement}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    program = program.replace(repr(HEAVY), f"set({HEAVY!r})")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=PACKAGE.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
