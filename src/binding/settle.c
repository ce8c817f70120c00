/* From what process_batch returned or raised to what each caller gets. */
#include "binding/batches.h"

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

/* A list is the user's, who may change it before all of it is stored. */
static int
make_own(struct ab_rows *rows)
{
    if (PyList_CheckExact(rows->rows)) {
        Py_ssize_t size = PyList_GET_SIZE(rows->rows);
        Py_SETREF(rows->rows, PyList_GetSlice(rows->rows, 0, size));
    }
    return rows->rows != NULL ? 1 : -1;
}

int
ab_rows_begin(Batcher *self, const struct ab_batch *batch, PyObject *result,
              struct ab_rows *rows)
{
    *rows = (struct ab_rows){0};
    rows->rows = result == Py_None
                     ? Py_NewRef(result)
                     : rows_of(self->state, result, (Py_ssize_t)batch->length);
    if (rows->rows == NULL) {
        return -1;
    }
    return batch->length > AB_PIECE ? make_own(rows) : 1;
}

/* Store at most AB_ROWS rows. */
static int
store_some(Batcher *self, struct ab_batch *batch, struct ab_rows *rows)
{
    void *some[AB_ROWS];
    size_t count = 0;
    int status = 0;
    while (count < AB_ROWS && rows->stored + count < batch->length &&
           status == 0) {
        some[count] =
            read_row(self->state, rows->rows,
                     (Py_ssize_t)(rows->stored + count), &rows->seen);
        if (some[count] != NULL) {
            count++;
        }
        else {
            status = -1;
        }
    }
    ab_batch_store(batch, rows->stored, some, count);
    drop_rows(some, count);
    rows->stored += count;
    return status;
}

int
ab_rows_store(Batcher *self, struct ab_batch *batch, struct ab_rows *rows)
{
    for (size_t end = rows->stored + AB_PIECE;
         rows->stored < batch->length && rows->stored < end;) {
        if (store_some(self, batch, rows) < 0) {
            return -1;
        }
    }
    return rows->stored < batch->length;
}

void
ab_rows_clear(struct ab_rows *rows)
{
    Py_CLEAR(rows->rows);
    Py_CLEAR(rows->seen);
}

void
ab_settle_rows(Batcher *self, struct ab_batch *batch, struct ab_rows *rows,
               int status, PyObject *loop)
{
    PyObject *error = status < 0 ? PyErr_GetRaisedException() : NULL;
    ab_rows_clear(rows);
    if (error == NULL) {
        log_batch(self, batch);
        finish(self, batch, false, loop);
        return;
    }
    ab_settle_error(self, batch, error, loop);
    Py_DECREF(error);
}

void
ab_settle_result(Batcher *self, struct ab_batch *batch, PyObject *result,
                 PyObject *loop)
{
    struct ab_rows rows;
    int status = ab_rows_begin(self, batch, result, &rows);
    while (status > 0) {
        status = ab_rows_store(self, batch, &rows);
        if (status > 0) {
            ab_let_others_run(loop);
        }
    }
    ab_settle_rows(self, batch, &rows, status, loop);
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

void
ab_settle_refused(Batcher *self, struct ab_batch *batch, PyObject *loop)
{
    PyObject *error = ab_exception_of(self, AB_CLOSED);
    if (error == NULL) {
        error = PyErr_GetRaisedException();
    }
    store_error(batch, error);
    finish(self, batch, true, loop);
    Py_DECREF(error);
}

int
ab_refuse(Batcher *self, struct ab_link *link, unsigned what, PyObject *error)
{
    struct ab_batch *batch;
    enum ab_status status = ab_batch_collect(self->core, link, what, &batch);
    if (status != AB_OK) {
        PyErr_NoMemory();
        return -1;
    }
    if (batch != NULL) {
        store_error(batch, error);
        finish(self, batch, true, NULL);
    }
    return 0;
}
