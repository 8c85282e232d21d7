"""Makes clips with known motion from photos, for `benchmarks/film.py`."""

from dataclasses import dataclass, field

import cv2
import numpy as np

HEIGHT, WIDTH = 180, 240
RATE = 25
# The visible part of a photo, from far and from near; and the rotation, in radians.
WIDE, NEAR, TURN = 0.8, 0.55, 0.05
# Prefixes of the names of photos of streets, and of people.
STREETS = ("camvid", "graz", "street")
PEOPLE = ("idenprof", "children", "lfw", "celeb", "face", "astronaut")


@dataclass
class Clip:
    """Frames of known colors and motion.

    Attributes:
        frames: uint8 RGB, (HEIGHT, WIDTH, 3).
        back: for each frame, each pixel's place (x, y) in the previous frame, float32
            (HEIGHT, WIDTH, 2), NaN where it was not visible; None after a cut.
    """

    frames: list = field(default_factory=list, repr=False)
    back: list = field(default_factory=list, repr=False)


class View:
    """A photo seen through a window that moves.

    Args:
        photo: uint8 RGB.
        zoom: whether the window zooms in and rotates a little.
        pan: the part of the space around the window that it crosses.
    """

    def __init__(self, photo, zoom=True, pan=0.7):
        self.photo, self._zoom, self._pan = photo, zoom, pan

    def _matrix(self, t):
        height, width = self.photo.shape[:2]
        share = WIDE + (t * (NEAR - WIDE) if self._zoom else 0)
        angle = TURN * t if self._zoom else 0
        scale = share * min(height / HEIGHT, width / WIDTH)
        room = np.array([width - scale * WIDTH, height - scale * HEIGHT])
        x, y = room * (0.5 + self._pan * (t - 0.5))
        cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
        return np.array([[cosine, -sine, x], [sine, cosine, y], [0, 0, 1]])

    def to_photo(self, places, t):
        return cv2.perspectiveTransform(places, self._matrix(t))

    def to_frame(self, places, t):
        return cv2.perspectiveTransform(places, np.linalg.inv(self._matrix(t)))


class Face(View):
    """A photo on a cylinder that turns by 50 degrees, in front of the photo itself."""

    RADIUS, MOST = WIDTH / 3, 0.44

    def _turn(self, places, angle):
        side = (places[..., 0] - WIDTH / 2) / self.RADIUS
        inside = np.abs(side) < 0.98
        turned = np.arcsin(np.clip(side, -0.98, 0.98)) + angle
        seen = inside & (np.abs(turned) < 1.4)
        x = np.where(seen, WIDTH / 2 + self.RADIUS * np.sin(turned), np.nan)
        return np.dstack([np.where(inside, x, places[..., 0]), places[..., 1]])

    def to_photo(self, places, t):
        # The sides that turn into view show the photo mirrored.
        side = (places[..., 0] - WIDTH / 2) / self.RADIUS
        angle = np.arcsin(np.clip(side, -0.98, 0.98)) + self.MOST * np.sin(7 * t)
        x = np.where(
            np.abs(side) < 0.98,
            WIDTH / 2 + self.RADIUS * np.sin(angle),
            places[..., 0],
        )
        return super().to_photo(np.float32(np.dstack([x, places[..., 1]])), 0)

    def back(self, places, t, before):
        return self._turn(places, self.MOST * (np.sin(7 * t) - np.sin(7 * before)))


def make_clip(view, count, grain=0, lamp=0, smoke=False, passer=None, seed=0):
    """Returns a `Clip`.

    Args:
        view: a `View`.
        count: the number of frames.
        grain: the standard deviation of noise, in levels.
        lamp: the standard deviation of the brightness.
        smoke: whether smoke drifts by.
        passer: a photo; an oval part of it passes, against the motion of the view.
        seed: of the random numbers.
    """
    rng, clip = np.random.default_rng(seed), Clip()
    grid = np.float32(np.dstack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))))
    times, before, covered = np.linspace(0, 1, count), None, None
    for number, t in enumerate(times):
        places = np.float32(view.to_photo(grid, t))
        rgb = cv2.remap(
            view.photo, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        back = None
        if number:
            if hasattr(view, "back"):
                back = view.back(grid, t, before)
            else:
                back = view.to_frame(places, before)
            back = np.float32(back)
        if passer is not None:
            at = (0.9 - 0.8 * t) * WIDTH
            step = 0.8 * WIDTH / (count - 1)
            oval = ((grid[..., 0] - at) / 22) ** 2 + ((grid[..., 1] - 110) / 55) ** 2
            here = oval < 1
            other = cv2.resize(passer, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
            shift = np.float32([WIDTH / 2 - at, 0])
            rgb = np.where(here[..., None], _shift(other, grid + shift), rgb)
            if number:
                hidden = cv2.remap(covered, back, None, cv2.INTER_LINEAR) > 0
                back[hidden] = np.nan
                back[here] = grid[here] + np.float32([step, 0])
            covered = np.uint8(here)
        if smoke:
            rgb = _blow(rgb, number, seed)
        light = 1 + lamp * rng.normal()
        noise = rng.normal(0, grain, (HEIGHT, WIDTH, 1)) if grain else 0
        clip.frames.append(np.uint8(np.clip(light * rgb + noise, 0, 255)))
        clip.back.append(back)
        before = t
    return clip


def _shift(photo, places):
    return cv2.remap(
        photo, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _blow(rgb, number, seed):
    """Adds gray smoke that rises, widens and changes its shape."""
    thick = np.zeros((HEIGHT, WIDTH), np.float32)
    for octave, size in enumerate((8, 16, 32)):
        noise = np.random.default_rng([seed, octave]).random((size * 4, size))
        drift = (octave + 1) * number * 0.6
        wide = cv2.resize(np.float32(noise), (WIDTH, 4 * HEIGHT))
        thick += np.roll(wide, -int(drift), axis=0)[:HEIGHT] / 2**octave
    thick = np.clip(thick - 0.9, 0, 0.7)[..., None]
    return rgb * (1 - thick) + 205 * thick


def join_clips(clips):
    """Returns clips as one, with cuts between them."""
    joined = Clip()
    for clip in clips:
        joined.frames += clip.frames
        joined.back += clip.back
    return joined


def make_kinds(photos, count):
    """Yields the name of each kind, and its clips.

    Args:
        photos: a dictionary of names -> uint8 RGB.
        count: the number of frames of a clip.
    """

    def choose(names):
        found = [photo for name, photo in photos.items() if name.startswith(names)]
        return found or list(photos.values())

    def make(chosen, see=View, count=count, **options):
        return [make_clip(see(photo), count, **options) for photo in chosen]

    every = list(photos.values())
    yield "still", make(every, lambda photo: View(photo, False, 0))
    yield "pan", make(every, lambda photo: View(photo, False, 1))
    yield "slow zoom", make(every)
    streets = choose(STREETS)
    passers = zip(streets, every[::-1], strict=False)
    yield (
        "street pan",
        [make_clip(View(s, False, 1), count, passer=p, grain=2) for s, p in passers],
    )
    yield "turning face", make(choose(PEOPLE), Face)
    yield "cuts", [join_clips(make(every, count=2 * RATE))]
    yield "smoke", make(every, lambda photo: View(photo, False, 0.5), smoke=True)
    yield "grain 6", make(every, grain=6)
    yield "lamp 4 %", make(every, lamp=0.04)
