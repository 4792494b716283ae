"""What a run is known by: the sound that it learns from, not the names and lengths of its clips."""

import json

import numpy as np
import pytest
import soundfile

from edge_asd.errors import UsageError
from train.prepare import prepare
from train.processes import Processes
from train.resume import has_ended, open_or_resume, sound_of

IDENTITY = {"settings": {"seed": 0}, "sound": "one"}


def test_prepared_clips_are_known_by_their_sound(tmp_path):
    """The same name, place and length do not make the same clip."""
    name = "fan/train/normal_id_00_00000000.wav"
    (tmp_path / "clips" / name).parent.mkdir(parents=True)
    identities = []
    for seed in (0, 0, 1):
        out = tmp_path / f"prepared-{len(identities)}"
        soundfile.write(tmp_path / "clips" / name, np.random.default_rng(seed).uniform(-0.5, 0.5, 160_000), 16_000)
        prepare(tmp_path / "clips", out)
        identities.append(sound_of(out, [name]))
    assert identities[0] == identities[1] != identities[2]


@pytest.fixture
def ended(tmp_path):
    """The folder of a run that came to its end."""
    run = tmp_path / "run"
    assert open_or_resume(run, IDENTITY, Processes(), resume=True) is None
    (run / "settings.json").write_text(json.dumps(IDENTITY["settings"]))
    (run / "metrics.json").write_text("{}")
    return run


def test_ended_run_of_other_sound_is_not_taken_for_this_one(ended):
    """Though its settings are the same."""
    assert open_or_resume(ended, IDENTITY, Processes(), resume=True) is None
    with pytest.raises(UsageError, match="the clips that it learns from changed"):
        open_or_resume(ended, {**IDENTITY, "sound": "another"}, Processes(), resume=True)


def test_run_that_ended_under_an_earlier_version_is_known_by_its_settings(ended):
    """It kept nothing else; and it has ended."""
    (ended / "identity.json").unlink()
    assert has_ended(ended)
    assert open_or_resume(ended, {**IDENTITY, "sound": "another"}, Processes(), resume=True) is None
    with pytest.raises(UsageError, match="seed was 0, now 1"):
        open_or_resume(ended, {"settings": {"seed": 1}, "sound": "one"}, Processes(), resume=True)


@pytest.mark.parametrize("left", [[], ["metrics.csv"], ["identity.json"], ["identity.json", "settings.json"]])
def test_run_that_was_cut_off_before_it_kept_anything_begins_anew(tmp_path, left):
    """Whichever of its first files it wrote."""
    run = tmp_path / "run"
    run.mkdir()
    for name in left:
        (run / name).touch()
    assert open_or_resume(run, IDENTITY, Processes(), resume=True) is None
    assert json.loads((run / "identity.json").read_text()) == IDENTITY
