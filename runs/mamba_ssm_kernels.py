"""mamba_ssm and causal_conv1d for a GPU machine without network: their sources fetched, their forward kernels built.

    python runs/mamba_ssm_kernels.py fetch     with network: the sources from PyPI into .peers/, held to their SHA-256
    python runs/mamba_ssm_kernels.py build     with nvcc and a CUDA torch, GPU or not: prints the folder for PYTHONPATH

`build` keeps what it built in .peers/, in a folder named after the Python, the torch and the chip, and builds nothing
when that is there: so build where there is time, with the torch of the GPU machine, and carry .peers/ (git ignores it).

    python3.12 -m venv /tmp/cu130
    /tmp/cu130/bin/pip install torch==2.11.0 einops transformers==5.17.0
    /tmp/cu130/bin/python runs/mamba_ssm_kernels.py fetch build

Where there is no CUDA toolkit, nvcc comes in wheels, to be installed there too: nvidia-cuda-nvcc, nvidia-nvvm and
nvidia-cuda-crt 13.0.88, nvidia-cuda-cccl 13.0.85.

Their packages are used as they are, with their own compiler flags, but for one chip (`--arch`, sm_90 unless told) and
without the backward kernels, which take most of their build: calling one raises an error.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / ".peers"
USUAL = Path("/usr/local/cuda")
TYPES = ("float", "at::Half", "at::BFloat16")
# setup.py of both packages; their long list of chips is left out, and what only prints.
FLAGS = ["-O3", "-std=c++17", "--use_fast_math", "--expt-relaxed-constexpr", "--expt-extended-lambda"]
FLAGS += ["-Xcompiler", "-fPIC", "-diag-suppress", "177"]
FORWARD = ("_fwd_bf16.cu", "_fwd_fp32.cu", "_fwd_fp16.cu")
LIBRARIES = ("c10", "c10_cuda", "torch_cpu", "torch_cuda", "torch", "torch_python")


@dataclass(frozen=True)
class Package:
    """One source package and what is built of it.

    Attributes:
        name: what is imported.
        url, sha256: of its source archive on PyPI.
        module: the extension module that its Python code imports.
        sources: what is compiled, below the archive's folder.
        header: what declares the backward kernels' parameters, beside the sources.
        backward: the kernels that are left out: each a template over an activation's and a weight's type.
        params, weights: the type of their parameters and the weights' types.
    """

    name: str
    url: str
    sha256: str
    module: str
    sources: tuple[str, ...]
    header: str
    backward: tuple[str, ...]
    params: str
    weights: tuple[str, ...]

    @property
    def archive(self) -> Path:
        """Where the fetched source lies."""
        return FOLDER / self.url.rsplit("/", 1)[1]


PACKAGES = (
    Package(
        "mamba_ssm",
        "https://files.pythonhosted.org/packages/af/48/aa7bec0efc7453fa0512276c0069c854bf684219050294266534bfef34bb/"
        "mamba_ssm-2.3.2.post1.tar.gz",
        "104cc47e9101e5401a675fa2b784f2952b9b037f3b1dd83b5ac544394e95d028",
        "selective_scan_cuda",
        tuple(f"csrc/selective_scan/selective_scan{part}" for part in (*FORWARD, ".cpp")),
        "selective_scan.h",
        ("selective_scan_bwd_cuda",),
        "SSMParamsBwd",
        ("float", "c10::complex<float>"),
    ),
    Package(
        "causal_conv1d",
        "https://files.pythonhosted.org/packages/f4/d1/eba27735f31bd5527d39a3c7f693e6ded7b844cab275db719a15ad37b6cd/"
        "causal_conv1d-1.7.0.tar.gz",
        "3202758494eaa7b597ce1c282dfa188889506bfcb92cad3c407d26736bfcd32b",
        "causal_conv1d_cuda",
        tuple(f"csrc/causal_conv1d{part}" for part in ("_fwd.cu", "_update.cu", ".cpp")),
        "causal_conv1d.h",
        ("causal_conv1d_bwd_cuda", "causal_conv1d_channellast_bwd_cuda"),
        "ConvParamsBwd",
        TYPES,
    ),
)


def fetch() -> None:
    """Download what is not there yet; an archive of another content is never kept."""
    FOLDER.mkdir(exist_ok=True)
    for package in PACKAGES:
        if not package.archive.exists() or digest(package.archive) != package.sha256:
            partial = package.archive.with_suffix(".partial")
            with urllib.request.urlopen(package.url, timeout=60) as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file)
            verify(partial, package)
            partial.replace(package.archive)
        print(f"{package.archive} is there", file=sys.stderr)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verify(archive: Path, package: Package) -> None:
    """Refuse, and remove, an archive that is not the one named here."""
    if (found := digest(archive)) != package.sha256:
        archive.unlink()
        raise SystemExit(f"{package.url} has the SHA-256 {found}, not {package.sha256}: it was not kept.")


def build(arch: str) -> Path:
    """The folder with both packages and their modules, built unless it is there; it is tried before it is named."""
    import torch

    version = torch.__version__.replace("+", "-")
    site = FOLDER / f"{sys.implementation.cache_tag}-torch-{version}-sm_{arch}"
    if not site.exists():
        for package in PACKAGES:
            if not package.archive.exists():
                raise SystemExit(f"{package.archive} is missing: run `{sys.argv[0]} fetch` where there is a network.")
            verify(package.archive, package)
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(dir=FOLDER) as work:
            made = compiled(Path(work), Path(torch.__file__).parent, arch)
            tried(made)
            made.replace(site)
        print(f"built in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    else:
        tried(site)
    return site


def compiled(work: Path, libtorch: Path, arch: str) -> Path:
    """Unpack, compile all files at once, link; returns the folder to import from."""
    nvcc, made = find_nvcc(), work / "site"
    include = [f"-I{path}" for path in (libtorch / "include", libtorch / "include/torch/csrc/api/include")]
    include.append(f"-I{sysconfig.get_path('include')}")
    objects: dict[str, list[Path]] = {package.module: [] for package in PACKAGES}
    commands: list[list[str]] = []
    for package in PACKAGES:
        with tarfile.open(package.archive) as archive:
            archive.extractall(work, filter="data")
        root = work / package.archive.name.removesuffix(".tar.gz")
        shutil.copytree(root / package.name, made / package.name)
        sources = [root / source for source in package.sources]
        shim = sources[0].with_name(f"{package.module}_no_backward.cpp")
        shim.write_text(without_backward(package))
        for source in (*sources, shim):
            target = work / f"{package.module}_{source.name}.o"
            objects[package.module].append(target)
            own = [f"-I{source.parent}", f"-DTORCH_EXTENSION_NAME={package.module}"]
            chip = ["-gencode", f"arch=compute_{arch},code=sm_{arch}"]
            commands.append([nvcc, "-c", str(source), "-o", str(target), *own, *include, *FLAGS, *chip])
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        list(pool.map(run, commands))
    # The CUDA runtime is torch's own: it comes with torch's libraries when they are loaded.
    libraries = [f"-L{libtorch / 'lib'}", *(f"-l{name}" for name in LIBRARIES), "--cudart", "none"]
    for module, parts in objects.items():
        target = made / f"{module}{sysconfig.get_config_var('EXT_SUFFIX')}"
        run([nvcc, "-shared", *map(str, parts), "-o", str(target), *libraries])
    return made


def find_nvcc() -> str:
    """nvcc of `CUDA_HOME`, the PATH, the usual place, or NVIDIA's wheels in this environment."""
    homes = [Path(os.environ["CUDA_HOME"])] if "CUDA_HOME" in os.environ else []
    on_path = shutil.which("nvcc")
    homes += [Path(on_path).parents[1]] if on_path else []
    homes += [USUAL, *sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/cu*"))]
    for home in homes:
        if (home / "bin/nvcc").exists():
            return str(home / "bin/nvcc")
    raise SystemExit(f"nvcc is in none of {', '.join(map(str, homes))}: set CUDA_HOME.")


def without_backward(package: Package) -> str:
    """C++ that defines the backward kernels which the package's binding names, each raising an error."""
    arguments = f"({package.params} &, cudaStream_t)"
    lines = ["#include <ATen/ATen.h>", "#include <c10/cuda/CUDAStream.h>", f'#include "{package.header}"']
    for kernel in package.backward:
        lines += [f"template <typename input_t, typename weight_t> void {kernel}{arguments} {{"]
        lines += ['    TORCH_CHECK(false, "built for inference: there is no backward kernel");', "}"]
        lines += [f"template void {kernel}<{x}, {w}>{arguments};" for x in TYPES for w in package.weights]
    return "\n".join(lines) + "\n"


def run(command: list[str]) -> None:
    """One compiler call, its output only when it fails."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{(done.stdout + done.stderr)[-4000:]}")
    target = Path(command[command.index("-o") + 1]).name
    print(f"{target}: {time.perf_counter() - begun:.0f} s", file=sys.stderr)


def tried(site: Path) -> None:
    """Import both packages in a process of their own, as the peers will."""
    code = "import torch, causal_conv1d, mamba_ssm; from mamba_ssm.ops import selective_scan_interface as s\n"
    code += "assert s.selective_scan_cuda.fwd and s.causal_conv1d_fwd_function"
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    command, env = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"what was built in {site} cannot be imported:\n{done.stderr[-4000:]}")


def main() -> None:
    """Fetch, build, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("fetch", "build"))
    parser.add_argument("--arch", default="90", help="compute capability without the dot (90: H100, H200)")
    given = parser.parse_args()
    if "fetch" in given.what:
        fetch()
    if "build" in given.what:
        print(build(given.arch))


if __name__ == "__main__":
    main()
