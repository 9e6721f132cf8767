"""Drawings with matplotlib. `*_data` computes what is shown and is tested; `draw_*(data, ax=None)` draws it.

Every `draw_*` takes a panel or makes one in a figure of its own, which pyplot knows nothing of, and returns the panel.
`with plots.style(dark=True):` gives all of them the look of the reports, `svg` makes one a picture for a page, and
`small_multiples` sets the same picture of several checkpoints side by side.
"""

from __future__ import annotations

from mdtree.plots.calibration import Calibration, CalibrationBin, calibration_data, draw_calibration
from mdtree.plots.curve import CurveProfile, curve_data, draw_curve
from mdtree.plots.decision_path import DrawnNode, decision_path_data, path_questions
from mdtree.plots.gains import Gain, draw_gains, draw_ranking, gains_data, ranking_data
from mdtree.plots.gauge import Gauge
from mdtree.plots.layers import Layer, Layers, draw_layers, layers_data
from mdtree.plots.learning import LearningCurves, LearningLine, draw_learning_curves, learning_curves_data
from mdtree.plots.loss_surface import SurfaceMap, draw_loss_surface, loss_surface_data
from mdtree.plots.panels import small_multiples
from mdtree.plots.path_steps import AskedQuestion, PathStep, draw_path_steps, path_steps_data
from mdtree.plots.phase_diagram import PhaseDiagram, PlacedCheckpoint, phase_diagram_data
from mdtree.plots.phase_drawing import draw_phase_diagram
from mdtree.plots.phase_table import ZooPoint
from mdtree.plots.spectrum import Spectrum, draw_spectrum, spectrum_data
from mdtree.plots.style import COLOURS, DARK, HATCHES, LIGHT, MARKERS, Ink, style
from mdtree.plots.svg import svg
from mdtree.plots.transfer_table import TransferTable, draw_transfer_table, transfer_table_data
from mdtree.plots.tree_drawing import draw_decision_path

__all__ = [
    "COLOURS",
    "DARK",
    "HATCHES",
    "LIGHT",
    "MARKERS",
    "AskedQuestion",
    "Calibration",
    "CalibrationBin",
    "CurveProfile",
    "DrawnNode",
    "Gain",
    "Gauge",
    "Ink",
    "Layer",
    "Layers",
    "LearningCurves",
    "LearningLine",
    "PathStep",
    "PhaseDiagram",
    "PlacedCheckpoint",
    "Spectrum",
    "SurfaceMap",
    "TransferTable",
    "ZooPoint",
    "calibration_data",
    "curve_data",
    "decision_path_data",
    "draw_calibration",
    "draw_curve",
    "draw_decision_path",
    "draw_gains",
    "draw_layers",
    "draw_learning_curves",
    "draw_loss_surface",
    "draw_path_steps",
    "draw_phase_diagram",
    "draw_ranking",
    "draw_spectrum",
    "draw_transfer_table",
    "gains_data",
    "layers_data",
    "learning_curves_data",
    "loss_surface_data",
    "path_questions",
    "path_steps_data",
    "phase_diagram_data",
    "ranking_data",
    "small_multiples",
    "spectrum_data",
    "style",
    "svg",
    "transfer_table_data",
]
