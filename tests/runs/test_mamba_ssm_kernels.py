"""`runs/mamba_ssm_kernels.py`: only the named archives are kept, and only the forward is built; no network, no nvcc."""

import io
import sys
import tarfile
from dataclasses import replace

import pytest

import mamba_ssm_kernels as kernels

NVCC = """#!/bin/sh
echo "$@" >>"$CUDA_HOME/calls"
while [ "$1" != -o ]; do shift; done
[ -z "$BROKEN" ] || { echo "no such kernel" >&2; exit 2; }
echo made >"$2"
"""


def packed(package: kernels.Package) -> bytes:
    """A source archive with the files that are built."""
    root, buffer = package.url.rsplit("/", 1)[1].removesuffix(".tar.gz"), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in (*package.sources, f"{package.name}/__init__.py", "csrc/other_bwd.cu"):
            info = tarfile.TarInfo(f"{root}/{name}")
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    return buffer.getvalue()


@pytest.fixture
def index(tmp_path, monkeypatch) -> dict[str, bytes]:
    """PyPI: what each address gives, and the digests that go with it."""
    monkeypatch.setattr(kernels, "FOLDER", tmp_path / ".peers")
    held = {package.url: packed(package) for package in kernels.PACKAGES}
    digests = {url: kernels.hashlib.sha256(content).hexdigest() for url, content in held.items()}
    monkeypatch.setattr(kernels, "PACKAGES", tuple(replace(p, sha256=digests[p.url]) for p in kernels.PACKAGES))
    monkeypatch.setattr(kernels.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(held[url]))
    return held


@pytest.fixture
def nvcc(tmp_path, monkeypatch):
    """A compiler that notes how it is called and makes what it is asked for."""
    path = tmp_path / "cuda/bin/nvcc"
    path.parent.mkdir(parents=True)
    path.write_text(NVCC)
    path.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setattr(kernels, "tried", lambda site: None)
    return tmp_path / "cuda/calls"


def test_fetch_keeps_the_named_archives_and_fetches_them_once(index, monkeypatch):
    kernels.fetch()
    assert sorted(path.name for path in kernels.FOLDER.iterdir()) == [
        "causal_conv1d-1.7.0.tar.gz",
        "mamba_ssm-2.3.2.post1.tar.gz",
    ]
    monkeypatch.setattr(kernels.urllib.request, "urlopen", None)
    kernels.fetch()


def test_another_content_is_refused_and_not_kept(index):
    url = kernels.PACKAGES[1].url
    index[url] += b"more"
    with pytest.raises(SystemExit, match=r"SHA-256 .*: it was not kept"):
        kernels.fetch()
    assert [path.name for path in kernels.FOLDER.iterdir()] == ["mamba_ssm-2.3.2.post1.tar.gz"]


def test_a_damaged_archive_is_fetched_again_and_never_built(index, nvcc):
    kernels.fetch()
    archive = kernels.PACKAGES[0].archive
    archive.write_bytes(b"cut off")
    kernels.fetch()
    assert archive.read_bytes() == index[kernels.PACKAGES[0].url]
    archive.write_bytes(b"cut off")
    with pytest.raises(SystemExit, match="it was not kept"):
        kernels.build("90")
    with pytest.raises(SystemExit, match=r"mamba_ssm-2.3.2.post1.tar.gz is missing: run .* fetch"):
        kernels.build("90")
    assert not nvcc.exists()


def test_the_forward_is_built_for_one_chip_once(index, nvcc, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mamba_ssm_kernels.py", "fetch", "build"])
    kernels.main()
    site = capsys.readouterr().out.splitlines()[-1]
    assert site.startswith(str(kernels.FOLDER))
    assert site.endswith("-sm_90")
    made = {path.name.split(".")[0] for path in kernels.Path(site).iterdir()}
    assert made == {"mamba_ssm", "causal_conv1d", "selective_scan_cuda", "causal_conv1d_cuda"}
    calls = nvcc.read_text().splitlines()
    compiled = [call for call in calls if call.startswith("-c")]
    assert len(compiled) == sum(len(package.sources) + 1 for package in kernels.PACKAGES)
    assert len(calls) - len(compiled) == len(kernels.PACKAGES)
    for call in compiled:
        assert call.count("-gencode") == call.count("code=sm_90") == 1
        assert "_bwd" not in call
    kernels.main()
    assert len(nvcc.read_text().splitlines()) == len(calls), "what is there is not built again"
    assert capsys.readouterr().out.splitlines()[-1] == site


def test_a_failed_build_tells_what_the_compiler_said_and_leaves_nothing(index, nvcc, monkeypatch):
    kernels.fetch()
    monkeypatch.setenv("BROKEN", "yes")
    with pytest.raises(SystemExit, match="no such kernel"):
        kernels.build("90")
    assert all(path.suffix == ".gz" for path in kernels.FOLDER.iterdir())


def test_what_cannot_be_imported_is_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"cannot be imported:\n[\s\S]*No module named"):
        kernels.tried(tmp_path)


def test_every_backward_kernel_of_the_bindings_is_defined():
    scan, conv = (kernels.without_backward(package) for package in kernels.PACKAGES)
    assert scan.count("template void selective_scan_bwd_cuda<") == 3 * 2
    assert conv.count("template void causal_conv1d_bwd_cuda<") == 3 * 3
    assert conv.count("template void causal_conv1d_channellast_bwd_cuda<") == 3 * 3
    assert '#include "selective_scan.h"' in scan


def test_without_nvcc_it_says_where_it_looked(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kernels, "USUAL", tmp_path / "usual")
    monkeypatch.setattr(kernels.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=r"nvcc is in none of .*set CUDA_HOME"):
        kernels.find_nvcc()
