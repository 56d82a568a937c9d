"""python -m futu."""

from futu.cli import main

if __name__ == "__main__":
    main()
