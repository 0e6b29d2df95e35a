import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    yield page
    del sys.modules["page"]


def test_a_section_that_is_measured_again_replaces_its_old_text_and_leaves_the_others(page, monkeypatch, tmp_path):
    file, runs = tmp_path / "page.md", []

    def measure(section):
        runs.append(section.title)
        return f"## {section.title}\n\nrun {len(runs)}\n"

    monkeypatch.setattr(page, "measure", measure)
    page.write_page(file, ["step", "networks"])
    page.write_page(file, ["step"])
    text = file.read_text(encoding="utf-8")
    networks, step = (page.SECTIONS[name].title for name in ("networks", "step"))
    assert text.index("run 2") < text.index("run 3")
    assert text.index(networks) < text.index(step)
    assert "run 1" not in text
    assert text.count("## ") == 2


def test_a_section_names_its_command_and_holds_no_path_of_the_machine(page, monkeypatch, tmp_path):
    script = tmp_path / "hello.py"
    script.write_text("import sys; print(sys.argv)")
    monkeypatch.setattr(page, "HERE", tmp_path)
    text = page.measure(page.Section("Title", "Text.", "hello.py FOLDER --quick"))
    assert "`python benchmarks/hello.py FOLDER --quick`" in text
    assert "'FOLDER', '--quick'" in text
    assert str(tmp_path.parent) not in text


def test_every_section_runs_a_benchmark_that_exists(page):
    for section in page.SECTIONS.values():
        assert (BENCHMARKS / section.command.split()[0]).is_file()
