"""HTML by function calls. Text is escaped unless it is `Html`, which only these functions and their callers make."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

_VOID = frozenset({"img", "input", "meta", "br"})


class Html(str):
    """Text that is HTML already."""


Content = str | Iterable[str] | None


def text(content: Content) -> Html:
    """Escape text; join what is iterable, leave HTML as it is."""
    if content is None:
        return Html("")
    if isinstance(content, Html):
        return content
    if isinstance(content, str):
        return Html(html.escape(content))
    return Html("".join(text(part) for part in content))


def tag(name: str, content: Content = None, /, **attributes: str | None) -> Html:
    """Return an element. `class_` and `for_` stand for Python's words; an attribute that is None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>" + ("" if name in _VOID else f"{text(content)}</{name}>"))


def section(anchor: str, title: str, *content: Content) -> Html:
    """Return a section of the page with its heading."""
    return tag("section", [tag("h2", title), *(text(part) for part in content)], id=anchor)


def paragraph(content: Content, class_: str | None = None) -> Html:
    return tag("p", content, class_=class_)


def absent(reason: str) -> Html:
    """Say that something is not there, and why."""
    return paragraph(reason, "absent")


def items(entries: Iterable[Content]) -> Html:
    return tag("ul", [tag("li", entry) for entry in entries])


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[Content]],
    words: frozenset[int] = frozenset({0}),
    stacked: bool = False,
) -> Html:
    """Return a table that scrolls sideways where it is too wide.

    Args:
        header: of the columns.
        rows: as many cells each.
        words: the columns that are not aligned as numbers.
        stacked: on a phone each row becomes a block with the header's words beside its cells: for few columns of text.
    """

    def cell(kind: str, content: Content, column: int, label: str | None = None) -> Html:
        return tag(kind, content, class_=None if column in words else "number", data_label=label)

    head = tag("tr", [cell("th", content, at) for at, content in enumerate(header)])
    body = [
        tag("tr", [cell("td", content, at, header[at] if stacked else None) for at, content in enumerate(row)])
        for row in rows
    ]
    whole = tag("table", [tag("thead", head), tag("tbody", body)], class_="stacked" if stacked else None)
    return tag("div", whole, class_="scroll", tabindex="0")


def details(summary: Content, *content: Content, long: bool = False) -> Html:
    """Return what is folded away on the screen; unless it is `long`, it is unfolded in print."""
    return tag("details", [tag("summary", summary), *(text(part) for part in content)], class_="long" if long else None)


def picture(data: bytes, alt: str, caption: Content, wide: int = 0) -> Html:
    """Return a figure with the picture in the page itself.

    Args:
        data: PNG or SVG.
        alt: what it shows, for those who cannot see it.
        caption: what stands below it.
        wide: its width in pixels, for one that would be unreadable on a phone unless it scrolls sideways.
    """
    kind = "image/png" if data.startswith(b"\x89PNG") else "image/svg+xml"
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    shown = tag("img", src=source, alt=alt)
    if not wide:
        return tag("figure", [shown, tag("figcaption", caption)])
    inside = tag("div", shown, class_="scroll wide", tabindex="0")
    return tag("figure", [inside, tag("figcaption", caption)], style=f"max-width:{wide}px")


def grid(figures: Sequence[Html]) -> Html:
    """Put figures side by side where there is room."""
    return tag("div", figures, class_="grid")
