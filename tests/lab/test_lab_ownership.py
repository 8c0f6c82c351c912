from lab.ownership import parse_table

HEAD = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   "
    "uid  timeout inode\n"
)


def row(local, remote, state="01", uid=10_101, inode=77):
    return (
        f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000 "
        f"{uid:5d}        0 {inode} 1 0 20 4 30 10 -1\n"
    )


def test_a_row_names_both_ends_and_the_owner():
    text = HEAD + row("0201A8C0:C350", "090200C0:01BB")
    assert parse_table(text) == [("192.168.1.2", 50_000, "192.0.2.9", 443, 10_101, 77)]


def test_an_ipv6_row_is_read_in_words_of_the_machine():
    text = HEAD + row(
        "B80D0120000000000000000001000000:C350", "B80D0120000000000000000002000000:01BB"
    )
    assert parse_table(text) == [("2001:db8::1", 50_000, "2001:db8::2", 443, 10_101, 77)]


def test_sockets_without_an_owner_or_a_far_end_are_left_out():
    text = (
        HEAD
        + row("0201A8C0:C350", "090200C0:01BB", state="06")
        + row("0201A8C0:C351", "090200C0:01BB", inode=0)
    )
    assert parse_table(text + row("00000000:01BB", "00000000:0000", state="0A")) == []
