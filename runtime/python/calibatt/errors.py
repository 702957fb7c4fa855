"""The exception of this package."""


class Error(RuntimeError):
    """A refused or failed call; `status` is the name of its CALIBATT_STATUS_*, or None where the
    compiler failed."""

    def __init__(self, message, status="CALIBATT_STATUS_INVALID_ARGUMENT"):
        super().__init__(message)
        self.status = status
