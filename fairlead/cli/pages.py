"""Lists come in pages: the command line walks them, and says so where there is more than it shows."""

from collections.abc import Callable
from typing import TypeVar

from fairlead.answers import Page
from fairlead.errors import Failed

from .output import err, render

T = TypeVar("T")

_MOST = 1_000


def whole(ask: Callable[[str | None], Page[T]]) -> Page[T]:
    """All pages as one, `ask` being asked with the cursor of each; from 1,000 items on no further one, and `next` leads
    on. Raises Failed where a cursor leads back."""
    page = ask(None)
    items, seen = list(page.items), {page.next}
    for _ in range(_MOST):
        if page.next is None or len(items) >= _MOST:
            break
        page = ask(page.next)
        items += page.items
        if page.next in seen:
            raise Failed(f"the list leads back to its page {str(page.next)[:100]!r}")
        seen.add(page.next)
    return Page(items=items, next=page.next)


def render_list(page: Page[T], json: bool, table: Callable[[], None]) -> None:
    """A list in the form that was asked for."""
    render(page, json, table)
    if page.next is not None:
        err.print(f"This is not all, but {len(page.items)} of it: ask for less, or for more with --limit where it is.")
