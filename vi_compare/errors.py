"""The one exception for what a user can mend: bad input, said in one line."""


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one line that names the cause and the remedy; the command
    line prints it on stderr and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; "" where it says nothing."""
    return str(error).strip().partition("\n")[0]


def nearest(name: str, known: list[str]) -> str:
    """ "did you mean a or b?", or the whole list when nothing is near."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {', '.join(sorted(known)) or 'none'}"
