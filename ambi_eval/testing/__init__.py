"""What every engine must do, as tests that anybody runs on an engine of their own (`EngineContract`)."""

from ambi_eval.testing.engine_contract import EngineContract

__all__ = ["EngineContract"]
