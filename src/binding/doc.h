/* The docstrings of the public methods of `_core.Batcher`.  Their examples
 * run under doctest with `asyncio` and `Doubler`, a batcher whose async
 * process_batch doubles integers.
 */
#ifndef AB_BINDING_DOC_H
#define AB_BINDING_DOC_H

#include <Python.h>

PyDoc_STRVAR(
    process_doc,
    "process($self, /, item)\n--\n\n"
    "Queue one item and return the future of its result, at once.\n"
    "\n"
    "Needs a running event loop. Whatever goes wrong with the item itself is\n"
    "in the future.\n"
    "\n"
    "Args:\n"
    "    item: Anything; it is passed on as it is.\n"
    "\n"
    "Returns:\n"
    "    An asyncio.Future of the running loop: of the result, or of what\n"
    "    process_batch raised. It has failed already, with\n"
    "    QueueFullException, where the queue is full or others wait for\n"
    "    space in it; with BatcherStoppedError, where the batcher is\n"
    "    stopped; with TypeError or ValueError, where the item's cost is no\n"
    "    int from 0 to 2**63-1; with RuntimeError, where the batch that asks\n"
    "    holds the only permit and would wait for itself.\n"
    "\n"
    "Raises:\n"
    "    RuntimeError: No event loop is running.\n"
    "\n"
    "Example:\n"
    "    >>> async def main() -> int:\n"
    "    ...     async with Doubler() as doubler:\n"
    "    ...         return await doubler.process(21)\n"
    "    >>> asyncio.run(main())\n"
    "    42\n");

PyDoc_STRVAR(
    process_many_doc,
    "process_many($self, /, items, *, return_exceptions=False)\n--\n\n"
    "Queue many items and return one future of all their results.\n"
    "\n"
    "One call, one lock and one future, whatever the number. The items share\n"
    "batches with those of other callers. Cancelling the future cancels all\n"
    "that still wait.\n"
    "\n"
    "Args:\n"
    "    items: An iterable of items; it is read before anything is queued.\n"
    "    return_exceptions: Put exceptions into the list, in the places of\n"
    "        their items, and raise none.\n"
    "\n"
    "Returns:\n"
    "    An asyncio.Future of the list of the results, in the order of the\n"
    "    items. Without return_exceptions it fails with the first error, at\n"
    "    once. It has failed already where process() of one of the items\n"
    "    would have, and then none is queued; QueueFullException also says\n"
    "    that not all of them fit.\n"
    "\n"
    "Raises:\n"
    "    RuntimeError: No event loop is running.\n"
    "    TypeError: items cannot be iterated.\n"
    "    ValueError: There are more than 2**32-1 items.\n"
    "\n"
    "Example:\n"
    "    >>> async def main() -> list[int]:\n"
    "    ...     async with Doubler() as doubler:\n"
    "    ...         return await doubler.process_many(range(4))\n"
    "    >>> asyncio.run(main())\n"
    "    [0, 2, 4, 6]\n");

PyDoc_STRVAR(
    process_threadsafe_doc,
    "process_threadsafe($self, /, item)\n--\n\n"
    "Queue one item from any thread, with or without an event loop there.\n"
    "\n"
    "Args:\n"
    "    item: Anything; it is passed on as it is.\n"
    "\n"
    "Returns:\n"
    "    A concurrent.futures.Future of the result, or of what process_batch\n"
    "    raised. It has failed already where the queue is full, the batcher\n"
    "    stopped or the item's cost wrong, as with process(). Once its batch\n"
    "    runs it cannot be cancelled any more.\n"
    "\n"
    "Raises:\n"
    "    RuntimeError: process_batch is async, and the batcher knows no open\n"
    "        event loop to run it on.\n"
    "\n"
    "Example:\n"
    "    >>> async def main() -> int:\n"
    "    ...     async with Doubler() as doubler:\n"
    "    ...         await doubler.process(1)  # the batcher meets the loop\n"
    "    ...         submit = doubler.process_threadsafe\n"
    "    ...         future = await asyncio.to_thread(submit, 21)\n"
    "    ...         return await asyncio.wrap_future(future)\n"
    "    >>> asyncio.run(main())\n"
    "    42\n");

PyDoc_STRVAR(
    flush_doc,
    "flush($self, /)\n--\n\n"
    "Dispatch what is queued now, without waiting for windows.\n"
    "\n"
    "Limits hold all the same: it goes in as many batches as they ask for,\n"
    "as permits are free. What is queued later has its window.\n"
    "\n"
    "Raises:\n"
    "    TypeError: The batcher's __init__ did not call super().__init__().\n"
    "\n"
    "Example:\n"
    "    >>> async def main() -> int:\n"
    "    ...     async with Doubler(max_queue_time=3600) as doubler:\n"
    "    ...         future = doubler.process(21)\n"
    "    ...         doubler.flush()\n"
    "    ...         return await future\n"
    "    >>> asyncio.run(main())\n"
    "    42\n");

#endif
