"""Proposing a threshold to compare by."""

from __future__ import annotations

from dataclasses import dataclass

from multishadow_server.core import calibration
from multishadow_server.core.calibration import Calibration
from multishadow_server.core.experiment import Epoch, Experiment
from multishadow_server.errors import FailedPrecondition, NotFound
from multishadow_server.service import comparison_report, names
from multishadow_server.service.ports import ControlStore


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochCalibration:
    """A calibration with what it is about."""

    experiment: Experiment
    epoch: Epoch
    calibration: Calibration


async def calibrate(
    store: ControlStore,
    *,
    model: str,
    experiment_id: int,
    version: str,
    missed: float,
    alpha: float,
) -> EpochCalibration:
    """Propose the most lenient threshold that is proven to miss few real differences.

    Args:
        store: where counts are.
        model: empty: the only model there is, or the experiment's.
        experiment_id: 0: the running experiment, or else the latest.
        version: the candidate whose answers to go by; empty for all, each of which has to keep to `missed`.
        missed: largest share of compared requests that may be really different and count as agreement.
        alpha: chance that the proposal misses more, ever.

    Raises:
        InvalidInput: a share is out of range, or the model must be named.
        NotFound: no such model, experiment or candidate.
        FailedPrecondition: nobody has told answers apart, or a threshold decides nothing here.
        StoreUnavailable: the database is away.
    """
    found = await comparison_report.subject_of(store, model=model, experiment_id=experiment_id)
    epoch = found.epoch
    if version and version not in epoch.candidates:
        raise NotFound(
            f"experiment {epoch.experiment_id} of {epoch.model} does not compare {version!r}; its candidates are "
            f"{names.listed(epoch.candidates)}"
        )
    try:
        walked = calibration.calibrate(
            await store.rollup(epoch.id),
            candidates=[version] if version else epoch.candidates,
            threshold=epoch.comparator.threshold,
            missed=missed,
            alpha=alpha,
        )
    except FailedPrecondition as error:
        owner = (await store.read(experiments=False)).models.get(epoch.model)
        if owner is None or owner.privacy.payloads.readable:
            raise
        raise FailedPrecondition(
            f"{error}. Of {owner.name}, answers that anybody could look at, or hold a label against, are not stored "
            f"(privacy.payloads: {owner.privacy.payloads}); say payloads: redacted while you calibrate"
        ) from error
    return EpochCalibration(experiment=found.experiment, epoch=epoch, calibration=walked)
