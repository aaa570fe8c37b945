"""Names from files stay text: on one line, in one cell, without control of a terminal."""
import pytest

from minimaskformer.data.classes import ClassTable
from minimaskformer.data.readers.label_maps import remap_table
from minimaskformer.evaluation import table
from minimaskformer.system.text import markdown, plain

HOSTILE = "a\nb\r\x1b[31m|<script>x</script>&\u202e"


def test_what_is_harmless_stays_and_what_controls_is_written_out():
    for name in ("traffic light", "\ud55c\uad6d", "e\u0301te\u0301", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "$x$ | <b>"):
        assert plain(name) == name
    assert plain(HOSTILE) == "a\\nb\\r\\x1b[31m|<script>x</script>&\\u202e"
    assert markdown("a|b<i>&") == r"a\|b&lt;i&gt;&amp;"


def test_tables_keep_one_row_for_each_class():
    classes = ClassTable((HOSTILE, "cat"), (False, True), (0, 1))
    figures = {"pq": 0.5, "sq": 0.5, "rq": 0.5}
    results = {"images": 1, "semantic": {"iou": [0.5, 0.25], "miou": 0.4}, "instance": {},
               "panoptic": {name: 0.5 for name in ("pq", "pq_things", "pq_stuff", "sq", "rq")} |
               {"per_class": {classes.names[0]: figures, "cat": figures}}}
    rows = [line for line in table(results, classes).splitlines() if " stuff " in line or " thing " in line]
    assert len(rows) == 2 and all(row.count("|") - row.count(r"\|") == 8 for row in rows)
    assert rows[0].endswith("| stuff | 50.0 | 50.0 | 50.0 | 50.0 | - |") and "<script>" not in rows[0]
    text = remap_table(classes)
    assert len(text.splitlines()) == 2 and "\x1b" not in text


@pytest.mark.parametrize("character", ["\x1b", "\x00", "\x07", "\x7f", "\x9b", "\u2028", "\u2066", "\ufeff"])
def test_no_control_character_passes(character):
    assert character not in plain(f"a{character}b") and plain(f"a{character}b").startswith("a\\")
