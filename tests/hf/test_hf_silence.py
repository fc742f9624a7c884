"""Nothing is said in an ordinary day's work: no warning of Python's and none in transformers' log.

In a process of its own, because transformers logs some warnings once per process. Progress bars are off.
"""

import subprocess
import sys
from pathlib import Path

DAY = """
import sys, warnings

warnings.simplefilter("error")
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline
from transformers.utils import logging

import deltaprune as dp
import deltaprune.hf
from deltaprune.hf.cache import NAME

logging.disable_progress_bar()
folder, copy = sys.argv[1:]
model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
picture = Image.new("RGB", (32, 32), "orange")
inputs = processor(picture, ["What?", "Is there a star in the picture?"])
with dp.DTP(0.5)(model):
    out = model.generate(**inputs, max_new_tokens=4, eos_token_id=[], return_dict_in_generate=True)
more = torch.cat([out.sequences, torch.full((2, 2), 9)], dim=1)
mask = torch.cat([inputs["attention_mask"], torch.ones(2, 6, dtype=torch.int64)], dim=1)
model.generate(input_ids=more, attention_mask=mask, max_new_tokens=2, **{NAME: out[NAME]})
model.generate(**inputs, max_new_tokens=2, do_sample=True, temperature=2.0, num_return_sequences=2)
model.generate(**inputs, max_new_tokens=2, num_beams=2)
model.generate(**processor(text="What?"), prefix=model.encode_image(picture), max_new_tokens=2)
model.generate(**inputs, max_new_tokens=2, use_cache=False)
model(**inputs, use_cache=False)
model.save_pretrained(copy)
processor.save_pretrained(copy)
chat = [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": "What?"}]}]
pipeline("image-text-to-text", model=copy)(text=chat, max_new_tokens=2)
print("done")
"""


def test_a_day_without_a_warning(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DAY, folder, tmp_path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
