"""Values reach a verb with the types that it declares, whoever converts them."""

from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from apptell.cli.verb import Verb


@pytest.fixture
def run():
    """Runs a verb; returns what it got, or the exit code."""
    got = []

    def verb(
        names: list[str],
        n: Annotated[int, typer.Option(min=1)] = 1,
        ratio: float = 2,
        place: Path | None = None,
        mode: str = "clean",
        often: Annotated[list[int] | None, typer.Option()] = None,
    ) -> None:
        got.append((names, n, ratio, place, mode, often))

    one = typer.Typer()
    one.command("verb", cls=Verb)(verb)

    def call(*words):
        result = CliRunner().invoke(one, words)
        return got.pop() if result.exit_code == 0 else result.exit_code

    return call


def test_defaults_and_texts_are_as_declared(run):
    names, n, ratio, place, mode, often = run("a", "b")
    assert (names, n, place, mode) == (["a", "b"], 1, None, "clean")
    assert type(names) is list
    assert ratio == 2.0
    assert not often


def test_what_is_typed_is_converted(run):
    words = ("x", "--n", "3", "--ratio", "0.5", "--place", "here", "--mode", "paper")
    found = run(*words, "--often", "1", "--often", "2")
    assert found == (["x"], 3, 0.5, Path("here"), "paper", [1, 2])


@pytest.mark.parametrize(
    "words", [("x", "--n", "0"), ("x", "--n", "many"), ("x", "--ratio", "y"), ()]
)
def test_a_wrong_value_is_a_wrong_usage(run, words):
    assert run(*words) == 2


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        (typer.Option(min=1, max=512), "600", "600 is not a whole number from 1 to 512"),
        (typer.Option(min=1), "0", "0 is not a whole number of at least 1"),
        (typer.Option(), "many", "many is not a whole number"),
    ],
)
def test_a_wrong_number_is_refused_in_plain_words(option, value, words):
    def verb(n: Annotated[int, option] = 1) -> None:
        raise AssertionError

    one = typer.Typer()
    one.command("verb", cls=Verb)(verb)
    result = CliRunner().invoke(one, ["--n", value])
    assert words in result.output


def test_a_wrong_value_is_wrong_the_second_time_too(run):
    assert run("x", "--n", "0") == 2
    assert run("x", "--n", "0") == 2
    assert run("x", "--n", "2")[1] == 2
