import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from apptell.labels.text_files import csv_records, text_lines


def test_a_line_break_in_quotes_belongs_to_its_field():
    assert list(csv_records(['a,"b', 'c",d', "e,f"])) == [["a", "b\nc", "d"], ["e", "f"]]


def test_a_quote_that_is_never_closed_costs_its_own_line_only():
    lines = ['a,"b', *[f"{i},x" for i in range(20)]]
    assert list(csv_records(lines)) == [["a", "b"], *[[str(i), "x"] for i in range(20)]]
    inches = ['10" screen,1', "b,2", '12" screen,3']
    assert list(csv_records(inches)) == [['10" screen', "1"], ["b", "2"], ['12" screen', "3"]]


@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_characters="\r\0"), max_size=5), min_size=2, max_size=4
        )
    )
)
def test_what_csv_wrote_is_read_back(rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    lines = out.getvalue().split("\n")[:-1]
    if max((cell.count("\n") for row in rows for cell in row), default=0) < 2:
        assert list(csv_records(lines)) == rows


def test_a_line_that_is_too_long_is_cut_and_the_next_one_is_whole(tmp_path):
    path = tmp_path / "x"
    path.write_text("a" * 1_000_000 + "\nb\r\n\u2028c\x0bd\n", newline="")
    first, second, third = text_lines(path)
    assert len(first) == 65_536
    assert (second, third) == ("b", "\u2028c\x0bd")
