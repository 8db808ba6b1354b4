"""What the docs say: their programs run, their lines of code and their links are there."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bpx

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def programs(page):
    """Those of one process, each on its lines of the page; `test_clusters.py` has the others."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M)
    placed = ["\n" * text.count("\n", 0, each.start(1)) + each[1] for each in found]
    return [program for program in placed if "parallel=" not in program]


def test_an_error_of_a_program_names_the_line_of_its_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\na = 1\n```\n\n```python\na = 2\n1 / 0\n```\n")
    first, second = programs(page)
    exec(compile(first, str(page), "exec"))
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile(second, str(page), "exec"))
    assert caught.traceback[-1].lineno + 1 == 9


@pytest.mark.parametrize(
    "page", [page for page in PAGES if programs(page)], ids=lambda page: page.name
)
def test_programs_run(page, tmp_path, monkeypatch, request):
    if "datasets.mnist()" in "".join(programs(page)):
        request.getfixturevalue("mnist")
    if "plot(" in "".join(programs(page)):
        pytest.importorskip("matplotlib", reason="it draws the curves")
    if "import onnxruntime" in "".join(programs(page)):
        for needed in ("onnx", "onnxruntime"):
            pytest.importorskip(needed, reason=f"{needed} is not installed: it runs the models")
    if "import pandas" in "".join(programs(page)):
        pytest.importorskip("pandas", reason="its frames name their columns")
    if "import torch" in "".join(programs(page)):
        pytest.importorskip("torch", reason="PyTorch is not installed: it owns an array there")
    monkeypatch.chdir(tmp_path)
    for registry in bpx.registry.Registry.all:
        monkeypatch.setattr(registry, "registered", dict(registry.registered))
    module = ModuleType("docs")
    monkeypatch.setitem(sys.modules, "docs", module)  # dataclasses look for it
    for program in programs(page):
        exec(compile(program, str(page), "exec"), vars(module))


@pytest.mark.parametrize("optimizer", [bpx.SGD(0.1, momentum=0.9), bpx.Adam(0.01)])
def test_steps_that_a_callback_shortens_are_those_of_a_lower_rate(optimizer):
    (program,) = (p for p in programs(ROOT / "docs" / "training.md") if "class Slower" in p)
    found: dict[str, Any] = {"bpx": bpx, "np": np}
    exec(program.rpartition("finer.fit")[0], found)
    nets = [bpx.Network([3, 5, 2], dtype="float64", seed=0) for _ in range(3)]
    slower = dataclasses.replace(optimizer, learning_rate=optimizer.learning_rate * 0.1)
    ways = (
        (optimizer, found["Slower"](2, 0.1)), (slower, ()), (optimizer, found["Slower"](1, 0.0)),
    )  # fmt: skip
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    before = nets[2].copy()
    for net, (chosen, callbacks) in zip(nets, ways, strict=True):
        net.fit(x, y, epochs=2, optimizer=chosen, callbacks=callbacks)
    assert np.allclose(nets[0].parameters, nets[1].parameters, rtol=0, atol=1e-14)
    kept = [np.array_equal(a, b) for a, b in zip(nets[2].weights, before.weights, strict=True)]
    assert kept == [True, False]


def test_the_lines_beside_the_equations_are_in_the_code():
    rows = re.findall(r"^\|.*?\| (`.*`) \| \[(.*?)\]\((.*?)\) \|$", PAGES[0].read_text(), re.M)
    assert len(rows) == 11
    for lines, _, path in rows:
        code = (ROOT / path).read_text(encoding="utf-8")
        for line in re.findall(r"`(.*?)`", lines):
            assert line in code, f"{path} has no line {line}"


def cells(line):
    return [cell.strip(" *") for cell in line.strip().strip("|").split("|")]


def test_times_are_those_of_the_benchmarks():
    """The README's table is what `benchmarks/cpu.py --write` has written, rounded."""
    measured = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    written = measured[measured.index("<!-- cpu -->") : measured.index("<!-- /cpu -->")]
    table = {row[0]: row[1:] for row in map(cells, written.splitlines()) if len(row) == 8}
    text = PAGES[0].read_text(encoding="utf-8")
    begin = text.index("| µs | with `fast` |")
    rows = [cells(line) for line in text[begin:].partition("\n\n")[0].splitlines()[2:]]
    libraries = "bpx fast", "bpx", "PyTorch", "JAX scan", "products"
    cases = "book", "medium", "deep", "wide", "predict 1", "predict 10,000"
    assert len(rows) == len(cases)
    for case, (what, *shown) in zip(cases, rows, strict=True):
        at = table["µs a step"].index(case)
        others = re.findall(r"(ONNX Runtime): \W*([\d.,]+\d)", what)
        for library, number in [*zip(libraries, shown, strict=True), *others]:
            exact = float(table[library][at].replace(",", ""))
            half = 0.05 if "." in number else 0.5
            assert float(number.replace(",", "")) == pytest.approx(exact, abs=half * 1.001)


def anchors(page):
    """Those of a page's headings, as sites that show Markdown make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "benchmarks").glob("*.md"))],
    ids=lambda page: f"{page.parent.name}/{page.name}",
)
def test_links_lead_somewhere(page):
    for path, _, anchor in re.findall(
        r"\]\((?!https?:)([^)#]*)(#([^)]*))?\)", page.read_text("utf-8")
    ):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_in_the_guide_and_leads_back():
    guide, *others = sorted(PAGES[1:], key=lambda page: page.stem != "guide")
    for page in others:
        assert f"({page.name})" in guide.read_text("utf-8"), page.name
        assert page.read_text("utf-8").split("\n\n")[1].startswith("[Guide](guide.md)"), page.name


def test_pictures_are_small():
    for picture in (ROOT / "docs").rglob("*.png"):
        assert picture.stat().st_size < 200_000


def test_every_module_is_in_the_list_of_contributing():
    listed = re.findall(r"`(\w+)/?`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    folders = {path.parent for path in (ROOT / "bpx").rglob("__init__.py")}
    named = [ROOT / "bpx" / name for name in ("", "data", "onnx", "parallel", "training")]
    modules = {path.stem for folder in named for path in folder.glob("*.py")} - {"__init__"}
    assert (modules | {folder.name for folder in folders}) <= {*listed, "bpx"}


MODULES = [
    bpx, bpx.activations, bpx.augmentation, bpx.backends, bpx.callbacks, bpx.costs, bpx.datasets,
    bpx.initializers, bpx.layers, bpx.optimizers, bpx.schedules,
]  # fmt: skip
NO_EXAMPLE = {
    "a word says it": [
        f"Network.{name}" for name in ("backend", "dtype", "input_shape", "output_shape", "state")
    ],
    "its pictures are in the guide": ["History.plot"],
    "it compiles for half a minute": ["bpx.backends.compile", "bpx.backends.Compiled"],
    "for what trains or extends a network": [
        f"Network.{name}" for name in ("layout", "of", "samples")
    ],
    "that of its members, see Network": [
        f"Ensemble.{name}"
        for name, value in vars(bpx.Ensemble).items()
        if isinstance(value, property) and not name.startswith("_")
    ],
}
WITHOUT_EXAMPLE = {name for names in NO_EXAMPLE.values() for name in names}


def documented():
    """Public classes and functions, with the module they are reached through."""
    for module in MODULES:
        listed = getattr(module, "__all__", None)
        for name in listed or [name for name in vars(module) if not name.startswith("_")]:
            value = getattr(module, name)
            here = getattr(value, "__module__", None) or ""
            own = here.startswith("bpx") if listed else here == module.__name__
            if own and callable(value):
                yield pytest.param(value, id=f"{module.__name__}.{name}")


def methods(cls):
    """Public methods and properties that a class defines itself."""
    kinds = property, classmethod, staticmethod
    for name, value in vars(cls).items():
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds)):
            yield pytest.param(getattr(cls, name), id=f"{cls.__name__}.{name}")


@pytest.mark.parametrize("value", list(documented()))
def test_public_names_have_docstrings(value):
    assert inspect.getdoc(value)


def without_errors():
    for param in documented():
        if not (inspect.isclass(param.values[0]) and issubclass(param.values[0], Exception)):
            yield param


CLASSES = bpx.Network, bpx.Ensemble, bpx.History
EXAMPLES = [*without_errors(), *(method for cls in CLASSES for method in methods(cls))]


def test_what_needs_no_example_is_there():
    assert {param.id for param in EXAMPLES} >= WITHOUT_EXAMPLE


@pytest.mark.parametrize("value", [p for p in EXAMPLES if p.id not in WITHOUT_EXAMPLE])
def test_public_names_have_an_example(value):
    assert ">>> " in (value.__doc__ or "")  # not that of a base, which `getdoc` would give
