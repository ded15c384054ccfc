"""``python -m jaxdecay``."""

from jaxdecay.cli import run

if __name__ == "__main__":
    run()
