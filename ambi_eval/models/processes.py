"""A harness model in one process, or in several processes of `torchrun` that share the clips."""

from __future__ import annotations

import os
from typing import Any

import torch
from lm_eval.api.model import LM


class DataParallelLM(LM):
    """A model whose answers the harness collects from several processes."""

    def join_other_processes(self, device: torch.device) -> None:
        """Set the rank of this process, the number of processes, and the device of this one.

        `device` is that of a single process. Several compute on the CPU if this is one, else each on a GPU of its own.
        """
        self._device = device
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator  # its import takes half a second

            self.accelerator = Accelerator(cpu=device.type == "cpu")
            self._device = self.accelerator.device
            self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensors of all processes, concatenated in the order of their ranks."""
        return self.accelerator.gather(tensor) if self.world_size > 1 else tensor

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Return the objects of all processes in process `dst`, None in the others."""
        if self.world_size == 1:
            return [obj]
        gathered: list[Any] | None = [None] * self.world_size if self.rank == dst else None
        torch.distributed.gather_object(obj, gathered, dst=dst)
        return gathered

    def barrier(self) -> None:
        """Wait for the other processes."""
        if self.world_size > 1:
            self.accelerator.wait_for_everyone()
