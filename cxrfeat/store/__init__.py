"""The embedding file: one study, one recipe, one HDF5 file."""
