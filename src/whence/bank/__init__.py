"""bank: the record of retrainings. Write, claim, resume, verify, merge, import of published data."""

from whence.bank.bank import Bank
from whence.bank.errors import BankError, DiskFullError
from whence.bank.merge import merge
from whence.bank.samples import MaskGroups, Sample
from whence.bank.verify import Damage, Verification

__all__ = ["Bank", "BankError", "Damage", "DiskFullError", "MaskGroups", "Sample", "Verification", "merge"]
