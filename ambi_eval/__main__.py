"""The program `ambi-eval`, also as `python -m ambi_eval`: from here on, Ctrl-C ends in one sentence."""

from ambi_eval.harness.ending import end_at_ctrl_c


def main() -> None:
    """Run the command `ambi-eval`."""
    end_at_ctrl_c()
    from ambi_eval.cli import app

    app()


if __name__ == "__main__":
    main()
