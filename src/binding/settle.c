/* From what process_batch returned or raised to what each caller gets. */
#include "binding/state.h"

#include "core/clock.h"
#include "core/leave.h"

#define AB_ROWS 64

static void
drop_rows(void **rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Py_XDECREF((PyObject *)rows[i]);
    }
}

/* ---- the end of a batch ---- */

/* The rows are stored: give the permit back and tell. */
static void
finish(Batcher *self, struct ab_batch *batch, bool is_failed, PyObject *loop)
{
    struct ab_todo todo = {0};
    struct ab_mailbox *own = loop != NULL ? ab_mailbox_find(loop) : NULL;
    ab_mutex_lock(&self->core->mutex);
    PyObject *task = batch->task;
    batch->task = NULL;
    ab_mutex_unlock(&self->core->mutex);
    ab_batch_settle(batch, is_failed, own, &todo);
    if (own != NULL) {
        ab_mailbox_release(own);
    }
    ab_finish_todo(self, loop, &todo);
    ab_deliver(self, loop);
    ab_batch_let_go(batch);
    Py_XDECREF(task);
}

static void
log_batch(Batcher *self, struct ab_batch *batch)
{
    struct ab_state *state = self->state;
    PyObject *answer = PyObject_CallNoArgs(state->is_logged);
    if (answer == Py_True) {
        double time_s = (double)(ab_clock_now_ns() - batch->started_ns) / 1e9;
        Py_SETREF(answer, PyObject_CallFunction(state->log_batch, "Onsd", self,
                                                (Py_ssize_t)batch->length,
                                                ab_reason_names[batch->reason],
                                                time_s));
    }
    if (answer == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(answer);
}

/* ---- results ---- */

static int
set_result_error(struct ab_state *state, PyObject *result, const char *text)
{
    PyErr_Format(state->BatchResultError,
                 "process_batch must return a list, a tuple, an array or "
                 "another sequence with one result for each item, or None; "
                 "not %.200s%s",
                 Py_TYPE(result)->tp_name, text);
    return -1;
}

/* Is `result` a sequence of `length` rows? */
static int
check_result(struct ab_state *state, PyObject *result, Py_ssize_t length)
{
    Py_ssize_t size;
    if (PyList_CheckExact(result)) {
        size = PyList_GET_SIZE(result);
    }
    else {
        PyObject *answer =
            PyObject_CallOneArg(state->is_refused_result, result);
        if (answer == NULL) {
            return -1;
        }
        int is_refused = PyObject_IsTrue(answer);
        Py_DECREF(answer);
        if (is_refused != 0 || !PySequence_Check(result)) {
            return is_refused < 0 ? -1 : set_result_error(state, result, "");
        }
        size = PyObject_Size(result);
        if (size < 0) {
            return -1;
        }
    }
    if (size != length) {
        PyErr_Format(state->BatchResultError,
                     "process_batch returned %zd results for %zd items", size,
                     length);
        return -1;
    }
    return 0;
}

/* One row, a new reference.  An exception that was a row before is made a
 * caller's own; `seen` is a dict once there was one. */
static PyObject *
read_row(struct ab_state *state, PyObject *result, Py_ssize_t i,
         PyObject **seen)
{
    if (result == Py_None) {
        return Py_NewRef(Py_None);
    }
    PyObject *row = PySequence_GetItem(result, i);
    if (row == NULL ||
        !PyObject_TypeCheck(row, (PyTypeObject *)PyExc_Exception)) {
        return row;
    }
    if (*seen == NULL) {
        *seen = PyDict_New();
    }
    if (*seen != NULL) {
        Py_SETREF(row, PyObject_CallFunctionObjArgs(state->own_row, row, *seen,
                                                    NULL));
    }
    else {
        Py_CLEAR(row);
    }
    return row;
}

static int
store_rows(Batcher *self, struct ab_batch *batch, PyObject *result)
{
    PyObject *seen = NULL;
    int status = 0;
    for (size_t from = 0; from < batch->length && status == 0;
         from += AB_ROWS) {
        void *rows[AB_ROWS];
        size_t count = 0;
        while (count < AB_ROWS && from + count < batch->length) {
            rows[count] = read_row(self->state, result,
                                   (Py_ssize_t)(from + count), &seen);
            if (rows[count] == NULL) {
                status = -1;
                break;
            }
            count++;
        }
        ab_batch_store(batch, from, rows, count);
        drop_rows(rows, count);
    }
    Py_XDECREF(seen);
    return status;
}

void
ab_settle_result(Batcher *self, struct ab_batch *batch, PyObject *result,
                 PyObject *loop)
{
    if ((result != Py_None &&
         check_result(self->state, result, (Py_ssize_t)batch->length) < 0) ||
        store_rows(self, batch, result) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        ab_settle_error(self, batch, error, loop);
        Py_DECREF(error);
        return;
    }
    log_batch(self, batch);
    finish(self, batch, false, loop);
}

/* ---- errors ---- */

/* A list of exceptions, one for each entry, or NULL with the exception set. */
static PyObject *
own_exceptions(struct ab_state *state, struct ab_batch *batch, PyObject *error)
{
    PyObject *list = PyObject_CallFunction(state->own_exceptions, "On", error,
                                           (Py_ssize_t)batch->length);
    if (list != NULL && (!PyList_CheckExact(list) ||
                         PyList_GET_SIZE(list) != (Py_ssize_t)batch->length)) {
        Py_CLEAR(list);
        PyErr_SetString(PyExc_SystemError, "own_exceptions() misbehaved");
    }
    return list;
}

static void
store_errors(Batcher *self, struct ab_batch *batch, PyObject *error)
{
    PyObject *list = own_exceptions(self->state, batch, error);
    if (list == NULL) {
        PyErr_WriteUnraisable((PyObject *)self); // all share the original
    }
    for (size_t from = 0; from < batch->length; from += AB_ROWS) {
        void *rows[AB_ROWS];
        size_t count = 0;
        while (count < AB_ROWS && from + count < batch->length) {
            rows[count] = Py_NewRef(
                list != NULL
                    ? PyList_GET_ITEM(list, (Py_ssize_t)(from + count))
                    : error);
            count++;
        }
        ab_batch_store(batch, from, rows, count);
        drop_rows(rows, count);
    }
    Py_XDECREF(list);
}

void
ab_settle_error(Batcher *self, struct ab_batch *batch, PyObject *error,
                PyObject *loop)
{
    if (batch->is_running) {
        PyObject *answer =
            PyObject_CallFunction(self->state->log_failure, "OnO", self,
                                  (Py_ssize_t)batch->length, error);
        if (answer == NULL) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        Py_XDECREF(answer);
    }
    store_errors(self, batch, error);
    finish(self, batch, true, loop);
}

int
ab_refuse(Batcher *self, struct ab_link *link, unsigned what, PyObject *error,
          PyObject *loop)
{
    struct ab_batch *batch;
    enum ab_status status = ab_batch_collect(self->core, link, what, &batch);
    if (status != AB_OK) {
        PyErr_NoMemory();
        return -1;
    }
    if (batch != NULL) {
        store_errors(self, batch, error);
        finish(self, batch, true, loop);
    }
    return 0;
}
