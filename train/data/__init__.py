"""A data folder in any known layout in; its recordings, their split and their samples out."""

from train.data.folder import Listing, list_folder, load_recordings
from train.data.recording import Domain, Label, Recording, StatedSplit
from train.data.split import Split, left_out, split_recordings
from train.data.waves import Waves, open_waves, raise_faults, read_clips

__all__ = [
    "Domain",
    "Label",
    "Listing",
    "Recording",
    "Split",
    "StatedSplit",
    "Waves",
    "left_out",
    "list_folder",
    "load_recordings",
    "open_waves",
    "raise_faults",
    "read_clips",
    "split_recordings",
]
