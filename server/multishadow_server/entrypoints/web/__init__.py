"""The web page: what shadowctl shows, to look at; under `/ui/` of control's HTTP.

Rendered on the server, of the same use cases as the control API. It works without scripts; htmx keeps what is shown
fresh, and uPlot draws what changes over time. Everything that a browser loads is in `static/`: nothing comes from
anywhere else, and the content security policy lets nothing else in.
"""
