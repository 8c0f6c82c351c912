"""Settings from the environment and a file, and the origin of each value.

A flag overrides the environment, and the environment overrides the file (docs/reference/cli.md, Settings).
Both are applied as defaults, so that every value is checked and converted in the same way.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from apptell.cli.screen import note
from apptell.errors import UsageError

VARIABLE: Final = "APPTELL_CONFIG"
"""Names the file."""
_PREFIX: Final = "APPTELL"
_NAME: Final = "apptell.toml"
_LARGEST_BYTES: Final = 64 << 10
_IN_EFFECT: Final = f"{__name__}.in_effect"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value for an option, from the environment or the file."""

    value: Any
    """A text, number or boolean, or a list of them."""
    origin: str
    """A variable's name or a file's path."""
    place: str
    """The same; of a file with its section."""


def settings_file(named: str | None = None) -> Path | None:
    """The file that is in use, if any.

    Args:
        named: what ``--config`` names.
    """
    said = named or os.environ.get(VARIABLE)
    if said:
        return Path(said)
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    for place in (_NAME, f"{home}/apptell/{_NAME}", f"/etc/apptell/{_NAME}"):
        try:
            path = Path(place).expanduser()
            if path.is_file():
                return path
        except (OSError, RuntimeError):  # a folder that cannot be entered, or no home folder
            continue
    return None


FORBIDDEN_HERE: Final = frozenset(
    (
        *("extract", "metrics", "on-verdict", "out", "output", "user"),
        *("cache", "dataset", "replace", "shared"),
        *("columns", "keep-plain", "raw-csv"),
    )
)
"""Options that a file which merely lies in the current directory may not set: they run commands, write files or
listen, replace or change what is the user's, or give up a protection of payload or of a table's readers. Such a
file may belong to whoever made the directory, for example an unpacked archive."""


def check_trust(file: Path, path: tuple[str, ...], sections: Mapping[str, Any]) -> None:
    """Refuses what a settings file of the current directory must not do.

    Args:
        file: the file.
        path: the words of the verb that runs.
        sections: the file's content.

    Raises:
        UsageError: the file belongs to another user, or sets one of FORBIDDEN_HERE for this verb.
    """
    if hasattr(os, "geteuid"):
        owner = file.stat().st_uid
        if owner not in (os.geteuid(), 0):
            raise UsageError(
                f"{file.absolute()} belongs to another user (uid {owner}); to use it all the same, "
                "name it with --config"
            )
    section: Any = sections
    for word in path:
        section = section.get(word, {})
    if refused := sorted(FORBIDDEN_HERE & set(section)):
        raise UsageError(
            f"{file.absolute()}: [{'.'.join(path)}]: a file in the current directory may not set "
            f"{refused[0]!r}; to use it all the same, name the file with --config"
        )


def read_file(path: Path | None) -> dict[str, Any]:
    """The sections of a file.

    Raises:
        UsageError: it cannot be read or is not TOML.
    """
    if path is None:
        return {}
    import tomllib

    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise UsageError(f"{path}: larger than {_LARGEST_BYTES >> 10} KiB")
        return tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (
        ValueError
    ) as error:  # also of text that is not UTF-8, and of a number of too many digits
        raise UsageError(f"{path}: not TOML: {error}") from error
    except RecursionError:
        raise UsageError(f"{path}: not TOML: nested too deeply") from None


def long_name(option: Any) -> str:
    """An option's name without its dashes, as in ``decide-after``."""
    return str(max(option.opts, key=len)).lstrip("-")


def settable(command: Any) -> dict[str, Any]:
    """A verb's options by their long names."""
    return {
        long_name(each): each
        for each in command.params
        if each.param_type_name == "option" and not each.is_eager
    }


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb below a command, with the words that name it."""
    if hasattr(command, "commands"):
        for word, inner in command.commands.items():
            yield from verbs(inner, (*path, word))
    else:
        yield path, command


def variable(path: tuple[str, ...], name: str) -> str:
    """The environment's name of a verb's option."""
    return "_".join((_PREFIX, *path, name)).upper().replace("-", "_")


def check_names(root: Any, file: Path | None, sections: Mapping[str, Any]) -> None:
    """Refuses a section or key that no verb knows.

    Raises:
        UsageError: there is one.
    """

    def check(command: Any, path: tuple[str, ...], found: Any) -> None:
        place = ".".join(path)
        if not isinstance(found, dict):
            raise UsageError(f"{file}: {place} is no section: write [{place}]")
        inner = getattr(command, "commands", None)
        known = settable(command) if inner is None else inner
        for name, value in found.items():
            if name not in known:
                what = "option" if inner is None else "verb"
                where = f"[{place}]: " if path else ""
                raise UsageError(
                    f"{file}: {where}no {what} {name!r}; available: {', '.join(known)}"
                )
            if inner is not None:
                check(inner[name], (*path, name), value)

    check(root, (), dict(sections))


def unknown_variables(root: Any) -> list[str]:
    """Variables ``APPTELL_...`` that no verb knows."""
    known = {VARIABLE}
    for path, command in verbs(root):
        known |= {variable(path, name) for name in settable(command)}
    return sorted(
        name for name in os.environ if name.startswith(f"{_PREFIX}_") and name not in known
    )


def settings(
    command: Any, path: tuple[str, ...], file: Path | None, sections: Mapping[str, Any]
) -> dict[str, Setting]:
    """The settings of a verb's options from environment and file, by long name."""
    section: Any = sections
    for word in path:
        section = section.get(word, {})
    found = {}
    for name, option in settable(command).items():
        said = os.environ.get(variable(path, name))
        if said:
            value: Any = said.split() if option.multiple else said
            found[name] = Setting(value, variable(path, name), variable(path, name))
        elif name in section:
            found[name] = Setting(section[name], str(file), f"{file}: [{'.'.join(path)}]")
    return found


def apply(context: Any) -> None:
    """Makes the settings of environment and file the defaults of a context's verb.

    Raises:
        UsageError: the file cannot be used, or a value is invalid for its option.
    """
    root = context.find_root()
    path = tuple(context.command_path.split()[1:])
    named = root.params.get("config")
    file = settings_file(named)
    sections = read_file(file)
    check_names(root.command, file, sections)
    options = settable(context.command)
    found = settings(context.command, path, file, sections)
    defaults = {
        options[name].name: _converted(context, options[name], name, setting)
        for name, setting in found.items()
    }
    is_local = not named and not os.environ.get(VARIABLE) and not context.resilient_parsing
    if file is not None and file == Path(_NAME) and is_local:
        check_trust(file, path, sections)
        note(f"Settings are read from {file.absolute()}")
    context.default_map = defaults
    context.meta[__name__] = {options[name].name: each.origin for name, each in found.items()}
    context.meta[_IN_EFFECT] = {name: (options[name].name, each) for name, each in found.items()}


def explain(context: Any, said: str, argument: str | None = None) -> str:
    """Where the settings come from that an error is about: they are not on the command line that people see.

    Args:
        context: of the verb that was called.
        said: the error's message.
        argument: the argument that the error is about, where it says so.
    """
    in_effect: dict[str, tuple[str, Setting]] = context.meta.get(_IN_EFFECT, {})
    places = [
        f"{name} is set by {each.place}"
        for name, (parameter, each) in in_effect.items()
        if origin(context, parameter) != "flag"
        and each.place not in said
        and (parameter == argument or _is_about(said, name, each))
    ]
    return f" ({'; '.join(places)})" if places else ""


def _is_about(said: str, name: str, setting: Setting) -> bool:
    """Whether an error names an option or one of its values."""
    values = [str(each) for each in _listed(setting.value)]
    values += [str(float(each)) for each in _listed(setting.value) if type(each) is int]
    quoted = [value for value in values if len(value) > 1 or not value.isalnum()]
    words = name.replace("-", " ")  # as in "an idle timeout of 0 s"
    return words in said.replace("-", " ") or any(value in said for value in quoted)


def origin(context: Any, name: str) -> str:
    """Where a parameter's value came from: ``flag``, a variable, a file or ``default``."""
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        return "flag"
    found: dict[str, str] = context.meta.get(__name__, {})
    return found.get(name, "default")


def one_of(context: Any, *names: str) -> list[Any]:
    """Values of parameters that exclude each other: flags override settings; None for the others."""
    typed = {name for name in names if origin(context, name) == "flag"}
    return [context.params[name] if name in (typed or names) else None for name in names]


def _converted(context: Any, option: Any, name: str, setting: Setting) -> Any:
    """Converts a setting's value to the type of its option.

    Raises:
        UsageError: the value is invalid.
    """
    place = f"{setting.place}: {name}"
    value = setting.value
    if isinstance(value, dict) or (isinstance(value, list) != bool(option.multiple)):
        kind = "a list of values" if option.multiple else "one value"
        raise UsageError(f"{place}: {value!r} is not {kind}")
    if option.is_flag:
        if isinstance(value, str):
            return _truth(value, place)
        if not isinstance(value, bool):
            raise UsageError(f"{place}: {value!r} is neither true nor false")
        return value
    if any(isinstance(each, str) and "\0" in each for each in _listed(value)):
        raise UsageError(f"{place}: {value!r} has a NUL character")
    texts = [each if isinstance(each, str) else _text(each, place) for each in _listed(value)]
    try:
        option.process_value(context, texts if option.multiple else texts[0])
    except typer.BadParameter as error:
        raise UsageError(f"{place}: {error.message.rstrip('.')}") from error
    return texts if option.multiple else texts[0]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(value: Any, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{place}: {value!r} is neither a text nor a number")
    return repr(value)


def _truth(text: str, place: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise UsageError(f"{place}: {text!r} is neither yes nor no")
