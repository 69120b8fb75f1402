"""`python -m multishadow_server` is the `multishadow` command."""

from multishadow_server.entrypoints.cli import main

if __name__ == "__main__":
    main()
