/* From a hint to what each caller is told: cutting, running, settling and
 * telling, and the workers.  What state.h says of results holds here, too.
 */
#ifndef AB_BINDING_BATCHES_H
#define AB_BINDING_BATCHES_H

#include "binding/state.h"

/* ---- deliver.c ---- */

/* Tell all that can be told here, and wake the loops that tell the rest.
 * `loop`: the one that called us, as a step of a run or the reader, whose own
 * waiters are told then.  NULL where code of the user did, however deep it is:
 * a loop that cannot note what a future wakes up forgets it. */
void ab_deliver(Batcher *self, PyObject *loop);

/* Tell up to *budget waiters of `link`; what is left is posted. */
void ab_tell_link(Batcher *self, struct ab_link *link, size_t *budget);

/* ---- settle.c ---- */

/* The results of a batch on their way into it. */
struct ab_rows {
    PyObject *rows; /* owned; a sequence, or None for each; NULL: none came */
    PyObject *seen; /* owned or NULL; exceptions that were rows before */
    size_t stored;
};

/* Look at what process_batch returned (a new reference is not taken), and
 * store a piece of it; 1: there is more, 0, or -1. */
int ab_rows_begin(Batcher *self, const struct ab_batch *batch,
                  PyObject *result, struct ab_rows *rows);
int ab_rows_store(Batcher *self, struct ab_batch *batch, struct ab_rows *rows);
void ab_rows_clear(struct ab_rows *rows);

/* End `batch`, tell, and let the batch go.  `loop`: the running one or NULL.
 * With the rows that are stored, or where `status` is -1 with the exception
 * that is set; with what process_batch returned or raised (new references are
 * not taken); with the error of a forced stop. */
void ab_settle_rows(Batcher *self, struct ab_batch *batch,
                    struct ab_rows *rows, int status, PyObject *loop);
void ab_settle_result(Batcher *self, struct ab_batch *batch, PyObject *result,
                      PyObject *loop);
void ab_settle_error(Batcher *self, struct ab_batch *batch, PyObject *error,
                     PyObject *loop);
void ab_settle_refused(Batcher *self, struct ab_batch *batch, PyObject *loop);

/* Refuse everything that waits in `what` (enum ab_collect) with `error`. */
int ab_refuse(Batcher *self, struct ab_link *link, unsigned what,
              PyObject *error);

/* ---- dispatch.c ---- */

/* Of a batch that is larger than this a loop cuts one piece in an iteration,
 * and stores one of its results: neither takes longer than a few ms. */
#define AB_PIECE 16384

/* Cut a batch that `link` (NULL: a worker) hosts; *items is its list, a new
 * reference.  NULL without an exception: nothing is due. */
struct ab_batch *ab_cut(Batcher *self, struct ab_link *link, PyObject *loop,
                        PyObject **items);

/* The same in steps.  `begin`: NULL if nothing is due.  `fill`, again while it
 * gives true; between two calls the batch may be paused.  `end`: the list, a
 * new reference; NULL without an exception: the batch has ended. */
struct ab_batch *ab_cut_begin(Batcher *self, struct ab_link *link,
                              PyObject *loop);
bool ab_cut_fill(Batcher *self, struct ab_batch *batch, PyObject *loop);
PyObject *ab_cut_end(Batcher *self, struct ab_batch *batch, PyObject *loop);

/* Start a task on the running loop that will cut a batch, if one is due.  If
 * it cannot be started the batch is rejected; if only the stack of the caller
 * is too deep, there is another try by the reader. */
void ab_start_run(Batcher *self, PyObject *loop, bool is_last_try);

/* Cut the batch that is due on the running loop, and reject it with the
 * exception that is set. */
void ab_reject_due(Batcher *self, PyObject *loop);

/* A hint came by the mailbox: the same, or start a batch in the executor. */
void ab_dispatch_on_loop(Batcher *self, struct ab_link *link, PyObject *loop);

/* Cut and run one batch on this worker, or hand it to the executor. */
void ab_dispatch_on_worker(Batcher *self);

/* Call process_batch(items) as its signature wants it: a new reference. */
PyObject *ab_call_process_batch(Batcher *self, PyObject *items);

/* ---- run.c ---- */

/* A batch being run: the coroutine of its task, which cuts the batch itself
 * in the `loop`, or the done callback of its executor future (`loop` NULL).
 * Owns the batch; dropped unfinished, it rejects it, or stores what it
 * returned. */
PyObject *ab_run_new(Batcher *batcher, PyObject *loop, struct ab_batch *batch);

/* Take the batch away from the run: somebody else settles it. */
struct ab_batch *ab_run_take_batch(PyObject *run);

/* The run is over, whatever it had to do. */
void ab_run_forget(PyObject *run);

/* The task that will step the run; -1 if it was closed meanwhile. */
int ab_run_set_task(PyObject *run, PyObject *task);

/* Until the run ends, busy loops let other threads have the interpreter. */
void ab_run_begin_yield(PyObject *run);

/* ---- worker.c ---- */

/* Start a worker that the core has counted.  Rejects what nobody else would
 * serve if none can be started and none is alive. */
void ab_start_worker(Batcher *self);

/* Is this thread a worker that serves the batcher just now? */
bool ab_is_served_here(const Batcher *self);

/* Exit does not wait for workers that run a batch now; a worker that ends one
 * all the same is waited for again. */
void ab_abandon_workers(Batcher *self);
void ab_reclaim_worker(struct ab_batch *batch);

/* At exit: no worker starts any more, queued items are rejected, and running
 * batches are waited for. */
PyObject *ab_end_workers(PyObject *module, PyObject *unused);

#endif
