"""One of the processes of `torchrun`, each of which answers its share of the clips; or the only one."""

from __future__ import annotations

import os
from typing import Any

import torch
from lm_eval.api.model import LM


class DataParallelLM(LM):
    """What the harness needs of a model to collect the answers of several processes."""

    def join_other_processes(self, device: torch.device) -> None:
        """Find out which process this is and where it computes.

        Args:
            device: Where it computes if it is the only one; also says whether several compute on the CPU.
        """
        self._device = device
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator  # takes half a second, and a single process needs none of it

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
