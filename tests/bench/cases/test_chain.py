"""A checked five-node tick costs little more than the same accounting written by hand."""

from haihe.bench.cases.chain import measure


def test_the_compiled_chain_is_within_two_and_a_half_of_a_hand_written_loop() -> None:
    mine, theirs = measure()  # asserts that both counted the same
    print(f"{mine:.0f} ns compiled, {theirs:.0f} ns by hand, ratio {mine / theirs:.2f}")
    assert mine <= 2.5 * theirs
