"""Reading other toolkits' checkpoints without running code from them, and without these toolkits.

`reader.read` opens a file of any supported kind and gives named tensors, `layouts` says whose they are, `convert` makes
the arrays of a backbone from them.
"""
