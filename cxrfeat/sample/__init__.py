"""150 real chest X-rays of NIH ChestX-ray14, laid out as the release is."""
