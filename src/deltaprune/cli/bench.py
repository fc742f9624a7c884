"""`deltaprune bench`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deltaprune.cli._bench_hosted import bench_hosted, check_bench_options, hosted_table
from deltaprune.cli._bench_tables import bench_table, components_table, growth_table, questions_table
from deltaprune.cli._common import (
    check_device,
    check_dtype,
    check_quantize,
    check_whole,
    print_json,
    read_own_config,
)
from deltaprune.cli._loading import ModelOptions, load_model
from deltaprune.cli._options import (
    DEFAULT_METHODS,
    DeviceOption,
    DtypeOption,
    JsonOption,
    MethodsOption,
    ModelOption,
    PlanOption,
    QuantizeOption,
    TokenizerOption,
    TowersOption,
)
from deltaprune.cli._progress import Working
from deltaprune.cli._tables import show
from deltaprune.errors import UserError

if TYPE_CHECKING:
    from deltaprune.steps import Method
    from deltaprune.vlm import VLM

Document = list[dict[str, Any]]


def bench(
    model: ModelOption = "bundled",
    method: MethodsOption = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="The model's sizes with random weights: nothing is downloaded.")
    ] = False,
    layers: Annotated[
        int | None, typer.Option("--layers", help="Cut the LM to so many layers; with --random-weights only.")
    ] = None,
    dtype: DtypeOption = None,
    quantize: QuantizeOption = None,
    text_tokens: Annotated[int, typer.Option("--text-tokens", help="Of each prompt, template included.")] = 22,
    batch: Annotated[
        list[int] | None, typer.Option("--batch", help="Prompts at once; repeatable. [default: 1]")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="Measured rounds; the first, unmeasured, warm up.")] = 5,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Also the other engines that are installed, on the same weights: much longer."),
    ] = False,
    components: Annotated[bool, typer.Option("--components", help="Also every component alone.")] = False,
    growth: Annotated[bool, typer.Option("--growth", help="Instead: cost against tokens, in powers of two.")] = False,
    most_tokens: Annotated[
        int, typer.Option("--most-tokens", help="Where --growth ends; it begins at 256, or a sixteenth of this.")
    ] = 16384,
    questions: Annotated[
        list[int] | None, typer.Option("--questions", help="Instead: so many questions about one image; repeatable.")
    ] = None,
    plan: PlanOption = None,
    towers: TowersOption = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "cpu",
    json: JsonOption = False,
) -> None:
    """Time prefill and decoding, method beside method.

    The methods take turns; times are medians over the rounds, ratios are taken within a round. First the kernels are
    compared with their references: if one is wrong, nothing is printed.
    """
    batches = batch or [1]
    whole = {"--text-tokens": [text_tokens], "--rounds": [rounds], "--most-tokens": [most_tokens], "--batch": batches}
    for option, values in {**whole, "--questions": questions or []}.items():
        for value in values:
            check_whole(option, value)
    check_dtype(dtype)
    check_quantize(quantize, device)
    if peers and quantize is not None:
        raise UserError("--peers run on the model's own weights, which --quantize replaces: leave one of them out.")
    if growth and questions:
        raise UserError("--growth and --questions are two measurements: ask for one of them.")
    if growth or questions:
        which = "--growth" if growth else "--questions"
        others = {"--batch": batch, "--peers": peers, "--components": components, "--method": growth and method}
        for option, value in others.items():
            if value:
                raise UserError(f"{option} plays no part in the measurement of {which}: leave one of them out.")
    with Working("starting") as working:
        from deltaprune.hosted.recognise import is_hosted
        from deltaprune.methods import parse

        for text in method or ():
            parse(text)
        if is_hosted(model):
            ours = {"--layers": layers, "--peers": peers, "--components": components, "--growth": growth}
            ours |= {"--quantize": quantize, "--questions": questions, "--towers": towers, "--tokenizer": tokenizer}
            check_bench_options(model, ours)
            tables, sizes = [hosted_table], (text_tokens, batches, rounds)
            documents = bench_hosted(model, method, sizes, (dtype, device, random_weights, plan), working)
        else:
            methods = {text: parse(text) for text in method or DEFAULT_METHODS}
            options = ModelOptions(model, plan, towers, tokenizer, dtype, quantize)
            vlm = _loaded(options, random_weights, layers, device, working)
            working.say("measuring (the first round compiles the kernels)")
            if growth:
                tables = [growth_table]
                documents = [_growth(vlm, most_tokens, rounds, working.count)]
            elif questions:
                tables = [questions_table]
                documents = [_questions(vlm, methods, questions, text_tokens, rounds, working.count)]
            else:
                tables = [
                    bench_table,
                    *([lambda document: components_table(_methods_only(document))] if components else []),
                ]
                documents = [
                    _batch(vlm, methods, text_tokens, n, rounds, peers, components, working.count) for n in batches
                ]
    if json:
        print_json(_joined(documents))
    else:
        show(*(table(document) for document in documents for table in tables))


def _batch(
    vlm: "VLM",
    methods: "dict[str, Method]",
    text_tokens: int,
    batch: int,
    rounds: int,
    with_peers: bool,
    components: bool,
    count: Callable[[int, int], None],
) -> Document:
    """Methods and peers at one batch size."""
    from deltaprune.cost.latency import bench as measure
    from deltaprune.cost.peers import peers

    others = peers(vlm.model.lm) if with_peers else []
    rows, ratios = measure(
        vlm, methods, text_tokens, batch, rounds, on_round=count, peers=others, by_component=components
    )
    return [*(row.to_dict() for row in rows), _last(ratios)]


def _growth(vlm: "VLM", most: int, rounds: int, count: Callable[[int, int], None]) -> Document:
    """Cost against tokens."""
    from deltaprune.cost.growth import growth

    first = max(1, min(256, most // 16))
    lengths = [first * 2**i for i in range((most // first).bit_length())]
    rows, ratios = growth(vlm.model.lm, vlm.config.name, lengths, rounds, count)
    return [*rows, _last(ratios)]


def _questions(
    vlm: "VLM",
    methods: "dict[str, Method]",
    counts: list[int],
    text_tokens: int,
    rounds: int,
    count: Callable[[int, int], None],
) -> Document:
    """Many questions about one image."""
    from deltaprune.cost.questions import questions

    rows, ratios = questions(vlm, methods, counts, text_tokens, rounds, count)
    return [*rows, _last(ratios)]


def _last(ratios: dict[str, float]) -> dict[str, Any]:
    """The last object: the ratios, and what they were measured with."""
    import torch

    return {
        "ratios": ratios,
        "verified": True,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def _joined(documents: list[Document]) -> Document:
    """All rows, and one last object; with several batch sizes its ratios are called "batch n: ..."."""
    if len(documents) == 1:
        return documents[0]
    rows = [row for document in documents for row in document[:-1]]
    ratios = {
        f"batch {document[0]['batch']}: {name}": value
        for document in documents
        for name, value in document[-1]["ratios"].items()
    }
    return [*rows, {**documents[0][-1], "ratios": ratios}]


def _methods_only(document: Document) -> Document:
    """The rows that have components."""
    return [row for row in document[:-1] if row["components"]]


def _loaded(options: ModelOptions, random_weights: bool, layers: int | None, device: str, working: Working) -> "VLM":
    """The model with its own weights, or its sizes with random ones."""
    if not random_weights:
        if layers is not None:
            raise UserError("--layers cuts a model of random weights: add --random-weights.")
        return load_model(options, device, working)[0]
    for option, value in {"--plan": options.plan, "--towers": options.towers, "--tokenizer": options.tokenizer}.items():
        if value:
            raise UserError(f"{option} is for a model with its own weights: leave it or --random-weights out.")
    return _random(options, layers, device, working)


def _random(options: ModelOptions, layers: int | None, device: str, working: Working) -> "VLM":
    """The model's sizes with random weights."""
    import torch

    from deltaprune.checkpoints.checkpoint import chosen_device
    from deltaprune.checkpoints.quantize import with_quantize
    from deltaprune.checkpoints.random import cut, random_mllm
    from deltaprune.vlm import VLM

    check_device(device)
    config = read_own_config(options.model)
    config = config if layers is None else cut(config, layers)
    config = config if options.quantize is None else with_quantize(config, options.quantize)
    working.say(f"filling {config.name} with random weights")
    weights = random_mllm(config, getattr(torch, options.dtype or "float32"))
    return VLM(weights, eos_id=0).to(device=chosen_device(device))
