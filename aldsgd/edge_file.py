"""Edge lists in files, as users write them: read whole or refused in a sentence."""

from pathlib import Path

from aldsgd.errors import ConfigError, brief, plain
from aldsgd.matchings import MOST_EDGES, Edge, edge_count, is_number

MOST_BYTES = 32 * MOST_EDGES


def read_edges(path: str | Path) -> tuple[int | None, dict[int, Edge]]:
    """The worker count that a first line ``n COUNT`` states, or None; and the edges by their line numbers from 1.

    Raises ConfigError for a file that cannot be read, is no text, or holds anything but such lines.
    """
    shown = plain(str(path)) or "''"
    n, edges = None, {}
    for number, line in enumerate(_text(path, shown).splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        is_count = words[0] == "n" and n is None and not edges
        values = words[1:] if is_count else words
        if len(values) != 1 + (not is_count) or not all(map(is_number, values)):
            raise ConfigError(
                f"line {number} of {shown} is not 'i j', two worker numbers with a space between them "
                f"(or first 'n COUNT'): {brief(line.strip())}"
            )
        if is_count:
            n = int(values[0])
        else:
            edges[number] = (int(values[0]), int(values[1]))
    edge_count(len(edges))
    if n is None and not edges:
        raise ConfigError(f"the edge list {shown} is empty: write 'i j' lines, or 'n COUNT' for no edges")
    return n, edges


def _text(path: str | Path, shown: str) -> str:
    try:
        # A pipe or a device might never end.
        content = None
        if Path(path).is_file() or not Path(path).exists():
            with open(path, "rb") as file:
                content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the edge list {shown} ({reason}): give a file of 'i j' lines") from error
    if content is None:
        raise ConfigError(f"{shown} is not a file: give the path of a text file of 'i j' lines")
    if len(content) > MOST_BYTES:
        raise ConfigError(
            f"the edge list {shown} is too large: {MOST_BYTES // 2**20} MB and {MOST_EDGES} edges are meant to work"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"cannot read the edge list {shown}: it is not UTF-8 text of 'i j' lines") from None
