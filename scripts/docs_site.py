"""What `make docs` changes on a page before it is built (mkdocs.yml: hooks)."""

import re


def on_page_markdown(markdown: str, **_: object) -> str:
    """Bullets under a numbered point, which the studies' reports indent by three spaces as Markdown asks, are indented
    by the four that Python-Markdown asks. Without this they would become numbered points themselves."""
    return re.sub(r"^ {3}(?=- )", " " * 4, markdown, flags=re.MULTILINE)
