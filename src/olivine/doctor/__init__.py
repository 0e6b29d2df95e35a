"""What this machine has, and whether its device computes what the CPU computes: `olivine doctor`."""

from olivine.doctor.machine import EXTRAS, examine

__all__ = ["EXTRAS", "examine"]
