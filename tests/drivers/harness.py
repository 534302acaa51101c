"""Properties every stream codec must have, for any codec: hand over a way to feed it chunks.

`feed(chunks)` runs the codec over the chunks in order, says that the stream has ended, and gives
the list of messages. `frames` are whole valid frames as bytes, one message each.
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Feed = Callable[[Iterable[bytes]], list[Any]]
VECTORS = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> list[dict[str, Any]]:
    """The vectors of a driver, as in `vectors("servo/sts")`; each must name its source."""
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())
    assert all(vector["source"] for vector in found)
    return found


def random_chunks(data: bytes, rng: random.Random, most: int = 7) -> list[bytes]:
    """The data cut at random places."""
    chunks = []
    at = 0
    while at < len(data):
        size = rng.randint(1, most)
        chunks.append(data[at : at + size])
        at += size
    return chunks


def messages_of(feed: Feed, frames: Sequence[bytes]) -> list[Any]:
    """One message per frame, each frame fed alone."""
    alone = [feed([frame]) for frame in frames]
    assert [len(found) for found in alone] == [1] * len(frames)
    return [found[0] for found in alone]


def lost(found: list[Any], expected: list[Any]) -> int:
    """How many expected messages are missing; found must be in order. Extra ones do not count."""
    rest = iter(found)
    missing = 0
    for message in expected:
        kept = list(rest)
        rest = iter(kept)
        if message in kept:
            rest = iter(kept[kept.index(message) + 1 :])
        else:
            missing += 1
    return missing


def check_chunking(feed: Feed, frames: Sequence[bytes], seed: int = 1) -> None:
    """Whole, byte by byte and cut at random: always the same messages."""
    stream = b"".join(frames)
    expected = messages_of(feed, frames)
    rng = random.Random(seed)
    assert feed([stream]) == expected
    assert feed([stream[i : i + 1] for i in range(len(stream))]) == expected
    for _ in range(50):
        assert feed(random_chunks(stream, rng)) == expected


def check_chunked_noise(feed: Feed, frames: Sequence[bytes], seed: int = 2) -> None:
    """A damaged stream gives the same messages however it is cut, and never raises."""
    rng = random.Random(seed)
    for _ in range(100):
        spoilt = bytearray(b"".join(frames))
        for _ in range(rng.randint(1, 6)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        data = bytes(spoilt)
        assert feed(random_chunks(data, rng)) == feed([data])


def check_garbage(feed: Feed, frames: Sequence[bytes], seed: int = 3) -> None:
    """Garbage before the stream costs at most the first frame."""
    expected = messages_of(feed, frames)
    rng = random.Random(seed)
    for _ in range(200):
        noise = rng.randbytes(rng.randint(1, 40))
        assert lost(feed([noise, *frames]), expected) <= 1
    for head in (frames[0][:n] for n in range(1, len(frames[0]))):
        assert lost(feed([head * 3, *frames]), expected) <= 1


def check_truncation(feed: Feed, frames: Sequence[bytes]) -> None:
    """A frame cut off anywhere costs itself and at most the one behind it."""
    expected = messages_of(feed, frames)
    for frame in frames:
        for size in range(len(frame)):
            assert lost(feed([frame[:size], *frames]), expected) <= 1
            assert lost(feed([*frames, frame[:size]]), expected) == 0


def check_bit_flips(feed: Feed, frames: Sequence[bytes]) -> None:
    """One wrong bit costs the frame it is in and no other, and is never taken for a message."""
    expected = messages_of(feed, frames)
    for index, found in enumerate(bit_flips(feed, frames)):
        others = expected[:index] + expected[index + 1 :]
        for bit, kept in enumerate(found):
            assert kept == others, f"frame {index}, bit {bit}"


def check_bit_flips_loosely(feed: Feed, frames: Sequence[bytes]) -> None:
    """For framings whose sum does not protect their length: one more frame may be lost, and one
    flip in a hundred may pass for a longer frame."""
    expected = messages_of(feed, frames)
    costs = [lost(kept, expected) for found in bit_flips(feed, frames) for kept in found]
    assert sum(cost > 2 for cost in costs) <= len(costs) / 100
    assert sum(cost > 1 for cost in costs) <= len(costs) / 20


def bit_flips(feed: Feed, frames: Sequence[bytes]) -> Iterable[list[list[Any]]]:
    """Per frame: the messages that are left for each single wrong bit in it."""
    for index, frame in enumerate(frames):
        found = []
        for bit in range(8 * len(frame)):
            spoilt = bytearray(frame)
            spoilt[bit >> 3] ^= 1 << (bit & 7)
            found.append(feed([*frames[:index], bytes(spoilt), *frames[index + 1 :]]))
        yield found
