"""The one error that bad input raises."""


class ConfigError(ValueError):
    """What the user asked for cannot be done; the message is one line: what is wrong and what to do.

    Scripts print the message and exit with code 2; library users see an ordinary ``ValueError``.
    """
