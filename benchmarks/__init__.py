"""Measurements, one question each; README.md in a folder says what was found."""
