"""Engine outputs in, the anomaly score of the machine listened to out: class margin, nearest neighbours, or both."""

from edge_asd.score.build import build_memory, fit_memory
from edge_asd.score.class_scorer import ClassScorer, ClassScorers, Fusion, OwnClassMargin, fused_scores
from edge_asd.score.coreset import coreset_rows
from edge_asd.score.knn import KnnScorer, layer_vectors
from edge_asd.score.margin import MarginScorer
from edge_asd.score.search import nearest_distances

__all__ = [
    "ClassScorer",
    "ClassScorers",
    "Fusion",
    "KnnScorer",
    "MarginScorer",
    "OwnClassMargin",
    "build_memory",
    "coreset_rows",
    "fit_memory",
    "fused_scores",
    "layer_vectors",
    "nearest_distances",
]
