"""What the skeleton costs, measured: python -m experiments.bench"""
