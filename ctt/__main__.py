"""`python -m ctt`."""

from ctt.cli import main

if __name__ == "__main__":
    main()
