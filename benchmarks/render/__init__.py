"""From a comparison's results to a page: figures as SVG, the same text as Markdown and as HTML."""
