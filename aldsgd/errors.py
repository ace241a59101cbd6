"""The one error that bad input raises, and what its messages are made of."""

import operator


class ConfigError(ValueError):
    """What the user asked for cannot be done; the message is one line: what is wrong and what to do.

    Scripts print the message and exit with code 2; library users see an ordinary ``ValueError``.
    """


def whole(value, what: str) -> int:
    """``value`` as an int, numpy's own ints too; ConfigError for anything else, fractions and text included."""
    try:
        return operator.index(value)
    except TypeError:
        raise ConfigError(f"{what} must be a whole number, not {brief(value)}") from None


def brief(value, most: int = 60) -> str:
    """``repr`` of a value of the user's, as one line that is not longer than it helps."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write out ints of thousands of digits.
        return "a number of thousands of digits"
    return text if len(text) <= most else f"{text[: most - 20]}... ({len(text)} characters)"


def one_line(error: BaseException) -> str:
    """What an error says, as one line that is not longer than it helps."""
    return plain(" ".join(str(error).split()) or type(error).__name__)


def plain(text: str) -> str:
    """Text of the user's in a message, without quotes where it has nothing odd in it."""
    return text if text.isprintable() and len(text) <= 200 else brief(text, 200)
