"""Builds the command line from its verbs.

A verb's module imports nothing heavy at its top, so that ``apptell --help`` need not load NumPy.
"""

from typing import Annotated

import typer

from apptell._version import __version__
from apptell.cli import (
    archive,
    audit,
    catalogue,
    compare,
    config,
    dataset,
    demo,
    discover,
    drift,
    evaluate,
    explain,
    flows,
    identify,
    inspect,
    learn,
    live,
    models,
    reproduce,
    serve,
    top,
    train,
    update,
)
from apptell.cli.verb import Verb, group

_EXAMPLES = """
  apptell identify phone.pcap
  apptell demo
"""

app = typer.Typer(
    name="apptell",
    cls=group(_EXAMPLES),
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"apptell {__version__}")
        raise typer.Exit


@app.callback()
def _apptell(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Settings file. [default: apptell.toml]"),
    ] = None,
) -> None:
    """Identifies the app behind each network flow, even when the traffic is encrypted."""


app.command("identify", cls=Verb)(identify.identify)
app.command("explain", cls=Verb)(explain.explain)
app.command("archive", cls=Verb)(archive.archive)
app.command("flows", cls=Verb)(flows.flows)
app.command("inspect", cls=Verb)(inspect.inspect)
app.add_typer(dataset.app, name="dataset")
app.add_typer(catalogue.app, name="catalogue")
app.command("train", cls=Verb)(train.train)
app.command("update", cls=Verb)(update.update)
app.command("learn", cls=Verb)(learn.learn)
app.command("evaluate", cls=Verb)(evaluate.evaluate)
app.command("compare", cls=Verb)(compare.compare)
app.command("audit", cls=Verb)(audit.audit)
app.command("drift", cls=Verb)(drift.drift)
app.add_typer(models.app, name="models")
app.command("discover", cls=Verb)(discover.discover)
app.command("live", cls=Verb)(live.live)
app.command("top", cls=Verb)(top.top)
app.command("serve", cls=Verb)(serve.serve)
app.command("reproduce", cls=Verb)(reproduce.reproduce)
app.add_typer(config.app, name="config")
app.command("demo", cls=Verb)(demo.demo)
