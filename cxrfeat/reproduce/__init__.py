"""The reference paper's experiment, repeated on any study (Fan and Bu, Entropy 2022, 24(3):313)."""

from cxrfeat.reproduce.experiment import Reproduction, reproduce_paper

__all__ = ["Reproduction", "reproduce_paper"]
