/* A batch being run; see run.c for what it is and step.c for its steps. */
#ifndef AB_BINDING_RUN_H
#define AB_BINDING_RUN_H

#include "binding/batches.h"

typedef struct {
    PyObject_HEAD struct ab_state
        *state;             /* borrowed; the type keeps the module alive */
    Batcher *batcher;       /* owned */
    bool is_starting;       // its task is being made: it is not stepped yet
    bool is_due;            // the first step is to cut the batch
    bool is_paused;         // while it forms: the next step goes on
    bool is_forgotten;      // whoever steps it all the same finds it ended
    struct ab_batch *batch; /* held; NULL before the cut, while a step works
                             * on it, and once settled */
    PyObject *loop;         /* owned; that steps it; NULL: an executor */
    PyObject *task;         /* owned; that steps it, as far as is known */
    PyObject *items;        /* owned; NULL once process_batch has them */
    struct ab_rows rows;    // what it returned, while that is being stored
    PyObject *awaitable;    /* owned; what process_batch returned */
    PyObject *iterator;     /* owned; what awaiting it steps through */
    bool yields;            // counted by ab_yield_begin
} Run;

#define Run_CAST(op) ((Run *)(op))

/* ---- run.c ---- */

/* The end of the batch, if it has not ended before.  `loop`: the running one
 * or NULL. */
void ab_run_settle_error(Run *self, PyObject *error, PyObject *loop);

/* Take the hint back: this task will not answer it.  Another one may. */
void ab_run_pass_on(Run *self);

/* Nobody will step it any more: the batch is rejected, or what it returned is
 * stored. */
void ab_run_drop(Run *self);

/* It is over: the task, which keeps it, is not kept by it any longer. */
void ab_run_clear(Run *self);

/* ---- pieces.c ---- */

/* Cut one piece.  True: the batch is complete, its items are to be processed;
 * else *sent is what the step has to say. */
bool ab_run_cut(Run *self, PySendResult *sent);

/* process_batch returned `result` (stolen): store it, or a first piece.  And
 * the next one; what these give is what the step has to say. */
PySendResult ab_run_end_with_result(Run *self, PyObject *result,
                                    PyObject **out);
PySendResult ab_run_store(Run *self, PyObject **out);

/* Store all that is left, and end the batch.  `loop`: the running one or NULL.
 */
void ab_run_store_rest(Run *self, PyObject *loop);

/* ---- step.c ---- */

PySendResult Run_send(PyObject *op, PyObject *value, PyObject **out);
PyObject *Run_send_method(PyObject *op, PyObject *value);
PyObject *Run_iternext(PyObject *op);
PyObject *Run_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs);
PyObject *Run_close(PyObject *op, PyObject *unused);

#endif
