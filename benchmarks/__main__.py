"""`python -m benchmarks` lists the benchmarks; `python -m benchmarks NAME [--quick]` runs one.

A benchmark is a module of this package with a function `run(quick: bool) -> harness.Result`; the first line
of its docstring is what the list says.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import pkgutil
import sys
from pathlib import Path

from rich.console import Console

HERE = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Name -> first line of the docstring, of the modules here that define `run` (none is imported)."""
    found = {}
    for module in pkgutil.iter_modules([str(HERE)]):
        tree = ast.parse((HERE / f"{module.name}.py").read_text()) if not module.ispkg else ast.parse("")
        if any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body):
            found[module.name] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark or list all; the exit code is 1 where a claim does not hold in a full run."""
    console = Console()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="which benchmark")
    parser.add_argument(
        "--quick", action="store_true", help="about a minute; does not replace the full result"
    )
    options = parser.parse_args(arguments)
    known = benchmarks()
    if options.name is None:
        for name, words in known.items():
            console.print(f"[bold]{name}[/]  {words}", highlight=False)
        return 0
    if options.name not in known:
        console.print(f"no benchmark is called {options.name!r}; there are {', '.join(known)}.")
        return 2
    result = importlib.import_module(f"benchmarks.{options.name}").run(quick=options.quick)
    result.print(console)
    console.print(f"written to {result.write(options.quick)}")
    return 0 if options.quick or all(claim["holds"] for claim in result.claims) else 1


if __name__ == "__main__":
    sys.exit(main())
