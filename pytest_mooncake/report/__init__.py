"""Reports of a run: terminal, Markdown, HTML, JSON and what pipelines read, each a pure function of `Report`."""
