"""Model x methods x benchmark -> answers in a folder that survives anything -> rows."""

from deltaprune.evaluate.rows import Record as Record
from deltaprune.evaluate.rows import Row as Row
from deltaprune.evaluate.run import evaluate as evaluate
