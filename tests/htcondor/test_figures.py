"""The figures that README.md has of the simulated pool are those of the rows."""

import json

from tests.htcondor.conftest import PROGRAMS, ROOT


def test_table_is_that_of_the_newest_rows():
    text = (PROGRAMS / "README.md").read_text()
    table = text.partition("<!-- pool:begin -->\n")[2].partition("\n\n")[0].splitlines()
    rows = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "pool.jsonl").read_text().splitlines()]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    expected = []
    for row in rows[-4:]:
        account, others = row["account"], row["other_seeds_total"]
        lost = account["preempted_compute"] + account["preempted_transfer"]
        hours = (account["retried"], lost, account["mean"], account["median"])
        share = account["compute"] / account["total"]
        spread = f"{others['median']:.0f} ({others['low']:.0f} to {others['high']:.0f})"
        shown = [f"{account['total']:.1f}", f"{share:.1%}", *(f"{one:.1f}" for one in hours)]
        expected.append([row["way"], *shown, spread])
    assert found == expected


def test_real_trainings_were_killed_and_went_on():
    rows = [json.loads(line) for line in (ROOT / "benchmarks" / "results" / "pool.jsonl").read_text().splitlines()]
    for row in rows[-4:]:
        assert not row["changed"]
        assert len(row["real"]) == 10
        for job in row["real"].values():
            assert job["same_weights"]
            assert job["statuses"][-1] == 0
            assert set(job["statuses"][:-1]) <= {85, -9}
            assert len(job["statuses"]) >= 2
