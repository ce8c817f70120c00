/* The two ends of a run that grow with its batch: the cut before process_batch
 * is called, and the storing of what it returned.
 *
 * A batch may be as large as memory allows, and its loop must not stand still
 * for it.  So each step of the run cuts, or stores, one piece; a batch of one
 * piece, as nearly all are, takes no step more.  Between two steps the run
 * holds the batch as while process_batch awaits something.  During a step it
 * does not: what is called then (a destructor, a copied exception) may close
 * the run, and must not end a batch that is being worked on.
 */
#include "binding/run.h"

/* ---- cutting ---- */

/* Close the batch: its items are to be processed, unless it ended. */
static bool
end_cut(Run *self, PyObject *loop, struct ab_batch *batch)
{
    struct ab_batcher *core = self->batcher->core;
    self->items = ab_cut_end(self->batcher, batch, loop);
    if (self->items == NULL) {
        ab_run_clear(self);
        return false;
    }
    ab_mutex_lock(&core->mutex);
    bool is_refused = batch->is_aborted; // since it was formed
    if (!is_refused && !batch->is_settled) {
        batch->task = Py_XNewRef(self->task);
    }
    ab_mutex_unlock(&core->mutex);
    if (is_refused) {
        Py_CLEAR(self->items);
        ab_settle_refused(self->batcher, batch, loop);
        ab_run_clear(self);
        return false;
    }
    self->batch = batch;
    return true;
}

/* The batch of the first step, or the one that was paused; NULL if nothing is
 * due any more, or it was refused meanwhile. */
static struct ab_batch *
begin_cut(Run *self, PyObject *loop)
{
    Batcher *batcher = self->batcher;
    if (self->is_due) {
        self->is_due = false;
        struct ab_link *link = ab_link_of(batcher, loop);
        return link != NULL ? ab_cut_begin(batcher, link, loop) : NULL;
    }
    struct ab_batch *batch = ab_run_take_batch((PyObject *)self);
    self->is_paused = false;
    if (!ab_batch_resume(batch)) {
        ab_settle_refused(batcher, batch, loop);
        return NULL;
    }
    return batch;
}

static bool
cut(Run *self, PyObject *loop, PySendResult *sent)
{
    struct ab_batch *batch = begin_cut(self, loop);
    *sent = PYGEN_RETURN;
    if (batch == NULL) {
        ab_run_clear(self);
        return false;
    }
    if (!ab_cut_fill(self->batcher, batch, loop)) {
        return end_cut(self, loop, batch);
    }
    struct ab_todo todo = {0};
    ab_batch_pause(batch, &todo);
    self->batch = batch;
    self->is_paused = true;
    if (self->loop == NULL) { // it was closed in its cut: its task goes on
        self->loop = Py_NewRef(loop);
    }
    ab_finish_todo(self->batcher, loop, &todo);
    ab_deliver(self->batcher, loop); // some who waited for space are admitted
    *sent = PYGEN_NEXT;
    return false;
}

bool
ab_run_cut(Run *self, PySendResult *sent)
{
    PyObject *loop = Py_NewRef(self->loop); // a run that is closed forgets it
    bool is_cut = cut(self, loop, sent);
    Py_DECREF(loop);
    return is_cut;
}

/* ---- storing ---- */

/* Store one piece of the results.  While it does, nobody else ends the batch:
 * reading a row may call anything. */
static PySendResult
store(Run *self, struct ab_batch *batch, struct ab_rows *rows, int status,
      PyObject **out)
{
    if (status > 0) {
        status = ab_rows_store(self->batcher, batch, rows);
    }
    *out = Py_NewRef(Py_None);
    if (status > 0) {
        self->batch = batch;
        self->rows = *rows;
        return PYGEN_NEXT;
    }
    ab_settle_rows(self->batcher, batch, rows, status, self->loop);
    ab_run_clear(self);
    return PYGEN_RETURN;
}

PySendResult
ab_run_end_with_result(Run *self, PyObject *result, PyObject **out)
{
    struct ab_batch *batch = ab_run_take_batch((PyObject *)self);
    struct ab_rows rows;
    Py_CLEAR(self->iterator);
    Py_CLEAR(self->awaitable);
    if (batch == NULL) { // it was dropped from inside
        ab_run_clear(self);
        *out = Py_NewRef(Py_None);
        Py_DECREF(result);
        return PYGEN_RETURN;
    }
    int status = ab_rows_begin(self->batcher, batch, result, &rows);
    Py_DECREF(result);
    return store(self, batch, &rows, status, out);
}

PySendResult
ab_run_store(Run *self, PyObject **out)
{
    struct ab_batch *batch = ab_run_take_batch((PyObject *)self);
    struct ab_rows rows = self->rows;
    self->rows = (struct ab_rows){0};
    return store(self, batch, &rows, 1, out);
}

void
ab_run_store_rest(Run *self, PyObject *loop)
{
    struct ab_batch *batch = ab_run_take_batch((PyObject *)self);
    struct ab_rows rows = self->rows;
    self->rows = (struct ab_rows){0};
    int status = 1;
    while (status > 0) {
        status = ab_rows_store(self->batcher, batch, &rows);
    }
    ab_settle_rows(self->batcher, batch, &rows, status, loop);
}
