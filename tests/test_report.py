"""The report page and the drawing, from runs that the tests make up in the formats that a run has."""

from __future__ import annotations

import base64
import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from synthetic_run import lines, make_genotype, make_run, write

from sk_deploy.errors import ConfigError, ModelError
from sk_deploy.genotype import genes

pytest.importorskip("matplotlib", reason="reports need the extra [search]")

from sk_search.record import read_record
from sk_search.report import write_report
from sk_search.report_architecture import KERNEL_COLOURS, draw_architecture

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """What a page shows, and everything that it points to."""

    void = ("meta", "img")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.headings: list[str] = []
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.scripts = 0
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open_tags == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.void:
            self.open_tags.append(tag)
        self.scripts += tag == "script"
        for name, value in attrs:
            if name == "src" and value:
                self.pictures.append(value)
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("#", "data:")):
                self.links.append(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open_tags.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] == "h2":
            self.headings.append(data)
        if "style" not in self.open_tags:
            self.text += data


def boxes(svg: str) -> dict[str, ET.Element]:
    """Superkernel name -> its group in the drawing."""
    groups = [g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.find(f"{SVG}title") is not None]
    return {g.findtext(f"{SVG}title", "").splitlines()[0]: g for g in groups}


def rects(group: ET.Element, **attributes: str) -> list[ET.Element]:
    return [r for r in group.iter(f"{SVG}rect") if all(r.get(k) == v for k, v in attributes.items())]


@pytest.mark.parametrize(("widths", "blocks", "count"), [((32, 64, 96, 128), 2, 28), ((16, 32), 1, 6)])
def test_drawing_has_one_box_a_superkernel(widths: tuple[int, ...], blocks: int, count: int) -> None:
    genotype = make_genotype(widths, blocks)
    drawn = boxes(draw_architecture(genotype))
    assert len(drawn) == count
    for gene in genes(genotype):
        group = drawn[gene.name]
        texts = [t.text for t in group.iter(f"{SVG}text")]
        assert texts == [
            f"{gene.kernel}×{gene.kernel}",
            f"{len(gene.filters)}/{gene.max_filters}",
            f"p {gene.probability:.2f}",
            f"H {gene.entropy:.2f}",
        ]
        (outline,) = [r for r in rects(group) if (r.get("class") or "").startswith("max")]
        assert ("unsure" in outline.get("class", "")) == gene.undecided
        *kept, bar = rects(group, fill=KERNEL_COLOURS[gene.kernel])
        filled = sum(float(r.get("height", 0)) for r in kept) / float(outline.get("height", 0))
        assert filled == pytest.approx(len(gene.filters) / gene.max_filters, rel=1e-3)
        assert float(bar.get("width", 0)) / float(outline.get("width", 0)) == pytest.approx(
            gene.probability, rel=1e-3
        )


@pytest.mark.parametrize("blocks", [1, 2, 4, 10])
def test_drawn_boxes_do_not_overlap_and_stay_inside(blocks: int) -> None:
    svg = draw_architecture(make_genotype((64, 128, 192), blocks))
    _, _, width, height = map(float, ET.fromstring(svg).get("viewBox", "").split())
    outlines = []
    for group in boxes(svg).values():
        (outline,) = [r for r in rects(group) if (r.get("class") or "").startswith("max")]
        outlines.append([float(outline.get(k, 0)) for k in ("x", "y", "width", "height")])
    for i, (x, y, w, h) in enumerate(outlines):
        assert x >= 0
        assert x + w <= width
        assert y >= 0
        assert y + h <= height
        for other_x, other_y, other_w, other_h in outlines[:i]:
            assert x >= other_x + other_w or other_x >= x + w or y >= other_y + other_h or other_y >= y + h


@pytest.mark.parametrize("widths", [(16, 32), (32, 64, 96, 128)])
def test_nothing_drawn_is_cut_off(widths: tuple[int, ...]) -> None:
    """Letters are taken to be 6 units wide; every text and rectangle lies within the drawing."""
    root = ET.fromstring(draw_architecture(make_genotype(widths)))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for moved in root.findall(f"{SVG}g"):
        dx, dy = map(float, moved.get("transform", "")[len("translate(") : -1].split())
        for element in (*moved.iter(f"{SVG}text"), *moved.iter(f"{SVG}rect")):
            extent = float(element.get("width") or 6 * len(element.text or ""))
            shift = {"mid": 0.5, "end": 1.0}
            anchor = next((shift[c] for c in (element.get("class") or "").split() if c in shift), 0.0)
            left = dx + float(element.get("x", 0)) - anchor * extent
            assert left >= 0
            assert left + extent <= width
            assert 0 <= dy + float(element.get("y", 0)) <= height


