"""Sets that need no download: digits, their captions, coloured shapes."""
