"""cxrfeat: from a folder of chest X-rays to a multi-label classifier that can be trusted, in two stages.

Not a medical device.
"""

__version__ = "0.1.0.dev0"
