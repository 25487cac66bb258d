"""The application that assembles the verbs, and turns errors that a user can mend into one sentence."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from whence.cli import apply, attribute, bank, demo, evaluate, report, retrain
from whence.errors import InputError

USAGE, FAILURE, INTERRUPTED = 2, 1, 130  # exit codes


class Verbs(TyperGroup):
    """The group of all verbs. Errors that whence itself raises are written for the reader: no traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; an expected error becomes a sentence on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except InputError as problem:
            typer.secho(f"whence: {problem}", fg="red", err=True)
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except Exception as problem:
            # BankError, DiskFullError, RetrainingError: known troubles that are no wrong argument
            if not type(problem).__module__.startswith("whence."):
                raise
            typer.secho(f"whence: {problem}", fg="red", err=True)
            raise typer.Exit(FAILURE) from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="whence did this prediction come? Learn by retraining how each training example shaped it.",
    epilog="Example: whence demo",
)


def _version(wanted: bool) -> None:
    if wanted:
        from whence import __version__

        typer.echo(f"whence {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# in the order in which they are used
app.command("demo")(demo.demo)
app.command("retrain")(retrain.retrain)
app.command("attribute")(attribute.attribute)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(apply.app, name="apply")
app.command("report")(report.report)
app.add_typer(bank.app, name="bank")


def main() -> None:
    """Entry point of the `whence` command."""
    app()
