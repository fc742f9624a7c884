"""What `/metrics` reports, in a registry of its own, so that several apps may live in one process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counters, gauges and histograms of one server, all named `deltaprune_...`."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        here = {"registry": self.registry, "namespace": "deltaprune"}
        self.requests = Counter("requests", "Requests by HTTP status.", ["status"], **here)
        self.waiting = Gauge("queue_length", "Requests that wait for the model.", **here)
        self.rows = Gauge("decoding_rows", "Answers that are being decoded.", **here)
        self.first_token = Histogram(
            "time_to_first_token_seconds", "From a request's arrival to its first token.", buckets=SECONDS, **here
        )
        self.seconds = Histogram("request_seconds", "From arrival to the last token.", buckets=SECONDS, **here)
        self.hits = Counter("image_prefix_hits", "Requests whose picture had been run before.", **here)
        self.misses = Counter("image_prefix_misses", "Requests whose picture had to be run.", **here)
        self.prefix_bytes = Gauge("image_prefix_bytes", "Memory of the image prefixes that are kept.", **here)
        self.visual = Counter("visual_rows", "Visual tokens of all prompts.", **here)
        self.kept = Counter("visual_rows_kept", "Visual tokens that reached the last layer.", **here)
        self.tokens = Counter("generated_tokens", "Tokens of all answers.", **here)
        self.alone = Counter("near_ties", "Tokens that were decided without the batch, being nearly as likely.", **here)

    def page(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
