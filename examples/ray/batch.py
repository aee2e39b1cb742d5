"""Makes the jobs of a file on the workers of a Ray cluster: python batch.py jobs.jsonl --workers 2 [-- flags of kinora generate]"""

import argparse
import json
import os
import subprocess
import sys
import threading


class Worker:
    """One `kinora generate --batch -`, as an actor of Ray Data: a batch of lines in, their answers out."""

    def __init__(self, flags, folder):
        self.words = ["kinora", "generate", "--batch", "-", "--json", "--resume", "--quiet", *flags]
        self.folder = folder
        self.told = 0
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.words, cwd=self.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, batch):
        waiting = {}
        for text in batch["text"]:
            if text.strip():
                self.told += 1
                waiting[self.told] = {**json.loads(text), "id": self.told}
        answers = []
        while waiting:
            # Told by a thread: the worker may answer before it has read everything.
            text = "".join(json.dumps(line) + "\n" for line in waiting.values())
            threading.Thread(target=self.tell, args=(self.process.stdin, text)).start()
            while waiting and (line := self.process.stdout.readline()):
                answer = json.loads(line)
                if "id" not in answer:
                    # Not about a line: the worker's own flags, model or device.
                    raise RuntimeError(answer["error"]["message"])
                if waiting.pop(answer["id"], None):
                    answers.append(answer)
            if waiting:
                if (code := self.process.wait()) > 0:
                    raise RuntimeError(f"kinora ended with exit code {code} before it had answered all lines")
                # It was killed. The next one is told what has no answer, and finds what was made.
                self.start()
        keys = ["output", "outcome"]
        return {key: [answer[key] for answer in answers] for key in keys} | {"answer": [json.dumps(answer) for answer in answers]}

    @staticmethod
    def tell(pipe, text):
        try:
            pipe.write(text)
            pipe.flush()
        except BrokenPipeError:
            pass  # The end of its answers says the same.


def run(jobs, workers, flags=(), folder=None, batch_size=16):
    """The answers to the lines of the file `jobs`."""
    import ray

    data = ray.data.read_text(str(jobs)).repartition(target_num_rows_per_block=batch_size)
    data = data.map_batches(
        Worker,
        fn_constructor_args=(list(flags), folder),
        compute=ray.data.ActorPoolStrategy(size=workers),
        batch_size=batch_size,
        batch_format="numpy",
    )
    return data.take_all()


if __name__ == "__main__":
    own, flags = sys.argv[1:], []
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args(own)
    answers = run(arguments.jobs, arguments.workers, flags, folder=os.getcwd())
    for answer in answers:
        print(answer["answer"])
    sys.exit(any(answer["outcome"] not in ("done", "skipped") for answer in answers))
