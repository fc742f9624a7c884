"""Model x methods x benchmark -> answers, kept in a folder so that a run can be resumed -> rows."""

from deltaprune.evaluate.rows import Record as Record
from deltaprune.evaluate.rows import Row as Row
from deltaprune.evaluate.run import evaluate as evaluate
