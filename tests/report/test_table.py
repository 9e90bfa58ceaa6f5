"""The tables for a paper have the numbers of the page, and emphasize only what the test shows."""

import csv
import re
import subprocess
from dataclasses import replace
from html import unescape
from shutil import which

import pytest
from markdown_it import MarkdownIt

from ambi_eval.analysis.estimate import Estimate
from ambi_eval.errors import AmbiError
from ambi_eval.report import table
from ambi_eval.report.columns import PAPER
from ambi_eval.report.commands import report
from ambi_eval.report.page import render


@pytest.fixture(scope="module")
def section(content):
    return content.sections[0]


def written(content, path):
    table.write_tables(content, path)
    return path.read_text(encoding="utf-8")


def cells_of_page(content, number):
    """The texts of a table of the page by system and column, a value and its interval together."""
    html = re.search(rf'<table[^>]*id="{number}">.*?</table>', render(content), re.DOTALL)[0]
    titles = [
        unescape(re.sub(r"<small>.*?</small>|<[^>]+>", "", t)) for t in re.findall(r"<th scope=.col.*?</th>", html)
    ]
    found = {}
    for row in re.findall(r"<tr>(<th scope=.row.*?)</tr>", html, re.DOTALL):
        name = unescape(re.search(r"<span[^>]*>(.*?)</span>", row)[1]) if "<span" in row else None
        cells = [
            unescape(each.replace("<small>", " ").replace("</small>", ""))
            for each in re.findall("<td[^>]*>(.*?)</td>", row)
        ]
        found |= {(name, title): cell for title, cell in zip(titles[1:], cells, strict=True)}
    return found


def test_each_cell_of_markdown_is_the_cell_of_the_page(content, section, tmp_path):
    page = cells_of_page(content, "scores1") | cells_of_page(content, "against-best1")
    text = MarkdownIt().enable("table").render(written(content, tmp_path / "t.md"))
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", text, re.DOTALL)]
    shown = {unescape(row[0]).removesuffix(" †"): row[1:] for row in rows if len(row) == len(PAPER) + 1}
    assert len(shown) == len(section.systems) + len(section.controls) + len(section.references)
    for system in section.systems:
        for column, cell in zip(PAPER, shown[system.full_name], strict=True):
            assert re.sub("</?strong>", "", cell) == page.get((system.full_name, column.title), "\N{EN DASH}")


def test_latex_has_the_numbers_of_markdown_and_a_cell_for_each_column(content, tmp_path):
    text, other = written(content, tmp_path / "t.tex"), written(content, tmp_path / "t.md")
    body = re.findall(r"\\toprule.*?\\bottomrule", text, re.DOTALL)
    assert text.count(r"\resizebox") == len(body)
    assert re.findall(r"\d+\.\d+", "".join(body)) != []
    assert sorted(re.findall(r"\d+\.\d+", "".join(body))) == sorted(
        re.findall(r"\d+\.\d+", "".join(line for line in other.splitlines() if line.startswith("|")))
    )
    for part in body:
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in part.splitlines() if line.endswith(r"\\")}) == 1
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"weak\textless{}model\textgreater{}" in text


def test_csv_has_full_precision_and_both_ends(content, section, tmp_path):
    rows = list(csv.DictReader(written(content, tmp_path / "t.csv").splitlines()))
    of_systems = {row["system"]: row for row in rows if row["kind"] == "system"}
    assert len(of_systems) == len(section.systems)
    for system in section.systems:
        row, score, in_bin = of_systems[system.full_name], system.scores["jsd_bits"], system.held_out[1].model
        assert [float(row[f"JSD, bits{end}"]) for end in ("", " low", " high")] == [score.value, score.low, score.high]
        assert float(row[f"JSD by ambiguity, {section.bins[0].name}"]) == in_bin.value
    people = next(row for row in rows if row["system"] == "half panel")
    assert float(people["JSD by ambiguity, all clips"]) == section.systems[0].held_out[0].human.value


def compared(section, *pairs):
    """The best system, and others with this p-value and this lower end of the difference from it."""
    best, *others = section.systems[: len(pairs) + 1]
    said = [
        replace(y, against_best=replace(y.against_best, p_corrected=p, difference=Estimate(0.1, low, 0.2)))
        for y, (p, low) in zip(others, pairs, strict=True)
    ]
    return replace(section, systems=[best, *said])


