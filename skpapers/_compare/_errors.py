"""What can be wrong with the user's input."""


class CompareError(ValueError):
    """Input that cannot be compared on; the message is one line meant for the user."""


class Failure(Exception):
    """A fit that gave no score; it becomes a row of the leaderboard.

    Parameters
    ----------
    status : {"failed", "over budget", "out of memory", "crashed"}
        What happened.
    reason : str
        Why, in one line.
    """

    def __init__(self, status, reason):
        super().__init__(status, reason)
        self.status = status
        self.reason = " ".join(str(reason).split())[:400]
