"""What a server allows and where it listens."""

from dataclasses import dataclass

from deltaprune.checks import check_at_least_one, check_positive

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """Limits and defaults of a server; every limit has an answer of its own, see `docs/guides/serve.md`.

    Attributes:
        name: of the model, as clients give it in `model`.
        method: the pruning of requests that name none.
        api_key: what clients send as a bearer token; None lets everybody in.
        allow_urls: whether pictures are fetched from public http addresses.
        max_body: bytes of a request.
        max_pixels: of a picture.
        max_prompt_tokens: of a request's text, template included.
        max_tokens: of an answer, at most.
        default_tokens: of an answer whose request names no limit.
        max_n: answers to one request.
        max_rows: answers that are decoded at once.
        queue: requests that may wait.
        prefix_bytes: memory of the image prefixes that are kept, bytes; 0 keeps none.
        grace: seconds that running requests have to finish when the server stops.
    """

    name: str = "bundled"
    method: str = "none"
    api_key: str | None = None
    allow_urls: bool = False
    max_body: int = 20 * MIB
    max_pixels: int = 25_000_000
    max_prompt_tokens: int = 8192
    max_tokens: int = 1024
    default_tokens: int = 128
    max_n: int = 16
    max_rows: int = 64
    queue: int = 256
    prefix_bytes: int = 1024 * MIB
    grace: float = 60.0

    def __post_init__(self) -> None:
        numbers = "max_body", "max_pixels", "max_prompt_tokens", "max_tokens", "default_tokens", "max_n", "max_rows"
        for name in (*numbers, "queue"):
            check_at_least_one(name, getattr(self, name))
        check_positive("prefix_bytes", self.prefix_bytes, zero=True)
        check_positive("grace", self.grace)
