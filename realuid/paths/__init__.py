"""A path: interpolant, coupling, target, time sampler and weight, all scalar functions of time."""
