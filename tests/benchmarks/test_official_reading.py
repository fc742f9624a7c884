"""What holds for all seven formats: encodings, limits, ids, other processes."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_files import NAMES, QUESTIONS, opened, written

from deltaprune.benchmarks import registry


@pytest.mark.parametrize("name", NAMES)
def test_pictures_may_lie_elsewhere(name, tmp_path):
    benchmark = written(name, tmp_path / "data")
    (folder,) = (path for path in (tmp_path / "data").iterdir() if path.is_dir())
    folder.rename(tmp_path / "elsewhere")
    moved = opened(name, tmp_path / "data", images=str(tmp_path / "elsewhere"))
    assert all(sample.image.size == (8, 6) for sample in moved.samples(benchmark.split))


@pytest.mark.parametrize("change", ["bom", "windows", "both"])
@pytest.mark.parametrize("name", NAMES)
def test_byte_order_marks_and_windows_line_ends(name, change, tmp_path):
    """Also in the files beside the questions: annotations, OCR tokens, the other splits."""
    benchmark = written(name, tmp_path)
    plain = list(benchmark.samples(benchmark.split))
    for file in (path for path in tmp_path.iterdir() if path.is_file()):
        text = file.read_text().replace(", ", ",\n ") if file.read_text().count("\n") == 0 else file.read_text()
        raw = (text.replace("\n", "\r\n") if change != "bom" else text).encode()
        file.write_bytes(b"\xef\xbb\xbf" * (change != "windows") + raw)
    assert list(opened(name, tmp_path).samples(benchmark.split)) == plain


@pytest.mark.parametrize("name", NAMES)
def test_blank_lines_and_text_of_any_script(name, tmp_path):
    benchmark = written(name, tmp_path)
    file = tmp_path / QUESTIONS[name]
    text = (
        file.read_text().replace("corner 0", "čáslav \u2028 角").replace("thing 0", "角").replace("The cup", "The 角")
    )
    file.write_text(f"\n{text}\n\n", "utf-8")
    benchmark = opened(name, tmp_path, **{"ocr": False} if name == "textvqa" else {})
    samples = list(benchmark.samples(benchmark.split))
    assert len(samples) == (18 if name == "pope" else 6)
    assert any("角" in sample.question for sample in samples)


@pytest.mark.parametrize("name", NAMES)
def test_limit_counts_questions(name, tmp_path):
    benchmark = written(name, tmp_path)
    whole = list(benchmark.samples(benchmark.split))
    for limit in (0, 1, 4, 100):
        assert list(benchmark.samples(benchmark.split, limit=limit)) == whole[:limit]
    assert list(benchmark.samples(benchmark.split, seed=5)) == whole


def ids(folder: str) -> str:
    """Every benchmark's ids over one folder of fixtures."""
    found = {name: opened(name, Path(folder) / name) for name in NAMES}
    return repr({name: [sample.id for sample in each.samples(each.split)] for name, each in found.items()})


@pytest.mark.parametrize("salt", ["1", "2"])
def test_ids_are_the_same_in_every_process(salt, tmp_path):
    for name in NAMES:
        written(name, tmp_path / name)
    code = f"import test_official_reading; print(test_official_reading.ids({str(tmp_path)!r}))"
    source = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    env = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": source}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ids(str(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_and_samples_can_be_sent_to_another_process(name, tmp_path):
    benchmark = written(name, tmp_path)
    samples = list(benchmark.samples(benchmark.split))
    sent = pickle.loads(pickle.dumps(samples))
    assert sent == samples
    assert sent[0].image.tobytes() == samples[0].image.tobytes()
    there = pickle.loads(pickle.dumps(benchmark))
    assert there == benchmark
    assert not there._read  # what was read is read again there, not sent twice
    assert list(there.samples(benchmark.split)) == samples


@pytest.mark.parametrize("name", NAMES)
def test_files_are_read_once(name, tmp_path):
    benchmark = written(name, tmp_path)
    first = list(benchmark.samples(benchmark.split))
    (tmp_path / QUESTIONS[name]).unlink()
    assert list(benchmark.samples(benchmark.split)) == first


@pytest.mark.parametrize("name", NAMES)
def test_the_page_about_it_keeps_step(name):
    page = Path(__file__).parents[2].joinpath("docs", "guides", "benchmarks.md").read_text("utf-8")
    (section,) = (part for part in page.split("\n## ") if f"DIR/{QUESTIONS[name]}" in part)
    benchmark = registry[name]
    questions, pictures = benchmark.counts[benchmark.split]
    assert f"| `{name}` | {benchmark.split} | {questions:,} | {pictures:,} |" in page
    assert f"`{benchmark.hub_ids[0]}`" in section
    assert all(protocol in section.split("Protocols:")[1] for protocol in benchmark.protocols)
