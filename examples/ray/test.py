"""A batch on two local workers of which one is killed in the middle: every output once and whole, repeated work counted.

python test.py [--jobs 200] [--figures]; needs `kinora` on PATH. Flags for it, such as a small model, come from $KINORA_FLAGS.
"""

import argparse
import collections
import json
import os
import pathlib
import shlex
import signal
import subprocess
import tempfile
import threading
import time

import ray

from batch import run

FLAGS = shlex.split(os.environ.get("KINORA_FLAGS", ""))


def jobs_file(folder, count):
    lines = [json.dumps({"prompt": "a fox", "seed": seed, "output": f"{seed}.gif"}) for seed in range(count)]
    path = pathlib.Path(folder) / "jobs.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def workers(folder):
    """Process numbers of the kinora workers in a folder."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"kinora") and os.readlink(entry / "cwd") == str(folder):
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue
    return found


def check(folder, count):
    names = sorted(path.name for path in pathlib.Path(folder).iterdir() if path.name != "jobs.jsonl")
    assert names == sorted(f"{seed}.gif" for seed in range(count)), f"{len(names)} files: {names[:5]} …"
    for name in names:
        clip = (pathlib.Path(folder) / name).read_bytes()
        assert clip.startswith(b"GIF89a") and clip.endswith(b";"), f"{name} is not whole"


def with_a_kill(count):
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        jobs = jobs_file(folder, count)

        def kill():
            # In the middle: a third of the clips are there.
            while len(os.listdir(folder)) < count // 3:
                time.sleep(0.01)
            victim = workers(folder)[0]
            os.kill(victim, signal.SIGKILL)
            print(f"killed worker {victim} of {len(workers(folder)) + 1}")

        killer = threading.Thread(target=kill)
        killer.start()
        answers = run(jobs, 2, FLAGS, folder)
        killer.join()
        check(folder, count)
        outcomes = collections.Counter(answer["outcome"] for answer in answers)
        assert len(answers) == count and set(outcomes) <= {"done", "skipped"}, outcomes
        # What the killed worker had made is found by the one that takes over; at most the pack it was making is computed again.
        print(f"{count} outputs once and whole; jobs told again whose clips were found made: {outcomes['skipped']}")


def figures(count):
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        # Ray's time includes the start of its actors, as the two processes' below includes theirs.
        begun = time.perf_counter()
        run(jobs_file(folder, count), 2, FLAGS, folder)
        by_ray = time.perf_counter() - begun
        check(folder, count)
    with tempfile.TemporaryDirectory() as folder:
        jobs_file(folder, count)
        begun = time.perf_counter()
        words = ["kinora", "generate", "--batch", "jobs.jsonl", "--quiet", *FLAGS]
        both = [subprocess.Popen([*words, "--shard", f"{shard}/2"], cwd=folder, stdout=subprocess.DEVNULL) for shard in range(2)]
        assert not any(process.wait() for process in both)
        by_two = time.perf_counter() - begun
        check(folder, count)
    print(f"{count} jobs: Ray {by_ray:.1f} s, two processes {by_two:.1f} s: {by_two / by_ray:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--figures", action="store_true")
    arguments = parser.parse_args()
    # Places for two workers and for what reads the file; they are no cores.
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    if arguments.figures:
        figures(arguments.jobs)
    else:
        with_a_kill(arguments.jobs)
