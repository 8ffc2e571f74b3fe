"""The nacre command, where the console script is not on PATH: `python -m services.operator_console.cli`."""

from services.operator_console.cli.main import main

if __name__ == "__main__":
    main()
