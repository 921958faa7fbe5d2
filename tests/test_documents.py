"""What the documents say is so: README's example runs, links lead somewhere, every dependency has its reason."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    path
    for folder in (
        ".",
        "docs",
        "writer",
        "benchmarks",
        "examples",
        "examples/resnet18_lab",
        "examples/slurm",
        "examples/htcondor",
    )
    for path in (ROOT / folder).glob("*.md")
)


def test_example_of_the_readme_runs(picture_folder, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = "\n".join(blocks).replace("/data/imagenet/train", str(picture_folder / "train"))
    code = code.replace("batch_size=256", "batch_size=8").replace("    ...", "    print(*images.shape, *labels.shape)")
    (tmp_path / "example.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["8 3 160 160 8 1"] * 5


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(path):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_dependency_has_its_reason():
    project = (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r'^    "([A-Za-z][\w-]*)(?:[><=;]|",?$)', project.partition("[tool.")[0], re.MULTILINE))
    assert {"torch", "turbojpeg", "PyYAML", "pytest"} <= named
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Dependencies")[2]
    missing = [package for package in named if not re.search(rf"\b{re.escape(package)}\b", table)]
    assert not missing, f"CONTRIBUTING.md gives no reason for {missing}"
    versions = dict(re.findall(r'"([\w-]+)>=([\d.]+)', project.partition("[project.opt")[0]))
    for name, least in versions.items():
        if name != "setuptools":
            assert least in table, f"CONTRIBUTING.md has another least version of {name} than {least}"
