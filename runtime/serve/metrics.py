"""The numbers of a running loop in Prometheus' text format 0.0.4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from runtime.serve.gauges import Gauges
from runtime.sources.source import SourceState

METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OUTPUT_STATES = ("new", "open", "retrying", "done", "failed", "closed")


def metrics_text(gauges: Gauges, viewers: int) -> str:
    """Return the exposition of one scrape.

    Args:
        gauges: the loop's numbers.
        viewers: open streams.
    """
    stats = gauges.stats()
    frames, stage_ms = gauges.totals()
    lines: list[str] = []

    def metric(name: str, kind: str, text: str, *samples: tuple[str, float]) -> None:
        if not samples:
            return
        lines.append(f"# HELP edgeseg_{name} {text}")
        lines.append(f"# TYPE edgeseg_{name} {kind}")
        lines.extend(f"edgeseg_{name}{labels} {value:.9g}" for labels, value in samples)

    metric("frames_total", "counter", "Frames that were segmented.", ("", frames))
    metric("dropped_frames_total", "counter", "Frames the source dropped.", ("", stats["dropped"]))
    metric("reconnects_total", "counter", "Times the source was opened again.", ("", stats["reconnects"]))
    metric("fps", "gauge", "Frames a second over the last two seconds.", ("", stats["fps"]))
    metric("viewers", "gauge", "Open video streams of the page.", ("", viewers))
    metric("uptime_seconds", "gauge", "Since the page was opened.", ("", stats["uptime_s"]))
    if stats["setting"]:
        label = f'{{setting="{_escaped(stats["setting"])}"}}'
        metric("setting", "gauge", "1 for the file, size and threads of a run with a target.", (label, 1.0))
    metric(
        "source_state",
        "gauge",
        "1 for the state that the source is in.",
        *((f'{{state="{state.value}"}}', float(state.value == stats["state"])) for state in SourceState),
    )
    metric(
        "stage_seconds_total",
        "counter",
        "Time spent in each stage; total is from capture to the last output.",
        *((f'{{stage="{_escaped(stage)}"}}', value / 1e3) for stage, value in stage_ms.items()),
    )
    _output_metrics(metric, stats["outputs"])
    if stats["age_ms"] is not None:
        metric(
            "picture_age_seconds", "gauge", "Age of the last frame now.", ("", stats["picture_age_ms"] / 1e3)
        )
        metric("age_seconds", "gauge", "Age of the last frame when done.", ("", stats["age_ms"] / 1e3))
        metric(
            "since_frame_seconds",
            "gauge",
            "Since the last frame was done.",
            ("", stats["since_frame_ms"] / 1e3),
        )
        metric(
            "class_share",
            "gauge",
            "Share of the last frame that a class covers.",
            *((f'{{class="{_escaped(entry["name"])}"}}', entry["share"]) for entry in stats["classes"]),
        )
    return "\n".join(lines) + "\n"


def _output_metrics(metric: Callable[..., None], outputs: Sequence[dict[str, Any]]) -> None:
    """Add what each output does."""
    labels = [
        f'output="{each["number"]}",kind="{_escaped(each["kind"])}",name="{_escaped(each["name"])}"'
        for each in outputs
    ]
    pairs = list(zip(labels, outputs, strict=True))
    metric(
        "output_state",
        "gauge",
        "1 for the state that an output is in.",
        *(
            (f'{{{label},state="{state}"}}', float(each["state"] == state))
            for label, each in pairs
            for state in _OUTPUT_STATES
        ),
    )
    for name, kind, text, key in (
        ("output_failures_total", "counter", "Times an output failed.", "failures"),
        ("output_missed_frames_total", "counter", "Frames an output missed since it had failed.", "missed"),
        ("output_paused", "gauge", "1 for an output that somebody paused.", "is_paused"),
    ):
        metric(name, kind, text, *((f"{{{label}}}", float(each[key])) for label, each in pairs))
    for name, kind, text, key in (
        ("output_dropped_frames_total", "counter", "Frames the disk was too slow for.", "dropped"),
        ("segments_removed_total", "counter", "Files of a recording that retention removed.", "removed"),
        ("disk_free_bytes", "gauge", "Bytes left on a recording's disk.", "free_bytes"),
    ):
        samples = [(f"{{{label}}}", each["facts"][key]) for label, each in pairs if key in each["facts"]]
        metric(name, kind, text, *samples)


def _escaped(label: str) -> str:
    """Return a label's value as the format wants it."""
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
