"""Calibration clips come from a data folder in any layout, prepared or not, and are the same."""

import numpy as np
import soundfile

from export.windows import count_repeated, find_calibration_clips, read_windows
from train.data import load_recordings
from train.prepare import prepare


def test_prepared_folder_gives_the_same_windows(clip_folder, checkpoint, tmp_path):
    """Sorted alike, sample for sample."""
    prepare(clip_folder, tmp_path / "prepared")
    clips, prepared_clips = (
        find_calibration_clips(folder, checkpoint) for folder in (clip_folder, tmp_path / "prepared")
    )
    assert clips == prepared_clips
    settings = {"classes": checkpoint.classes, "spec": checkpoint.feature_spec}
    for window, prepared_window in zip(
        read_windows(clip_folder, clips.calibration, **settings),
        read_windows(tmp_path / "prepared", clips.calibration, **settings),
        strict=True,
    ):
        assert np.array_equal(window.wave, prepared_window.wave)
        assert np.array_equal(window.label, prepared_window.label)


def test_clip_shorter_than_a_window_repeats_to_one(clip_folder, checkpoint):
    """As in training and scoring, or sets of such clips would train networks that nothing can export; it is counted."""
    clips = find_calibration_clips(clip_folder, checkpoint).calibration
    (short,) = (clip for clip in clips if clip.file == "C_normal_2.flac")
    samples, _ = soundfile.read(clip_folder / short.file, dtype="float32")
    (window,) = read_windows(clip_folder, [short], classes=checkpoint.classes, spec=checkpoint.feature_spec)
    np.testing.assert_array_equal(window.wave[0], np.concatenate([samples, samples])[:160_000])
    assert count_repeated(clip_folder, clips, checkpoint.feature_spec) == 1


def test_folder_of_dcase_names_is_sorted_by_what_it_states(checkpoint, tmp_path):
    """What it gives to the test gives figures alone, its other healthy clips thresholds."""
    for name in ("train/normal_A_0.wav", "train/normal_id_00_00000000.wav", "test/normal_id_00_00000001.wav"):
        path = tmp_path / "fan" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(160_000), 16_000)
    known = type(checkpoint)(
        network=checkpoint.network,
        spec=checkpoint.spec,
        classes=("fan/id_00", "fan/id_01", "fan/id_02"),
        split=checkpoint.split,
    )
    clips = find_calibration_clips(tmp_path, known)
    assert [recording.file for recording in load_recordings(tmp_path)] == [
        "fan/test/normal_id_00_00000001.wav",
        "fan/train/normal_id_00_00000000.wav",
    ]
    assert [recording.file for recording in clips.calibration] == ["fan/train/normal_id_00_00000000.wav"]
    assert [recording.file for recording in clips.test_normal] == ["fan/test/normal_id_00_00000001.wav"]
