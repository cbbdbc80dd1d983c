"""`python -m keepstep`."""

from keepstep.cli.main import main

if __name__ == "__main__":
    main()
