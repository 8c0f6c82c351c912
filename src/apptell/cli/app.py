"""Builds the command line from its verbs.

The module of a verb is imported when the verb is asked for: ``apptell --help`` imports none of them. A verb's
module imports nothing heavy at its top.
"""

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any, Final

import typer

from apptell._version import __version__
from apptell.cli.verb import Verb, group

VERBS: Final = {
    "identify": "Identify the app behind each flow.",
    "explain": "Say why each verdict says what it says.",
    "archive": "Identify the flows of an archive of captures.",
    "flows": "Assemble packets into bidirectional flows.",
    "inspect": "Show what a capture contains, and what was skipped.",
    "live": "Identify the app of each flow on an interface.",
    "top": "Show the apps of live traffic in the terminal.",
    "serve": "Show live traffic and its history in the browser.",
    "dataset": "Build, check and change datasets of labelled flows.",
    "catalogue": "Look up and extend the catalogue of apps and servers.",
    "train": "Train a model and measure it.",
    "learn": "Learn a model from captures without labels.",
    "update": "Add apps or flows to a model.",
    "models": "Keep versions of models, and say which one is in use.",
    "evaluate": "Measure one model on one dataset.",
    "compare": "Train and compare models on the same folds.",
    "audit": "Report shortcuts that a model could learn.",
    "reproduce": "Repeat the experiments of the paper.",
    "drift": "Tell whether a model still fits the traffic.",
    "discover": "Group unknown flows into candidates for new apps.",
    "config": "Show the settings, and compile kernels in advance.",
    "demo": "Run every step on embedded samples.",
}
"""What each verb and group of verbs does, by its word: the name of its module."""
_EXAMPLES = """
  apptell identify phone.pcap
  apptell demo
"""


class _Commands(MutableMapping[str, Any]):
    """The commands by their words. A command is made when it is looked up."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, word: str) -> Any:
        if word not in self._made:
            if word not in VERBS:
                raise KeyError(word)
            module = import_module(f"apptell.cli.{word}")
            self._made[word] = typer.main.get_command(
                getattr(module, "app", None) or _alone(module, word)
            )
            self._made[word].name = word
        return self._made[word]

    def __setitem__(self, word: str, command: Any) -> None:
        self._made[word] = command

    def __delitem__(self, word: str) -> None:
        del self._made[word]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


def _alone(module: Any, word: str) -> typer.Typer:
    """An application with one verb."""
    one = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    one.command(word, cls=Verb)(getattr(module, word))
    return one


class Apptell(group(_EXAMPLES)):  # type: ignore[misc]
    """All verbs."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Writes the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


app = typer.Typer(
    name="apptell",
    cls=Apptell,
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
