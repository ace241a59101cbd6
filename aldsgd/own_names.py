"""Names of data in files of one's own, and what they stand for. Loads no torch."""

import hashlib
from functools import lru_cache
from pathlib import Path

from aldsgd.errors import ConfigError, one_line

#: Kinds of such data, named as "kind:PATH".
FILES = ("text", "folder", "table")
#: Endings of image files, as torchvision's.
IMAGES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def own_data(name: str) -> bool:
    """Whether a data set is in files of one's own."""
    return ":" in name and name.partition(":")[0] in FILES


def table_parts(name: str) -> tuple[str, str | None]:
    """ "PATH,TARGET" -> (PATH, TARGET); no target where a file has that whole name, or it has no comma."""
    path, comma, target = name.rpartition(",")
    return (path, target) if comma and not Path(name).exists() else (name, None)


def files_hash(name: str) -> str:
    """SHA-256, shortened, of the files of a data set; part of the key of its runs. Raises ConfigError."""
    kind, _, path = name.partition(":")
    path = Path(table_parts(path)[0] if kind == "table" else path)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGES)
    try:
        marks = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        return _hash(str(path), marks)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({one_line(error)}); name another file or folder") from None


@lru_cache(maxsize=16)
def _hash(path: str, marks: tuple) -> str:
    digest = hashlib.sha256()
    for file, _, _ in marks:
        with open(file, "rb") as opened:
            digest.update(
                f"{Path(file).relative_to(path)} {hashlib.file_digest(opened, 'sha256').hexdigest()}".encode()
            )
    return digest.hexdigest()[:16]
