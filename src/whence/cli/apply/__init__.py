"""``whence apply``: put attributions to use. One module an application, one line here."""

from __future__ import annotations

import typer

from whence.cli.apply import (
    backdoor,
    compare,
    embedding,
    groups,
    keep,
    leakage,
    linearity,
    mislabels,
    select,
    support,
    unlearn,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Put attributions to use: what holds a prediction up, what leaked, is mislabelled or poisoned.",
)

app.command("support")(support.support)
app.command("leakage")(leakage.leakage)
app.command("groups")(groups.groups)
app.command("embedding")(embedding.embedding)
app.command("linearity")(linearity.linearity)
app.command("keep")(keep.keep)
app.command("mislabels")(mislabels.mislabels)
app.command("compare")(compare.compare)
app.command("backdoor")(backdoor.backdoor)
app.command("select")(select.select)
app.command("unlearn")(unlearn.unlearn)
