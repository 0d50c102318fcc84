"""Every error of the bulk commands."""


class BulkError(Exception):
    """Why a bulk command cannot go on, as one clear sentence that says what to do; the exit status is 2."""


class Interrupted(Exception):  # noqa: N818 - the user's wish
    """The command was told to stop."""
