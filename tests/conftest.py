"""The tests run many small models: one thread is enough, and on a busy machine several cost five times the time."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported
