"""Where solved mixing weights and decoded data are kept between runs."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder for recomputable files: ``$ALDSGD_CACHE``, else ``.cache`` beside the package (git-ignored)."""
    return Path(os.environ.get("ALDSGD_CACHE") or Path(__file__).resolve().parents[1] / ".cache")


def replace_file(path: Path, write) -> None:
    """Write ``path`` atomically: ``write(temporary_path)`` in the same folder, then rename.

    A reader sees the old file or the whole new one, never a part; two writers do not mix.
    Raises OSError where the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
