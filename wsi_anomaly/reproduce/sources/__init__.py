"""The data sets on disk; each module checks its layout first, then gives problems."""
