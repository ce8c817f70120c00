/* A batch being run; see run.c for what it is and step.c for its steps. */
#ifndef AB_BINDING_RUN_H
#define AB_BINDING_RUN_H

#include "binding/state.h"

typedef struct {
    PyObject_HEAD struct ab_state
        *state;             /* borrowed; the type keeps the module alive */
    Batcher *batcher;       /* owned */
    struct ab_batch *batch; /* held; NULL once settled */
    PyObject *items;        /* owned; NULL once process_batch has them */
    PyObject *awaitable;    /* owned; what process_batch returned */
    PyObject *iterator;     /* owned; what awaiting it steps through */
    bool yields;            // counted by ab_yield_begin
} Run;

#define Run_CAST(op) ((Run *)(op))

/* ---- run.c ---- */

/* The end of the batch, if it has not ended before. */
void ab_run_settle_result(Run *self, PyObject *result);
void ab_run_settle_error(Run *self, PyObject *error);

/* Nobody will step it any more: the batch is rejected. */
void ab_run_drop(Run *self);

/* ---- step.c ---- */

PySendResult Run_send(PyObject *op, PyObject *value, PyObject **out);
PyObject *Run_send_method(PyObject *op, PyObject *value);
PyObject *Run_iternext(PyObject *op);
PyObject *Run_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs);
PyObject *Run_close(PyObject *op, PyObject *unused);

#endif
