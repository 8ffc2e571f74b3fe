"""The countable rules of the house: sizes, names, what is banned, what must be fresh."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from libs.events import asyncapi, subjects

ROOT = Path(__file__).parents[2]
MOST_LINES_OF_A_MODULE = 300
MOST_LINES_OF_A_FUNCTION = 60
MOST_FILES_OF_A_SERVICE = 8
TOP_LEVEL = {
    "services", "libs", "deploy", "tests", "docker-compose.yml", "Makefile", "README.md", "ARCHITECTURE.md",
    "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml",
}  # fmt: skip
EMPTY_NAMES = {"utils", "common", "helpers", "misc"}
EMPTY_CLASS_NAMES = re.compile(r"(Manager|Base|Abstract|Handler|Impl)$|^(Base|Abstract)")


def committed() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


FILES = committed()
MODULES = [path for path in FILES if path.suffix == ".py"]
PRODUCT = [path for path in MODULES if path.relative_to(ROOT).parts[0] in {"services", "libs"}]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_top_level_is_what_the_owner_fixed() -> None:
    """No folder or file beside those agreed, apart from dot-files."""
    found = {path.relative_to(ROOT).parts[0] for path in FILES}
    assert {entry for entry in found if not entry.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_sizes(path: Path) -> None:
    """Modules of the product are at most 300 lines, functions anywhere at most 60."""
    if path in PRODUCT:
        assert path.read_text().count("\n") <= MOST_LINES_OF_A_MODULE
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno < MOST_LINES_OF_A_FUNCTION, function.name


def test_services_are_small() -> None:
    """A service has at most about 8 modules, a README, and an entry of about ten lines."""
    for service in subjects.SERVICES:
        folder = ROOT / "services" / service
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST_FILES_OF_A_SERVICE, service
        assert (folder / "README.md").is_file(), service
        entry = folder / "__main__.py"
        assert not entry.exists() or entry.read_text().count("\n") <= 20, service


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_names_say_something(path: Path) -> None:
    """No utils, common, helpers; no Manager, Base, Abstract, Handler, Impl."""
    assert not EMPTY_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            assert not EMPTY_CLASS_NAMES.search(node.name), node.name


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_no_blanket_except_and_no_todo(path: Path) -> None:
    """A bug crashes the process: nothing catches everything. Open ends live in issues, not in comments."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            caught = [node.type] if not isinstance(node.type, ast.Tuple) else list(node.type.elts)
            names = {getattr(one, "id", "") for one in caught if one is not None}
            assert node.type is not None, f"line {node.lineno}"
            assert not names & {"Exception", "BaseException"}, f"line {node.lineno}"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text())


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_only_the_clock_reads_a_clock(path: Path) -> None:
    """`now` is an argument; only libs/runtime/clock.py asks the machine."""
    if path.relative_to(ROOT) == Path("libs/runtime/clock.py"):
        return
    assert not re.search(r"\bdatetime\.(now|utcnow|today)\(|\btime\.(time|monotonic|perf_counter)", path.read_text())


@pytest.mark.parametrize("path", [path for path in MODULES if path.name.startswith("test_")], ids=name)
def test_every_test_says_what_holds(path: Path) -> None:
    """Each test has a one-line docstring."""
    for function in functions(path):
        if function.name.startswith("test_"):
            text = ast.get_docstring(function)
            assert text and "\n" not in text.strip(), f"{function.name} in {path.name}"


def test_asyncapi_is_fresh() -> None:
    """deploy/asyncapi/current.json is what `make asyncapi` renders."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (ROOT / "deploy/asyncapi/current.json").read_text() == asyncapi.render(version)


def test_readme_table_is_fresh() -> None:
    """ARCHITECTURE.md holds the table of subjects as libs/events renders it."""
    assert asyncapi.table() in (ROOT / "ARCHITECTURE.md").read_text()


def test_one_writer_per_subject_and_bucket() -> None:
    """Each subject has one writer and no two rows share subjects; each bucket has one, but for the leases' own keys."""
    patterns = [topic.pattern for topic in subjects.TOPICS]
    assert len(set(patterns)) == len(patterns)
    assert all(topic.writer in subjects.SERVICES for topic in subjects.TOPICS)
    assert all(set(topic.readers) <= set(subjects.SERVICES) for topic in subjects.TOPICS)
    assert [bucket.name for bucket in subjects.BUCKETS if len(bucket.writers) > 1] == ["leases"]


def _published(path: Path) -> set[str]:
    """Names of the topics that a module publishes, from its calls of `publish` and `publish_bytes`."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"publish", "publish_bytes"}:
            for argument in node.args[:1]:
                found |= {part.attr for part in ast.walk(argument) if isinstance(part, ast.Attribute)}
    return {topic for topic in found if topic.isupper()}


def test_services_publish_only_what_the_table_gives_them() -> None:
    """A `publish(subjects.X, ...)` stands only in the service that the table names as X's writer."""
    for path in PRODUCT:
        parts = path.relative_to(ROOT).parts
        if parts[0] == "services":
            for topic in _published(path):
                assert getattr(subjects, topic).writer == parts[1], f"{name(path)} publishes {topic}"


def test_pure_modules_are_under_contract() -> None:
    """Every module that calls itself pure is named in the import contract of pure modules."""
    contracts: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    pure = next(contract for contract in contracts if contract["name"].startswith("pure modules"))["source_modules"]
    for path in PRODUCT:
        if re.search(r"\bpure\b", (ast.get_docstring(tree(path)) or "").lower()):
            assert ".".join(path.relative_to(ROOT).with_suffix("").parts) in pure


def test_nothing_names_this_machine() -> None:
    """No committed text holds a private path or names a tool that a reader cannot have."""
    banned = re.compile("|".join(("/wo" + "rk/", "farm" + "-", "sub" + "agent", r"\.lib" + "rary")))
    for path in FILES:
        if path.suffix in {".py", ".md", ".yml", ".toml", ".sh", ".json", ".txt"} or path.name == "Makefile":
            assert not banned.search(path.read_text(errors="replace")), name(path)
