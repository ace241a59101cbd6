"""The one error that bad input raises, and what its messages are made of."""

import math
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


def checked_numbers(numbers: dict[str, float], most: float = math.inf) -> None:
    """Raise ConfigError for a named number that is not finite, below zero, or above ``most``."""
    for name, value in numbers.items():
        if not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= most):
            wanted = "zero or more" if most == math.inf else f"from 0 to {most:g}"
            raise ConfigError(f"{name} = {brief(value)} must be a finite number, {wanted}")


def checked_counts(counts: dict[str, int]) -> None:
    """Raise ConfigError for a named count that is not a whole number, 1 or more."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} = {brief(value)} must be a whole number, 1 or more")


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
