"""What happened to the two models of a device in, the record of what serves, what waits and why out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from edge_asd.bundle.part import Sha256
from edge_asd.errors import TemporaryError, UsageError
from edge_asd.types import Comparison

SlotName: TypeAlias = Literal["a", "b"]
SlotState: TypeAlias = Literal["shadow", "trial", "good", "failed"]
"""shadow: scores beside the active model. trial: active, not yet proven. good: proven. failed: refused; see why."""

FileName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^model-[1-9][0-9]{0,8}\.asd$")]
MAX_UNCLEAN_ENDS = 3
_MAX_WHY_CHARACTERS = 2_000


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Slot(_Part):
    """One installed model.

    file: its bundle, beside the record; no two installs share a name. signer: public key, None where nobody signed.
    why: how it came to its state, for people. run: the daemon that is at work with it while it is unproven, None where
    that ended in order. unclean_ends: how many such runs in a row did not. compared: in shadow, what was heard of each
    machine so far.
    """

    file: FileName
    sha256: Sha256
    name: str = Field(max_length=64)
    version: str = Field(max_length=32)
    signer: str | None = Field(max_length=64)
    installed_utc: AwareDatetime
    state: SlotState
    why: str = Field(max_length=_MAX_WHY_CHARACTERS)
    changed_utc: AwareDatetime
    run: str | None = Field(default=None, max_length=64)
    unclean_ends: int = Field(default=0, ge=0, le=1_000)
    compared: dict[str, Comparison] = Field(default={}, max_length=64)

    def now(self, state: SlotState, why: str, at: datetime) -> Slot:
        """The same model in another state, with nothing held against it."""
        why = why if len(why) <= _MAX_WHY_CHARACTERS else why[: _MAX_WHY_CHARACTERS - 3] + "..."
        changes = {"state": state, "why": why, "changed_utc": at, "run": None, "unclean_ends": 0}
        return self.model_copy(update=changes)


class Record(_Part):
    """Which slot serves, and what both hold; each change gives a new record.

    installs: how many there were, the number of the newest file.
    """

    schema_version: Literal[1] = 1
    installs: int = Field(default=0, ge=0, le=999_999_999)
    active: SlotName | None = None
    slots: dict[SlotName, Slot] = {}

    @model_validator(mode="after")
    def _check_agreement(self) -> Record:
        if self.active is None:
            if self.slots:
                raise ValueError("slots hold models, but none is active")
            return self
        if self.active not in self.slots or self.slots[self.active].state not in {"trial", "good"}:
            raise ValueError(f"the active slot {self.active} is empty, or its model is not to serve")
        other = self.standby
        if other is not None and other.state == "trial":
            raise ValueError("a model is on trial in the slot that is not active")
        return self

    @property
    def serving(self) -> Slot | None:
        """The model that serves."""
        return None if self.active is None else self.slots[self.active]

    @property
    def other(self) -> SlotName:
        """The slot that does not serve; on a new device the first."""
        return "b" if self.active == "a" else "a"

    @property
    def standby(self) -> Slot | None:
        """What that slot holds."""
        return self.slots.get(self.other)

    @property
    def candidate(self) -> Slot | None:
        """The model in shadow."""
        return self.standby if self.standby is not None and self.standby.state == "shadow" else None

    @property
    def fallback(self) -> Slot | None:
        """The model that served before and may serve again."""
        return self.standby if self.standby is not None and self.standby.state == "good" else None

    def installed(self, slot: Slot) -> Record:
        """A new model in the slot that does not serve; where none serves yet, it does, on trial.

        Raises:
            TemporaryError: the serving model is on trial, and the one it could fall back to would be lost.
        """
        if self.serving is not None and self.serving.state == "trial" and self.fallback is not None:
            raise TemporaryError(
                f"model {self.serving.name} {self.serving.version} is on trial, and only slot {self.other} holds "
                "another to fall back to; expected a proven model; install again when `edge-asd bundle status` calls "
                "it good, or go back first: edge-asd bundle rollback"
            )
        if self.serving is None:
            slot = slot.now("trial", "the first model of this device", slot.installed_utc)
        return self._with(
            {self.other: slot}, active=self.active or self.other, installs=max(self.installs, number_of(slot.file))
        )

    def taken_over(self, file: FileName, why: str, at: datetime) -> Record:
        """The candidate serves from now on, on trial; unless it is no longer the candidate."""
        candidate = self.candidate
        if self.active is None or self.serving is None or candidate is None or candidate.file != file:
            return self
        before = self.serving
        if before.state == "trial":
            before = before.now("good", "served until another model had passed its shadow period", at)
        return self._with({self.active: before, self.other: candidate.now("trial", why, at)}, active=self.other)

    def failed(self, file: FileName, why: str, at: datetime) -> Record:
        """The candidate will not serve; unless it is no longer the candidate."""
        candidate = self.candidate
        if candidate is None or candidate.file != file:
            return self
        return self._with({self.other: candidate.now("failed", why, at)})

    def fallen_back(self, why: str, at: datetime) -> Record:
        """The model before serves again, and the one that served will not.

        Raises:
            UsageError: there is none.
        """
        if self.active is None or self.serving is None or self.fallback is None:
            raise UsageError(
                "there is no model to go back to; expected a slot that holds the model that served before; see "
                "edge-asd bundle status, and install one: edge-asd bundle install"
            )
        back = self.fallback.now("good", f"served before {self.serving.name} {self.serving.version}, which failed", at)
        return self._with({self.active: self.serving.now("failed", why, at), self.other: back}, active=self.other)

    def proven(self, why: str, at: datetime) -> Record:
        """The serving model's trial is over."""
        if self.active is None or self.serving is None or self.serving.state != "trial":
            return self
        return self._with({self.active: self.serving.now("good", why, at)})

    def begun(self, run: str) -> Record:
        """A run of the daemon, by a name of its own, begins with what is not proven; again within it is no fault.

        A run before it that is still at work with a model never ended in order: that is held against the model.
        """
        changed: dict[SlotName, Slot] = {}
        for name, slot in self.slots.items():
            if slot.state in {"shadow", "trial"} and slot.run != run:
                unclean_ends = min(slot.unclean_ends + (slot.run is not None), 1_000)
                changed[name] = slot.model_copy(update={"run": run, "unclean_ends": unclean_ends})
        return self._with(changed)

    def ended(self) -> Record:
        """The daemon ended in order."""
        changes = {"run": None, "unclean_ends": 0}
        return self._with({name: slot.model_copy(update=changes) for name, slot in self.slots.items()})

    def heard(self, file: FileName, compared: Mapping[str, Comparison]) -> Record:
        """What the candidate was compared by so far; unless it is no longer the candidate."""
        candidate = self.candidate
        if candidate is None or candidate.file != file:
            return self
        return self._with({self.other: candidate.model_copy(update={"compared": dict(compared)})})

    def _with(
        self,
        slots: Mapping[SlotName, Slot],
        *,
        active: SlotName | None = None,
        installs: int | None = None,
    ) -> Record:
        return Record(
            installs=self.installs if installs is None else installs,
            active=active or self.active,
            slots={**self.slots, **slots},
        )


def number_of(file: FileName) -> int:
    """Which install it is of."""
    return int(file.removeprefix("model-").removesuffix(".asd"))
