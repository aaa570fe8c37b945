"""Text that others wrote: what is shown, what is read, and which names are refused."""
import json

import pytest

from minimaskformer.commands import cli
from minimaskformer.system.text import check_inside, parse_json, printable


@pytest.mark.parametrize("text, shown", [
    ("sheep", "sheep"), ("山, élan 🐑", "山, élan 🐑"), ("\x1b[31mred\x1b[2J", r"\x1b[31mred\x1b[2J"), ("a\nb\tc\rd", r"a\nb\tc\rd"),
    ("\u202egpj", r"\u202egpj"), ("\x07\x00\x9b", r"\x07\x00\x9b"), ("\ud800", r"\ud800"), ("x" * 500, "x" * 197 + "..."), (7, "7"),
])
def test_control_characters_are_spelt_out(text, shown):
    assert printable(text) == shown


def test_our_own_lines_stay():
    assert printable("one\n\ttwo\x1b" + "x" * 500, lines=True) == "one\n\ttwo" + r"\x1b" + "x" * 500


@pytest.mark.parametrize("text, message", [
    ("[" * 100_000, "nested too deeply"), ('{"a":' * 100_000, "nested too deeply"), ("[NaN]", "NaN"), ("[-Infinity]", "Infinity"),
    ("[1e400]", "1e400"), ("[-1E+999]", "too large"), ("[" + "9" * 400 + ".0]", "too large"), ("[" + "9" * 5000 + "]", "digits"), ("{", "not valid JSON"),
])
def test_a_json_of_nonsense_is_a_sentence(text, message):
    with pytest.raises(ValueError, match=f"^here.*{message}"):
        parse_json(text, "here")


@pytest.mark.parametrize("content", [{"a": [1, 2.5, -1e30, "1e400", "NaN", None, True]}, [1e-320, 1e300], "x"])
def test_a_good_json_is_what_python_reads(content):
    assert parse_json(json.dumps(content), "here") == content


def test_a_log_may_hold_what_is_no_number():
    row = parse_json('{"a": NaN, "b": Infinity, "c": 1e400}', "here", finite=False)
    assert row["a"] != row["a"] and row["b"] == row["c"] == float("inf")


@pytest.mark.parametrize("name", ["a.png", "x/y/a.png", "a..b.png", "é/山.jpg", "..a.png", "a b.png"])
def test_names_inside(name):
    assert check_inside(name, "here") == name


@pytest.mark.parametrize("name", ["..", "../a", "x/..", "x/../../a", "/a", "C:/a", "C:a", "\\a", "..\\a", "x\\..\\a", "\\\\host\\share\\a", "", "a\0b"])
def test_names_that_lead_out(name):
    with pytest.raises(ValueError, match="^here: .*leads out"):
        check_inside(name, "here")


def test_an_error_of_the_command_line_stays_text(capsys):
    assert cli.main(["evaluate", "no\x1b[2Jsuch"]) == 1
    assert r"no\x1b[2Jsuch" in capsys.readouterr().err
