"""What `skdn profile` measured, as small tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sk_deploy.operators import Cost, OperatorTable
    from sk_deploy.paired import Comparison, Ratio
    from sk_deploy.profile import Latency, Profile

NODES = 8
"""The costliest, by name; JSON has them all."""


def describe(measured: Profile, peak_gmacs_per_s: float) -> str:
    """One model."""
    memory = (
        "unknown" if measured.peak_host_memory_mib is None else f"{measured.peak_host_memory_mib:.0f} MiB"
    )
    return "\n".join(
        [
            *_head(measured),
            f"{len(measured.total.samples_ms)} runs after {measured.warmups} warm-ups",
            _latency_head(""),
            _latency("end to end", measured.total),
            _latency("network", measured.network),
            f"{measured.mp_per_s:.2f} MP/s, peak host memory {memory}, "
            f"model loaded in {1e3 * measured.load_s:.0f} ms",
            _rate(measured, peak_gmacs_per_s),
        ]
    )


def describe_comparison(compared: Comparison, given: tuple[str, str], peak_gmacs_per_s: float) -> str:
    """Two models, and how they were given."""
    first, second = compared.first, compared.second
    lines = [f"A: {given[0]} ({first.model})", f"B: {given[1]} ({second.model})"]
    lines += [*_head(first, "A and B"), f"{len(first.total.samples_ms)} pairs after {first.warmups} warm-ups"]
    for name, a, b in (
        ("end to end", first.total, second.total),
        ("network", first.network, second.network),
    ):
        lines += [_latency_head(name), _latency("  A", a), _latency("  B", b)]
    lines += [
        f"A/B, end to end: {_ratio(compared.total)}",
        f"A/B, network:    {_ratio(compared.network)}",
        *(f"{letter}: {_rate(one, peak_gmacs_per_s)}" for letter, one in (("A", first), ("B", second))),
    ]
    return "\n".join(lines)


def describe_operators(table: OperatorTable, provider: str) -> str:
    """Where the network's time goes."""
    lines = [f"network by operator, traced: {table.network_ms:.2f} ms, median of {table.runs} runs"]
    if provider != "cpu":
        lines.append(f"(on {provider} this is the time that launching takes on the CPU, not computing)")
    lines.append(f"{'':<26}{'nodes':>6}{'ms':>10}{'share':>8}{'GMAC/s':>9}")
    lines += [_cost(cost, provider) for cost in table.operators if cost.share >= 0.001]
    few = [cost for cost in table.operators if cost.share < 0.001]
    if few:
        rest_ms = sum(cost.ms for cost in few)
        lines.append(
            f"{f'{len(few)} other operators':<26}{sum(cost.nodes for cost in few):>6}{rest_ms:>10.2f}"
            f"{rest_ms / table.network_ms:>8.1%}"
        )
    lines.append(f"{'between nodes':<32}{table.between_ms:>10.2f}{table.between_ms / table.network_ms:>8.1%}")
    lines.append("costliest nodes")
    lines += [_cost(cost, provider, f" {cost.operator}") for cost in table.nodes[:NODES]]
    return "\n".join(lines)


def _head(measured: Profile, name: str = "") -> list[str]:
    megapixels = measured.width_px * measured.height_px / 1e6
    lines = [
        f"{name or measured.model} on {measured.provider}: {measured.device}, {measured.threads} threads",
        f"{measured.width_px}×{measured.height_px} px ({megapixels:.2f} MP) in tiles of at most "
        f"{measured.tile_px} px{', self-ensemble' * measured.ensemble}",
    ]
    if measured.elsewhere:
        nodes = ", ".join(f"{count} {operator}" for operator, count in measured.elsewhere.items())
        lines.append(f"nodes that {measured.provider} does not run: {nodes}")
    return lines


def _latency_head(name: str) -> str:
    return f"{name or 'ms':<12}" + "".join(f"{head:>10}" for head in ("p50", "p90", "p99", "min"))


def _latency(name: str, latency: Latency) -> str:
    figures = (latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.min_ms)
    return f"{name:<12}" + "".join(f"{figure:>10.2f}" for figure in figures)


def _rate(measured: Profile, peak_gmacs_per_s: float) -> str:
    share = measured.gmacs_per_s / peak_gmacs_per_s
    return (
        f"network at {measured.gmacs_per_s:.1f} GMAC/s, {share:.0%} of the {peak_gmacs_per_s:.1f} that a "
        f"large float32 matrix product reaches on {measured.provider} here"
    )


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.of_medians:.3f} of medians; pairs p10 {ratio.p10:.3f}, p90 {ratio.p90:.3f}"


def _cost(cost: Cost, provider: str, of: str = "") -> str:
    name = f"{cost.name}{f' on {cost.provider}' if cost.provider != provider else ''}"
    rate = "" if cost.gmacs_per_s is None else f"{cost.gmacs_per_s:>9.1f}"
    nodes = "" if of else cost.nodes
    return f"{name:<26}{nodes:>6}{cost.ms:>10.2f}{cost.share:>8.1%}{rate:>9}{f' {of}' * bool(of)}".rstrip()
