"""Benchmarks: pictures, questions and a grader, each in one file of this folder (or one package, for a larger one).

To add a benchmark, write a new file with a `@registry.register("name")` class; nothing else needs an edit.
"""

from deltaprune.benchmarks._base import Benchmark as Benchmark
from deltaprune.benchmarks._base import Decoding as Decoding
from deltaprune.benchmarks._base import FirstToken as FirstToken
from deltaprune.benchmarks._base import Graded as Graded
from deltaprune.benchmarks._base import Greedy as Greedy
from deltaprune.benchmarks._base import Protocol as Protocol
from deltaprune.benchmarks._base import Sample as Sample
from deltaprune.benchmarks._base import Sampled as Sampled
from deltaprune.benchmarks._base import Summary as Summary
from deltaprune.benchmarks._base import mean_of_questions as mean_of_questions
from deltaprune.benchmarks._base import mean_of_skills as mean_of_skills
from deltaprune.benchmarks._official import OfficialBenchmark as OfficialBenchmark
from deltaprune.benchmarks._pictures import by_picture as by_picture
from deltaprune.benchmarks._pictures import messages_about as messages_about
from deltaprune.benchmarks._pictures import one_of_each as one_of_each
from deltaprune.registry import Registry

registry: Registry[type[Benchmark]] = Registry("benchmark", "deltaprune.benchmarks", Benchmark)
