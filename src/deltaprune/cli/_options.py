"""The options that several commands have: each is written here once."""

from typing import Annotated, Any

import typer

from deltaprune.checks import check_local

DEFAULT_METHODS = ("none", "dtp:keep=0.5")
ASKED = ("dtp:keep=0.5", "freeze")  # beside unpruned


def local(param: typer.CallbackParam, value: Any) -> Any:
    """Check that a file or folder is no web address, else a `UserError`."""
    name = param.opts[-1] if param.param_type_name == "option" else (param.metavar or str(param.name).upper())
    for each in value if isinstance(value, list | tuple) else [value]:
        check_local(name, each)
        check_local(name, str(each).partition("=")[2])  # --towers NAME=FILE
    return value


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        callback=local,
        metavar="NAME|FOLDER",
        help="A known model, a model folder (ours or of transformers) or a checkpoint.",
    ),
]
TowersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--towers",
        callback=local,
        metavar="DIR|NAME=FILE",
        help="Vision towers of a published checkpoint: a folder of dino.safetensors, siglip.safetensors, or one file; "
        "repeatable.",
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer", callback=local, metavar="FILE", help="A published checkpoint's tokenizer.json, or its folder."
    ),
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help=f"name:field=value,...; repeatable. [default: {' and '.join(DEFAULT_METHODS)}]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="cpu|cuda|auto", help="Where to run; auto: on a GPU if there is one.")
]
BenchmarkOption = Annotated[str, typer.Option("--benchmark", metavar="NAME", help="The pictures and questions.")]
SplitOption = Annotated[str, typer.Option("--split", metavar="NAME", help="Which part of the benchmark.")]
TextTokensOption = Annotated[int, typer.Option("--text-tokens", help="Text tokens of the prompt, template included.")]
VisualTokensOption = Annotated[
    int | None,
    typer.Option(
        "--visual-tokens",
        help="Visual tokens of one image, for a transformers model, where they depend on its size. [default: 256]",
        show_default=False,
    ),
]
ConventionOption = Annotated[
    str, typer.Option("--convention", metavar="full|paper", help="Count everything, or as the paper does.")
]
PlanOption = Annotated[
    str | None,
    typer.Option(
        "--plan",
        callback=local,
        metavar="PLAN.json",
        help="Use this plan in place of the model's own.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of the benchmark's split, from 0 up.")]

UnitOption = Annotated[
    str, typer.Option("--in", metavar="macs|ms", help="What --budget is in: a share of the MACs, or milliseconds.")
]
BatchSizeOption = Annotated[int, typer.Option("--batch-size", help="Questions that run at once.")]
EngineOption = Annotated[str, typer.Option("--engine", metavar="local|ray", help="Run in this process or on Ray.")]
AddressOption = Annotated[str | None, typer.Option("--address", help="Address of a running Ray cluster.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", help="Ray: how many processes. [default: one per GPU, or CPU]", show_default=False),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", help="How many questions. [default: all, of scenes 500]", show_default=False)
]
AnySplitOption = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="Which part. [default: the one the field reports]")
]
PlotOption = Annotated[
    str | None,
    typer.Option(
        "--plot", callback=local, metavar="FILE", help="Also draw it: .png, .svg or .pdf; no suffix: PNG and SVG."
    ),
]
AnswersOption = Annotated[
    str | None,
    typer.Option(
        "--out", callback=local, metavar="DIR", help="Store the answers there, resume from them, write a report."
    ),
]
DataOption = Annotated[
    str | None,
    typer.Option("--data", callback=local, metavar="DIR", help="The benchmark's files, as they are downloaded."),
]
ImagesOption = Annotated[
    str | None, typer.Option("--images", callback=local, metavar="DIR", help="Its pictures, if in another folder.")
]
HubOption = Annotated[str | None, typer.Option("--hub", metavar="ID", help="A data set of the Hub in place of files.")]
ProtocolOption = Annotated[
    str, typer.Option("--protocol", metavar="NAME", help="Rules for prompt, decoding and metric: official, cobra, ...")
]
OcrOption = Annotated[bool, typer.Option("--no-ocr", help="TextVQA: leave the OCR tokens out of the message.")]
PartialOption = Annotated[bool, typer.Option("--allow-partial", help="Accept files that hold fewer questions.")]

DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype", metavar="float32|bfloat16|float16", help="Type of the weights. [default: the checkpoint's own]"
    ),
]
QuantizeOption = Annotated[
    str | None,
    typer.Option("--quantize", metavar="int8|int4", help="The LM's large matrices in 8 or 4 bits, on the CPU."),
]
PluginOption = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="A Python file that registers a score, method or benchmark of yours; repeatable.",
    ),
]
