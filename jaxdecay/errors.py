"""The one exception that is the caller's to mend."""


class InputError(ValueError):
    """Something that was given (a file, a column, an option, an id) cannot be used.

    The message is one line: what it is about (file, column, row numbers counted from 1), why it is refused,
    and what to do. The command line prints it and exits with status 2.
    """
