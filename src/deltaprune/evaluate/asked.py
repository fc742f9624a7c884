"""Checks of the arguments of `evaluate` before anything runs; every mistake ends in one sentence."""

from typing import Any

from deltaprune.benchmarks import Benchmark
from deltaprune.benchmarks import registry as benchmarks
from deltaprune.checks import check_at_least_one, check_seed
from deltaprune.errors import UserError
from deltaprune.hosted.model import Hosted
from deltaprune.hosted.processor import HostedProcessor
from deltaprune.methods import parse
from deltaprune.mllm.processor import Processor
from deltaprune.steps import Method
from deltaprune.vlm import VLM

LOAD = "give what load returned: model, processor = dp.load(...)"


def check_model(vlm: object, processor: object) -> None:
    """Check for a model of `load` and its processor, in this order, else a `UserError`."""
    if isinstance(vlm, tuple):
        raise UserError(f"The model and its processor came as one value: {LOAD}, then evaluate(model, processor, ...).")
    if isinstance(vlm, Hosted) and isinstance(processor, HostedProcessor):
        return
    if not isinstance(vlm, VLM | Hosted):
        raise UserError(f"A {type(vlm).__name__} is not a model that can be evaluated: {LOAD}.")
    if not isinstance(processor, Processor) or isinstance(vlm, Hosted):
        raise UserError(f"A {type(processor).__name__} is not the model's processor: {LOAD}.")


def check_method(vlm: VLM, method: Method) -> None:
    """Check that a method fits the model, else a `UserError`."""
    vlm.check(method) if isinstance(vlm, Hosted) else method.checked_steps(vlm.shape)


def find_benchmark(asked: object) -> Benchmark:
    """A benchmark as given, or made from its name.

    Raises:
        UserError: an unknown name, or something else.
    """
    if isinstance(asked, str):
        return benchmarks[asked]()
    if isinstance(asked, type) and issubclass(asked, Benchmark):
        raise UserError(f"{asked.__name__} is a class: make a benchmark of it, {asked.__name__}(...).")
    if not isinstance(asked, Benchmark):
        known = ", ".join(benchmarks.names())
        raise UserError(f"A {type(asked).__name__} is not a benchmark: give one, or a name ({known}).")
    return asked


def find_methods(asked: object) -> dict[str, Method]:
    """Label -> method, in the order asked for; one method may come alone.

    Raises:
        UserError: none, one that is neither a method nor the text of one, or the same one twice.
    """
    listed: Any = [asked] if isinstance(asked, str | Method | type) or not hasattr(asked, "__iter__") else asked
    found: dict[str, Method] = {}
    for each in listed:
        if isinstance(each, type) and issubclass(each, Method):
            raise UserError(f"{each.__name__} is a class: make a method of it, {each.__name__}(...).")
        if not isinstance(each, str | Method):
            raise UserError(f"A {type(each).__name__} is not a method: give DTP(keep=0.5) or its text, 'dtp:keep=0.5'.")
        label, method = (each, parse(each)) if isinstance(each, str) else (repr(each), each)
        if label in found:
            raise UserError(f"The method {label!r} is given twice: leave out one of them.")
        found[label] = method
    if not found:
        raise UserError('No method is given: name at least one, such as "dtp:keep=0.5".')
    return found


def check_numbers(seed: object, **counts: object) -> None:
    """Check a seed from 0 up and counts from 1 up, None where one is optional, else a `UserError`."""
    check_seed(seed)
    for name, value in counts.items():
        if value is not None:
            check_at_least_one(name, value)