def test_scattered_filters_are_drawn_where_they_are() -> None:
    genotype = make_genotype()
    entry = genotype["superkernels"][0]
    entry["filters"], entry["max_filters"], entry["kernel"] = [0, 1, 5, 15], 16, 3
    group = boxes(draw_architecture(genotype))[entry["name"]]
    (outline,) = rects(group, **{"class": "max"})
    base, unit = (
        float(outline.get("y", 0)) + float(outline.get("height", 0)),
        float(outline.get("height", 0)) / 16,
    )
    *runs, _bar = rects(group, fill=KERNEL_COLOURS[3])
    stretches = [
        ((base - float(r.get("y", 0)) - float(r.get("height", 0))) / unit, float(r.get("height", 0)) / unit)
        for r in runs
    ]
    assert stretches == [pytest.approx(expected, abs=1e-2) for expected in ((0, 2), (5, 1), (15, 1))]


def test_several_subnetworks_are_drawn_one_below_the_other() -> None:
    genotype = make_genotype((16, 32))
    alone = ET.fromstring(draw_architecture(genotype))
    copies = [{**e, "name": f"subnetworks.{n}.{e['name']}"} for n in (0, 1) for e in genotype["superkernels"]]
    both = draw_architecture({**genotype, "superkernels": copies})
    assert len(boxes(both)) == 12
    heights = [float(root.get("viewBox", "").split()[3]) for root in (alone, ET.fromstring(both))]
    assert heights[1] > 1.7 * heights[0]


def test_many_blocks_go_on_below() -> None:
    """A card is some 900 pixels wide: what is drawn wider is shrunk until nobody can read it."""
    three, ten = (ET.fromstring(draw_architecture(make_genotype((48, 64), blocks))) for blocks in (3, 10))
    assert three.get("width") == ten.get("width")


def test_blocks_that_were_left_out_are_pale() -> None:
    genotype = make_genotype((16, 32), blocks=2)
    assert "left out since" not in draw_architecture(genotype)
    drawing = draw_architecture({**genotype, "left_out": ["bottom.1"]})
    assert "left out since" in drawing
    pale = [g for g in ET.fromstring(drawing).iter(f"{SVG}g") if g.get("class") == "out"]
    assert [[*boxes(ET.tostring(g, "unicode"))] for g in pale] == [["bottom.1.conv1", "bottom.1.conv2"]]


@pytest.mark.parametrize(
    ("arch", "up", "said"),
    [
        ("compact-unet", "nearest", "nearest neighbours"),
        ("compact-unet", "transposed", "transposed convolution"),
        ("skipinit-unet", "transposed", "pixel shuffle"),
    ],
)
def test_the_way_up_is_the_networks_own(arch: str, up: str, said: str) -> None:
    genotype = make_genotype((16, 32))
    drawing = draw_architecture({**genotype, "arch": arch, "net": {**genotype["net"], "up": up}})
    ways = {"nearest neighbours", "transposed convolution", "pixel shuffle"}
    assert ways & {text.text for text in ET.fromstring(drawing).iter(f"{SVG}text")} == {said}


def test_choices_come_in_forward_order() -> None:
    genotype = make_genotype((16, 32, 48))
    levels = [gene.name.rsplit(".", 2)[0] for gene in genes(genotype)]
    assert list(dict.fromkeys(levels)) == ["encoder.0", "encoder.1", "bottom", "decoder.1", "decoder.0"]


@pytest.mark.parametrize(
    "damage",
    [{"name": "stem.conv1"}, {"entropy": None}, {"filters": 3}],
    ids=["unknown place", "no number", "no list"],
)
def test_damaged_genotype_is_refused(damage: dict[str, Any]) -> None:
    genotype = make_genotype()
    genotype["superkernels"][0].update(damage)
    with pytest.raises(ModelError, match="genotype is damaged"):
        genes(genotype)
    with pytest.raises(ModelError, match="superkernels"):
        genes({})


def test_report_of_a_whole_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a <bold> run")
    rng = np.random.default_rng(0)
    crops = [(f"picture {n}", rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)) for n in range(3)]
    crops.append(("grey", rng.integers(0, 256, (8, 12), dtype=np.uint8)))
    path = write_report(run, crops)
    assert path == run / "report.html"
    assert sorted(p.name for p in run.iterdir()) == [
        "config.json",
        "export",
        "finetuned",
        "genotype.json",
        "metrics.jsonl",
        "report.html",
    ]
    shown = Page(path)
    assert shown.headings == [
        "Before and after",
        "What it found",
        "How it learnt",
        "How it decided",
        "Exactness",
        "How to make it again",
    ]
    assert shown.scripts == 0
    assert shown.links == []
    for fact in ("38.50 dB", "38.68 dB", "+8.50 dB", "7.10 GMAC", "412 k", "13 of 14", "1 h 12 min", "17"):
        assert fact in shown.text
    assert "a <bold> run" in shown.text
    for fact in ("fine-tuning begins", "0123456789ab", "search.patience", "Undecided when the search ended"):
        assert fact in shown.text
    assert "supernet_distilled_float323.1e-07≤ 1e-05pass" in shown.text
    assert "torch_onnx2.0e-04≤ 1e-05FAIL" in shown.text
    assert len(shown.pictures) == 4
    for source, (_, pixels) in zip(shown.pictures, crops, strict=True):
        png = np.frombuffer(base64.b64decode(source.split(",", 1)[1]), np.uint8)
        decoded = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
        expected = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
    ("parts", "headings"),
    [
        ("", ["How to make it again"]),
        ("search", ["How it learnt", "How to make it again"]),
        ("genotype", ["What it found", "How to make it again"]),
        ("search genotype", ["What it found", "How it learnt", "How it decided", "How to make it again"]),
    ],
)
def test_report_leaves_out_what_a_run_lacks(tmp_path: Path, parts: str, headings: list[str]) -> None:
    assert Page(write_report(make_run(tmp_path / "run", parts, widths=(16, 32)))).headings == headings


