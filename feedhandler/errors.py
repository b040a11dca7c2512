"""The errors a user can cause; each becomes one line on stderr and an exit status."""


class UsageError(Exception):
    """Bad usage, configuration or input: exit status 2.

    The message is one line that names the option, key or file, its value and what is allowed.
    """

    exit_code = 2


class RunError(Exception):
    """It ran and failed: exit status 1."""

    exit_code = 1
