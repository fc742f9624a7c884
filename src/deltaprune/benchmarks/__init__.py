"""Benchmarks: pictures, questions and a grader, each in one file of this folder (or one package, for a larger one).

To add a benchmark, write a new file with a `@registry.register("name")` class; nothing else needs an edit.
"""

from deltaprune._registry import Registry
from deltaprune.benchmarks._base import Benchmark as Benchmark
from deltaprune.benchmarks._base import Sample as Sample

registry: Registry[type[Benchmark]] = Registry("benchmark", "deltaprune.benchmarks")
