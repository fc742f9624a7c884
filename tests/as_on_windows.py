"""Makes this process refuse what Windows refuses, as far as that can be done elsewhere.

    python as_on_windows.py SCRIPT ARGUMENT...

* The modules that only Unix has cannot be imported, by us or by any library (filelock then locks without them).
* A folder cannot be opened as a file, and a file that was opened for reading cannot be synced.
* A file that this process holds open, or has mapped, is neither replaced nor renamed nor removed; `rename` never
  replaces.

What is not here: Windows' own lock, its paths, its console. Run with another encoding than UTF-8, see `ENVIRONMENT`.
"""

import os
import runpy
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

UNIX_ONLY = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "readline", "curses", "posixshmem")
ENVIRONMENT = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}  # text is ASCII unless told otherwise
FORBIDDEN = set('<>:"/\\|?*') | {chr(code) for code in range(32)}
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def allowed(name: str) -> bool:
    """Windows takes this name for a file."""
    plain = name.split(".")[0].rstrip().lower()
    return not set(name) & FORBIDDEN and not name.endswith((" ", ".")) and plain not in RESERVED


def pretend() -> None:
    """From now on, in the whole process."""
    import fcntl

    with suppress(ImportError):
        import psutil  # noqa: F401  # its part for Linux reads `resource`; Windows has a part of its own

    flags = fcntl.fcntl
    get_flags = fcntl.F_GETFL
    for name in UNIX_ONLY:
        sys.modules[name] = None  # type: ignore[assignment]
    real_open, real_sync = os.open, os.fsync

    def open_file(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        handle = real_open(path, flags, *args, **kwargs)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.close(handle)
            raise PermissionError(13, "Permission denied", str(path))
        return handle

    def sync(handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        if flags(number, get_flags) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(9, "Bad file descriptor")
        real_sync(number)

    os.open, os.fsync = open_file, sync
    os.replace = _unless_held(os.replace, over=True)
    os.rename = _unless_held(os.rename, over=False)
    os.unlink = os.remove = _unless_held(os.unlink, over=True)


def _unless_held(real: Callable[..., None], over: bool) -> Callable[..., None]:
    def changed(*paths: Any, **kwargs: Any) -> None:
        for path in paths:
            if "dir_fd" not in kwargs and _held(os.path.realpath(path)):
                raise PermissionError(13, "The process cannot access the file because it is being used", str(path))
        if not over and os.path.exists(paths[1]):
            raise FileExistsError(17, "Cannot create a file when that file already exists", str(paths[1]))
        real(*paths, **kwargs)

    return changed


def _held(path: str) -> bool:
    """This process has the file, or one below it, open or mapped."""
    handles = Path("/proc/self/fd")
    opened = [os.readlink(handle) for handle in handles.iterdir() if handle.is_symlink()]
    maps = os.fsdecode(Path("/proc/self/maps").read_bytes()).split("\n")
    mapped = [line.split(maxsplit=5)[5] for line in maps if len(line.split(maxsplit=5)) == 6]
    return any(held == path or held.startswith(path + os.sep) for held in (*opened, *mapped))


if __name__ == "__main__":
    pretend()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
