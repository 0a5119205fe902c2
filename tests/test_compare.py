"""Several runs side by side: groups, means, gains, the front, the table and the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import Result
from command_line import invoke
from synthetic_run import lines, make_run, write

from sk_deploy.errors import ConfigError, SkdnError
from sk_search.compare import Comparison, compare
from sk_search.compare_table import comparison_text, group_table, run_table


def searched(
    folder: Path, psnr_db: float, type_: str = "joint", gmacs: float = 7.0, **changes: object
) -> Path:
    """A searched run whose best validation and cost are these; its name ends in its seed."""
    make_run(folder, "genotype", widths=(16, 32))
    header = json.loads((folder / "config.json").read_text())
    seed = int(folder.name.rsplit("-", 1)[1])
    header["seed"] = header["config"]["seed"] = seed
    header["config"]["structure"] |= {"type": type_}
    header["config"] |= changes
    write(folder / "config.json", json.dumps(header))
    genotype = json.loads((folder / "genotype.json").read_text())
    write(folder / "genotype.json", json.dumps({**genotype, "macs_per_mp": gmacs * 1e9}))
    row = {"kind": "validation", "stage": "search", "step": 9, "steps": 9, "seconds": 60.0, "ssim": 0.9}
    row |= {"psnr_db": psnr_db, "psnr_ensemble_db": psnr_db + 0.2, "psnr_noisy_db": 30.0}
    write(folder / "metrics.jsonl", lines([row]))
    return folder


def by_name(comparison: Comparison) -> dict[str, object]:
    return {group.name: group for group in comparison.groups}


def show(*words: object) -> Result:
    return invoke("show", *words)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two seeds each of a search and a baseline; seed 1 is 2 dB harder for both."""
    for seed, harder in ((0, 0.0), (1, 2.0)):
        searched(tmp_path / "runs" / f"joint-{seed}", 40.2 - harder + 0.1 * seed)
        searched(tmp_path / "runs" / f"uniform-{seed}", 40.0 - harder, "uniform", 6.8)
    return tmp_path / "runs"


def test_groups_differ_only_in_the_seed(folder: Path) -> None:
    groups = by_name(compare([folder]))
    assert list(groups) == ["joint", "uniform"]
    joint = groups["joint"]
    assert [entry.seed for entry in joint.entries] == [0, 1]
    assert joint.psnr_db.mean == pytest.approx(39.25)
    assert joint.psnr_db.std == pytest.approx(1.9 / 2**0.5)
    assert joint.macs_per_mp.std == 0
    searched(folder / "joint-2", 41.0, scenes=7)
    assert [len(group.entries) for group in compare([folder]).groups] == [2, 1, 2]


def test_gain_pairs_runs_of_one_seed(folder: Path) -> None:
    """The seeds lie 2 dB apart, the differences 0.2 and 0.3 dB."""
    (gain,) = by_name(compare([folder]))["joint"].gains
    assert (gain.over, gain.baseline) == ("uniform", "uniform")
    assert gain.psnr_db.mean == pytest.approx(0.25)
    assert gain.psnr_db.std == pytest.approx(0.1 / 2**0.5)
    assert gain.cost_ratio == pytest.approx(7.0 / 6.8)
    assert by_name(compare([folder]))["uniform"].gains == ()


def test_gain_over_other_seeds_adds_both_spreads(folder: Path) -> None:
    searched(folder / "uniform-2", 40.0, "uniform", 6.8)
    joint, uniform = compare([folder]).groups
    assert joint.gains[0].psnr_db.mean == pytest.approx(joint.psnr_db.mean - uniform.psnr_db.mean)
    together = (joint.psnr_db.std**2 + uniform.psnr_db.std**2) ** 0.5
    assert joint.gains[0].psnr_db.std == pytest.approx(together)


@pytest.mark.parametrize(("gmacs", "gains"), [(7.4, 1), (7.6, 0), (6.2, 1), (6.0, 0)])
def test_gain_only_at_equal_cost(folder: Path, gmacs: float, gains: int) -> None:
    searched(folder / "other-0", 41.0, "filterwise", gmacs)
    comparison = compare([folder])
    assert len(by_name(comparison)["other-0"].gains) == gains
    assert ("no uniform baseline costs the same (within 10%) as other-0" in comparison.notes) == (not gains)


def test_no_gain_over_a_baseline_of_another_task(folder: Path) -> None:
    searched(folder / "other-0", 41.0, data=["elsewhere"])
    comparison = compare([folder])
    assert by_name(comparison)["other-0"].gains == ()
    assert comparison.notes == ()


def test_front_holds_what_nothing_beats(tmp_path: Path) -> None:
    points = {"a-0": (2, 38.0), "b-0": (4, 39.0), "c-0": (5, 38.9), "d-0": (4, 38.5), "e-0": (9, 39.5)}
    for scenes, (name, (gmacs, psnr)) in enumerate(points.items()):
        searched(tmp_path / name, psnr, gmacs=gmacs, scenes=scenes + 1)
    on_front = {group.name: group.on_front for group in compare([tmp_path]).groups}
    assert on_front == {"a-0": True, "b-0": True, "c-0": False, "d-0": False, "e-0": True}


