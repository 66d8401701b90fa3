# The front door. `make help` lists the targets.
.DEFAULT_GOAL := help

help:  ## List every target
	@echo "under construction"
.PHONY: help
