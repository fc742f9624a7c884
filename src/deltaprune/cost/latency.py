"""The time of a prefill and of a decoded token on this machine: methods, peers and lower bounds in one run.

The runs alternate, so that a slow minute of the machine affects all equally; ratios are taken within a round and their
median is reported. The prompt is an image of random pixels and a text of random tokens: the time of a dense recurrence
does not depend on values. Before anything is timed, the kernels are compared with their references.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from deltaprune.cost.components import components
from deltaprune.cost.floors import copy_bandwidth, layer_bytes, products, rows_per_layer, weight_bytes
from deltaprune.cost.peers import Peer
from deltaprune.cost.rounds import Round, check_peers, method_round, peer_round, prompts
from deltaprune.cost.short import ShortPrompt, short_prompt
from deltaprune.cost.timing import forget_peak, peak_bytes, spread, timed, unmeasured
from deltaprune.cost.verify import verify_kernels
from deltaprune.errors import UserError
from deltaprune.kernels import select
from deltaprune.steps import Method
from deltaprune.vlm import VLM


@dataclass(frozen=True)
class BenchRow:
    """Medians over the rounds.

    Attributes:
        name: the model.
        method: as it was asked for.
        tokens: rows of one prompt before pruning.
        batch: prompts at once.
        dtype, device, kernel: of the weights; where; the scan's backend, or the peer.
        vision_ms, prefill_ms: of the batch; decode_ms: of one token of the batch.
        total_ms: all of a round: vision, prefill, and decoding `new_tokens` tokens.
        choose_ms: scoring, selecting and gathering, part of the prefill; measured in runs of its own.
        products_ms: the floor of the prefill, the same matrix products alone, see `floors.products`.
        weights_ms: the floor of a decoded token, its weights read at the bandwidth of a large copy.
        short_ms: of a prefill of `short.ROWS` rows without a picture, and thus without pruning.
        short_floor_ms: its floor, the longer of its matrix products alone and its weights at copy bandwidth.
        graphed: whether every prefill was the replay of a CUDA graph.
        peak_bytes: most memory during the rounds, weights included (CPU: of the whole process).
        spread: for each time, half the interquartile range over the median, a fraction.
        components: milliseconds by component, if asked for, see `components.components`.
    """

    name: str
    method: str
    tokens: int
    batch: int
    dtype: str
    device: str
    kernel: str
    vision_ms: float
    prefill_ms: float
    decode_ms: float
    total_ms: float
    choose_ms: float
    products_ms: float
    weights_ms: float
    short_ms: float
    short_floor_ms: float
    graphed: bool
    peak_bytes: int
    spread: Mapping[str, float] = field(default_factory=dict)
    components: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The JSON row."""
        return {**asdict(self), "choose_share": self.choose_ms / self.prefill_ms}


def bench(
    vlm: VLM,
    methods: Mapping[str, Method],
    text_tokens: int = 22,
    batch: int = 1,
    rounds: int = 5,
    new_tokens: int = 4,
    on_round: Callable[[int, int], None] | None = None,
    peers: Sequence[Peer] = (),
    by_component: bool = False,
) -> tuple[list[BenchRow], dict[str, float]]:
    """Time every method, and every peer without pruning, on the same prompts.

    Args:
        vlm: the model; random weights will do.
        methods: label -> method.
        text_tokens: of each prompt.
        batch: prompts at once, each with its own image.
        rounds: measured ones; one more warms up, on a GPU two.
        new_tokens: how many are decoded for `decode_ms`.
        on_round: called with (done, total).
        peers: other engines on the same weights; each is first checked to give the same logits.
        by_component: also time each component alone.

    Returns:
        A row per method and peer, and ratios of the prefill: against the first method, and against the row's own
        matrix products.

    Raises:
        KernelMismatch, PeerDisagrees: a kernel or peer computes something else; nothing is timed.
    """
    for name, value in (("text_tokens", text_tokens), ("batch", batch), ("rounds", rounds), ("new_tokens", new_tokens)):
        if value < 1:
            raise UserError(f"{name}={value} must be at least 1.")
    steps = {label: method.checked_steps(vlm.shape) for label, method in methods.items()}
    lm = vlm.model.lm
    verify_kernels(vlm.device, lm.dtype)
    pixels, ids = prompts(vlm, batch, text_tokens)
    every = {label: rows_per_layer(each, vlm.shape, text_tokens, batch) for label, each in steps.items()}
    every |= {peer.name: rows_per_layer((), vlm.shape, text_tokens, batch) for peer in peers}
    floors = {label: products(lm, rows) for label, rows in every.items()}
    runs: dict[str, Callable[[], Round]] = {
        label: (lambda each=each: method_round(vlm, each, pixels, ids, new_tokens)) for label, each in steps.items()
    }
    runs |= {peer.name: (lambda peer=peer: peer_round(vlm, peer, pixels, ids, new_tokens)) for peer in peers}
    check_peers(vlm, peers, pixels, ids)
    short = short_prompt(lm, list(methods), peers)
    times, peaks, copied = _alternate(vlm, runs, floors, short, rounds, new_tokens, on_round)
    bandwidth = median(copied)
    reading = tuple(1000 * read / bandwidth for read in (weight_bytes(lm), layer_bytes(lm)))
    rows = []
    for label, rounds_of in times.items():
        row = _row(vlm, label, label in methods, rounds_of, peaks[label], batch, text_tokens, reading)
        if by_component and label in methods:
            parts = components(vlm, pixels, every[label], batch, row.prefill_ms)
            row = replace(row, components=parts)
        rows.append(row)
    return rows, _ratios(times)


