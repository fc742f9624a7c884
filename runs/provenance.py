"""Where a number comes from: command, commit, date, device; written beside every table in `numbers/`."""

import datetime
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
NUMBERS = ROOT / "numbers"
CODE = ("src", "runs", "training")  # uncommitted changes there mark a number


def provenance(device: str = "cpu") -> dict[str, str]:
    """What a reader needs to run it again."""
    commit = _git("rev-parse", "--short", "HEAD")
    dirty = "+" if _git("status", "--porcelain", "--untracked-files=no", "--", *CODE) else ""
    return {
        "command": shlex.join(["python", *_relative(sys.orig_argv[1:])]),
        "commit": commit + dirty,
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else f"{_cpu()}, {_cores()} cores",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def footer(source: dict[str, str]) -> str:
    """The provenance as one Markdown line below a table; a `+` after the commit means uncommitted changes."""
    return (
        f"`{source['command']}` · commit {source['commit']} · {source['date']} · {source['device']} · "
        f"torch {source['torch']}, Python {source['python']}\n"
    )


def publish(name: str, document: Mapping[str, Any], page: str, folder: Path = NUMBERS) -> None:
    """Write a table's JSON and its Markdown page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(page, encoding="utf-8")


def _git(*args: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=False).stdout
    except OSError:  # a bare machine may have no git, and no repository either
        done = ""
    return done.strip() or ("unknown" if "rev-parse" in args else "")


def _relative(argv: list[str]) -> list[str]:
    return [str(Path(a).resolve().relative_to(ROOT)) if Path(a).resolve().is_relative_to(ROOT) else a for a in argv]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _cores() -> int:
    return torch.get_num_threads()