def test_stage_is_the_last_that_all_have(tmp_path: Path) -> None:
    make_run(tmp_path / "tuned")
    assert compare([tmp_path]).stage == "finetune"
    searched(tmp_path / "joint-0", 38.0)
    comparison = compare([tmp_path])
    assert comparison.stage == "search"
    assert max(entry.psnr_db for entry in comparison.entries) < 38.4  # the fine-tuned one has 38.50
    assert "1 of 2 runs are fine-tuned" in comparison.notes[0]


def test_a_run_under_way_has_the_expected_cost(tmp_path: Path) -> None:
    searched(tmp_path / "joint-0", 38.0)
    run = make_run(tmp_path / "now", "search", widths=(16, 32))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows[-2] |= {"latency_ms": 12.5}
    write(run / "metrics.jsonl", lines(rows))
    comparison = compare([tmp_path])
    text = comparison_text(comparison)
    assert re.search(r"^now +\S* *17 +~7\.3\d .*~12\.5 ", text, re.MULTILINE)
    assert "~ marks" in text


def test_different_validation_patches_are_said(folder: Path) -> None:
    assert compare([folder]).notes == ()
    rows = [json.loads(line) for line in (folder / "joint-1" / "metrics.jsonl").read_text().splitlines()]
    write(folder / "joint-1" / "metrics.jsonl", lines([{**rows[0], "psnr_noisy_db": 29.0}]))
    assert "different patches (noisy input 29.00 to 30.00 dB)" in compare([folder]).notes[0]


def test_tables(folder: Path) -> None:
    comparison = compare([folder / "joint-0", folder / "uniform-0"])
    runs = run_table(comparison)
    assert runs.headings[:4] == ["run", "type", "seed", "GMAC/MP"]
    assert runs.rows[0][:4] == ["joint-0", "joint", "0", "7.00"]
    groups = group_table(compare([folder]))
    gains = [row[groups.headings.index("over uniform dB")] for row in groups.rows]
    assert gains == ["+0.250 ± 0.071 at ×1.03", "–"]
    assert "over random dB" not in groups.headings
    widths = {len(line) for line in comparison_text(comparison).split("\n\n")[1].splitlines()}
    assert len(widths) == 1


def test_folders_stand_for_their_runs_in_natural_order(tmp_path: Path) -> None:
    for seed in (10, 9, 2):
        searched(tmp_path / f"joint-{seed}", 38.0, scenes=seed)
    (tmp_path / "notes").mkdir()
    names = [entry.name for entry in compare([tmp_path, tmp_path / "joint-2"]).entries]
    assert names == ["joint-2", "joint-9", "joint-10"]


@pytest.mark.parametrize("wrong", ["absent", "a file", "empty folder", "damaged"])
def test_what_cannot_be_compared_is_one_line(folder: Path, wrong: str) -> None:
    path = folder / "thing"
    if wrong == "a file":
        write(path, "{}")
    elif wrong != "absent":
        path.mkdir()
    if wrong == "damaged":
        write(path / "config.json", "{")
    with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
        compare([folder / "joint-0", path])
    assert "\n" not in str(caught.value)


def test_show_compares_text_json_and_page(folder: Path) -> None:
    text = show(folder).stdout
    assert text.startswith("4 runs, compact, full, skipinit-unet; best validation of the searched network")
    facts = json.loads(show(folder / "joint-0", folder / "uniform-0", "--json").stdout)
    assert facts["kind"] == "comparison"
    assert facts["groups"][0]["gains"][0]["psnr_db"]["mean"] == pytest.approx(0.2)
    pytest.importorskip("matplotlib", reason="pages need the extra [search]")
    page = folder / "compare.html"
    assert show(folder, "--html", page).stdout.endswith(f"written: {page}\n")
    content = page.read_text(encoding="utf-8")
    assert content.count("<svg") == 2
    assert "+0.250 ± 0.071" in content
    with pytest.raises(SkdnError, match="--force"):
        show(folder, "--html", page)
    assert show(folder, "--html", page, "--force").exit_code == 0
    assert page.read_text(encoding="utf-8") == content  # no clock in it


def test_a_page_is_for_several_runs(folder: Path) -> None:
    result = show(folder / "joint-0", "--html", folder / "x.html")
    assert result.exit_code == 2
    assert "several runs" in result.output


def test_names_in_the_plot_do_not_collide(tmp_path: Path) -> None:
    """Nine networks of nearly one cost and quality; letters are taken to be 5 units wide and 8 high."""
    pytest.importorskip("matplotlib", reason="plots need the extra [search]")
    from sk_search.report_pareto import draw_pareto

    for n in range(9):
        searched(tmp_path / f"network-{n}", 38 + 0.01 * n, gmacs=7 + 0.02 * (n % 3), scenes=n + 1)
    svg = draw_pareto(compare([tmp_path]), "macs_per_mp")
    found = re.findall(r"translate\(([\d.]+) ([\d.]+)\)[^>]*>(network-\d)<", svg) or re.findall(
        r'x="([\d.]+)" y="([\d.]+)"[^>]*>(network-\d)<', svg
    )
    assert len(found) == 9
    places = [(float(x), float(y)) for x, y, _ in found]
    for i, (x, y) in enumerate(places):
        assert all(abs(x - a) >= 45 or abs(y - b) >= 8 for a, b in places[:i])
