"""The reference paper's experiment, repeated on any study (Fan and Bu, Entropy 2022, 24(3):313)."""

from cxrfeat._reproduce.experiment import reproduce_paper
from cxrfeat._reproduce.reproduction import Reproduction

__all__ = ["Reproduction", "reproduce_paper"]
