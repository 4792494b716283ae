"""What is enrolled of a machine, and what was heard of it lately, in; a report for people out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_asd.bundle.extension import Extension
from edge_asd.capture.clips import find_clips
from edge_asd.commands.enroll_site import Site
from edge_asd.commands.enroll_times import own_times, told_time
from edge_asd.enroll.clips import clip_sha256
from edge_asd.enroll.drift import drift
from edge_asd.enroll.learn import Learned
from edge_asd.enroll.proof import Proof
from edge_asd.errors import ClipError, UsageError
from edge_asd.score import KnnScorer

_DRIFTED = 1
_MAX_STRANGE_TOLD = 5
_SAFE_ON_DELAY_S = 2.0  # from here on overlapping windows raise no more alarms than windows side by side


def show(site: Site, extension: Extension, learned: Learned, proof: Proof) -> None:
    """Say what went live, and what to think of it."""
    facts, calibration = extension.facts, learned.calibration
    threshold = calibration.threshold
    spec = site.pipeline.spec
    heard_min = len(extension.memory) * spec.window_samples / spec.sample_rate_hz / 60.0
    print(f"{facts.machine} is enrolled and live: {len(extension.memory)} windows ({heard_min:.1f} min) by the "
          f"{facts.layer} of {facts.model}")  # fmt: skip
    for why, seconds in facts.refused_s.items():
        print(f"not learned: {seconds:.0f} s, {why}")
    print(f"threshold {threshold.threshold:.2f} for {site.config.enroll.false_alarms_per_week:g} false alarms a week, "
          f"{threshold.note}")  # fmt: skip
    _say_configured(site)
    overlaps = spec.window_samples / site.machine.hop_samples
    if overlaps > 1.0 and site.machine.alarm.on_delay_s < _SAFE_ON_DELAY_S:
        print(f"windows overlap, and one stretch of sound is judged {overlaps:.0f} times: with alarm.on_delay_s "
              f"{site.machine.alarm.on_delay_s:g} there may be several times as many false alarms; expected "
              f"{_SAFE_ON_DELAY_S:g} s or more")  # fmt: skip
    for row in learned.strange[:_MAX_STRANGE_TOLD]:
        begin, end = own_times(extension.memory.begin_utc_s[row], extension.memory.end_utc_s[row])
        clip = extension.clip_of(int(row))
        print(f"like no other: {told_time(begin)} to {told_time(end)}, {f'of {clip.name}, ' if clip else ''}score "
              f"{learned.scores[row]:.1f}; if that was not the machine: --forget {told_time(begin)} {told_time(end)}"
              f"{f' (all of the clip: --forget {clip.name})' if clip else ''}")  # fmt: skip
    others = ", ".join(f"{score:.1f}" for score in proof.other_scores)
    n_others = len(proof.other_scores)
    print(f"self-test passed; other sound (golden windows of the bundle) scores {others}: {proof.n_others_above} of "
          f"{n_others} above the threshold")  # fmt: skip
    if not proof.n_others_above:
        print("the encoder does not tell even those from this machine: do not rely on these scores; a bundle with a "
              "feature map, or one that was trained on more machines, may")  # fmt: skip


def report(site: Site, paths: Sequence[Path] | None, *, channel: int | None) -> int:
    """Compare recent sound, of the daemon or of clips, with what was enrolled; 1 when it has drifted.

    Raises:
        UsageError: the machine is not enrolled, or nothing was heard lately.
    """
    live = site.folder.live()
    if live is None or live.facts.calibration is None:
        raise UsageError(f"{site.machine.name} is not enrolled with model {site.model}; expected it to be; enroll it")
    facts, calibration = live.facts, live.facts.calibration
    heard = live.memory.end_utc_s
    print(f"{facts.machine}: {len(live.memory)} windows from {told_time(live.memory.begin_utc_s.min())} to "
          f"{told_time(heard.max())}, by the {facts.layer} of {facts.model} on {facts.engine}")  # fmt: skip
    print(f"threshold {calibration.threshold.threshold:.2f}; {calibration.threshold.note}")
    _say_configured(site)
    scores, words = _recent(site, live) if paths is None else (_scores_of_clips(site, live, paths, channel), "clips")
    found = drift(
        scores,
        calibration.healthy_quantiles,
        calibration.threshold.threshold if site.machine.threshold is None else site.machine.threshold,
        n_enrolled=len(live.memory),
    )
    print(f"recent sound ({words}): {found.n} windows, median score {found.recent_median:.2f}, enrolled "
          f"{found.enrolled_median:.2f}")  # fmt: skip
    print(f"above the enrolled median {found.above_median:.0%} (50 % without drift), above its 90th percentile "
          f"{found.above_high:.0%} (10 %), above the threshold {found.above_threshold:.0%}")  # fmt: skip
    print(found.verdict)
    return _DRIFTED if found.has_drifted else 0


def _say_configured(site: Site) -> None:
    """That the configuration's threshold is in force, and not the one that was calibrated."""
    if site.machine.threshold is None:
        return
    config = site.config
    line = config.line_of(("machines", config.machines.index(site.machine), "threshold"))
    print(f"that is not in force: {config.path} line {line} sets threshold {site.machine.threshold:g} for "
          f"{site.machine.name}; remove it there to use what was calibrated")  # fmt: skip


def _recent(site: Site, live: Extension) -> tuple[Sequence[float], str]:
    recent = site.folder.recent()
    if recent is None or recent.memory_sha256 != live.facts.memory_sha256:
        raise UsageError(
            f"{site.machine.name}: the daemon has noted no scores by what is enrolled yet; expected some ten minutes "
            "after it went live; try again then, or give clips: --clips"
        )
    return recent.scores, f"{told_time(recent.begin_utc_s)} to {told_time(recent.end_utc_s)}"


def _scores_of_clips(site: Site, live: Extension, paths: Sequence[Path], channel: int | None) -> list[float]:
    if live.facts.calibration is None:
        raise UsageError(f"{site.machine.name} is not enrolled; expected it to be; enroll it")
    learner = site.clip_learner(channel=channel)
    scorer = KnnScorer(live.memory, live.facts.calibration.fit)
    scores: list[float] = []
    learned = {clip.sha256 for clip in live.facts.clips}  # at distance 0 from themselves
    for clip in find_clips(paths):
        if clip_sha256(clip) in learned:
            print(f"{clip}: passed over: it is one of those enrolled")
            continue
        kept = learner.learn(clip, first_group=0).kept
        scores += [float(scorer.score_vectors(each.vector[None])[0]) for each in kept]
    if not scores:
        raise ClipError(
            "no window of the clips is fit to be compared; expected other sound of the machine than was enrolled; see "
            "enroll --clips"
        )
    return scores
