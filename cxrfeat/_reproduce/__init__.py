"""The reference paper's experiment, repeated on any study (Fan and Bu, Entropy 2022, 24(3):313)."""
