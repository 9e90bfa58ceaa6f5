from ambi_eval.sampling.keys import row_key


def test_a_row_key_depends_on_every_part_and_is_the_same_everywhere():
    assert row_key(1234, "model", "prompt", 0) == 4481700184787811378
    assert len({row_key(1, "a"), row_key(1, "b"), row_key(2, "a"), row_key("1a"), row_key("", 1, "a")}) == 5
