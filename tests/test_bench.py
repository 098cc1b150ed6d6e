"""Test the benchmarks' table: what it shows, and what it makes of the exit code."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent / "bench"
sys.path.insert(0, str(HERE))

import measure_kit  # noqa: E402  (the path must be set first)
from measure_kit import figure, row  # noqa: E402

# By its path: other folders of tests have a run.py too.
_SPEC = importlib.util.spec_from_file_location("bench_run", HERE / "run.py")
run = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(run)

_ROW = '{"name": "%s", "value": %s, "unit": "ms", "target": "%s", "ok": %s}'


@pytest.fixture
def bench(tmp_path, capsys):
    """Run benchmarks that are given by their rows; return exit code, screen and rows."""

    def measured(*arguments: str, **files: str):
        for name, text in files.items():
            (tmp_path / f"bench_{name}.py").write_text(text)
        code = run.main([*arguments], tmp_path, tmp_path / "build")
        found = tmp_path / "build" / "bench.json"
        printed = capsys.readouterr()
        rows = json.loads(found.read_text()) if found.exists() else []
        return code, printed.out + printed.err, rows

    return measured


def yields(*rows: str) -> str:
    return "def rows():\n" + "".join(f"    yield {row}\n" for row in rows)


MET = yields(_ROW % ("quick", "1.5", "≤ 2", "True"))
MISSED = yields(_ROW % ("slow", "2.5", "≤ 2", "False"))
KNOWN = yields(_ROW % ("known", "7", "", "None"))


def test_a_missed_target_is_shown_and_fails_only_a_strict_run(bench):
    code, screen, rows = bench(a=MET, b=MISSED, c=KNOWN)
    assert code == 0
    assert [row["ok"] for row in rows] == [True, False, None]
    (line,) = [line for line in screen.splitlines() if "│ slow" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "slow",
        "≤ 2",
        "2.5",
        "ms",
        "",
        "no",
    ]
    assert "1 of 2 targets are met: all but slow" in screen
    assert bench("--strict")[0] == 1
    assert bench("--strict", "a", "c")[0] == 0


def test_a_benchmark_that_fails_hides_no_other(bench):
    code, screen, rows = bench(a="def rows():\n    raise OSError('no broker')\n", b=MET)
    assert code == 1
    assert "bench_a.py failed: OSError: no broker" in screen
    assert [row["name"] for row in rows] == ["quick"]


def test_a_benchmark_that_is_left_out_says_why_and_is_no_failure(bench):
    text = "from measure_kit import LeftOut\n"
    text += "def rows():\n    raise LeftOut('PEERS names no folder')\n"
    code, screen, rows = bench("--strict", a=text, b=MET)
    assert code == 0
    assert "bench_a.py: left out, PEERS names no folder" in screen
    assert len(rows) == 1


@pytest.mark.parametrize(
    "wrong", ['{"name": "x"}', MET.split("yield ")[1].strip()[:-1] + ', "x": 1}']
)
def test_a_row_of_other_fields_is_a_failure(bench, wrong):
    code, screen, _ = bench(a=yields(wrong))
    assert code == 1
    assert "ValueError: bench_a.py: a row has" in screen


def test_names_pick_and_an_unknown_one_is_wrong_usage(bench):
    code, _, rows = bench("b", a=MISSED, b=MET)
    assert (code, [row["name"] for row in rows]) == (0, ["quick"])
    code, screen, _ = bench("nosuch")
    assert code == 2
    assert "there are only a, b" in screen


def test_the_table_for_a_document(bench, tmp_path):
    bench(a=MET)
    text = (tmp_path / "build" / "bench.md").read_text()
    assert text.startswith("Measured ")
    assert "| what | target | today | unit | peer | ok |" in text
    assert "| quick | ≤ 2 | 1.5 | ms |  | yes |" in text


@pytest.mark.parametrize(
    ("value", "text"), [(1.23456, "1.23"), (123456.7, "123,457"), (5000, "5,000")]
)
def test_numbers_have_three_figures_that_count(value, text):
    assert figure(value) == text


def test_a_row_is_judged_by_its_bound():
    assert row("x", 2.0, "ms", most=2)["ok"] is True
    assert row("x", 2.1, "ms", most=2)["ok"] is False
    assert row("x", 75, "%", least=75)["ok"] is True
    assert row("x", 74.9, "%", least=75)["ok"] is False
    assert row("x", 1, "ms") == {
        "name": "x",
        "value": 1,
        "unit": "ms",
        "target": "",
        "peer": "",
        "ok": None,
    }
    assert row("x", 4000, "B", most=4096)["target"] == "≤ 4,096"


def ended(*argv, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end; the test fails on its error."""
    done = subprocess.run(
        argv, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_every_benchmark_loads(repo):
    """What one imports of another or of the host was not renamed meanwhile."""
    names = ", ".join(sorted(path.stem for path in HERE.glob("bench_*.py")))
    path = os.pathsep.join(str(repo / name) for name in ("tests/bench", "examples", "tools"))
    ended(sys.executable, "-c", f"import {names}", PYTHONPATH=path)


@pytest.mark.parametrize("source", ["authority", "hotp"])
def test_the_gates_stand_ins_have_what_it_asks_for(source, micropython, repo):
    argv = [repo / "tests/bench/gate_device.py", repo / "lib", repo, source]
    found = json.loads(ended(micropython, "-X", "heapsize=4m", *argv).stdout.splitlines()[-1])
    assert set(found) == {"code", "whole", "polled", "quiet", "period"}


def test_rows_of_the_chip_say_when_of_what_and_which_are_missing(tmp_path):
    """Those of an earlier form of a test say their file's day alone."""
    spec = importlib.util.spec_from_file_location("bench_pico", HERE / "bench_pico.py")
    pico = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pico)
    tls = {"name": "Pico W: plain: TLS", "value": 1220.0, "unit": "ms", "target": "", "ok": True}
    measured = "2026-11-30, commit 0123abc, RPI_PICO_W.uf2"
    (tmp_path / "a.json").write_text(json.dumps([tls | {"measured": measured}]))
    (tmp_path / "b.json").write_text(json.dumps([tls | {"name": "Pico W: other"}]))
    (tmp_path / "provision.json").write_text('{"check": "RP2040"}')
    head, first, old, other, *missing = pico.rows(tmp_path)
    assert head["peer"] == f"measured {measured}"
    assert first == tls | {"peer": "commit 5ca6c9c: 3,900 ms"}
    assert old["peer"].endswith(", commit not recorded")
    assert other["name"] == "Pico W: other"
    assert {row["value"] for row in missing} == {"not measured"}
    assert "Pico W: welcome, keys, ready" in [row["name"] for row in missing]
    assert "Pico W: plain: TLS" not in [row["name"] for row in missing]
    with pytest.raises(measure_kit.LeftOut, match="has measured nothing here"):
        list(pico.rows(tmp_path / "none"))
