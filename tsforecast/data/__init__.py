"""Frames to arrays: panels of series, their frequency, and windows."""
