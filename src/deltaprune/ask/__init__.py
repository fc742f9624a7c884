"""Ask questions about one picture, unpruned and under each method: answers, tokens kept, cost and time."""

from deltaprune.ask.row import NO_GRID as NO_GRID
from deltaprune.ask.row import AskRow as AskRow
from deltaprune.ask.run import ask as ask
from deltaprune.ask.run import check_questions as check_questions
