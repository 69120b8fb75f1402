"""The part of the control API that is about weekly reports and cost."""
# ruff: noqa: N802 — the methods' names are the protocol's

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import grpc.aio

from multishadow.v1 import reports_pb2 as pb
from multishadow.v1 import reports_pb2_grpc
from multishadow_server.entrypoints import cost_messages
from multishadow_server.entrypoints.answering import Context, answering
from multishadow_server.entrypoints.moments import moment
from multishadow_server.errors import InvalidInput
from multishadow_server.service import costs, weekly_reports
from multishadow_server.service.ports import ControlStore, KeptReport, ReportLine, ReportRenderer, WeeklyReportStore

SERVICE = pb.DESCRIPTOR.services_by_name["ReportService"].full_name


class ReportServicer(reports_pb2_grpc.ReportServiceServicer):
    """Answers ReportService.

    Args:
        store: where experiments and counts are.
        reports: where reports are kept.
        renderer: writes them.
        oldest_days: days for which a week's counts can be told apart.
        clock: the time, in seconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        store: ControlStore,
        reports: WeeklyReportStore,
        renderer: ReportRenderer,
        oldest_days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._reports = reports
        self._renderer = renderer
        self._oldest_days = oldest_days
        self._clock = clock

    @property
    def names(self) -> Sequence[str]:
        """Full name of the service."""
        return (SERVICE,)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let the server answer it."""
        reports_pb2_grpc.add_ReportServiceServicer_to_server(self, server)

    async def BuildWeeklyReport(
        self, request: pb.BuildWeeklyReportRequest, context: Context
    ) -> pb.BuildWeeklyReportResponse:
        """A report that is made anew."""
        async with answering(context):
            report = await weekly_reports.make(
                self._store,
                self._reports,
                self._renderer,
                model=request.model,
                week=request.week,
                oldest_days=self._oldest_days,
                now=self._clock(),
            )
            content = self._content(report, request.format)
        return pb.BuildWeeklyReportResponse(report=_line(report.line), content=content)

    async def ListWeeklyReports(
        self, request: pb.ListWeeklyReportsRequest, context: Context
    ) -> pb.ListWeeklyReportsResponse:
        """Those that are kept."""
        async with answering(context):
            page = await weekly_reports.page(
                self._store,
                self._reports,
                model=request.model,
                after_week=request.after_week,
                after_model=request.after_model,
                size=request.page_size,
            )
        return pb.ListWeeklyReportsResponse(reports=map(_line, page.lines), more=page.more)

    async def GetWeeklyReport(self, request: pb.GetWeeklyReportRequest, context: Context) -> pb.GetWeeklyReportResponse:
        """One that is kept."""
        async with answering(context):
            report = await weekly_reports.kept(self._store, self._reports, model=request.model, week=request.week)
            content = self._content(report, request.format)
        return pb.GetWeeklyReportResponse(report=_line(report.line), content=content)

    async def EstimateCost(self, request: pb.EstimateCostRequest, context: Context) -> pb.EstimateCostResponse:
        """What an experiment costs."""
        async with answering(context):
            found = await costs.estimate(
                self._store,
                self._reports,
                model=request.model,
                experiment_id=request.experiment_id,
                fractions=request.fractions,
                rps=request.rps if request.HasField("rps") else None,
                now=self._clock(),
            )
        return cost_messages.estimate_message(found)

    def _content(self, report: KeptReport, wanted: pb.ReportFormat.ValueType) -> str:
        """The report's text. Raises InvalidInput: there is no such form."""
        line, texts = report.line, report.texts
        match wanted:
            case pb.REPORT_FORMAT_HTML:
                return self._renderer.standalone(f"{line.model}, week {line.week}", texts.html)
            case pb.REPORT_FORMAT_JSON:
                return texts.document
            case pb.REPORT_FORMAT_MARKDOWN | pb.REPORT_FORMAT_UNSPECIFIED:
                return texts.markdown
            case _:
                raise InvalidInput("format: allowed are REPORT_FORMAT_HTML, REPORT_FORMAT_MARKDOWN, REPORT_FORMAT_JSON")


def _line(line: ReportLine) -> pb.WeeklyReportLine:
    return pb.WeeklyReportLine(
        model=line.model,
        week=str(line.week),
        starts_at=moment(line.week.starts_at),
        ends_at=moment(line.week.ends_at),
        built_at=moment(line.built_at),
        partial=line.built_at < line.week.ends_at,
        headline=line.headline,
    )
