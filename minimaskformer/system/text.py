"""Names from files as text that does nothing: in a terminal, in a table, on a page."""
import html
import unicodedata

UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Cs")  # Unicode's categories of what steers a terminal, or the direction of a line
JOINERS = "\u200c\u200d"  # parts of words, in Persian and Hindi among others


def plain(text):
    """A name on one line: line breaks, escape codes and marks that turn text around are written out, as in \\n."""
    return "".join(c if c in JOINERS or unicodedata.category(c) not in UNSEEN
                   else c.encode("unicode_escape").decode() for c in str(text))


def markdown(text):
    """A name in a cell of a Markdown table, which may become a page: no | ends the cell, no <tag> is a tag."""
    return html.escape(plain(text), quote=False).replace("|", r"\|")
