"""RealUID: universal inverse distillation of matching models into one-step generators (arXiv 2509.22459)."""

__version__ = "0.1.0"
