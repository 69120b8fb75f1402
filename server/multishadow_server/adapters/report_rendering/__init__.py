"""Writes weekly reports: HTML for people, Markdown for chats and mails, JSON for programs and whoever checks."""

from __future__ import annotations

from multishadow_server.adapters.report_rendering.renderer import WeeklyReportRenderer

__all__ = ["WeeklyReportRenderer"]
