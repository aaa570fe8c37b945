"""Run the cells of a notebook one by one, in a kernel of this Python, by blocking calls alone."""
import queue

import nbformat
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel

SHOWN = ("stream", "display_data", "execute_result", "error")


def run_cells(cells, folder, starting, timeout=300):
    """Execute code cells in order and give each its outputs; raises AssertionError with the traceback of one that fails.

    `starting` is a lock to hold until the kernel answers; `timeout` the seconds from one message to the next.
    """
    with starting:
        kernel = RunningKernel(CURRENT_ENV_KERNEL_NAME, cwd=str(folder), startup_timeout=timeout)
    try:
        for cell in cells:
            cell.outputs = run_source(kernel, cell.source, timeout)
            errors = ["\n".join(output.traceback) for output in cell.outputs if output.output_type == "error"]
            assert not errors, f"{cell.source}\n{errors[0]}"
    finally:
        kernel.stop()


def run_source(kernel, source, timeout):
    """Execute one cell's source; returns its outputs."""
    request, outputs = kernel.execute_cell_input(source, allow_stdin=False), []
    while True:
        message = next_message(kernel, timeout)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] in SHOWN:
            outputs.append(nbformat.v4.output_from_msg(message))
        elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            kernel.await_reply(request, timeout=60)
            return outputs


def next_message(kernel, timeout, step=10):
    """The kernel's next message; raises AssertionError if it has died or says nothing for `timeout` seconds."""
    for _ in range(0, timeout, step):
        try:
            return kernel.get_message("iopub", timeout=step)
        except queue.Empty:
            assert kernel.is_alive(), "the kernel has died"
    raise AssertionError(f"the kernel said nothing for {timeout} seconds")
