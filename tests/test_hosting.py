"""What a repository needs besides code: workflows, a container, a citation, templates. None can be run here, so what
they name is compared with what there is. What linters said is in docs/decisions/packaging.md."""

import re
import shutil
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from test_package import build

from deltaprune import __version__
from deltaprune.cli import COMMANDS, app

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
DOCKER = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")


def steps(flow: str) -> list[dict[str, Any]]:
    return [step for job in FLOWS[flow]["jobs"].values() for step in job["steps"]]


def commands(flow: str) -> list[str]:
    return [step["run"] for step in steps(flow) if "run" in step]


def started_by(flow: str) -> dict[str, Any]:
    """YAML 1.1 reads the key `on` as true."""
    return FLOWS[flow][True]


def test_there_are_four_workflows_that_may_only_read_and_end_by_themselves() -> None:
    assert FLOWS.keys() == {"test", "latest", "docs", "release"}
    for flow in FLOWS.values():
        assert flow["permissions"] == {"contents": "read"}
        assert all(job["timeout-minutes"] <= 90 for job in flow["jobs"].values())
    assert "secrets." not in "".join(path.read_text() for path in (ROOT / ".github").rglob("*.yml"))


def test_changes_pass_what_they_pass_here_on_every_python() -> None:
    assert commands("test") == [".ci/run"]
    assert {"push", "pull_request"} == started_by("test").keys()
    supported = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert FLOWS["test"]["jobs"]["run"]["strategy"]["matrix"]["python"] == supported == ["3.11", "3.12", "3.13"]


def test_the_newest_of_everything_is_tried_each_week() -> None:
    assert commands("latest") == [".ci/latest"]
    assert started_by("latest")["schedule"][0]["cron"].split()[2:] == ["*", "*", "1"]
    for script in (".ci/run", ".ci/latest"):
        assert (ROOT / script).stat().st_mode & 0o111


def test_the_site_is_built_strictly() -> None:
    assert "mkdocs build --strict" in commands("docs")
    assert FLOWS["docs"]["jobs"]["deploy"]["permissions"] == {"pages": "write", "id-token": "write"}


def test_a_release_is_published_without_a_password_and_only_if_the_tag_is_the_version() -> None:
    publish = FLOWS["release"]["jobs"]["publish"]
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"]["name"] == "pypi"
    assert any(step.get("uses", "").startswith("pypa/gh-action-pypi-publish@") for step in publish["steps"])
    assert "password" not in str(FLOWS["release"])
    (check,) = (line for line in commands("release") if "TAG#v" in line)
    assert check == r'grep -qxF "version = \"${TAG#v}\"" pyproject.toml'
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text().splitlines()


def test_one_version_everywhere() -> None:
    """Of what was released last, or is about to be."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (version, date), *_ = re.findall(r"^## (\d\S*) · (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version == PROJECT["version"] == __version__ == cited["version"]
    assert date == str(cited["date-released"])
    assert cited["license"] == PROJECT["license"]
    assert cited["repository-code"] == PROJECT["urls"]["Homepage"]


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_the_container_has_all_files_that_the_wheel_is_made_of(tmp_path: Path) -> None:
    """Copied, and let in by .dockerignore."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKER, re.MULTILINE) for word in line.split()[:-1]]
    assert set(copied) == allowed
    here = tmp_path / "source"
    here.mkdir()
    for name in copied:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, here / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, here)
    build(here, tmp_path / "dist", "-t", "wheel")
    with zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_file()}
    assert packed == {name for name in sources if "__pycache__" not in name}


def test_the_container_is_on_the_lock_and_runs_as_nobody_in_particular() -> None:
    (torch,) = re.findall(r"torch==([\d.]+)\+cpu", DOCKER)
    assert f"\ntorch=={torch} " in (ROOT / "constraints.txt").read_text()
    assert DOCKER.count("-c constraints.txt") == DOCKER.count("pip install") == 2
    assert re.findall(r"^USER (\S+)$", DOCKER, re.MULTILINE) == [re.findall(r"--uid (\d+)", DOCKER)[0]] == ["1000"]
    assert DOCKER.index("USER 1000") < DOCKER.index("ENTRYPOINT")


@pytest.mark.skipif("serve" not in COMMANDS, reason="there is no deltaprune serve yet")
def test_what_the_container_starts_there_is() -> None:
    (words,) = (yaml.safe_load(line) for line in re.findall(r"^CMD (.+)$", DOCKER, re.MULTILINE))
    command: Any = typer.main.get_command(app)
    known = {name for param in command.commands[words[0]].params for name in param.opts}
    assert {word for word in words if word.startswith("--")} <= known
    assert f"EXPOSE {words[-1]}" in DOCKER


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_templates_are_forms(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert form == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "labels", "body"} == form.keys()
    assert len({part["id"] for part in form["body"]}) == len(form["body"])
    assert all(part["attributes"]["label"] for part in form["body"])
    assert form["body"][0]["validations"]["required"]
