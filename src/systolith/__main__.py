"""`python -m systolith`."""

from systolith.cli.main import main

if __name__ == "__main__":
    main()
