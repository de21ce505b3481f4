"""`python -m edgeemu` is `edgeemu`."""

from edgeemu.cli.app import main

if __name__ == "__main__":
    main()
