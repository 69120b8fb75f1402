"""The control API over gRPC: messages in, use cases, messages out."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import grpc.aio

from multishadow.v1 import control_pb2 as pb
from multishadow.v1 import control_pb2_grpc
from multishadow_server.core.calibration import DEFAULT_MISSED
from multishadow_server.core.experiment import DEFAULT_BUCKET_SECONDS, DEFAULT_DURATION, Experiment
from multishadow_server.core.statistics import power
from multishadow_server.entrypoints import control_messages as messages
from multishadow_server.entrypoints import (
    gate_messages,
    probe_messages,
    report_messages,
    review_messages,
    schedule_messages,
    segment_messages,
)
from multishadow_server.entrypoints.alarm_messages import alarm_message
from multishadow_server.entrypoints.answering import Context, actor_of, answering
from multishadow_server.service import (
    calibrating,
    comparison_report,
    experiments,
    flag_sources,
    flags,
    gate_records,
    labelling,
    models,
    probing,
    promotion,
    reviewing,
    segments,
    status,
    steering,
)
from multishadow_server.service.ports import (
    AlarmStore,
    CaptureBacklog,
    ControlStore,
    LabelStore,
    ProbeStore,
    ReviewStore,
    VersionProbe,
)

SERVICE = pb.DESCRIPTOR.services_by_name["ControlService"].full_name


class ControlServicer(control_pb2_grpc.ControlServiceServicer):
    """Answers the control API.

    Args:
        store: configuration, experiments and counts.
        probe: connects to versions before they go live.
        labels: where labels are.
        reviews: where stored comparisons are, and what people said of them.
        backlog: the capture log; it may be away.
        alarms: where alarms are.
        probes: where it is kept how versions stand with probes.
        clock: the time, in seconds since the Unix epoch.
        warnings: what of this process's setup is not as it should be.
    """

    def __init__(
        self,
        *,
        store: ControlStore,
        probe: VersionProbe,
        labels: LabelStore,
        reviews: ReviewStore,
        backlog: CaptureBacklog,
        alarms: AlarmStore,
        probes: ProbeStore,
        clock: Callable[[], float] = time.time,
        warnings: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._store = store
        self._warnings = warnings
        self._probe = probe
        self._labels = labels
        self._reviews = reviews
        self._backlog = backlog
        self._alarms = alarms
        self._probes = probes
        self._clock = clock

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        control_pb2_grpc.add_ControlServiceServicer_to_server(self, server)

    async def ApplyModel(self, request: pb.ApplyModelRequest, context: Context) -> pb.ApplyModelResponse:
        """Create or update a model and its versions."""
        async with answering(context):
            applied = await models.apply_model(
                self._store, messages.model_spec(request), actor=actor_of(request.actor, context)
            )
        return pb.ApplyModelResponse(
            model=messages.model_message(applied.view),
            versions=messages.version_messages(applied.view),
            revision=applied.revision,
            changes=applied.changes,
        )

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:  # noqa: ARG002  it is empty
        """All models."""
        async with answering(context):
            views = await models.list_models(self._store)
        return pb.ListModelsResponse(models=[messages.model_message(view) for view in views])

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Context) -> pb.ListVersionsResponse:
        """The versions of one model, or of all."""
        async with answering(context):
            views = await models.list_models(self._store, model=request.model)
        return pb.ListVersionsResponse(
            versions=[version for view in views for version in messages.version_messages(view)]
        )

    async def ListFlags(self, request: pb.ListFlagsRequest, context: Context) -> pb.ListFlagsResponse:
        """The flags of one model, or of all."""
        async with answering(context):
            records, revision = await flags.list_flags(self._store, model=request.model)
        return pb.ListFlagsResponse(flags=[messages.flag_message(record) for record in records], revision=revision)

    async def SetFlag(self, request: pb.SetFlagRequest, context: Context) -> pb.SetFlagResponse:
        """Set what one version claims."""
        async with answering(context):
            done = await flags.set_flag(
                self._store,
                model=request.model,
                version=request.version,
                claim=messages.claim_of(request.claim),
                percent=request.percent if request.HasField("percent") else 100.0,
                actor=actor_of(request.actor, context),
                reason=messages.free_text("reason", request.reason),
                expected_revision=request.expected_revision if request.HasField("expected_revision") else None,
                dry_run=request.dry_run,
            )
            warnings = await flag_sources.warnings(self._store, clock=self._clock)
        return pb.SetFlagResponse(
            flag=messages.flag_message(done.record), revision=done.revision, effects=done.effects, warnings=warnings
        )

    async def ListExperiments(self, request: pb.ListExperimentsRequest, context: Context) -> pb.ListExperimentsResponse:
        """The experiments of one model, or of all, newest first."""
        async with answering(context):
            found = await experiments.list_experiments(self._store, model=request.model)
            return pb.ListExperimentsResponse(experiments=[await self._experiment(each) for each in found])

    async def StartExperiment(self, request: pb.StartExperimentRequest, context: Context) -> pb.StartExperimentResponse:
        """Open a comparison."""
        async with answering(context):
            schedule, percent = schedule_messages.schedule_of(request)
            terms = experiments.Terms(
                model=request.model,
                candidates=tuple(request.candidates),
                percent=percent,
                schedule=schedule,
                duration=request.duration_seconds if request.HasField("duration_seconds") else DEFAULT_DURATION,
                noise_percent=request.noise_floor_percent,
                rank_by=messages.rank_by(request.rank_by),
                bucket_seconds=(
                    request.bucket_seconds if request.HasField("bucket_seconds") else DEFAULT_BUCKET_SECONDS
                ),
            )
            experiment, revision = await experiments.start_experiment(
                self._store, terms, actor=actor_of(request.actor, context)
            )
            warnings = await flag_sources.warnings(self._store, clock=self._clock)
            return pb.StartExperimentResponse(
                experiment=await self._experiment(experiment), revision=revision, warnings=warnings
            )

    async def StopExperiment(self, request: pb.StopExperimentRequest, context: Context) -> pb.StopExperimentResponse:
        """End the running experiment."""
        async with answering(context):
            experiment, revision = await experiments.stop_experiment(
                self._store,
                model=request.model,
                actor=actor_of(request.actor, context),
                reason=messages.free_text("reason", request.reason),
            )
            warnings = await flag_sources.warnings(self._store, clock=self._clock)
            return pb.StopExperimentResponse(
                experiment=await self._experiment(experiment), revision=revision, warnings=warnings
            )

    async def _experiment(self, experiment: Experiment) -> pb.Experiment:
        outlook = await steering.outlook(self._store, experiment, now=self._clock())
        return messages.experiment_message(experiment, schedule_messages.schedule_message(experiment, outlook))

    async def Compare(self, request: pb.CompareRequest, context: Context) -> pb.CompareResponse:
        """Report on an experiment."""
        async with answering(context):
            found = await comparison_report.compare(
                self._store,
                model=request.model,
                candidates=tuple(request.candidates),
                experiment_id=request.experiment_id,
                alpha=request.alpha or comparison_report.DEFAULT_ALPHA,
                unit=request.unit,
                clock=self._clock,
            )
            on = await self._alarms.alarms(found.experiment.model)
        response = report_messages.compare_response(found)
        response.alarms.extend(map(alarm_message, on))
        return response

    async def ListSegments(self, request: pb.ListSegmentsRequest, context: Context) -> pb.ListSegmentsResponse:
        """On which kinds of request a candidate diverges more, or less, often than on the rest."""
        async with answering(context):
            found = await segments.list_segments(
                self._store,
                model=request.model,
                candidate=request.candidate,
                experiment_id=request.experiment_id,
                alpha=request.alpha or comparison_report.DEFAULT_ALPHA,
                clock=self._clock,
            )
        return segment_messages.segments_response(found)

    async def Promote(self, request: pb.PromoteRequest, context: Context) -> pb.PromoteResponse:
        """Make a version live."""
        async with answering(context):
            promoted = await promotion.promote(
                self._store,
                self._probe,
                model=request.model,
                version=request.version,
                percent=request.percent if request.HasField("percent") else 100.0,
                actor=actor_of(request.actor, context),
                reason=messages.free_text("reason", request.reason),
                force=request.force,
                clock=self._clock,
            )
            warnings = await flag_sources.warnings(self._store, clock=self._clock)
        return pb.PromoteResponse(
            model=promoted.model,
            version=promoted.version,
            previous_version=promoted.previous,
            revision=promoted.revision,
            changed=promoted.changed,
            warnings=warnings,
        )

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.RollbackResponse:
        """Take the last promotion back."""
        async with answering(context):
            await flag_sources.check_rollback(self._store, clock=self._clock)
            undone = await promotion.rollback(
                self._store,
                model=request.model,
                actor=actor_of(request.actor, context),
                reason=messages.free_text("reason", request.reason),
            )
            warnings = await flag_sources.warnings(self._store, clock=self._clock)
        return pb.RollbackResponse(
            model=undone.model,
            version=undone.version,
            rolled_back_version=undone.rolled_back,
            revision=undone.revision,
            warnings=warnings,
        )

    async def ListGates(self, request: pb.ListGatesRequest, context: Context) -> pb.ListGatesResponse:
        """What has to hold before a candidate is promoted, and what of it does."""
        async with answering(context):
            found = await comparison_report.compare(
                self._store, model=request.model, candidates=tuple(request.candidates), clock=self._clock
            )
        return pb.ListGatesResponse(
            model=found.experiment.model,
            live_version=found.report.live_version,
            experiment_id=found.experiment.id,
            epoch=found.epoch.number,
            reviews=[gate_messages.review_message(review) for review in found.reviews],
        )

    async def Attest(self, request: pb.AttestRequest, context: Context) -> pb.AttestResponse:
        """Put on record that somebody vouches for something."""
        async with answering(context):
            found = await gate_records.attest(
                self._store,
                model=request.model,
                version=request.version,
                what=request.what,
                note=messages.free_text("note", request.note),
                actor=actor_of(request.actor, context),
                clock=self._clock,
            )
        return pb.AttestResponse(model=found.experiment.model, review=gate_messages.review_message(found.reviews[0]))

    async def WaiveGate(self, request: pb.WaiveGateRequest, context: Context) -> pb.WaiveGateResponse:
        """Let a candidate pass a gate."""
        async with answering(context):
            found = await gate_records.waive(
                self._store,
                model=request.model,
                version=request.version,
                gate=request.gate,
                reason=messages.free_text("reason", request.reason),
                actor=actor_of(request.actor, context),
                clock=self._clock,
            )
        return pb.WaiveGateResponse(model=found.experiment.model, review=gate_messages.review_message(found.reviews[0]))

    async def PlanComparison(self, request: pb.PlanComparisonRequest, context: Context) -> pb.PlanComparisonResponse:
        """How long it takes to prove a difference."""
        async with answering(context):
            plans = power.plan(
                request.better,
                request.worse,
                candidates=request.candidates if request.HasField("candidates") else 2,
                alpha=request.alpha or comparison_report.DEFAULT_ALPHA,
                rate=request.rate,
            )
        return pb.PlanComparisonResponse(
            plans=[
                pb.ComparisonPlan(chance=plan.chance, requests=plan.requests, seconds=plan.seconds) for plan in plans
            ]
        )

    async def RecordLabel(self, request: pb.RecordLabelRequest, context: Context) -> pb.RecordLabelResponse:
        """Tell what the right answer to one request was."""
        async with answering(context):
            model, (reception,) = await labelling.record(
                self._store,
                self._labels,
                model=request.model,
                recorded=[messages.label_of(request)],
                actor=actor_of(request.actor, context),
                clock=self._clock,
            )
        return pb.RecordLabelResponse(model=model.name, reception=reception)

    async def ImportLabels(
        self, request_iterator: AsyncIterator[pb.ImportLabelsRequest], context: Context
    ) -> pb.ImportLabelsResponse:
        """Record many labels."""
        receptions: Counter[str] = Counter()
        named, actor = "", ""
        async with answering(context):
            async for run in _runs(request_iterator, labelling.MOST_AT_ONCE):
                named, actor = named or run[0].model, actor or actor_of(run[0].actor, context)
                model, became = await labelling.record(
                    self._store,
                    self._labels,
                    model=named,
                    recorded=[messages.label_of(each) for each in run],
                    actor=actor,
                    clock=self._clock,
                )
                named = model.name
                receptions.update(became)
        return pb.ImportLabelsResponse(model=named, receptions=receptions)

    async def GetLabelTally(self, request: pb.GetLabelTallyRequest, context: Context) -> pb.GetLabelTallyResponse:
        """What became of a model's labels."""
        async with answering(context):
            model, tally = await labelling.tally(self._store, self._labels, model=request.model)
        return pb.GetLabelTallyResponse(model=model.name, terms=messages.label_terms_message(model.labels), **tally)

    async def ListComparisons(self, request: pb.ListComparisonsRequest, context: Context) -> pb.ListComparisonsResponse:
        """Stored comparisons for people to look at."""
        async with answering(context):
            lines = await reviewing.list_comparisons(
                self._store,
                self._reviews,
                model=request.model,
                version=request.version,
                experiment_id=request.experiment_id,
                agreeing=request.agreeing,
                most=request.most,
            )
        return pb.ListComparisonsResponse(comparisons=[review_messages.line_message(line) for line in lines])

    async def GetComparison(self, request: pb.GetComparisonRequest, context: Context) -> pb.GetComparisonResponse:
        """One stored comparison."""
        async with answering(context):
            found = await reviewing.get_comparison(self._reviews, request.id)
        return review_messages.comparison_response(found)

    async def RecordReview(self, request: pb.RecordReviewRequest, context: Context) -> pb.RecordReviewResponse:
        """Tell what somebody says of a candidate's answer."""
        async with answering(context):
            found, version = await reviewing.record_review(
                self._reviews,
                comparison_id=request.comparison_id,
                version=request.version,
                verdict=review_messages.verdict_of(request.verdict),
                actor=actor_of(request.actor, context),
            )
        return pb.RecordReviewResponse(model=found.epoch.model, version=version)

    async def Calibrate(self, request: pb.CalibrateRequest, context: Context) -> pb.CalibrateResponse:
        """Propose a threshold."""
        missed = request.missed or DEFAULT_MISSED
        alpha = request.alpha or comparison_report.DEFAULT_ALPHA
        async with answering(context):
            found = await calibrating.calibrate(
                self._store,
                model=request.model,
                experiment_id=request.experiment_id,
                version=request.version,
                missed=missed,
                alpha=alpha,
            )
        return review_messages.calibrate_response(found, missed=missed, alpha=alpha)

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.GetStatusResponse:  # noqa: ARG002  it is empty
        """How everything is."""
        async with answering(context):
            overview = await status.overview(self._store, self._backlog, clock=self._clock)
            on = await self._alarms.alarms()
            probes = await probing.list_probes(self._store, self._probes)
        return pb.GetStatusResponse(
            revision=overview.revision,
            models=[messages.model_message(view) for view in overview.models],
            processes=[messages.process_message(view) for view in overview.processes],
            log_messages_waiting=overview.waiting,
            warnings=self._warnings(),
            alarms=map(alarm_message, on),
            probes=[probe_messages.standing_message(view, with_answer=False) for view in probes],
        )


async def _runs(
    requests: AsyncIterator[pb.ImportLabelsRequest], most: int
) -> AsyncIterator[list[pb.ImportLabelsRequest]]:
    run: list[pb.ImportLabelsRequest] = []
    async for request in requests:
        run.append(request)
        if len(run) == most:
            yield run
            run = []
    if run:
        yield run
