"""Figures of generated images, and how they are shown.

evaluator            one feature network, one reference, several metrics, yardsticks
features, pretrained feature networks (inception, lite0 and resizing are their parts)
metric               what a metric is: a torchmetrics Metric of features
frechet, kernel, inception_score, neighbours, paired     the metrics
reference, store     reference statistics and features on disk
stamps               which figures may be compared
inputs, draws        what images are made from: image i depends on (seed, i) alone
report, comparison, study                                pages and tables
page, charts, grids, history                             their parts
"""
