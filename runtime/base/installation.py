"""Which packages the runtime stands on here: OpenCV and onnxruntime each come under several names.

pip cannot express "this one or that one", so a robot with `opencv-python-headless` or `onnxruntime-gpu`
installs edgeseg with `--no-deps`. What is missing, or there twice, is said here in one line.
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec

_NAMES = {"numpy": "numpy", "cv2": "OpenCV", "onnxruntime": "onnxruntime"}
_DISTRIBUTIONS = {
    "numpy": ("numpy",),
    "cv2": (
        "opencv-python",
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    "onnxruntime": (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-openvino",
        "onnxruntime-directml",
        "onnxruntime-qnn",
    ),
}


def missing_packages() -> list[str]:
    """Return a sentence for each module of the base install that cannot be imported here."""
    return [
        f"edgeseg needs {_NAMES[module]}, and there is no module {module} here; install one of: "
        + ", ".join(distributions)
        for module, distributions in _DISTRIBUTIONS.items()
        if find_spec(module) is None
    ]


def installed_packages() -> list[str]:
    """Return "name version" of every installed package that provides a module of the base install."""
    return [entry for module in _DISTRIBUTIONS for entry in _installed(module)]


def doubled_packages() -> list[str]:
    """Return a sentence for each module that several installed packages provide."""
    return [
        f"{' and '.join(found)} both provide the module {module}, and which one runs depends on which was "
        f"installed last; uninstall them and install one"
        for module in _DISTRIBUTIONS
        if len(found := _installed(module)) > 1
    ]


def _installed(module: str) -> list[str]:
    """Return "name version" of the installed packages that provide a module."""
    found = []
    for name in _DISTRIBUTIONS[module]:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found
