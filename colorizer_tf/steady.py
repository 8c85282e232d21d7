"""Makes the colors of a film steady from frame to frame.

The network predicts each frame independently. This module averages the predictions of
a shot along its motion. Each frame's own prediction counts most, and the weight of
others falls with their distance in time. Motion is the optical flow of the network's
small luma (Kroeger et al., "Fast optical flow using dense inverse search", 2016).
Pixels carry no color if their luma differs, or if forward and backward flow disagree.
"""

import functools
from collections import deque
from dataclasses import dataclass, field

import cv2
import numpy as np

# The weight of the neighboring frame's prediction, relative to the frame's own.
DECAY = 0.9
# Averaging different predictions makes colors duller; this is the most that is undone.
MAX_GAIN = 1.2
# Each of these halves the trust in a flow: a difference in luma, and a distance, in
# pixels, by which forward and backward flow miss the start.
LUMA_TOLERANCE = 0.04
FLOW_TOLERANCE = 1.0
# Below this mean trust, two frames are of different shots.
SAME_SHOT = 0.4
# A hint is lost where the trust falls below this.
HINT_KEPT = 0.3
# The most frames through which a hint is followed back: they stay in memory.
FRAMES_BACK = 3000


@dataclass
class Link:
    """The motion between two frames of one shot, and how far it can be trusted.

    Attributes:
        back: the flow from the later frame to the earlier one, (x, y) in pixels,
            float32 (h, w, 2).
        back_weight: the trust in `back`, float32 (h, w), in [0, 1].
        on: the flow from the earlier frame to the later one, float32 (h, w, 2).
        on_weight: the trust in `on`, float32 (h, w), in [0, 1].
    """

    back: np.ndarray
    back_weight: np.ndarray
    on: np.ndarray
    on_weight: np.ndarray


@dataclass
class Look:
    """A frame at the network's size, with its colors and motion.

    Attributes:
        frame: the caller's own data.
        luma: float32 (h, w), in [0, 1].
        chroma: (Cb, Cr), float32 (h, w, 2): first the network's prediction, then the
            steady chroma.
        link: the motion from the previous frame; None where a shot begins, and in
            a steady frame.
        sums: float32 (h, w, 4): weighted sums, over this frame and the previous ones,
            of Cb, Cr, Cb² + Cr² and 1. Of a steady chunk, only the last frame has it.
    """

    frame: object
    luma: np.ndarray
    chroma: np.ndarray = field(default=None, repr=False)
    link: Link | None = field(default=None, repr=False)
    sums: np.ndarray | None = field(default=None, repr=False)


class Motion:
    """Finds the motion between frames; an object serves one thread."""

    def __init__(self):
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def link(self, earlier, later):
        """Returns the `Link` of two lumas, float32 (h, w); None across a cut."""
        # Flicker in the brightness of old films would look like a difference.
        later = later + (_brightness(earlier) - _brightness(later))
        levels = [_to_levels(luma) for luma in (earlier, later)]
        if min(levels[0].shape) < 16:  # too small for the search: assume no motion
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
    """Returns the trust in a flow, in [0, 1]: equal luma, and the same way back."""
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
    """Averages the chroma of a film's frames along their motion, in both directions.

    The average covers all previous frames of the shot, and the following ones up to
    the end of the next chunk. So memory does not grow with the length of a shot.

    Args:
        chunks: yields lists of `Look` with luma and chroma, of one size.
        last: the last `Look` before the first chunk, with luma and sums; or None.

    Yields:
        The same lists, with steady chroma. Chunk borders do not change the influence
        of previous frames.
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
    """Returns the mean chroma of weighted sums, as vivid as the single predictions."""
    total = total[..., :3] / total[..., 3:]
    chroma = np.ascontiguousarray(total[..., :2])
    vivid = 2 * np.mean(chroma * chroma)
    gain = np.sqrt(total[..., 2].mean() / max(vivid, 1e-12))
    return chroma * np.float32(min(gain, MAX_GAIN))


def _settle(chunk, following):
    """Adds the following frames to each frame's sums, and sets the steady chroma."""
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
    # Only now: the loop above needs each frame's own prediction.
    for look, chroma in zip(chunk, reversed(results), strict=True):
        look.chroma, look.link = chroma, None  # links take most of the memory
    for look in chunk[:-1]:
        look.sums = None
    return chunk


def follow_hints(lumas, starts):
    """Follows hints through their shots, forwards and backwards.

    Args:
        lumas: yields the luma of each frame, float32 (h, w), in [0, 1].
        starts: a dictionary: number of a frame, from 0 -> its hints. They are a list of
            (x, y, color), where x and y are fractions of width and height.

    Returns:
        Such a dictionary for all frames in which a hint is seen.
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
    """Returns a hint moved to the neighboring frame; None if it is lost."""
    x, y, color = place
    height, width = weight.shape
    at = np.float32([[[x * width - 0.5, y * height - 0.5]]])
    if _look_up(weight, at).item() < HINT_KEPT:
        return None
    dx, dy = _look_up(flow, at)[0, 0].tolist()
    x, y = x + dx / width, y + dy / height
    return (x, y, color) if 0 <= x <= 1 and 0 <= y <= 1 else None
