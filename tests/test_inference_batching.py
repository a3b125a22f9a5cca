"""Work of many lengths goes into few shapes, with as little padding as these allow, and nothing is left out."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from flanscale.inference.batching import fill, narrowest, widths
from flanscale.inference.prefixes import CHUNK, OVERHEAD, groups, saved

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_no_other_widths_pad_less(lengths: list[int], most: int) -> None:
    def padded(wide: list[int]) -> int:
        return sum(narrowest(length, wide) for length in lengths)

    found = widths(lengths, most, each=0)
    sizes = sorted({-(-length // 16) * 16 for length in lengths})
    choices = [sorted({*some, sizes[-1]}) for n in range(most) for some in itertools.combinations(sizes, n)]
    assert len(found) <= most
    assert padded(found) == min(map(padded, choices))


def test_a_width_more_must_be_worth_its_program() -> None:
    lengths = [10] * 50 + [100] * 50
    assert widths(lengths, 3, each=50 * 96 - 1) == [16, 112]
    assert widths(lengths, 3, each=50 * 96 + 1) == [112]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 20)), max_size=60), st.integers(50, 80), st.integers(20, 30)
)
@settings(max_examples=60, deadline=None)
def test_bins_hold_everything_once_and_no_more_than_they_can(
    sizes: list[tuple[int, int]], first: int, second: int
) -> None:
    bins = fill(sizes, (first, second))
    assert sorted(thing for each in bins for thing in each) == list(range(len(sizes)))
    for each in bins:
        assert sum(sizes[thing][0] for thing in each) <= first
        assert sum(sizes[thing][1] for thing in each) <= second


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=12)


@given(PROMPTS)
@settings(max_examples=80, deadline=None)
def test_prompts_of_a_group_begin_alike_and_every_prompt_is_in_one(prompts: list[list[int]]) -> None:
    long = [[token for token in prompt for _ in range(CHUNK)] for prompt in prompts]
    found = groups(long)
    assert sorted(member for group in found for member in group.members) == list(range(len(prompts)))
    for group in found:
        assert len({tuple(long[member][: group.length]) for member in group.members}) == 1
        assert all(len(long[member]) > group.length for member in group.members)


@given(PROMPTS)
@settings(max_examples=40, deadline=None)
def test_what_is_shared_saves_more_than_one_prefix_of_all_or_none(prompts: list[list[int]]) -> None:
    long = [[token for token in prompt for _ in range(CHUNK)] for prompt in prompts]
    gained = sum(saved(group.length, len(group.members)) - OVERHEAD for group in groups(long) if group.length)
    common = next((i for i, tokens in enumerate(zip(*long, strict=False)) if len(set(tokens)) > 1), min(map(len, long)))
    everybody = min(common, min(map(len, long)) - 1)
    assert gained >= max(0, saved(everybody, len(long)) - OVERHEAD if everybody else 0)


def test_a_prefix_that_saves_too_little_is_not_shared() -> None:
    prompts = [[*range(100), n] for n in range(3)]
    assert 3 * 100 - CHUNK < OVERHEAD
    assert [group.length for group in groups(prompts)] == [0]
    assert [group.length for group in groups([[*range(100), n] for n in range(30)])] == [100]


def test_the_order_of_the_prompts_changes_no_group() -> None:
    prompts = [[family, *range(300), n] for family in range(3) for n in range(9)]
    found = {(g.length, frozenset(tuple(prompts[m]) for m in g.members)) for g in groups(prompts)}
    turned = prompts[::-1]
    assert found == {(g.length, frozenset(tuple(turned[m]) for m in g.members)) for g in groups(turned)}
    assert {length for length, _ in found} == {301}
