"""Colors that stay where they belong from one frame of a film to the next.

A network guesses each frame anew. Here the guesses for one shot are averaged along
the motion in it: what a place was guessed to be before and after counts with the
frame's own guess, the less the farther away in time. Motion is the optical flow of
the small luma that the network sees (Kroeger et al., "Fast optical flow using dense
inverse search", 2016). What does not look the same in both frames, or does not come
back to where it was, carries nothing.
"""

import functools
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

# What the frame beside counts for, against the frame's own guess.
DECAY = 0.9
# Guesses that differ take from each other's color: it is given back, up to this.
MAX_GAIN = 1.2
# At such a difference of luma, and such a way off in pixels after going there and
# back by the flow, half of it is carried.
LUMA_TOLERANCE = 0.04
FLOW_TOLERANCE = 1.0
# Two frames of which less than this share is alike are of two shots.
SAME_SHOT = 0.4
# A hint goes on from frame to frame while its place is at least so much alike.
HINT_KEPT = 0.3
# A hint is followed back through so many frames at most: they stay in memory.
FRAMES_BACK = 3000


@dataclass
class Link:
    """The motion between two frames of one shot, and how far it can be trusted.

    Attributes:
        back: for each pixel of the later frame how far off it was in the earlier
            one, in pixels (x, y), float32 (h, w, 2).
        back_weight: how far that can be trusted, float32 (h, w), 0 to 1.
        on: for each pixel of the earlier frame where it goes, likewise.
        on_weight: likewise.
    """

    back: np.ndarray
    back_weight: np.ndarray
    on: np.ndarray
    on_weight: np.ndarray


@dataclass
class Look:
    """A frame as the network sees it, and what is found out about it.

    Attributes:
        frame: whatever belongs to it.
        luma: float32 (h, w), in [0, 1].
        chroma: (Cb, Cr), float32 (h, w, 2); the frame's own, and then the steady
            one.
        link: the motion from the frame before; None where a shot begins, and when
            it has served.
        sums: the weighted sum of the chroma of this frame and all before, of its
            squares, and of the weights, float32 (h, w, 4). In the end only the last
            frame of a chunk has it.
    """

    frame: object
    luma: np.ndarray
    chroma: np.ndarray = field(default=None, repr=False)
    link: Link | None = field(default=None, repr=False)
    sums: np.ndarray | None = field(default=None, repr=False)


class Motion:
    """Finds the motion between frames; not for several threads at a time."""

    def __init__(self):
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def link(self, earlier, later):
        """Returns the `Link` of two lumas, float32 (h, w); None if it is a cut."""
        # A reel that flickers in brightness is no reason to carry nothing.
        later = later + (_brightness(earlier) - _brightness(later))
        levels = [_to_levels(luma) for luma in (earlier, later)]
        if min(levels[0].shape) < 16:  # too small for the search; nothing moves
            on = back = np.zeros((*levels[0].shape, 2), np.float32)
        else:
            on = self._flow.calc(*levels, None)
            back = self._flow.calc(*levels[::-1], None)
        back_weight = _trust(later, earlier, back, on)
        on_weight = _trust(earlier, later, on, back)
        if (back_weight.mean() + on_weight.mean()) / 2 < SAME_SHOT:
            return None
        return Link(back, back_weight, on, on_weight)


def _to_levels(luma):
    return cv2.convertScaleAbs(luma, alpha=255)


def _to_luma(levels):
    return np.float32(levels) / 255


def _brightness(luma):
    return np.median(luma[::3, ::3])


def _trust(here, there, flow, return_flow):
    """How far a flow can be trusted: by what looks alike, and comes back."""
    places = _places(flow)
    difference = (here - _look_up(there, places)) / LUMA_TOLERANCE
    missed = (flow + _look_up(return_flow, places)) / FLOW_TOLERANCE
    missed *= missed
    difference *= difference
    missed = missed[..., 0] + missed[..., 1]
    return 1 / ((1 + difference * difference) * (1 + missed * missed))


def _places(flow):
    return flow + _grid(*flow.shape[:2])


@functools.cache
def _grid(height, width):
    grid = np.meshgrid(np.arange(width), np.arange(height))
    return np.float32(np.dstack(grid))


