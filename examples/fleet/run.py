"""A fleet: workers on one wallet and one ledger, with a budget for all and one for each.

    python examples/fleet/run.py --workers 4 --ledger postgresql://x402sms@localhost/payments

Without a wallet in the environment it runs against a sandbox of its own, without real money. A
worker that dies is started again with the job that it died in, under the same intent: what that
has paid for is not paid for again. SIGTERM (or Ctrl-C) lets the jobs under way end and begins no
other; the same --campaign goes on with the rest. Ends with who spent it, and what for.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from x402sms.cli import main as x402sms

WORKER = Path(__file__).with_name("worker.py")
MOST_TRIES = 3  # of a job whose worker dies


class Fleet:
    """The jobs that are to be done, and a thread for each worker that hands them out."""

    def __init__(self, jobs: list[dict[str, str]]) -> None:
        self.to_do = deque(jobs)
        self.tries: Counter[str] = Counter()
        self.done: list[str] = []
        self.failed: list[str] = []
        self.stopping = False

    def run(self, workers: int) -> None:
        names = (f"w-{number}" for number in range(1, workers + 1))
        tending = [Thread(target=self._tend, args=(name,)) for name in names]
        for thread in tending:
            thread.start()
        for thread in tending:
            thread.join()

    def stop(self, *_: object) -> None:
        self.stopping = True

    def _tend(self, name: str) -> None:
        """Give one worker its jobs, and start it again when it dies."""
        worker = self._start(name)
        while (job := self._next()) is not None:
            answer = ask(worker, job)
            if answer is None:
                self._put_back(job)
                status = worker.wait()
                say(f"{name} ended in {job['intent']} ({status})")
                if status >= 0:  # by itself: it was told to, or cannot work and says why
                    break
                worker = self._start(name)
            elif "limit" in answer:  # its own, or that of all: another worker may have room
                say(f"{name} has spent its budget ({answer['limit']})")
                self._put_back(job)
                break
            elif "error" in answer:
                self.failed.append(job["intent"])
                say(f"{name} {job['intent']} failed: {answer['error']}")
            else:
                self.done.append(job["intent"])
                say(f"{name} {job['intent']} code: {answer['code']}")
        worker.communicate()  # closes its stdin: there is no more to do, and it ends

    def _start(self, name: str) -> subprocess.Popen[str]:
        worker = subprocess.Popen(  # noqa: S603  a file beside this one
            [sys.executable, str(WORKER)],
            env=os.environ | {"X402SMS_WORKER": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for us: we let it end its job
        )
        say(f"{name} started as process {worker.pid}")
        return worker

    def _next(self) -> dict[str, str] | None:
        if self.stopping:
            return None
        try:
            return self.to_do.popleft()
        except IndexError:
            return None

    def _put_back(self, job: dict[str, str]) -> None:
        self.tries[job["intent"]] += 1
        if self.tries[job["intent"]] < MOST_TRIES:
            self.to_do.appendleft(job)
        else:
            self.failed.append(job["intent"])


def say(line: str) -> None:
    sys.stdout.write(line + "\n")  # in one piece: several threads talk
    sys.stdout.flush()


def ask(worker: subprocess.Popen[str], job: dict[str, str]) -> dict[str, str] | None:
    """What came of the job; None if the worker died over it."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(json.dumps(job) + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return None
    line = worker.stdout.readline()
    answer: dict[str, str] | None = json.loads(line) if line.endswith("\n") else None
    return answer


@contextmanager
def somewhere() -> Iterator[dict[str, str]]:
    """The settings of a sandbox of our own, where the environment has no wallet."""
    if "X402SMS_PRIVATE_KEY" in os.environ or "X402SMS_KEYSTORE" in os.environ:
        yield {}
        return
    from x402sms.sandbox import SandboxConfig, running_sandbox  # noqa: PLC0415  only for play

    with running_sandbox(SandboxConfig(sms_after=0.5)) as sandbox:
        yield {
            "X402SMS_NETWORK": sandbox.network,
            "X402SMS_BASE_URL": sandbox.url,
            "X402SMS_PRIVATE_KEY": sandbox.funded_key or "",
        }


def main() -> int:
    options = parsed()
    with somewhere() as settings:
        settings |= {"X402SMS_MAX_PER_DAY": options.budget}
        settings |= {"X402SMS_MAX_WORKER_PER_DAY": options.worker_budget}
        if options.ledger is not None:
            settings["X402SMS_LEDGER"] = options.ledger
        os.environ.update(settings)  # the workers', and ours when we ask what was spent
        jobs = [
            {
                "intent": f"{options.campaign} {number}",
                "service": options.services[number % len(options.services)],
                "campaign": options.campaign,
            }
            for number in range(1, options.jobs + 1)
        ]
        fleet = Fleet(jobs)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, fleet.stop)
        fleet.run(options.workers)
        left = options.jobs - len(fleet.done)
        say(f"{options.campaign}: {len(fleet.done)} jobs done, {left} not")
        for by in ("worker", "service"):
            x402sms(["spend", "--by", by])
    return 1 if left else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sign-up tests by a fleet of workers.")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=8, help="how many sign-up tests")
    parser.add_argument("--services", nargs="+", default=["telegram", "whatsapp"])
    parser.add_argument("--ledger", help="postgresql://..., or a file; else X402SMS_LEDGER")
    parser.add_argument("--budget", default="5", help="USDC a day, of all together")
    parser.add_argument("--worker-budget", default="2", help="USDC a day, of each worker")
    parser.add_argument("--campaign", default=f"signup-{int(time.time())}")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
