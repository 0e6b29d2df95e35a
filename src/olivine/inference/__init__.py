"""A trained network, ready to use on points: `olivine.load(run)`.

    model = olivine.load("runs/my-run")
    features = model.features(points_m, intensity)     # [N, F], one row per point
    classes = model.predict(points_m, intensity)       # [N], for a segmentation run
    boxes, scores, names = model.detect(points_m, intensity)  # of K objects, for a detection run

The file says what network it holds and how its input was made, so nothing else has to be given.
"""

from olivine.inference.loading import load
from olivine.inference.model import ClassifiedPoints, DetectedObjects, Model

__all__ = ["ClassifiedPoints", "DetectedObjects", "Model", "load"]
