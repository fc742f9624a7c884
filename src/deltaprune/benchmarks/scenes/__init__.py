"""`scenes`: coloured shapes and a small sign on a textured ground; synthetic, endless, offline.

Six skills stand for the six families of visual question answering that pruning is usually measured on:

    existence     POPE       Is there a red circle in the picture?                            Yes
    attribute     GQA        What color is the circle?                                        red
    spatial       VSR        The red circle is left of the blue square. True or False?        True
    counting      VQAv2      How many red objects are there?                                  2
    reading       TextVQA    What is written on the sign?                                     K7
    unanswerable  VizWiz     What color is the star? (there is none)                          unanswerable

There are two versions. Version 2 (`scenes`) has textured grounds, five typefaces and things of 14 to 54 pixels, so that
a picture repeats itself as a photograph does: neighbouring patches show the same. Version 1 (`scenes1`) has plain
grounds, one typeface and things of 15 to 42 pixels. Questions, splits and grading are the same.

Answers are balanced, so that a guess scores what `Scenes().guess(samples)` says. Grading is exact match after
lower-casing; there is no official scorer to check against.
"""

from deltaprune.benchmarks.scenes.benchmark import Scenes as Scenes
from deltaprune.benchmarks.scenes.benchmark import Scenes1 as Scenes1
from deltaprune.benchmarks.scenes.benchmark import corpus as corpus
from deltaprune.benchmarks.scenes.benchmark import scene_seed as scene_seed
from deltaprune.benchmarks.scenes.questions import SKILLS as SKILLS
from deltaprune.benchmarks.scenes.questions import Question as Question
from deltaprune.benchmarks.scenes.scene import Scene as Scene