def test_report_of_a_network_without_choices(tmp_path: Path) -> None:
    """--type none: one kernel size, no structure to anneal, sparse metrics."""
    run = make_run(tmp_path, "genotype", widths=(16, 32))
    genotype = json.loads((run / "genotype.json").read_text(encoding="utf-8"))
    for entry in genotype["superkernels"]:
        entry.update(kernel=7, kernels=[7], kernel_probabilities=[1.0], probability=1.0, entropy=0.0)
    write(run / "genotype.json", json.dumps(genotype))
    rows = [{"kind": "train", "stage": "search", "step": 20, "steps": 400, "loss": -5.0}]
    rows.append({"kind": "validation", "stage": "search", "step": 20, "steps": 400, "psnr_db": 31.0})
    write(run / "metrics.jsonl", lines(rows))
    text = Page(write_report(run)).text
    assert "6 of 6" in text
    assert "31.00 dB" in text
    assert "temperature" not in text


def test_half_a_line_and_missing_numbers_do_not_stop_the_report(tmp_path: Path) -> None:
    run = make_run(tmp_path, "search", widths=(16, 32))
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write('{"kind": "train", "stage": "search", "step": 20200, "loss": NaN}\n')
        metrics.write('{"kind": "train", "stage": "search", "st')
    record = read_record(run)
    assert record.search.step == 20200
    assert record.search.series("train", "loss")[0][-1] == 20000
    assert Page(write_report(run)).headings[0] == "How it learnt"


def test_stage_ends_when_its_last_validation_says_so(tmp_path: Path) -> None:
    def finished(*said: bool) -> bool:
        rows = [
            {"kind": "validation", "stage": "search", "step": n, "steps": 9, "psnr_db": 30.0, "finished": end}
            for n, end in enumerate(said)
        ]
        write(make_run(tmp_path, "") / "metrics.jsonl", lines(rows))
        return read_record(tmp_path).search.finished

    assert not finished()
    assert not finished(False, False)
    assert finished(False, True)
    assert not finished(True, False)


@pytest.mark.parametrize("wrong", ["absent", "empty", "not json", "a list"])
def test_not_a_run_is_one_clear_line(tmp_path: Path, wrong: str) -> None:
    run = tmp_path / "run"
    if wrong != "absent":
        run.mkdir()
    if wrong in ("not json", "a list"):
        write(run / "config.json", "{" if wrong == "not json" else "[]")
    with pytest.raises(ConfigError, match=r"config\.json") as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_a_failed_report_leaves_the_old_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, "genotype", widths=(16, 32))
    before = write_report(run).read_bytes()
    write(run / "genotype.json", "{}x")
    with pytest.raises(ConfigError):
        write_report(run)
    assert (run / "report.html").read_bytes() == before
    assert (
        write_report(make_run(tmp_path, "genotype", widths=(16, 32))).read_bytes() == before
    )  # no clock in it


def test_uses_targets_and_multipliers_are_drawn_where_logged(tmp_path: Path) -> None:
    run = make_run(tmp_path, "search genotype", widths=(16, 32))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rows[-2]["uses"]["bottom.0.conv1"] = [10, 30, 60]
    write(run / "metrics.jsonl", lines(rows))
    page = write_report(run).read_text(encoding="utf-8")
    assert "samples that used 3×3 10.0%, 5×5 30.0%, 7×7 60.0%" in page
    drawn = ("Multiplier of the target", "Undecided superkernels", "how many of the samples used")
    assert all(what in page for what in drawn)
    for row in rows:
        for name in ("uses", "undecided", "multipliers"):
            row.pop(name, None)
    write(run / "metrics.jsonl", lines(rows))
    page = write_report(run).read_text(encoding="utf-8")
    assert "GMAC per raw megapixel" in page
    assert not any(what in page for what in drawn)


def test_every_target_has_its_curve(tmp_path: Path) -> None:
    run = make_run(tmp_path, "search genotype", widths=(16, 32))
    header = json.loads((run / "config.json").read_text(encoding="utf-8"))
    header["config"]["structure"] |= {"target_latency_ms": 20.0, "target_parameters": 4e5}
    write(run / "config.json", json.dumps(header))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [{**row, "latency_ms": 25.0, "multipliers": {"latency_ms": 0.1}} for row in rows]
    write(run / "metrics.jsonl", lines(rows))
    page = write_report(run).read_text(encoding="utf-8")
    assert ">Latency (ms)<" in page
    assert ">GMAC per raw megapixel<" in page
    assert ">Thousand parameters<" not in page  # a target, but nothing logged of it
