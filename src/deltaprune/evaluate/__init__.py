"""Evaluate methods on a benchmark: answers, which a folder can store so that a run can be resumed, then a row each."""

from deltaprune.evaluate.recorders import Recorder as Recorder
from deltaprune.evaluate.recorders import Tracker as Tracker
from deltaprune.evaluate.results import MethodResult as MethodResult
from deltaprune.evaluate.results import Record as Record
from deltaprune.evaluate.results import Report as Report
from deltaprune.evaluate.run import evaluate as evaluate
from deltaprune.evaluate.sweep import Sweep as Sweep
from deltaprune.evaluate.sweep import sweep as sweep