def _look_up(planes, places):
    return cv2.remap(
        planes, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _carry(sums, flow, weight):
    return _look_up(sums, _places(flow)) * (DECAY * weight)[..., None]


def steady(chunks, last=None):
    """Averages the chroma of a film's frames along their motion, from both sides.

    All that is before a frame in its shot counts, and what comes after it up to
    the end of the next chunk: memory does not grow with the shot.

    Args:
        chunks: yields lists of `Look` with luma and chroma, of one size.
        last: the last frame of what came before, a `Look` with luma and `sums`.

    Yields:
        The same lists. Where a chunk begins or ends makes no difference to what
        is before it.
    """
    motion, waiting = Motion(), None
    for chunk in chunks:
        for look in chunk:
            look.link = motion.link(last.luma, look.luma) if last else None
            look.sums = _begin_sums(look.chroma)
            if look.link:
                link = look.link
                look.sums = look.sums + _carry(last.sums, link.back, link.back_weight)
            last = look
        if waiting:
            yield _settle(waiting, chunk)
        waiting = chunk
    if waiting:
        yield _settle(waiting, [])


def _begin_sums(chroma):
    blue, red = cv2.split(chroma)
    vivid = blue * blue + red * red
    return cv2.merge([blue, red, vivid, np.ones_like(vivid)])


def _average(total):
    """Returns the chroma of sums over frames, as vivid as the frames are."""
    total = total[..., :3] / total[..., 3:]
    chroma = np.ascontiguousarray(total[..., :2])
    vivid = 2 * np.mean(chroma * chroma)
    gain = np.sqrt(total[..., 2].mean() / max(vivid, 1e-12))
    return chroma * np.float32(min(gain, MAX_GAIN))


def _settle(chunk, following):
    """Adds what comes after each frame, from the last one backwards."""
    later, results = None, []
    for number, look in reversed(list(enumerate([*chunk, *following]))):
        if number < len(chunk):
            total = look.sums if later is None else look.sums + later
            results.append(_average(total))
        if look.link:
            own = _begin_sums(look.chroma)
            own = own if later is None else own + later
            later = _carry(own, look.link.on, look.link.on_weight)
        else:
            later = None
    # Not before: a frame's own chroma is what the one before it is told.
    for look, chroma in zip(chunk, reversed(results), strict=True):
        look.chroma, look.link = chroma, None  # links are large, and done with
    for look in chunk[:-1]:
        look.sums = None
    return chunk


def follow_hints(lumas, starts):
    """Follows hints through their shots, forwards and backwards.

    Args:
        lumas: yields the luma of each frame, float32 (h, w), in [0, 1].
        starts: for the number of a frame, from 0, its hints as a list of
            (x, y, color), x and y as fractions.

    Returns:
        The same for all frames in which a hint was found.
    """
    motion, found = Motion(), {}
    shot, alive, last = deque(maxlen=FRAMES_BACK), [], max(starts, default=-1)
    for number, luma in enumerate(lumas):
        luma = _to_levels(luma)
        link = motion.link(_to_luma(shot[-1]), _to_luma(luma)) if shot else None
        if link is None:
            shot.clear()
            alive = []
        moved = (_move(place, link.on, link.on_weight) for place in alive)
        alive = [place for place in moved if place]
        new = starts.get(number, [])
        _follow_back(motion, shot, luma, number, new, found)
        alive += new
        if alive:
            found.setdefault(number, []).extend(alive)
        elif number > last:
            break
        shot.append(luma)
    return found


def _follow_back(motion, shot, luma, number, places, found):
    for earlier in reversed(shot):
        if not places:
            break
        number -= 1
        link = motion.link(_to_luma(earlier), _to_luma(luma))
        moved = (_move(place, link.back, link.back_weight) for place in places)
        places = [place for place in moved if place]
        if places:
            found.setdefault(number, []).extend(places)
        luma = earlier


def _move(place, flow, weight):
    """Where a hint is in the frame beside; None if it is lost."""
    x, y, color = place
    height, width = weight.shape
    at = np.float32([[[x * width - 0.5, y * height - 0.5]]])
    if _look_up(weight, at).item() < HINT_KEPT:
        return None
    dx, dy = _look_up(flow, at)[0, 0].tolist()
    x, y = x + dx / width, y + dy / height
    return (x, y, color) if 0 <= x <= 1 and 0 <= y <= 1 else None
