"""The projections of docs/at-scale.md: by hand on made rows, and the document against the rows that there are."""

import json

import pytest

from benchmarks import at_scale
from benchmarks.__main__ import main


def made_rows(kind="jpg500", requests=10):
    loader = {
        "benchmark": "loader",
        "time": "2026-01-01",
        "kind": {"name": kind},
        "task": {"size": 160, "workers": 1, "samples": 12_000},
        "pictures": 100,
        "peer": "ffx",
        "images_a_second": {"median": 1759.0},
        "machine": {"processor": "one", "cores": 2},
    }
    remote = {
        "time": "2026-01-01",
        "kind": kind,
        "order": "quasi_random",
        "size": 160,
        "samples": 100,
        "machine": loader["machine"],
        "bytes": 5_000_000,
        "requests": requests,
    }
    nginx = {**remote, "from": "nginx", "cpu_seconds_first": {"median": 0.3}}
    local = {**remote, "from": "local", "cpu_seconds_first": {"median": 0.2}}
    return loader, nginx, local


def test_a_node_of_eight_by_hand():
    found = at_scale.project(*made_rows(), 8)
    assert found.images == 8 * 3518
    assert found.bytes == pytest.approx(8 * 3518 * 50_000)
    assert found.pages == pytest.approx(found.bytes / 2**23)
    # 500 kB a request.
    assert found.requests == pytest.approx(8 * 3518 / 10)
    assert found.decode_cores == pytest.approx(16)
    # A tenth of a second for 5 MB.
    assert found.fetch_cores == pytest.approx(found.bytes / 50e6)
    assert found.epoch_dollars == pytest.approx(1_281_167 / 10 * 0.0004 / 1000)
    assert found.steps == pytest.approx(1_281_167 / 2048)
    assert found.shares["network"] == pytest.approx(found.bytes / 12.5e9)
    assert found.first_limit == "requests"


def test_more_gpus_pass_the_requests_of_a_prefix_first():
    few, many = (at_scale.project(*made_rows(requests=1), gpus) for gpus in (8, 1024))
    assert few.first_limit == "cores"
    assert many.first_limit == "requests"
    assert many.shares["requests"] == pytest.approx(128 * few.shares["requests"])
    assert many.shares["cores"] == pytest.approx(few.shares["cores"])


def test_what_was_not_measured_is_no_table(tmp_path):
    loader, nginx, _ = made_rows()
    (tmp_path / "loader.jsonl").write_text(json.dumps(loader))
    (tmp_path / "remote.jsonl").write_text(json.dumps(nginx))
    with pytest.raises(SystemExit, match="no rows of jpg500"):
        at_scale.document_part(tmp_path)


def test_the_document_has_the_tables_of_the_rows(capsys):
    text = at_scale.DOCUMENT.read_text()
    written = text.partition(at_scale.BEGIN)[2].partition(at_scale.END)[0]
    assert main(["at_scale"]) == 0
    assert written == capsys.readouterr().out == at_scale.document_part()
    assert "projected" in text
