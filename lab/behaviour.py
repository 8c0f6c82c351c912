"""Draws what a person does next, with sizes and pauses, from a seeded generator."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

WORDS = (
    "the", "a", "to", "and", "of", "in", "is", "it", "you", "that", "for", "on", "are", "with",
    "we", "this", "be", "have", "at", "not", "but", "so", "if", "they", "can", "do", "what",
    "there", "go", "how", "when", "one", "all", "would", "will", "my", "now", "see", "time",
    "know", "just", "up", "out", "time", "good", "new", "some", "could", "them", "no", "want",
    "come", "where", "home", "train", "late", "dinner", "tomorrow", "photo", "look", "maybe",
    "sorry", "thanks", "great", "meeting", "call", "soon", "kids", "weather", "bring", "milk",
)  # fmt: skip


@dataclass(frozen=True)
class Habits:
    """The distributions a session draws from; ``drifted`` moves them for another day."""

    text_median_chars: float = 42
    text_spread: float = 0.9
    picture_median_bytes: float = 60_000
    picture_spread: float = 0.8
    voice_bytes_per_s: float = 2_200
    file_median_bytes: float = 90_000
    pause_median_s: float = 0.55
    pause_spread: float = 1.0
    actions_mean: float = 4.5
    bare_share: float = 0.06
    """Share of sessions that connect, sign in and leave."""

    def drifted(self, day: int) -> Habits:
        """The habits ``day`` days later.

        Longer texts, bigger pictures, shorter visits, by a few per cent a day.
        """
        grow, shrink = 1.05**day, 0.97**day
        return Habits(
            text_median_chars=self.text_median_chars * grow,
            picture_median_bytes=self.picture_median_bytes * grow**2,
            file_median_bytes=self.file_median_bytes * grow,
            pause_median_s=self.pause_median_s * shrink,
            actions_mean=max(2.0, self.actions_mean * shrink),
        )


class Person:
    """Draws from ``Habits`` with one generator; every size in bytes, every time in seconds."""

    def __init__(self, seed: str, habits: Habits | None = None) -> None:
        self.random = random.Random(seed)
        self.habits = habits or Habits()

    def lognormal(self, median: float, spread: float, low: float, high: float) -> float:
        """A log-normal value around ``median``, kept within [low, high]."""
        return min(high, max(low, math.exp(self.random.gauss(math.log(median), spread))))

    def text(self) -> str:
        """A message of words."""
        h = self.habits
        n_chars = int(self.lognormal(h.text_median_chars, h.text_spread, 2, 1_200))
        words: list[str] = []
        while sum(map(len, words)) + len(words) < n_chars:
            words.append(self.random.choice(WORDS))
        return " ".join(words)[:n_chars] or "ok"

    def blob(self, n_bytes: float) -> bytes:
        """Bytes that do not compress, as those of a picture."""
        return self.random.randbytes(int(n_bytes))

    def picture(self) -> bytes:
        """A picture as a phone sends it."""
        h = self.habits
        return b"\xff\xd8\xff\xe0" + self.blob(
            self.lognormal(h.picture_median_bytes, h.picture_spread, 4_000, 400_000)
        )

    def thumbnail(self) -> bytes:
        """A small preview."""
        return b"\xff\xd8\xff\xe0" + self.blob(self.lognormal(4_000, 0.5, 900, 15_000))

    def voice(self) -> bytes:
        """A voice note: seconds of speech at a low bit rate."""
        return b"OggS" + self.blob(self.lognormal(5, 0.7, 1, 40) * self.habits.voice_bytes_per_s)

    def file(self) -> bytes:
        """A document."""
        return b"%PDF-1.7\n" + self.blob(
            self.lognormal(self.habits.file_median_bytes, 1.1, 2_000, 900_000)
        )

    def pause_s(self) -> float:
        """Between two actions."""
        return self.lognormal(self.habits.pause_median_s, self.habits.pause_spread, 0.03, 8)

    def idle_s(self) -> float:
        """A longer silence, in which keep-alives go by."""
        return self.lognormal(4, 0.6, 1, 15)

    def plan(self, weights: dict[str, float]) -> list[str]:
        """The actions of one session; empty for one that only connects and signs in."""
        if self.random.random() < self.habits.bare_share:
            return []
        n_actions = 1 + min(
            14, int(self.random.expovariate(1 / max(0.1, self.habits.actions_mean - 1)))
        )
        return self.random.choices(list(weights), list(weights.values()), k=n_actions)


def label(rng: random.Random) -> str:
    """A random host label."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
    middle = "".join(rng.choice(letters[:36]) for _ in range(rng.randint(2, 9)))
    return rng.choice(letters[:26]) + middle
