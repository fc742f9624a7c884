"""The one thread in which the model runs: prompts that wait are read together, answers are decoded as one batch.

A turn reads what waits, as far as there is room, and decodes one token of every row: a long answer does not hold up a
short one, and what comes while the model is busy is read as a batch.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial

import torch

from deltaprune.serve.asked import Asked, Event, New, Row
from deltaprune.serve.decoding import Decoding
from deltaprune.serve.metrics import Metrics
from deltaprune.serve.reader import Reader, what_was_kept

IMAGES = 4  # pictures that are run in one turn, during which no answer goes on
TEXT = 8192  # tokens of text that are read in one turn, but for a single longer prompt

Post = Callable[[list[tuple[Asked, Event]]], None]

_LOG = logging.getLogger("deltaprune.serve")


class Scheduler:
    """Reads and decodes, from `start` to `stop`.

    Args:
        reader: reads prompts.
        max_rows: answers that are decoded at once.
        metrics: what is counted.
        post: takes the events of half a turn; called in the model's thread.
    """

    def __init__(self, reader: Reader, max_rows: int, metrics: Metrics, post: Post):
        self.reader, self.max_rows, self.metrics, self.post = reader, max_rows, metrics, post
        vlm = reader.vlm
        self.decoding = Decoding(vlm.model.lm, vlm.eos_id, reader.alone)
        self._waiting: list[Asked] = []
        self._inbox: list[Asked] = []
        self._events: list[tuple[Asked, Event]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="deltaprune-model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what was asked, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def put(self, asked: Asked) -> None:
        """Add a prompt to the queue; from any thread."""
        with self._changed:
            self._inbox.append(asked)
            self._changed.notify()

    @torch.no_grad()
    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._inbox or self._waiting or self.decoding.rows or self._stopping):
                    self._changed.wait()
                self._waiting += self._inbox
                self._inbox = []
            if not self._waiting and not self.decoding.rows:
                return
            self._turn()
            self._flush()

    def _turn(self) -> None:
        """Read what there is room for, then decode one step."""
        self._waiting = [asked for asked in self._waiting if not asked.cancelled]
        self.decoding.leave()
        groups: dict[object, list[Asked]] = {}
        for asked in self._ready():
            groups.setdefault((asked.method, asked.image is None), []).append(asked)
        for group in groups.values():
            self._safely(partial(self._begin, group))
        self.metrics.rows.set(len(self.decoding.rows))
        if self.decoding.rows:
            self._safely(self.decoding.step)
            self._tell()
        self.metrics.rows.set(len(self.decoding.rows))

    def _safely(self, run: Callable[[], None]) -> None:
        """Whatever happens to the answers that are being decoded, the next request must find a working model."""
        try:
            run()
        except Exception as error:
            _LOG.exception("The model failed; the answers that were being decoded end here")
            self._events += [(asked, error) for asked in {row.asked for row in self.decoding.rows}]
            self.decoding.clear()

    def _ready(self) -> list[Asked]:
        """Take out of the queue what can be read now, first come first served; its pictures are run."""
        rows, text, images = self.max_rows - len(self.decoding.rows), TEXT, IMAGES
        ready: list[Asked] = []
        later: list[Asked] = []
        for place, asked in enumerate(self._waiting):
            rows, text = rows - len(asked.samplers), text - len(asked.ids)
            if rows < 0 or (text < 0 and place > 0):
                later += self._waiting[place:]
                break
            if not self.reader.known(asked):
                if images == 0:
                    later.append(asked)
                    continue
                images -= 1
                try:
                    self.reader.see(asked)
                except Exception as error:
                    self._events.append((asked, error))
                    continue
            ready.append(asked)
        self._waiting = later
        return ready

    def _begin(self, group: list[Asked]) -> None:
        """Read prompts under one method, all at once; where that fails, one by one, to find which one it is."""
        try:
            prefilled = self.reader.read(group)
        except Exception as error:
            if len(group) == 1:
                self._events.append((group[0], error))
                return
            _LOG.warning("%s: reading the prompts one by one", error)
            for asked in group:
                self._begin([asked])
            return
        self._events += [(asked, what_was_kept(asked, prefilled, i)) for i, asked in enumerate(group)]
        rows = [(i, Row(asked, index)) for i, asked in enumerate(group) for index in range(len(asked.samplers))]
        if len(rows) > len(group):
            prefilled = prefilled.repeat(torch.tensor([i for i, _ in rows], device=prefilled.hidden.device))
        self.decoding.add([row for _, row in rows], prefilled)
        self._tell()
        self._flush()

    def _tell(self) -> None:
        """Note what is to be sent of each row, and remove the rows that have ended."""
        for row in self.decoding.rows:
            if row.error is not None:
                self._events.append((row.asked, row.error))
            elif row.reason is not None or (row.asked.live and row.told < len(row.ids)):
                self._events.append((row.asked, New(row.index, tuple(row.ids[row.told :]), row.reason)))
                row.told = len(row.ids)
        self.decoding.leave()

    def _flush(self) -> None:
        """Send the events off."""
        events, self._events = self._events, []
        if events:
            self.metrics.prefix_bytes.set(self.reader.prefixes.nbytes)
            self.metrics.alone.inc(self.decoding.alone)
            self.decoding.alone = 0
            self.post(events)
