"""What shadowing costs, between the API's messages and the core's values."""

from __future__ import annotations

from multishadow.v1 import control_pb2, reports_pb2
from multishadow_server.core.cost import Bill, Estimate, Option
from multishadow_server.core.cost_terms import NO_TERMS, CostTerms


def terms_of(message: control_pb2.CostTerms) -> CostTerms:
    """The terms that were asked for."""
    return CostTerms(
        gpu_hour=message.gpu_hour if message.HasField("gpu_hour") else None,
        currency=message.currency or NO_TERMS.currency,
        rps_per_gpu=message.rps_per_gpu if message.HasField("rps_per_gpu") else None,
        by_version=dict(message.rps_per_gpu_by_version),
    )


def terms_message(terms: CostTerms) -> control_pb2.CostTerms | None:
    """The terms as they are shown; None where nobody said anything."""
    if terms == NO_TERMS:
        return None
    return control_pb2.CostTerms(
        gpu_hour=terms.gpu_hour,
        currency=terms.currency,
        rps_per_gpu=terms.rps_per_gpu,
        rps_per_gpu_by_version=terms.by_version,
    )


def estimate_message(estimate: Estimate) -> reports_pb2.EstimateCostResponse:
    """What an experiment costs."""
    return reports_pb2.EstimateCostResponse(
        model=estimate.model,
        experiment_id=estimate.experiment_id,
        live_version=estimate.live,
        shadows=[
            reports_pb2.CostedShadow(
                version=shadow.version,
                fraction=shadow.fraction,
                rps_per_gpu=shadow.rps_per_gpu,
                utilisation=shadow.utilisation,
                assumed=shadow.assumed,
            )
            for shadow in estimate.shadows
        ],
        rps=estimate.traffic.rps,
        measured=estimate.traffic.measured,
        gpu_hour=None if estimate.price is None else estimate.price.gpu_hour,
        currency="" if estimate.price is None else estimate.price.currency,
        box_days=estimate.box_days,
        days_left=estimate.days_left,
        present=_bill_message(estimate.present),
        decides_in_days=estimate.decides_in_days,
        comparisons_needed=estimate.pace.needed,
        comparisons_per_second=estimate.pace.per_second,
        basis=estimate.pace.basis,
        options=[_option_message(option) for option in estimate.options],
        missing=estimate.missing,
    )


def _bill_message(bill: Bill) -> reports_pb2.Bill:
    return reports_pb2.Bill(
        copies_per_second=bill.copies_per_second,
        multiplier=bill.multiplier,
        gpus=bill.gpus,
        gpus_apart=bill.gpus_apart,
        per_day=bill.per_day,
        for_box=bill.for_box,
        to_come=bill.to_come,
    )


def _option_message(option: Option) -> reports_pb2.CostOption:
    return reports_pb2.CostOption(
        fraction=option.fraction,
        bill=_bill_message(option.bill),
        saves=option.saves,
        decides_in_days=option.days,
        later_days=option.later,
        in_time=option.in_time,
    )
