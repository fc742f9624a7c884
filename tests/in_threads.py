"""Many threads at one model, changing places as often as the interpreter can."""

import sys
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from jaxtyping import config

Case = TypeVar("Case", bound=Hashable)
THREADS = 8


def wrong_in_threads(
    cases: Sequence[Case], answer: Callable[[Case, int], object], expected: Callable[[Case], object], calls: int
) -> list[str]:
    """What 8 threads got that was wrong, each making `calls` calls and starting at another case.

    Args:
        cases: what is asked in turn.
        answer: asks, given a case and the number of the call.
        expected: what the answer must equal.
        calls: of each thread.
    """
    wrong: list[str] = []
    ready, interval = threading.Barrier(THREADS), sys.getswitchinterval()

    def work(thread: int) -> None:
        ready.wait()
        for call in range(calls):
            case = cases[(thread + call) % len(cases)]
            try:
                if answer(case, call) != expected(case):
                    wrong.append(f"thread {thread}, call {call}: another answer to {case}")
            except Exception as error:
                wrong.append(f"thread {thread}, call {call}: {error!r} at {case}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    sys.setswitchinterval(1e-6)
    config.update("jaxtyping_disable", True)  # checking types would take nine tenths of the time
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
        config.update("jaxtyping_disable", False)
    return wrong
