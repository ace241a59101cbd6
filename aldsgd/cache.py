"""Where solved mixing weights and decoded data are kept between runs."""

import contextlib
import errno
import os
from pathlib import Path

from platformdirs import user_cache_dir

from aldsgd.parts import INSTALLED


def cache_dir() -> Path:
    """Folder for recomputable files: ``$ALDSGD_CACHE``, else ``.cache`` in the checkout (git-ignored), and where the
    package was installed the user's cache folder."""
    if named := os.environ.get("ALDSGD_CACHE"):
        return Path(named)
    return Path(user_cache_dir("aldsgd")) if INSTALLED.is_dir() else INSTALLED.parents[1] / ".cache"


def replace_file(path: Path, write) -> None:
    """Write ``path`` atomically: ``write(temporary_path)`` in the same folder, then rename.

    A reader sees the old file or the whole new one, never a part; two writers do not mix. Where it fails, as on a full
    disk, nothing is left behind but the old file, and OSError names ``path``.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(temporary)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
