"""A folder of answers that survives interruptions: appended line by line, forced to the disk, looked up by a key.

    answers.jsonl   one line per answer, with what it answers and its grade (see `Note`), so that it can be read alone;
                    holds nothing that differs between two runs of the same command
    errors.jsonl    what failed, and why; asked again by the next run
    timings.jsonl   how long each unit took
    lock            held while a run writes

An answer is reused only for the same model, method, prompt, decoding, benchmark version and question, so that a changed
setting never gets an old answer; the answers of other settings stay in the file. In a line, "method" is the method as
given and "identity" its `repr`, by which it is looked up; a line without "identity" was written by an older version,
and its "method" is the `repr`.
"""

import hashlib
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from deltaprune.disk import sync_folder
from deltaprune.errors import UserError, in_words
from deltaprune.evaluate.units import Answer

ANSWERS, ERRORS, TIMINGS, LOCK = "answers.jsonl", "errors.jsonl", "timings.jsonl", "lock"


@dataclass(frozen=True, slots=True)
class Key:
    """What an answer depends on.

    Attributes:
        model: the model's fingerprint: sizes, weights, dtype, plan.
        device: the kind it ran on, since arithmetic differs.
        method: its `repr`.
        benchmark: name and version.
        prompt: a hash of the picture's name, the prompt as the model reads it, and how the answer is read off.
        id: the question.
    """

    model: str
    device: str
    method: str
    benchmark: str
    prompt: str
    id: str


KEY = tuple(each.name for each in fields(Key))


@dataclass(frozen=True, slots=True)
class Note:
    """What a line of answers.jsonl says besides the answer; it is not part of the key.

    Attributes:
        method: as given if that was a text, else its `repr`.
        image_id, question, gold, skill: the sample's; `gold` is the right answer.
        protocol: the rules by which `correct` was graded.
        correct: the grade, in [0, 1].
    """

    method: str
    image_id: str
    question: str
    gold: str
    skill: str
    protocol: str
    correct: float


def prompt_hash(image_id: str, prompt: str, decoding: object) -> str:
    """Of the picture's name, the whole prompt and the way of decoding."""
    return hashlib.sha256("\0".join([image_id, repr(decoding), prompt]).encode()).hexdigest()[:16]


class Store:
    """The folder, opened for one run; a context manager that holds its lock.

    Raises:
        UserError: another run holds the folder, it cannot be written, or its answers are damaged.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._open = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        self._answers: dict[Key, Answer] = {}

    def __enter__(self) -> "Store":
        with ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(self.folder / LOCK, thread_local=False).acquire(blocking=False))
                self._files = {n: stack.enter_context(_open_whole(self.folder / n)) for n in (ANSWERS, ERRORS, TIMINGS)}
                sync_folder(self.folder)
                sync_folder(self.folder.absolute().parent)
            except Timeout as error:
                raise UserError(
                    f"Another run is writing to {str(self.folder)!r}: wait for it, or choose another --out."
                ) from error
            except OSError as error:
                why = error.strerror or in_words(error)
                raise UserError(
                    f"The folder {str(self.folder)!r} cannot be written ({why}): choose another --out."
                ) from error
            self._answers = _read(self.folder / ANSWERS)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Key) -> Answer | None:
        """The answer of an earlier run or this one."""
        return self._answers.get(key)

    def add(self, answers: Mapping[Key, Answer], notes: Mapping[Key, Note], timing: Mapping[str, Any]) -> None:
        """Write answers that the folder lacks; on return they are on the disk.

        Args:
            answers: by what they depend on.
            notes: what the lines say besides, for each answer that is no error.
            timing: a line of timings.jsonl.

        Raises:
            UserError: the disk is full or was removed. What was written before is complete.
        """
        new = {key: answer for key, answer in answers.items() if key not in self._answers}
        good = {key: answer for key, answer in new.items() if answer.error is None}
        self._append(ANSWERS, (_line(key, answer, notes[key]) for key, answer in good.items()))
        self._answers |= good
        self._append(ERRORS, ({**asdict(key), "error": a.error} for key, a in new.items() if a.error is not None))
        self._append(TIMINGS, [timing])

    def _append(self, name: str, lines: Iterable[Mapping[str, Any]]) -> None:
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        if not data:
            return
        file = self._files[name]
        whole = os.fstat(file.fileno()).st_size
        try:
            while data:  # an unbuffered write may take only a part
                data = data[os.write(file.fileno(), data) :]
            os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):  # the disk is gone; the next run removes a line that was cut off
                os.ftruncate(file.fileno(), whole)
            raise UserError(
                f"{str(self.folder / name)!r} cannot be written ({error.strerror}); the {len(self)} answers before are "
                "safe: make room and run the same command again."
            ) from error


def _line(key: Key, answer: Answer, note: Note) -> dict[str, Any]:
    """A line of answers.jsonl."""
    choices = {"choices": dict(answer.choices)} if answer.choices else {}
    told = asdict(note)
    right = {"correct": told.pop("correct")}
    found = asdict(key) | {"identity": key.method}
    return {**found, **told, "prediction": answer.prediction, **choices, **right}


def _open_whole(path: Path) -> IO[bytes]:
    """Open for appending; a last line that was cut off is removed."""
    file = path.open("ab", buffering=0)
    with path.open("rb") as lines:
        last = deque(lines, maxlen=1)
    if last and not last[0].endswith(b"\n"):
        os.ftruncate(file.fileno(), os.fstat(file.fileno()).st_size - len(last[0]))
    return file


def _read(path: Path) -> dict[Key, Answer]:
    answers: dict[Key, Answer] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                answer = Answer(entry["id"], entry["prediction"], entry.get("choices", {}))
                found = {name: entry[name] for name in KEY} | {"method": entry.get("identity", entry["method"])}
                key = Key(**{name: sys.intern(value) for name, value in found.items()})  # most recur
                answers.setdefault(key, answer)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"Line {number} of {str(path)!r} is damaged: delete that line, and its question is asked again."
                ) from error
    return answers
