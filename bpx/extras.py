"""The packages of pyproject.toml's extras, for messages about what is missing.

By their own names: on the package index, the name bpx belongs to another project, and pip might
install that for bpx with an extra.
"""

import importlib.util

# As words of a command line. The bound is for CuPy 13, which has no extra ctk (CUDA's
# libraries): without a bound, pip would keep it.
PACKAGES = {
    "sklearn": "scikit-learn",
    "plot": "matplotlib",
    "cli": "typer",
    "onnx": "onnx",
    "data": "pyarrow",
    "mpi": "mpi4py",
    "fast": "numba scipy threadpoolctl",
    "cuda12": "'cupy-cuda12x[ctk]>=14.0' cuda-pathfinder",
    "cuda13": "'cupy-cuda13x[ctk]>=14.0' cuda-pathfinder",
    "cudnn13": "nvidia-cudnn-cu13 nvidia-cudnn-frontend",  # beside those of cuda13
}
OR_12 = "(or 12 in place of 13, by the version of the CUDA driver)"


def not_imported(needs: str, package: str, error: ImportError) -> ImportError:
    """The error for an optional package: to install it, or what is wrong with the installed one.

    >>> from bpx.extras import not_imported
    >>> not_imported("pictures need", "no-such-package", ImportError("no module of this name"))
    ImportError('pictures need no-such-package: pip install no-such-package')
    """
    module = {"scikit-learn": "sklearn"}.get(package, package)
    if importlib.util.find_spec(module) is None:
        return ImportError(f"{needs} {package}: pip install {package}")
    return ImportError(
        f"{needs} {package}, which does not import ({error}): pip install -U {package}"
    )
