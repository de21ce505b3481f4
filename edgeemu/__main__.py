"""Entry point of `python -m edgeemu`, the same as the command `edgeemu`."""

from edgeemu.cli.app import main

if __name__ == "__main__":
    main()
