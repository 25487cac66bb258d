"""The command line: thin layers over the library, one module a verb.

At its top, a verb's module imports little more than typer, so that `whence --help` is quick; what it needs of
the library it imports when it runs. Its docstring says what it does and ends with an ``Example:`` line; it
takes ``--json``.
"""

from whence.cli.app import app, main

__all__ = ["app", "main"]
