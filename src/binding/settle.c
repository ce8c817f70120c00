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
    // Callers first: what they submit when they resume joins the next batch,
    // unless that is full; then it need not wait for them.
    if (!todo.is_full) {
        ab_deliver(self, loop);
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
        ab_report_error((PyObject *)self);
    }
    Py_XDECREF(answer);
}

/* ---- results ---- */

static void
set_result_error(struct ab_state *state, PyObject *result)
{
    PyErr_Format(state->BatchResultError,
                 "process_batch must return a list, a tuple, an array or "
                 "another sequence with one result for each item, or None; "
                 "not %.200s",
                 Py_TYPE(result)->tp_name);
}

/* The sequence of `length` rows behind `result`, a new reference. */
static PyObject *
rows_of(struct ab_state *state, PyObject *result, Py_ssize_t length)
{
    PyObject *rows = Py_NewRef(result);
    if (!PyList_CheckExact(result)) {
        // None: of a kind that is refused.
        Py_SETREF(rows, PyObject_CallOneArg(state->as_rows, result));
        if (rows == NULL) {
            return NULL;
        }
        if (!PySequence_Check(rows)) {
            set_result_error(state, result);
            Py_DECREF(rows);
            return NULL;
        }
    }
    Py_ssize_t size = PyObject_Size(rows);
    if (size != length) {
        if (size >= 0) {
            PyErr_Format(state->BatchResultError,
                         "process_batch returned %zd results for %zd items",
                         size, length);
        }
        Py_CLEAR(rows);
    }
    return rows;
}

/* Was this very object noted before?  1, 0 or -1. */
static int
note_seen(PyObject *seen, PyObject *row)
{
    PyObject *key = PyLong_FromVoidPtr(row);
    if (key == NULL) {
        return -1;
    }
    int was_seen = PyDict_Contains(seen, key);
    if (was_seen == 0 && PyDict_SetItem(seen, key, row) < 0) {
        was_seen = -1;
    }
    Py_DECREF(key);
    return was_seen;
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
    int was_seen = *seen != NULL ? note_seen(*seen, row) : -1;
    if (was_seen > 0) {
        Py_SETREF(row, PyObject_CallOneArg(state->own_exception, row));
    }
    else if (was_seen < 0) {
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
    PyObject *rows = result == Py_None ? Py_NewRef(result)
                                       : rows_of(self->state, result,
                                                 (Py_ssize_t)batch->length);
    if (rows == NULL || store_rows(self, batch, rows) < 0) {
        Py_XDECREF(rows);
        PyObject *error = PyErr_GetRaisedException();
        ab_settle_error(self, batch, error, loop);
        Py_DECREF(error);
        return;
    }
    Py_DECREF(rows);
    log_batch(self, batch);
    finish(self, batch, false, loop);
}

/* ---- errors ---- */

/* Every entry gets the one error; what each caller is told is made when it is
 * told, so that a large batch that fails does not hold up its loop. */
static void
store_error(struct ab_batch *batch, PyObject *error)
{
    for (size_t from = 0; from < batch->length; from += AB_ROWS) {
        void *rows[AB_ROWS];
        size_t count = 0;
        while (count < AB_ROWS && from + count < batch->length) {
            rows[count++] = Py_NewRef(error);
        }
        ab_batch_store(batch, from, rows, count);
        drop_rows(rows, count);
    }
}

/* Is anybody left whose batch this is?  A forced stop has told them all, and
 * cancels the batch itself: no failure of process_batch. */
static bool
has_entry(struct ab_batch *batch)
{
    size_t i = 0;
    ab_mutex_lock(&batch->batcher->mutex);
    while (i < batch->length && batch->entries[i].waiter == NULL) {
        i++;
    }
    bool has_any = i < batch->length;
    ab_mutex_unlock(&batch->batcher->mutex);
    return has_any;
}

void
ab_settle_error(Batcher *self, struct ab_batch *batch, PyObject *error,
                PyObject *loop)
{
    bool is_cancelled =
        PyErr_GivenExceptionMatches(error, self->state->CancelledError);
    if (batch->is_running && (!is_cancelled || has_entry(batch))) {
        PyObject *answer =
            PyObject_CallFunction(self->state->note_failure, "OnO", self,
                                  (Py_ssize_t)batch->length, error);
        if (answer == NULL) {
            ab_report_error((PyObject *)self);
        }
        Py_XDECREF(answer);
    }
    store_error(batch, error);
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
        store_error(batch, error);
        finish(self, batch, true, loop);
    }
    return 0;
}
