"""`python -m ambi_eval` is the command `ambi-eval`."""

from ambi_eval.cli import main

if __name__ == "__main__":
    main()
