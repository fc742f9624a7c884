"""Lists of numbers on a command line: "0.1:1:10" or "0.25,0.5"."""

import math

from deltaprune.errors import UserError

MOST = 1000  # numbers of one range


def numbers_of(option: str, text: str | None) -> tuple[float, ...]:
    """A:B:N, N numbers from A to B with both ends, or A,B,...; none where the option was not given.

    Raises:
        UserError: the text is neither.
    """
    if text is None:
        return ()
    parts = text.split(":") if ":" in text else text.split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if ":" in text:
        whole = len(values) == 3 and values[2] == int(values[2]) and 2 <= values[2] <= MOST
        first, last, n = (values[0], values[1], int(values[2])) if whole else (0.0, 0.0, 0)
        values = [round(first + (last - first) * i / (n - 1), 6) for i in range(n)]
    if not values or not all(map(math.isfinite, values)):
        raise UserError(f"{option} {text!r} is not a list of numbers: write 0.25,0.5 or 0.1:1:10 (ten from 0.1 to 1).")
    return tuple(dict.fromkeys(values))
