"""A report as terminal text, Markdown, HTML, JUnit, OpenMetrics and what pipelines read."""
