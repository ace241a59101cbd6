"""The theory of the method, checked numerically: spectra, bounds, leaders' matrices, and problems with known constants.

Only ``trajectories``, which measures along real training, imports torch.
"""