def _alternate(
    vlm: VLM,
    runs: Mapping[str, Callable[[], Round]],
    floors: Mapping[str, Callable[[], None]],
    short: ShortPrompt,
    rounds: int,
    new_tokens: int,
    on_round: Callable[[int, int], None] | None,
) -> tuple[dict[str, list[Round]], dict[str, int], list[float]]:
    """Run all contestants in turn, round after round: times of the measured rounds, peak memory, copy bandwidths.

    The bandwidth is measured in each round, since a shared machine's memory is at times half as fast.
    """
    times: dict[str, list[Round]] = {label: [] for label in runs}
    peaks, copied = dict.fromkeys(runs, 0), []
    first = unmeasured(vlm.device)
    for i in range(first + rounds):
        for label, run in runs.items():
            forget_peak(vlm.device)
            measured = run()
            peaks[label] = max(peaks[label], peak_bytes(vlm.device))
            measured.products = timed(floors[label], vlm.device)[1]
            measured.short, measured.short_products = short.times(label)
            measured.total = measured.vision + measured.prefill + new_tokens * measured.decode
            times[label] += [measured] if i >= first else []
        copied += [copy_bandwidth(vlm.device, rounds=1)] if i >= first else []
        if on_round:
            on_round(i + 1, first + rounds)
    return times, peaks, copied


def _ratios(times: Mapping[str, list[Round]]) -> dict[str, float]:
    """Medians of the ratios within rounds: to the first contestant, then to each contestant's own matrix products."""
    first = next(iter(times))
    ratios = {}
    for label, rounds in times.items():
        if label != first:
            ratios[f"{label}/{first}"] = median(
                a.prefill / b.prefill for a, b in zip(rounds, times[first], strict=True)
            )
    for label, rounds in times.items():
        ratios[f"{label}/products"] = median(each.prefill / each.products for each in rounds)
    return ratios


def _row(
    vlm: VLM,
    label: str,
    ours: bool,
    times: list[Round],
    peak: int,
    batch: int,
    text_tokens: int,
    reading: Sequence[float],
) -> BenchRow:
    """Medians and spreads of one contestant's rounds; `reading`: milliseconds of all weights, and of the layers'."""
    parts = ("vision", "prefill", "decode", "choose", "products", "total", "short", "short_products")
    columns = {part: [getattr(each, part) for each in times] for part in parts}
    dtype = vlm.model.lm.dtype
    scan = select("deltaprune.kernels.selective_scan", vlm.device, dtype=dtype).name
    return BenchRow(
        name=vlm.config.name,
        method=label if ours else "none",
        tokens=vlm.config.n_visual + text_tokens,
        batch=batch,
        dtype=str(dtype).removeprefix("torch."),
        device=vlm.device.type,
        kernel=scan if ours else label,
        vision_ms=median(columns["vision"]),
        prefill_ms=median(columns["prefill"]),
        decode_ms=median(columns["decode"]),
        total_ms=median(columns["total"]),
        choose_ms=median(columns["choose"]),
        products_ms=median(columns["products"]),
        weights_ms=reading[0],
        short_ms=median(columns["short"]),
        short_floor_ms=max(median(columns["short_products"]), reading[1]),
        graphed=all(each.replayed for each in times),
        peak_bytes=peak,
        spread={part: spread(values) for part, values in columns.items() if part not in ("choose", "short_products")},
    )
