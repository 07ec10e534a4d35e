"""Small helpers that know nothing of matching models."""
