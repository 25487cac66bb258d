"""The docs are true: their Python is run, every public name explains itself, every page is in the menu.

A comment under a code block shortens it: `<!-- in tests: 2_000 -> 60; epochs=12 -> epochs=1 -->`;
each replacement must apply. `<!-- not run: why -->` leaves a block out.
"""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import whence

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:<!-- (in tests|not run): (.*?) -->)?", re.S | re.M)


def blocks(page):
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        code, kind, words = match.groups()
        if kind == "not run":
            continue
        for pair in (words or "").split("; "):
            before, arrow, after = pair.partition(" -> ")
            if arrow:
                assert before in code, f"{page.name}: {before!r} is not in the block that is to be shortened"
                code = code.replace(before, after)
        yield code


@pytest.mark.parametrize(
    "page", [page for page in PAGES if list(blocks(page))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if any("from transformers import" in code for code in blocks(page)):
        pytest.importorskip("transformers")
    # one module for the whole page, with a file, as a reader would have it
    script = tmp_path / "page.py"
    script.write_text("\n\n".join(blocks(page)), encoding="utf-8")
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), {"__name__": "page"})


def test_the_figures_are_the_benchmarks_own():
    run = [sys.executable, ROOT / "docs" / "figures.py", "--check"]
    check = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert check.returncode == 0, check.stderr


def test_the_readme_s_example_is_short():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = BLOCK.search(text)[1]
    assert sum(1 for line in code.splitlines() if line.strip()) <= 12


def public():
    """(name, object) of everything in the `__all__` of the package and its public modules, and of methods."""
    for module_name in ("whence", *public_modules()):
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", []):
            if name.startswith("_"):
                continue
            item = getattr(module, name)
            yield f"{module_name}.{name}", item
            if inspect.isclass(item):
                for member, value in vars(item).items():
                    if member.startswith("_") or not callable(getattr(item, member)):
                        continue
                    if isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value):
                        yield f"{module_name}.{name}.{member}", getattr(item, member)


def public_modules():
    skip = ("whence.__main__", "whence.cli")
    for info in pkgutil.walk_packages(whence.__path__, "whence."):
        private = any(part.startswith("_") for part in info.name.split("."))
        if not private and not info.name.startswith(skip):
            yield info.name


def test_every_public_name_has_a_docstring():
    silent = [
        name
        for name, item in public()
        if (inspect.isclass(item) or inspect.isroutine(item) or inspect.ismodule(item))
        and not inspect.getdoc(item)
    ]
    assert not silent, ", ".join(silent)


def test_every_module_says_what_it_is():
    silent = [name for name in public_modules() if not importlib.import_module(name).__doc__]
    assert not silent, ", ".join(silent)


def test_every_public_name_is_in_the_reference():
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    documented = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    documented += re.findall(r"\{heading: (\S+)\}", page)
    for name in documented:
        resolve(name)
    names = [name for name in whence.__all__ if name != "__version__"]
    absent = [name for name in names if not any(f"{d}.".startswith(f"whence.{name}.") for d in documented)]
    assert not absent, f"docs/reference/python.md lacks {', '.join(absent)}"


def resolve(dotted):
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(importlib.import_module(module), name)


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    lost = [str(page.relative_to(ROOT / "docs")) for page in PAGES[1:] if page.name not in menu]
    assert not lost


def test_links_between_pages_lead_somewhere():
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            path = target.partition("#")[0]
            if path and "://" not in path and not (page.parent / path).exists() and "images/" not in path:
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken
