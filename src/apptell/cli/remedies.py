"""What an error of the library is answered with on the command line: the option that helps.

Messages of the library name no option, because functions have none. An error says which argument would help
(``ApptellError.argument``), and the verb that was called knows the option of that argument.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from apptell.errors import ApptellError

_OTHER_VERBS: Final = {
    "recognises_unknown": "apptell train --unknown",
    "keeps_rows": "apptell train --keep-rows",
}
"""Arguments of functions that made what is asked about, with the verb and the option of each."""


def remedy(context: Any, error: "ApptellError") -> str:
    """The option that helps, in brackets and behind a blank; empty where there is none, or where it is named.

    Args:
        context: of the verb that was called.
        error: what it raised.
    """
    argument = error.argument
    if argument is None:
        return ""
    words = _OTHER_VERBS.get(argument)
    for parameter in context.command.params:
        if words is None and parameter.param_type_name == "option" and parameter.name == argument:
            name = max(parameter.opts, key=len)
            words = name if parameter.is_flag else f"{name} {parameter.metavar}"
    return "" if words is None or words in str(error) else f" ({words})"
