"""Machines heard together: windows that are due at once are one batch, and each machine's words keep their order."""

from types import SimpleNamespace

from edge_asd.daemon.together import hear_together
from edge_asd.types import Window


class Talker:
    """A machine that says what it is told to; windows come back as what they were scored."""

    def __init__(self, name, *parts):
        self.ear, self._parts = name, parts

    def hear(self, sound):
        assert sound == f"sound of {self.ear}"
        for part in self._parts:
            if isinstance(part, Window):
                yield [f"{self.ear} scored {(yield part)}"]
            else:
                yield [f"{self.ear} {part}"]


def window(number):
    return Window(wave=number, end_monotonic_s=0.0, end_utc_s=0.0, fresh_samples=0, heard_samples=1, lost_samples=0)


def test_windows_that_are_due_together_are_scored_at_once() -> None:
    """A batch a round, in which each machine is once; all that is said comes in each machine's order."""
    batches = []

    def score(windows):
        batches.append([(ear, due.wave) for ear, due in windows])
        return [f"{ear}{due.wave}" for ear, due in windows]

    talkers = [
        Talker("a", window(1), window(2)),
        Talker("b", "is silent"),
        Talker("c", "is back", window(3), "done"),
        Talker("d"),
    ]
    said = list(hear_together(SimpleNamespace(score=score), [(talker, f"sound of {talker.ear}") for talker in talkers]))
    assert batches == [[("a", 1), ("c", 3)], [("a", 2)]]
    assert said == [["b is silent"], ["c is back"], ["a scored a1"], ["c scored c3"], ["c done"], ["a scored a2"]]


def test_nothing_is_scored_ahead_of_what_was_to_be_committed() -> None:
    """A machine's next window waits until all that was said before it has been taken."""
    steps = []

    def score(windows):
        steps.append([due.wave for _, due in windows])
        return ["z"] * len(windows)

    talker = Talker("a", window(1), window(2))
    steps.extend(hear_together(SimpleNamespace(score=score), [(talker, "sound of a")]))
    assert steps == [[1], ["a scored z"], [2], ["a scored z"]]


def test_no_machine_is_no_batch() -> None:
    """Without sound nothing is scored."""
    assert list(hear_together(SimpleNamespace(score=None), [])) == []
