"""The one sentence for each mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("asks x y", "There is no command 'asks': did you mean 'ask'?"),
        ("--versoin", "deltaprune has no option '--versoin': did you mean '--version'?"),
        ("cost --txt-tokens 3", "deltaprune cost has no option '--txt-tokens': did you mean '--text-tokens'?"),
        ("cost --method", "Option '--method' requires an argument"),
        ("cost extra", "extra argument"),
        ("cost --text-tokens 0", "--text-tokens 0 is out of range: it is a whole number from 1"),
        ("cost --text-tokens 1.5", "--text-tokens takes a whole number, such as 22: '1.5' is not one."),
        ("cost --text-tokens=x", "'x' is not one."),
        (
            "cost --model cobar",
            "There is no model 'cobar': it is neither a folder nor a known name; did you mean 'cobra'?",
        ),
        ("cost --model PICTURES", "is not a model folder: it lacks config.json"),
        ("cost --convention papr", "There is no convention 'papr': did you mean 'paper'?"),
        ("cost --method dpt", "There is no method 'dpt': did you mean 'dtp'?"),
        ("cost --method dtp:keep=1.5", "keep=1.5 is not a share: it lies between 0 and 1 (try keep=1)."),
        ("cost --method dtp:kep=1", "did you mean 'keep'?"),
        ("cost --method dtp:early=64", "lies beyond the model"),
        (
            "cost --method dtp:early=50",
            "early=50 is not below late=45: choose a smaller early, a larger late, or late=none.",
        ),
        ("cost --method dtp,keep=0.5", "is not of the form name:field=value: write dtp:keep=0.5."),
        ("cost --method DTP(keep=0.5)", "is not of the form name:field=value: write dtp:keep=0.5."),
        ("--model cobra cost", "'--model' does not come before the command: write deltaprune COMMAND [OPTIONS]."),
        ("budget --macs half", "--macs takes a number, such as 0.5: 'half' is not one."),
        ("evaluate --limit ten", "--limit takes a whole number, such as 100: 'ten' is not one."),
        ("ask", "Missing argument 'IMAGE': the form is deltaprune ask IMAGE QUESTION... [OPTIONS]"),
        ("ask SCENE", "Missing argument 'QUESTION"),
        ("ask SCENE EMPTY --model MODEL", "Question 1 is empty"),
        ("ask SCENEX What? --model MODEL", "did you mean"),
        ("ask PICTURES What? --model MODEL", "is a directory"),
        ("ask SCENE What? --model nope", "There is no model 'nope'"),
        ("ask SCENE What? --model MODEL --max-new-tokens 0", "--max-new-tokens 0 is out of range"),
        ("ask SCENE What? --model MODEL --device gpu", "There is no device 'gpu': did you mean 'cpu'?"),
        ("ask SCENE What? --model MODEL --overlay SCENE", "would replace it"),
        ("ask SCENE What? --model MODEL --overlay PICTURES", "is a directory"),
        ("ask SCENE What? --model MODEL --overlay nowhere/x.png", "the folder 'nowhere' does not exist"),
        ("ask SCENE What? --model MODEL --overlay PICTURES/x.xyz", "choose .png or .jpg"),
        ("evaluate --model MODEL --limit 0", "--limit 0 is out of range"),
        ("evaluate --model MODEL --batch-size 0", "--batch-size 0 is out of range"),
        ("evaluate --model MODEL --seed -1", "--seed -1 is out of range: it is a whole number from 0"),
        ("evaluate --model MODEL --split tset", "did you mean 'test'?"),
        ("evaluate --model MODEL --benchmark scens", "There is no benchmark 'scens': did you mean 'scenes'?"),
        ("evaluate --model MODEL --method dtp --method nnoe", "did you mean 'none'?"),
        ("calibrate --model MODEL --samples 0", "--samples 0 is out of range"),
        ("calibrate --model MODEL --rule argmn", "did you mean 'argmin'?"),
        ("ask What? SCENE", "is a file: write the picture first, deltaprune ask IMAGE QUESTION."),
        ("ask SCENE What? --method dtp:keep", "'keep' is not of the form field=value, such as keep=0.5."),
        ("cost --method fastv:score=last_attention", "choose another score, such as uniqueness, or another method."),
        ("budget --macs 0.5 --method chosen", "chosen costs the same after every layer"),
        ("bench --random-weights --towers PICTURES", "--towers is for a model with its own weights"),
        (
            "bench --growth --method dtp",
            "--method plays no part in the measurement of --growth",
        ),
        ("bench --questions 3 --batch 2", "--batch plays no part in the measurement of --questions"),
        ("plot spread --rule js", "plot spread draws first_peak or argmin: js goes by pruned runs"),
        ("calibrate --one-shot", "--one-shot says how a budget is met: add one, such as --budget 0.6"),
        ("calibrate --in ms", "--in says how a budget is met: add one"),
        (
            "calibrate --benchmark gqa",
            "gqa reads files, which this command does not take: measure on scenes, ",
        ),
        ("analyse map --benchmark gqa", "gqa reads files, which this command does not take"),
        ("serve --replicas 2", "--replicas and --address are for Ray Serve: add --engine ray, or leave them out."),
        ("serve --address auto", "--replicas and --address are for Ray Serve"),
        ("studio --host no.such.host.invalid", "choose another --host, such as 127.0.0.1."),
        ("calibrate --model MODEL --out nowhere/plan.json", "the folder 'nowhere' does not exist"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    argv: str, sentence: str, cli: Callable[..., Any], model: Path, scene: Path
) -> None:
    texts = {"MODEL": str(model), "PICTURES": str(scene.parent), "SCENE": str(scene), "EMPTY": " "}
    words = []
    for word in argv.split():
        for short, text in texts.items():
            word = word.replace(short, text)
        words.append(word)
    ran = cli(*words)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1


def test_cuda_without_a_gpu(cli: Callable[..., Any], model: Path, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ran = cli("ask", scene, "What?", "--model", model, "--device", "cuda")
    assert (ran.code, ran.out) == (2, "")
    assert "torch sees no GPU here, so use --device cpu" in ran.err
