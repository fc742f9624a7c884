"""Towers and tokenizer that a published checkpoint leaves out: as given, from its folder, or from the Hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from deltaprune.checkpoints.files import SUFFIXES
from deltaprune.checkpoints.hub import HubError, address, fetch
from deltaprune.errors import UserError, did_you_mean, in_words

Towers = str | Path | Mapping[str, str | Path]
TOKENIZER = "tokenizer"


@dataclass(frozen=True)
class Part:
    """A separate file: `name` is "tokenizer" or a tower's; `repo` and `file` say where it is on the Hub, if it is."""

    name: str
    repo: str | None
    file: str = "model.safetensors"

    @property
    def local(self) -> str:
        """Its file name in a checkpoint's folder."""
        return "tokenizer.json" if self.name == TOKENIZER else f"{self.name}.safetensors"


def find_parts(
    parts: Sequence[Part], folder: Path, towers: Towers | None = None, tokenizer: str | Path | None = None
) -> dict[str, Path]:
    """A file for each part: the one that was given, else the one in the checkpoint's folder, else the Hub's.

    Args:
        parts: what the checkpoint leaves out.
        folder: the folder of the checkpoint.
        towers: tower's name -> file, or a folder of files named after the towers (dino.safetensors, ...).
        tokenizer: a tokenizer.json or its folder.

    Raises:
        UserError: a given file does not exist, or a part is found nowhere; the message says what to download.
    """
    found = _given_towers(towers, [part.name for part in parts if part.name != TOKENIZER])
    if tokenizer is not None:
        file = Path(tokenizer)
        found[TOKENIZER] = file / "tokenizer.json" if file.is_dir() else file
    missing: dict[Part, str] = {}
    for part in parts:
        beside = _beside(folder, part)
        if part.name in found:
            continue
        if beside is not None:
            found[part.name] = beside
            continue
        try:
            found[part.name] = _from_hub(part)
        except HubError as error:
            missing[part] = str(error)
    if missing:
        raise UserError(_what_to_download(missing, folder))
    return found


def refuse_parts(what: str, towers: Towers | None, tokenizer: str | Path | None) -> None:
    """Check that a complete model is given no other towers or tokenizer, else a `UserError`."""
    given = [name for name, value in (("towers", towers), ("tokenizer", tokenizer)) if value is not None]
    if given:
        raise UserError(f"{what} brings its own {' and '.join(given)}: leave {'= and '.join(given)}= out.")


def read_tokenizer(file: Path) -> Tokenizer:
    """A tokenizer.json, else a `UserError`."""
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises nothing narrower
        raise UserError(f"{file} is not a tokenizer ({in_words(error)}): give a tokenizer.json.") from error


def _given_towers(towers: Towers | None, names: list[str]) -> dict[str, Path]:
    """Tower's name -> file, from what the user gave."""
    if towers is None:
        return {}
    if isinstance(towers, Mapping):
        for name in towers:
            if name not in names:
                raise UserError(f"towers= has no use for {name!r}: {did_you_mean(name, names)}.")
        return {name: Path(file) for name, file in towers.items()}
    folder = Path(towers)
    found = {name: file for name in names if (file := _with_any_suffix(folder, name)) is not None}
    lacking = [f"{name}.safetensors" for name in names if name not in found]
    if lacking:
        raise UserError(
            f"towers={str(towers)!r} lacks {' and '.join(lacking)}: it is a folder of files named after the towers, or "
            f"a mapping such as {{{names[0]!r}: 'file.safetensors'}}."
        )
    return found


def _with_any_suffix(folder: Path, name: str) -> Path | None:
    return next((file for suffix in SUFFIXES if (file := folder / (name + suffix)).is_file()), None)


def _beside(folder: Path, part: Part) -> Path | None:
    """The part in the checkpoint's own folder."""
    if part.name != TOKENIZER:
        return _with_any_suffix(folder, part.name)
    return folder / part.local if (folder / part.local).is_file() else None


def _from_hub(part: Part) -> Path:
    if part.repo is None:
        raise HubError("none are published for these sizes")
    return fetch(part.repo, [part.file]) / part.file


def _what_to_download(missing: Mapping[Part, str], folder: Path) -> str:
    """The message that names each file, where it is on the Hub and where to put it."""
    names = _listed([part.name for part in missing])
    steps = [
        f"{address(part.repo, part.file)} as {part.local}" if part.repo else f"the {part.name} tower as {part.local}"
        for part in missing
    ]
    given = "= and ".join(dict.fromkeys(TOKENIZER if part.name == TOKENIZER else "towers" for part in missing))
    return (
        f"The checkpoint in {folder} leaves out {names}, and the Hub did not give them "
        f"({next(iter(missing.values()))}): put {_listed(steps)} into that folder, or name them with {given}=."
    )


def _listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
