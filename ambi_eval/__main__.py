"""Starts `ambi-eval` (also `python -m ambi_eval`); from its first import on, Ctrl-C ends it with one sentence."""

from ambi_eval.harness.ending import end_at_ctrl_c


def main() -> None:
    """Run the command `ambi-eval`."""
    end_at_ctrl_c()
    from ambi_eval.cli import app

    app()


if __name__ == "__main__":
    main()
