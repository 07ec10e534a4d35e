"""What shards are made from."""

from realuid.data.sources.kinds import Arrays, Files, Raw, SideBySide, Source, TwoFolders
from realuid.data.sources.opening import open_source

__all__ = ["Arrays", "Files", "Raw", "SideBySide", "Source", "TwoFolders", "open_source"]
