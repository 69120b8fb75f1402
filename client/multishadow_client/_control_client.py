"""Control's client for threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar, cast

import grpc

from multishadow.v1 import (
    access_pb2,
    access_pb2_grpc,
    alarms_pb2,
    alarms_pb2_grpc,
    control_pb2,
    control_pb2_grpc,
    deadletters_pb2,
    deadletters_pb2_grpc,
    export_pb2,
    export_pb2_grpc,
    flags_pb2,
    flags_pb2_grpc,
    privacy_pb2,
    privacy_pb2_grpc,
    replay_pb2,
    replay_pb2_grpc,
    reports_pb2,
    reports_pb2_grpc,
    rollouts_pb2,
    rollouts_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    shadowing_pb2,
    shadowing_pb2_grpc,
    webhooks_pb2,
    webhooks_pb2_grpc,
)
from multishadow_client import _address
from multishadow_client._connection import Connection
from multishadow_client._frame_calls import FrameCalls
from multishadow_client._tls import Tls

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class ControlClient(Connection, FrameCalls):
    """What `shadowctl` calls: models, flags, experiments, reports, promotion, rollouts.

    Requests and responses are the messages of `multishadow.v1`'s `control_pb2`, `flags_pb2`, `rollouts_pb2` and
    `deadletters_pb2`, whose comments say what fields mean. What ends in `_frame` answers with a pandas data frame.

    Args:
        address: of control; a scheme may stand before it.
        timeout: seconds that a call may take.
        tls: connect over TLS.
        token: shown with every call, for a control that asks for one.

    Every method raises MultishadowError with the server's message.
    """

    def __init__(
        self,
        address: str = _address.CONTROL,
        *,
        timeout: float | None = 10.0,
        tls: Tls | None = None,
        token: str = "",
    ) -> None:
        super().__init__(address, default=_address.CONTROL, timeout=timeout, tls=tls, token=token)
        self._stub = control_pb2_grpc.ControlServiceStub(self._channel)
        self._flags = flags_pb2_grpc.FlagServiceStub(self._channel)
        self._rollouts = rollouts_pb2_grpc.RolloutServiceStub(self._channel)
        self._privacy = privacy_pb2_grpc.PrivacyServiceStub(self._channel)
        self._access = access_pb2_grpc.AccessServiceStub(self._channel)
        self._shadowing = shadowing_pb2_grpc.ShadowingServiceStub(self._channel)
        self._sessions = sessions_pb2_grpc.SessionServiceStub(self._channel)
        self._alarms = alarms_pb2_grpc.AlarmServiceStub(self._channel)
        self._replays = replay_pb2_grpc.ReplayServiceStub(self._channel)
        self._dead_letters = deadletters_pb2_grpc.DeadLetterServiceStub(self._channel)
        self._reports = reports_pb2_grpc.ReportServiceStub(self._channel)
        self._exports = export_pb2_grpc.ExportServiceStub(self._channel)
        self._webhooks = webhooks_pb2_grpc.WebhookServiceStub(self._channel)

    def apply_model(self, request: control_pb2.ApplyModelRequest) -> control_pb2.ApplyModelResponse:
        """Create or update a model and its versions; versions that are not named are left as they are."""
        return self._call(self._stub.ApplyModel, request)

    def list_models(self) -> control_pb2.ListModelsResponse:
        """Every model, with what is live."""
        return self._call(self._stub.ListModels, control_pb2.ListModelsRequest())

    def list_versions(self, model: str = "") -> control_pb2.ListVersionsResponse:
        """A model's versions; of all models when empty."""
        return self._call(self._stub.ListVersions, control_pb2.ListVersionsRequest(model=model))

    def list_flags(self, model: str = "") -> control_pb2.ListFlagsResponse:
        """A model's flags; of all models when empty."""
        return self._call(self._stub.ListFlags, control_pb2.ListFlagsRequest(model=model))

    def set_flag(self, request: control_pb2.SetFlagRequest) -> control_pb2.SetFlagResponse:
        """Set what one version claims."""
        return self._call(self._stub.SetFlag, request)

    def list_flag_definitions(
        self, request: flags_pb2.ListFlagDefinitionsRequest
    ) -> flags_pb2.ListFlagDefinitionsResponse:
        """Flags of any kind, by key."""
        return self._call(self._flags.ListFlagDefinitions, request)

    def get_flag_definition(self, request: flags_pb2.GetFlagDefinitionRequest) -> flags_pb2.GetFlagDefinitionResponse:
        """One flag, as it is or as it was."""
        return self._call(self._flags.GetFlagDefinition, request)

    def put_flags(self, request: flags_pb2.PutFlagsRequest) -> flags_pb2.PutFlagsResponse:
        """Create or change flags, all or none."""
        return self._call(self._flags.PutFlags, request)

    def delete_flags(self, request: flags_pb2.DeleteFlagsRequest) -> flags_pb2.DeleteFlagsResponse:
        """Remove flags, all or none; their history stays."""
        return self._call(self._flags.DeleteFlags, request)

    def list_flag_revisions(self, key: str) -> flags_pb2.ListFlagRevisionsResponse:
        """Everything that a flag ever said, newest first."""
        return self._call(self._flags.ListFlagRevisions, flags_pb2.ListFlagRevisionsRequest(key=key))

    def revert_flags(self, request: flags_pb2.RevertFlagsRequest) -> flags_pb2.RevertFlagsResponse:
        """Give flags back what they said at a revision."""
        return self._call(self._flags.RevertFlags, request)

    def import_flags(self, request: flags_pb2.ImportFlagsRequest) -> flags_pb2.ImportFlagsResponse:
        """Put the flags of a flagd document."""
        return self._call(self._flags.ImportFlags, request)

    def export_flags(self, request: flags_pb2.ExportFlagsRequest) -> flags_pb2.ExportFlagsResponse:
        """Flags as a flagd document."""
        return self._call(self._flags.ExportFlags, request)

    def stored_traffic(self, model: str = "") -> privacy_pb2.GetStoredTrafficResponse:
        """What is stored of a model's traffic, and in which form."""
        return self._call(self._privacy.GetStoredTraffic, privacy_pb2.GetStoredTrafficRequest(model=model))

    def apply_privacy(self, request: privacy_pb2.ApplyPrivacyRequest) -> privacy_pb2.ApplyPrivacyResponse:
        """Hold what is stored already to the model's present terms."""
        return self._call(self._privacy.ApplyPrivacy, request)

    def purge_stored(self, request: privacy_pb2.PurgeStoredRequest) -> privacy_pb2.PurgeStoredResponse:
        """Erase stored traffic."""
        return self._call(self._privacy.PurgeStored, request)

    def list_experiments(self, model: str = "") -> control_pb2.ListExperimentsResponse:
        """A model's experiments, newest first; of all models when empty."""
        return self._call(self._stub.ListExperiments, control_pb2.ListExperimentsRequest(model=model))

    def start_experiment(self, request: control_pb2.StartExperimentRequest) -> control_pb2.StartExperimentResponse:
        """Open a comparison and set the candidates' flags to `shadow`."""
        return self._call(self._stub.StartExperiment, request)

    def stop_experiment(self, request: control_pb2.StopExperimentRequest) -> control_pb2.StopExperimentResponse:
        """End the running experiment; its statistics stay."""
        return self._call(self._stub.StopExperiment, request)

    def compare(self, request: control_pb2.CompareRequest) -> control_pb2.CompareResponse:
        """Report on the experiment's present epoch."""
        return self._call(self._stub.Compare, request)

    def list_gates(self, request: control_pb2.ListGatesRequest) -> control_pb2.ListGatesResponse:
        """What has to hold before a candidate is promoted, and what of it does."""
        return self._call(self._stub.ListGates, request)

    def attest(self, request: control_pb2.AttestRequest) -> control_pb2.AttestResponse:
        """Put on record that somebody vouches for something about a candidate."""
        return self._call(self._stub.Attest, request)

    def waive_gate(self, request: control_pb2.WaiveGateRequest) -> control_pb2.WaiveGateResponse:
        """Let a candidate pass a gate; the reason is kept for ever."""
        return self._call(self._stub.WaiveGate, request)

    def plan_comparison(self, request: control_pb2.PlanComparisonRequest) -> control_pb2.PlanComparisonResponse:
        """How long it takes to prove a difference."""
        return self._call(self._stub.PlanComparison, request)

    def list_segments(self, request: control_pb2.ListSegmentsRequest) -> control_pb2.ListSegmentsResponse:
        """On which kinds of request a candidate diverges more, or less, often than on the rest."""
        return self._call(self._stub.ListSegments, request)

    def promote(self, request: control_pb2.PromoteRequest) -> control_pb2.PromoteResponse:
        """Make a version live by flipping its flag."""
        return self._call(self._stub.Promote, request)

    def rollback(self, request: control_pb2.RollbackRequest) -> control_pb2.RollbackResponse:
        """Take the last promotion back."""
        return self._call(self._stub.Rollback, request)

    def acknowledgement(self, model: str, revision: int) -> rollouts_pb2.GetAcknowledgementResponse:
        """Which routers act on a revision, and who answered live requests since."""
        request = rollouts_pb2.GetAcknowledgementRequest(model=model, revision=revision)
        return self._call(self._rollouts.GetAcknowledgement, request)

    def plan_rollout(self, wish: rollouts_pb2.RolloutWish) -> rollouts_pb2.PlanRolloutResponse:
        """What a staged rollout would be, and what stands in its way; it changes nothing."""
        return self._call(self._rollouts.PlanRollout, rollouts_pb2.PlanRolloutRequest(wish=wish))

    def start_rollout(self, wish: rollouts_pb2.RolloutWish) -> rollouts_pb2.StartRolloutResponse:
        """Begin a staged rollout."""
        return self._call(self._rollouts.StartRollout, rollouts_pb2.StartRolloutRequest(wish=wish))

    def get_rollout(self, model: str = "", rollout_id: int = 0) -> rollouts_pb2.GetRolloutResponse:
        """Where a rollout stands, what its guardrails say, and what comes next."""
        return self._call(self._rollouts.GetRollout, rollouts_pb2.GetRolloutRequest(model=model, id=rollout_id))

    def list_rollouts(self, model: str = "") -> rollouts_pb2.ListRolloutsResponse:
        """A model's rollouts, newest first; of all models when empty."""
        return self._call(self._rollouts.ListRollouts, rollouts_pb2.ListRolloutsRequest(model=model))

    def pause_rollout(self, request: rollouts_pb2.PauseRolloutRequest) -> rollouts_pb2.PauseRolloutResponse:
        """Let a rollout stay at its stage; a severe breach still aborts it."""
        return self._call(self._rollouts.PauseRollout, request)

    def resume_rollout(self, request: rollouts_pb2.ResumeRolloutRequest) -> rollouts_pb2.ResumeRolloutResponse:
        """Go on with a paused rollout."""
        return self._call(self._rollouts.ResumeRollout, request)

    def step_rollout(self, request: rollouts_pb2.StepRolloutRequest) -> rollouts_pb2.StepRolloutResponse:
        """Go to a rollout's next stage now."""
        return self._call(self._rollouts.StepRollout, request)

    def abort_rollout(self, request: rollouts_pb2.AbortRolloutRequest) -> rollouts_pb2.AbortRolloutResponse:
        """End a rollout: the flags say again what they said before it."""
        return self._call(self._rollouts.AbortRollout, request)

    def pause_shadowing(self, request: shadowing_pb2.PauseShadowingRequest) -> shadowing_pb2.PauseShadowingResponse:
        """Let nobody call a version as a shadow."""
        return self._call(self._shadowing.PauseShadowing, request)

    def resume_shadowing(self, request: shadowing_pb2.ResumeShadowingRequest) -> shadowing_pb2.ResumeShadowingResponse:
        """End the pause of a version."""
        return self._call(self._shadowing.ResumeShadowing, request)

    def list_alarms(self, model: str = "") -> alarms_pb2.ListAlarmsResponse:
        """The alarms that are on; of all models when empty."""
        return self._call(self._alarms.ListAlarms, alarms_pb2.ListAlarmsRequest(model=model))

    def list_alarm_history(self, model: str = "", *, most: int = 0) -> alarms_pb2.ListAlarmHistoryResponse:
        """Alarms on or over, newest first."""
        request = alarms_pb2.ListAlarmHistoryRequest(model=model, most=most)
        return self._call(self._alarms.ListAlarmHistory, request)

    def acknowledge_alarms(self, request: alarms_pb2.AcknowledgeAlarmsRequest) -> alarms_pb2.AcknowledgeAlarmsResponse:
        """Put on record that somebody knows of alarms."""
        return self._call(self._alarms.AcknowledgeAlarms, request)

    def list_probes(self, model: str = "") -> alarms_pb2.ListProbesResponse:
        """How every version stands with every probe; of all models when empty."""
        return self._call(self._alarms.ListProbes, alarms_pb2.ListProbesRequest(model=model))

    def list_probe_changes(
        self, model: str, *, version: str = "", most: int = 0
    ) -> alarms_pb2.ListProbeChangesResponse:
        """What became of a model's probes, newest first."""
        request = alarms_pb2.ListProbeChangesRequest(model=model, version=version, most=most)
        return self._call(self._alarms.ListProbeChanges, request)

    def record_label(self, request: control_pb2.RecordLabelRequest) -> control_pb2.RecordLabelResponse:
        """Tell what the right answer to one request was."""
        return self._call(self._stub.RecordLabel, request)

    def import_labels(self, requests: Iterator[control_pb2.ImportLabelsRequest]) -> control_pb2.ImportLabelsResponse:
        """Tell the right answers of many requests; it takes as long as there are requests.

        What `requests` raises is raised here.
        """
        failed: list[Exception] = []

        def guarded() -> Iterator[control_pb2.ImportLabelsRequest]:
            # gRPC reads them in a thread of its own, and would only log what they raise.
            try:
                yield from requests
            except Exception as error:  # noqa: BLE001  raised again below
                failed.append(error)
                call.cancel()

        call = self._stub.ImportLabels.future(guarded())
        try:
            return call.result()
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if failed:
                raise failed[0] from None
            raise self._error(cast("grpc.RpcError", call)) from error

    def label_tally(self, model: str = "") -> control_pb2.GetLabelTallyResponse:
        """What became of a model's labels."""
        return self._call(self._stub.GetLabelTally, control_pb2.GetLabelTallyRequest(model=model))

    def list_comparisons(self, request: control_pb2.ListComparisonsRequest) -> control_pb2.ListComparisonsResponse:
        """Stored comparisons for people to look at, the least similar answers first."""
        return self._call(self._stub.ListComparisons, request)

    def get_comparison(self, comparison_id: int) -> control_pb2.GetComparisonResponse:
        """One stored comparison with everything that was kept of it."""
        return self._call(self._stub.GetComparison, control_pb2.GetComparisonRequest(id=comparison_id))

    def record_review(self, request: control_pb2.RecordReviewRequest) -> control_pb2.RecordReviewResponse:
        """Tell which of two answers is better."""
        return self._call(self._stub.RecordReview, request)

    def list_answers(self, request: export_pb2.ListAnswersRequest) -> export_pb2.ListAnswersResponse:
        """A page of stored answers, without their payloads."""
        return self._call(self._exports.ListAnswers, request)

    def get_answers(self, comparison_id: int) -> export_pb2.GetAnswersResponse:
        """The answers of one stored comparison, with their payloads."""
        return self._call(self._exports.GetAnswers, export_pb2.GetAnswersRequest(comparison_id=comparison_id))

    def export(self, request: export_pb2.ExportRequest) -> Iterator[export_pb2.ExportResponse]:
        """Stored answers with their payloads, oldest first; takes as long as there are any.

        The last response has no answer, and the cursor after which a later export goes on.
        """
        call = self._exports.Export(request)
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._error(error) from error
        finally:
            call.cancel()

    def list_sessions(self, request: sessions_pb2.ListSessionsRequest) -> sessions_pb2.ListSessionsResponse:
        """Stored sessions in which a candidate was bad, the newest first."""
        return self._call(self._sessions.ListSessions, request)

    def get_session(self, request: sessions_pb2.GetSessionRequest) -> sessions_pb2.GetSessionResponse:
        """The stored turns of one session, in order."""
        return self._call(self._sessions.GetSession, request)

    def calibrate(self, request: control_pb2.CalibrateRequest) -> control_pb2.CalibrateResponse:
        """Propose a threshold, from answers that labels or people told apart."""
        return self._call(self._stub.Calibrate, request)

    def replay(self, requests: Iterator[replay_pb2.ReplayRequest]) -> Iterator[replay_pb2.ReplayResponse]:
        """Send requests again; takes as long as that does. Whoever stops reading ends the replay.

        What `requests` raises is raised here.
        """
        failed: list[Exception] = []

        def guarded() -> Iterator[replay_pb2.ReplayRequest]:
            # gRPC reads them in a thread of its own, and would only log what they raise.
            try:
                yield from requests
            except Exception as error:  # noqa: BLE001  raised again below
                failed.append(error)
                call.cancel()

        call = self._replays.Replay(guarded())
        try:
            yield from call
        except grpc.RpcError as error:
            if failed:
                raise failed[0] from None
            raise self._error(error) from error
        finally:
            call.cancel()

    def list_dead_letters(
        self, request: deadletters_pb2.ListDeadLettersRequest
    ) -> deadletters_pb2.ListDeadLettersResponse:
        """A page of shadow calls that failed, newest first."""
        return self._call(self._dead_letters.ListDeadLetters, request)

    def get_dead_letter(self, letter_id: int) -> deadletters_pb2.GetDeadLetterResponse:
        """One dead letter with its payload."""
        return self._call(self._dead_letters.GetDeadLetter, deadletters_pb2.GetDeadLetterRequest(id=letter_id))

    def count_dead_letters(self, filter_: deadletters_pb2.DeadLetterFilter) -> deadletters_pb2.CountDeadLettersResponse:
        """How many dead letters there are, by model, version and state."""
        request = deadletters_pb2.CountDeadLettersRequest(filter=filter_)
        return self._call(self._dead_letters.CountDeadLetters, request)

    def retry_dead_letters(
        self, request: deadletters_pb2.RetryDeadLettersRequest
    ) -> deadletters_pb2.RetryDeadLettersResponse:
        """Have workers try dead letters once more, now."""
        return self._call(self._dead_letters.RetryDeadLetters, request)

    def purge_dead_letters(
        self, request: deadletters_pb2.PurgeDeadLettersRequest
    ) -> deadletters_pb2.PurgeDeadLettersResponse:
        """Delete some hundreds of dead letters; again while `more` is true."""
        return self._call(self._dead_letters.PurgeDeadLetters, request)

    def build_weekly_report(
        self, request: reports_pb2.BuildWeeklyReportRequest
    ) -> reports_pb2.BuildWeeklyReportResponse:
        """The report on a week, made anew."""
        return self._call(self._reports.BuildWeeklyReport, request)

    def list_weekly_reports(
        self, request: reports_pb2.ListWeeklyReportsRequest
    ) -> reports_pb2.ListWeeklyReportsResponse:
        """Reports that were made by schedule, the newest week first."""
        return self._call(self._reports.ListWeeklyReports, request)

    def get_weekly_report(self, request: reports_pb2.GetWeeklyReportRequest) -> reports_pb2.GetWeeklyReportResponse:
        """A report that was made by schedule, as it was made then."""
        return self._call(self._reports.GetWeeklyReport, request)

    def estimate_cost(self, request: reports_pb2.EstimateCostRequest) -> reports_pb2.EstimateCostResponse:
        """What an experiment costs, at its share of the requests and at others."""
        return self._call(self._reports.EstimateCost, request)

    def create_webhook(self, request: webhooks_pb2.CreateWebhookRequest) -> webhooks_pb2.CreateWebhookResponse:
        """Make a webhook; its secret is in this answer and nowhere else."""
        return self._call(self._webhooks.CreateWebhook, request)

    def list_webhooks(self) -> webhooks_pb2.ListWebhooksResponse:
        """Webhooks by name."""
        return self._call(self._webhooks.ListWebhooks, webhooks_pb2.ListWebhooksRequest())

    def get_webhook(self, name: str) -> webhooks_pb2.GetWebhookResponse:
        """One webhook."""
        return self._call(self._webhooks.GetWebhook, webhooks_pb2.GetWebhookRequest(name=name))

    def test_webhook(self, request: webhooks_pb2.TestWebhookRequest) -> webhooks_pb2.TestWebhookResponse:
        """Send it a test now, and tell what came back."""
        return self._call(self._webhooks.TestWebhook, request)

    def rotate_webhook_secret(
        self, request: webhooks_pb2.RotateWebhookSecretRequest
    ) -> webhooks_pb2.RotateWebhookSecretResponse:
        """Give a webhook another secret."""
        return self._call(self._webhooks.RotateWebhookSecret, request)

    def delete_webhook(self, request: webhooks_pb2.DeleteWebhookRequest) -> webhooks_pb2.DeleteWebhookResponse:
        """End a webhook, with everything that waits for it."""
        return self._call(self._webhooks.DeleteWebhook, request)

    def list_deliveries(self, request: webhooks_pb2.ListDeliveriesRequest) -> webhooks_pb2.ListDeliveriesResponse:
        """A page of what was sent to webhooks, newest first."""
        return self._call(self._webhooks.ListDeliveries, request)

    def retry_deliveries(self, request: webhooks_pb2.RetryDeliveriesRequest) -> webhooks_pb2.RetryDeliveriesResponse:
        """Send those again that were given up."""
        return self._call(self._webhooks.RetryDeliveries, request)

    def status(self) -> control_pb2.GetStatusResponse:
        """What is live now, and how the processes are."""
        return self._call(self._stub.GetStatus, control_pb2.GetStatusRequest())

    def create_token(self, request: access_pb2.CreateTokenRequest) -> access_pb2.CreateTokenResponse:
        """Make a token; its text is in this answer and nowhere else."""
        return self._call(self._access.CreateToken, request)

    def list_tokens(self, *, all_of_them: bool = False) -> access_pb2.ListTokensResponse:
        """Tokens in order of creation; those that were revoked only with `all_of_them`."""
        return self._call(self._access.ListTokens, access_pb2.ListTokensRequest(all=all_of_them))

    def rotate_token(self, request: access_pb2.RotateTokenRequest) -> access_pb2.RotateTokenResponse:
        """Give a token another secret; the present one stays good for a while."""
        return self._call(self._access.RotateToken, request)

    def revoke_token(self, request: access_pb2.RevokeTokenRequest) -> access_pb2.RevokeTokenResponse:
        """End a token."""
        return self._call(self._access.RevokeToken, request)

    def caller(self) -> access_pb2.GetCallerResponse:
        """Who asks, as control sees them."""
        return self._call(self._access.GetCaller, access_pb2.GetCallerRequest())

    def list_audit(self, request: access_pb2.ListAuditRequest) -> access_pb2.ListAuditResponse:
        """A page of the audit log."""
        return self._call(self._access.ListAudit, request)

    def _call(self, method: grpc.UnaryUnaryMultiCallable[_Request, _Response], request: _Request) -> _Response:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._error(error) from error
