"""From an image file to the network's input."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
"""Endings of image files, in lower case; a file of another ending may be an image too."""
