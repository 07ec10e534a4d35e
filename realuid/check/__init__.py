"""Proving a framework on Gaussians before anyone spends a GPU-hour on it (`tools/check.py`).

gaussian      laws of pairs (x0, x1) whose posterior means and densities are known, in place of data and networks
path          schedules, ends, times, weights
regression    targets, conversions, preconditioning, re-expression
sampling      the many-step sampler carries source to data
game          the loss: inner maximum, fixed point, value, gradient
training      a linear student trained by the loss reaches the data's moments
wrong_teacher where the student of a wrong teacher ends, and what it costs
start         where the networks of a distillation start
network       what networks make of it: how their errors grow, where they learn nothing
rehearsal     a short training on the built-in digits
small         the digits and the small network of the rehearsal
table         the rows of the report
framework     all of it for one assembly
"""
