import importlib.util
from importlib import metadata

import pytest

from runtime.base import installation


@pytest.fixture
def install(monkeypatch):
    """Pretend that exactly these packages are installed; name → version."""

    def fake(packages, modules=("numpy", "cv2", "onnxruntime")):
        def version(name):
            if name not in packages:
                raise metadata.PackageNotFoundError(name)
            return packages[name]

        monkeypatch.setattr(installation.metadata, "version", version)
        found = importlib.util.find_spec("json")
        monkeypatch.setattr(installation, "find_spec", lambda name: found if name in modules else None)

    return fake


def test_here_nothing_is_missing():
    assert installation.missing_packages() == []
    assert installation.installed_packages()[0].split()[0] == "numpy"


def test_a_robots_own_builds_are_enough(install):
    install({"numpy": "2", "opencv-python-headless": "4.9", "onnxruntime-gpu": "1.20"})
    assert installation.missing_packages() == []
    assert installation.doubled_packages() == []
    assert installation.installed_packages() == [
        "numpy 2",
        "opencv-python-headless 4.9",
        "onnxruntime-gpu 1.20",
    ]


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (("numpy", "onnxruntime"), ["no module cv2 here", "opencv-python, opencv-python-headless"]),
        (("numpy", "cv2"), ["no module onnxruntime here", "onnxruntime, onnxruntime-gpu"]),
    ],
)
def test_a_module_that_is_missing_is_named_with_the_packages_that_bring_it(install, modules, said):
    install({}, modules)
    (sentence,) = installation.missing_packages()
    assert all(part in sentence for part in said)


def test_two_packages_for_one_module_are_named(install):
    install({"numpy": "2", "opencv-python": "5", "onnxruntime": "1.31", "onnxruntime-gpu": "1.20"})
    (sentence,) = installation.doubled_packages()
    assert sentence.startswith(
        "onnxruntime 1.31 and onnxruntime-gpu 1.20 both provide the module onnxruntime"
    )
