"""Surroundings of every test: one BLAS thread, its own run directory, and no difference by where pytest was started;
and a check that nothing is left behind."""

import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before anything imports NumPy

# Processes that tests start inherit the token, and keep it when their parent dies: so they can be found.
TOKEN = f"EDGEEMU_TEST_TOKEN={uuid.uuid4().hex}"
os.environ.update([TOKEN.split("=")])

# Private directories of runs go here and not where other sessions on this machine have theirs.
RUNTIME_DIR = Path(tempfile.mkdtemp(prefix="eet-"))
os.environ["XDG_RUNTIME_DIR"] = str(RUNTIME_DIR)

# What a shell, nohup, cron or a terminal can have set, and programs that tests start would inherit.
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGCHLD)  # SIGALRM is the time limit's
