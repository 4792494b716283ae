"""Sound, scores and alarms of the machines in, the sound around each alarm on disk out, within a budget."""

from edge_asd.evidence.folder import Budget, EvidenceFolder
from edge_asd.evidence.kept import SUFFIXES, Kept, LogMel
from edge_asd.evidence.page import page_html
from edge_asd.evidence.recorder import Recorder, Take
from edge_asd.evidence.writer import EvidenceWriter

__all__ = [
    "SUFFIXES",
    "Budget",
    "EvidenceFolder",
    "EvidenceWriter",
    "Kept",
    "LogMel",
    "Recorder",
    "Take",
    "page_html",
]
