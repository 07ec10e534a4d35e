"""Judging generated images, and how they are shown.

    value = metric(what it reads of generated images, what it reads of real ones)

metric               the contract: what a metric reads of images, features and conditions, and what it returns
frechet, classwise, kernel, inception_score, label_accuracy, class_share, neighbours     such metrics
paired               metrics of images that have one right answer each
features             the contract of feature networks, in whose features distances are measured
small_classifier, pretrained_features             such networks (inception, lite0 and resizing are their parts)
inputs, draws, parts what images are made from: image i depends on (seed, i) alone
real_images, reference, store                     real images, statistics in files, what was measured before
baselines            distances between sets that are known
evaluator            all of these together
provenance           which values may be compared
image_grid           images side by side
"""
