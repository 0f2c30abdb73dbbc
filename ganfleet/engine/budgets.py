"""How many updates may be skipped, and how many images left out, before a run ends."""

from ganfleet.errors import NonFinite, TooManyBadImages


class Budgets:
    """Counts updates that every rank skipped and images that none could decode, up to what the config allows."""

    def __init__(self, nonfinite: int, bad_images: int):
        self._nonfinite_budget = nonfinite
        self._bad_budget = bad_images
        self.nonfinite = 0
        self.bad: set[int] = set()

    def totals(self) -> dict[str, int]:
        """What has been counted, as the log shows it."""
        return {"Progress/nonfinite": self.nonfinite, "Progress/bad_images": len(self.bad)}

    def skipped(self, phase: str, step: int) -> str:
        """Count an update of ``phase`` that was not finite; what to tell the user.

        Raises:
            NonFinite: the budget is spent.
        """
        self.nonfinite += 1
        message = f"step {step}: the gradients or stats of phase {phase} are not finite, every rank skips the update"
        if self.nonfinite > self._nonfinite_budget:
            raise NonFinite(
                f"{message}; that is more than train.nonfinite_budget {self._nonfinite_budget}. Start again, to go on "
                "from the last checkpoint, with a higher budget, or with a lower learning rate whose key "
                "checkpoint.accept names, such as checkpoint.accept='[strategy.lr]'"
            )
        return f"{message} ({self.nonfinite} of {self._nonfinite_budget} allowed)"

    def undecodable(self, found: list[tuple[int, str]]) -> list[str]:
        """Count images by index; a line for each that is new.

        Raises:
            TooManyBadImages: the budget is spent.
        """
        new = {index: reason for index, reason in sorted(found) if index not in self.bad}
        self.bad |= new.keys()
        if len(self.bad) > self._bad_budget:
            raise TooManyBadImages(
                f"{len(self.bad)} images cannot be decoded, more than data.bad_budget {self._bad_budget}; the last: "
                + "; ".join(new.values())
            )
        return [f"{reason}: replaced by another image" for reason in new.values()]
