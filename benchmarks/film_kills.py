"""Checks a film that is colorized by runs that are killed at random moments.

Each run is killed (`kill -9`) a random time after it has written some more pieces.
There must be no result before a run has finished. The result must then equal that of a
run that was not killed, in each packet of pictures and sound.

    python benchmarks/film_kills.py --kills 10
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import colorizer_tf as ct
import av
import numpy as np
import skimage.data
from clips import RATE, View, make_clip

SIZE = 240, 180


def write_film(path, shots):
    """Writes shots of six seconds with a cut after each, and a tone."""
    place = Path(skimage.data.__file__).parent
    names = ("astronaut", "chelsea", "coffee", "motorcycle_left")
    photos = [ct.read_photo(place / f"{name}.png") for name in names]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE)
        stream.width, stream.height = SIZE
        sound = container.add_stream("aac", 48000, layout="mono")
        for shot in range(shots):
            clip = make_clip(View(photos[shot % 4], shot % 3), 6 * RATE, seed=shot)
            for rgb in clip.frames:
                frame = av.VideoFrame.from_ndarray(ct.to_gray(rgb), "gray")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
        for start in range(0, shots * 6 * 48000, 1024):
            wave = np.sin(np.arange(start, start + 1024) / 20) / 4
            frame = av.AudioFrame.from_ndarray(np.float32(wave[None]), "fltp", "mono")
            frame.rate, frame.pts = 48000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def packets(path):
    with av.open(str(path)) as container:
        return [(p.stream.index, p.pts, bytes(p)) for p in container.demux() if p.size]


def start(source, result):
    command = [sys.executable, "-m", "colorizer_tf", "colorize", source, result]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def count_pieces(result):
    return len(list(result.parent.glob(f".{result.name}.pieces/*.npz")))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--shots", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    wrong = killed = number = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_film(folder / "film.mp4", args.shots)
        begin = time.perf_counter()
        assert start(folder / "film.mp4", folder / "whole.mp4").wait() == 0
        seconds = time.perf_counter() - begin
        whole = packets(folder / "whole.mp4")
        pieces = args.shots * 6 * RATE / 240
        print(f"{len(whole)} packets, {pieces:.1f} pieces, {seconds:.0f} s", flush=True)
        while killed < args.kills:
            result, here = folder / f"{number}.mp4", 0
            while not result.exists():
                run = start(folder / "film.mp4", result)
                wanted = count_pieces(result) + random.randrange(3)
                last = killed == args.kills
                while run.poll() is None and (last or count_pieces(result) < wanted):
                    time.sleep(0.02)
                try:
                    run.wait(None if last else random.random() * seconds / pieces * 2)
                except subprocess.TimeoutExpired:
                    run.kill()
                    run.wait()
                    killed, here = killed + 1, here + 1
                    early = result.exists() and packets(result) != whole
                    wrong += early
                    print(
                        f"killed with {count_pieces(result)} pieces there"
                        f"{'; WRONG: a result is there' if early else ''}",
                        flush=True,
                    )
            same = packets(result) == whole
            wrong += not same
            print(f"film {number}, killed {here} times: the same is {same}", flush=True)
            left = [path.name for path in folder.glob(".*")]
            if left:
                print(f"WRONG: left behind {left}")
                wrong += 1
            number += 1
    print(f"{killed} kills, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
