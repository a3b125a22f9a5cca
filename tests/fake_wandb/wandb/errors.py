"""As wandb.errors."""


class Error(Exception):
    pass


class CommError(Error):
    pass


class AuthenticationError(CommError):
    pass


class UsageError(Error):
    pass
