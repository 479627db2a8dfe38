"""Models and data to try things out with, where programs import them from; those of `levin.testing`."""
