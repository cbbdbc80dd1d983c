"""`python -m keepstep`."""

from keepstep.exporter.cli import main

if __name__ == "__main__":
    main()
