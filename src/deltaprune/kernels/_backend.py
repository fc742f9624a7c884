from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backend:
    op: str; name: str; devices: tuple; carries_state: bool; probe: Any; fn: Any; dtypes: Any=None; priority: int=0
