"""``python -m wsi_anomaly``: the command line, for ``torchrun`` and the like."""

from wsi_anomaly.cli.main import run

if __name__ == "__main__":
    run()
