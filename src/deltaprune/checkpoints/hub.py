"""The Hugging Face Hub, if it can be reached; earlier downloads are found without it."""

from collections.abc import Sequence
from pathlib import Path


class HubError(Exception):
    """The Hub did not give what was asked for; the message says why, as a part of a sentence."""


def fetch(repo: str, files: Sequence[str]) -> Path:
    """Download files of a repository, unless they are here already.

    Args:
        repo: "owner/name".
        files: paths in the repository, or patterns such as "*.json".

    Returns:
        The folder that holds them, at their paths in the repository.

    Raises:
        HubError: no network, no such repository, or it lacks one of the files.
    """
    import huggingface_hub

    try:  # not hf_hub_download: without a network, that one retries for half a minute
        folder = Path(huggingface_hub.snapshot_download(repo, allow_patterns=list(files)))
    except Exception as error:  # the hub's errors, httpx's and the system's have no common base
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HubError(f"{repo}: {first_line.rstrip('.')}") from error
    missing = [file for file in files if "*" not in file and not (folder / file).is_file()]
    if missing:
        raise HubError(f"{repo} has no {', '.join(missing)}, or the network is down")
    return folder


def address(repo: str, file: str) -> str:
    """Where a browser downloads a file."""
    return f"https://huggingface.co/{repo}/resolve/main/{file}"
