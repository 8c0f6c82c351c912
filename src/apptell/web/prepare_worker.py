"""The process that compiles every kernel before the first capture is read; its bounds are no capture's."""

from __future__ import annotations

from typing import Any

from apptell.web.bounded_process import answer_job


def main() -> None:
    """Does one job."""
    answer_job(_do, lambda _job, error: str(error) or "it needs more memory than there is")


def _do(_job: dict[str, Any], _send: Any) -> dict[str, Any]:
    from apptell.models import load_model
    from apptell.service.prepare import prepare

    done = prepare(load_model())
    return {"compiled": done.compiled, "cached": done.cached}


if __name__ == "__main__":
    main()
