"""The high level: your model, our loop.

Read `trainer.py` for the entry points, then `fit.py` and `step.py`: that is the path of a training step.
"""