@pytest.mark.parametrize(
    ("pairs", "bold", "daggers"),
    [
        ([(0.01, 0.01), (0.05, 0.05)], 1, 0),
        ([(0.051, 0.01), (0.01, 0.05)], 0, 2),
        ([(0.01, -0.01), (0.01, 0.05)], 0, 2),
        ([], 0, 0),
    ],
)
def test_only_a_lead_over_every_other_system_is_bold(section, pairs, bold, daggers):
    found = table.tables(compared(section, *pairs))
    assert table.latex(found).count(r"\textbf") == bold
    assert table.latex(found).count(r"$^\dagger$") == daggers
    assert len(re.findall(r"\| \*\*|\*\* \|", table.markdown(found))) == 2 * bold


def test_warnings_are_in_the_caption_and_in_each_row(section):
    found = table.tables(replace(section, simulated=True, partial=["5 of 48 clips are scored."]))
    assert table.latex(found).count("PARTIAL: 5 of 48 clips are scored.") == 2
    assert all("SIMULATED" in row["note"] for row in csv.DictReader(table.as_csv(found).splitlines()))


def test_two_sections_of_one_corpus_stay_apart(section):
    found = [*table.tables(section), *table.tables(replace(section, clips=12))]
    labels = re.findall(r"\\label\{(.*?)\}", table.latex(found))
    assert len(labels) == len(set(labels)) == 4
    rows = list(csv.DictReader(table.as_csv(found).splitlines()))
    assert [sum(row["clips"] == clips for row in rows) for clips in ("48", "12")] == [len(rows) / 2] * 2


def test_names_cannot_break_latex():
    assert table._tex(r"[a]_b\c^{1}~50 %&#$ -0.5 v-1") == (
        r"[a]\_b\textbackslash{}c\textasciicircum{}\{1\}\textasciitilde{}50 \%\&\#\$ $-$0.5 v-1"
    )


def test_letters_that_latex_refuses_become_question_marks():
    assert table._tex("Müllers čaj: \ufffd\x02 злость โกรธ 😀 ế") == "Müllers čaj: ?? ?????? ???? ? ?"


def test_letters_that_look_plain_but_that_latex_lacks_become_question_marks():
    assert table._tex("ąğıơỏşǹ≠\N{KELVIN SIGN}\N{ANGSTROM SIGN}ż") == "?ğı??ş????ż"


@pytest.mark.skipif(not which("pdflatex"), reason="pdflatex is not installed")
def test_pdflatex_has_every_letter_that_is_written(tmp_path):
    letters = {table._tex(chr(code)) for code in range(0x20, 0x3000)}
    lines = ["\\documentclass{article}", "\\begin{document}", *sorted(letters), "\\end{document}"]
    (tmp_path / "letters.tex").write_text("\n\n".join(lines))
    command = ["pdflatex", "-halt-on-error", "-draftmode", "letters.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-1000:].decode(errors="replace")
    assert len(letters) > 200


def test_latex_says_which_letters_of_names_it_lacks(section):
    plain, thai = (table.latex(table.tables(replace(section, corpus=name))) for name in ("café łódź", "ไทย 感情 X"))
    assert "% pdfLaTeX" not in plain
    letters = "".join(sorted("ไทย感情"))
    said = f"% pdfLaTeX has no {letters}: they are ? here, and as they should be in --table FILE.md"
    assert thai.splitlines()[1] == said
    assert thai.count("??? ?? X, 48 clips") == 2


def test_an_interval_without_an_end_is_inf_and_an_unknown_one_is_empty():
    open_, unknown = Estimate(12.0, 10.7, float("inf")), Estimate(0.5, float("nan"), float("nan"))
    assert list(table._numbers("x", open_, ends=True).values()) == [12.0, 10.7, float("inf")]
    assert list(table._numbers("x", unknown, ends=True).values()) == [0.5, "", ""]


def test_another_ending_is_refused_before_any_run_is_read(tmp_path):
    with pytest.raises(AmbiError, match=r"t\.xlsx: its ending says the format, and must be one of \.tex, \.md, \.csv"):
        report([tmp_path / "no_run"], table_file=tmp_path / "t.xlsx")
