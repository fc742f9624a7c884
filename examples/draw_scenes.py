"""Draw the example pictures for `deltaprune ask`: three scenes of the test split.

python examples/draw_scenes.py [FOLDER]
"""

import sys
from pathlib import Path

from deltaprune.benchmarks.scenes import Scene, scene_seed

PICTURES = {"triangles": 560, "red_things": 21, "green_cross": 32}

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
for name, index in PICTURES.items():
    scene = Scene.from_seed(scene_seed("test", 99, index))
    scene.image.save(folder / f"{name}.png")
    things = ", ".join(f"{thing.size} {thing.color} {thing.shape}" for thing in scene.things)
    print(f"{folder / name}.png: {things}; sign: {scene.sign.text if scene.sign else 'none'}")
