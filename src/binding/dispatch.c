/* From a hint to a batch that runs: the cut, and the ways to run it. */
#include "binding/batches.h"

#include "core/decide.h"

/* ---- the cut ---- */

/* Take the items of cancelled waiters out of entries[from ..]; how many. */
static size_t
set_aside_cancelled(Batcher *self, struct ab_batch *batch, size_t from)
{
    size_t count = 0;
    for (size_t i = from; i < batch->length; i++) {
        // Nobody else takes entries out of a batch that is forming.
        struct ab_entry *entry = &batch->entries[i];
        PyObject *waiter = entry->waiter;
        if (ab_waiter_begin(self->state, waiter)) {
            continue;
        }
        PyObject *value = entry->value;
        entry->value = entry->waiter = NULL;
        Py_DECREF(value);
        Py_DECREF(waiter);
        count++;
    }
    return count;
}

/* The items move from the entries to the list, each visited by the collector
 * in one place only: nothing in the loop lets it run. */
static PyObject *
take_items(struct ab_batch *batch)
{
    PyObject *items = PyList_New((Py_ssize_t)batch->length);
    if (items != NULL) {
        for (size_t i = 0; i < batch->length; i++) {
            PyList_SET_ITEM(items, (Py_ssize_t)i, batch->entries[i].value);
            batch->entries[i].value = NULL;
        }
    }
    return items;
}

static void
reject_with_current_error(Batcher *self, struct ab_batch *batch,
                          PyObject *loop)
{
    PyObject *error = PyErr_GetRaisedException();
    ab_settle_error(self, batch, error, loop);
    Py_DECREF(error);
}

struct ab_batch *
ab_cut_begin(Batcher *self, struct ab_link *link, PyObject *loop)
{
    struct ab_todo todo = {0};
    struct ab_batch *batch;
    ab_sweep(self, loop, true); // the window is that of an item that waits
    (void)ab_batch_cut(self->core, link, &batch, &todo);
    ab_finish_todo(self, loop, &todo);
    return batch;
}

bool
ab_cut_fill(Batcher *self, struct ab_batch *batch, PyObject *loop)
{
    struct ab_todo todo = {0};
    size_t room = AB_PIECE, added, set_aside;
    do {
        added = ab_batch_fill(batch, room, &todo);
        set_aside = set_aside_cancelled(self, batch, batch->length - added);
        room -= added;
    } while (set_aside > 0 && room > 0); // there is room for as many again
    ab_finish_todo(self, loop, &todo);
    return room == 0 && batch->due > 0;
}

PyObject *
ab_cut_end(Batcher *self, struct ab_batch *batch, PyObject *loop)
{
    struct ab_todo todo = {0};
    bool is_started = ab_batch_start(batch, &todo);
    ab_finish_todo(self, loop, &todo);
    ab_deliver(self, loop); // some who waited for space were admitted
    if (!is_started) {
        return NULL;
    }
    PyObject *items = take_items(batch);
    bool is_here =
        items != NULL && ab_is_served_here(self) && self->executor == NULL;
    if (!ab_batch_formed(batch, is_here ? PyThread_get_thread_ident() : 0)) {
        Py_CLEAR(items);
        PyErr_Clear();
        ab_settle_refused(self, batch, loop);
    }
    else if (items == NULL) {
        reject_with_current_error(self, batch, loop);
    }
    return items;
}

struct ab_batch *
ab_cut(Batcher *self, struct ab_link *link, PyObject *loop, PyObject **items)
{
    struct ab_batch *batch = ab_cut_begin(self, link, loop);
    *items = NULL;
    if (batch != NULL) {
        while (ab_cut_fill(self, batch, loop)) {
            ab_let_others_run(loop);
        }
        *items = ab_cut_end(self, batch, loop);
    }
    return *items != NULL ? batch : NULL;
}

PyObject *
ab_call_process_batch(Batcher *self, PyObject *items)
{
    PyObject *method =
        PyObject_GetAttr((PyObject *)self, self->state->str_process_batch);
    if (method == NULL) {
        return NULL;
    }
    PyObject *args[] = {NULL, items};
    PyObject *result =
        self->is_keyword
            ? PyObject_Vectorcall(method, args + 1,
                                  PY_VECTORCALL_ARGUMENTS_OFFSET,
                                  self->state->kw_batch)
            : PyObject_Vectorcall(method, args + 1,
                                  1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(method);
    return result;
}

/* ---- as a task ---- */

void
ab_reject_due(Batcher *self, PyObject *loop)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *items = NULL;
    struct ab_batch *batch = NULL;
    struct ab_link *link = ab_link_of(self, loop);
    if (link != NULL) {
        batch = ab_cut(self, link, loop, &items);
    }
    if (batch != NULL) {
        ab_settle_error(self, batch, error, loop);
    }
    else {
        PyErr_SetRaisedException(error);
        error = NULL;
        ab_drop_error(); // another host has the batch
    }
    Py_XDECREF(items);
    Py_XDECREF(error);
}

/* A task of `run`, which copies the context it is created in: the batcher's
 * own. */
static PyObject *
new_task(Batcher *self, PyObject *run, PyObject *loop)
{
    PyObject *context = PyContext_Copy(self->context);
    PyObject *task = NULL;
    if (context != NULL && PyContext_Enter(context) == 0) {
        task =
            PyObject_CallMethodOneArg(loop, self->state->str_create_task, run);
        PyObject *error = PyErr_GetRaisedException();
        (void)PyContext_Exit(context);
        if (error != NULL) {
            PyErr_SetRaisedException(error);
        }
    }
    Py_XDECREF(context);
    return task;
}

void
ab_start_run(Batcher *self, PyObject *loop, bool is_last_try)
{
    struct ab_link *link = ab_link_of(self, loop);
    if (link == NULL || link->starts_run) {
        // Starting one failed, or asked for another: not from inside it.
        ab_post_own(self, loop);
        return;
    }
    link->starts_run = true;
    PyObject *run = ab_run_new(self, loop, NULL);
    PyObject *task = run != NULL ? new_task(self, run, loop) : NULL;
    if (task == NULL || ab_run_set_task(run, task) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        if (run != NULL) {
            ab_run_forget(run); // whoever has it must not start it any more
        }
        if (!is_last_try && link->mailbox->has_fd &&
            PyErr_GivenExceptionMatches(error, PyExc_RecursionError)) {
            // The caller is at the end of its stack, and the reader is not; it
            // takes no call of the loop to wake it.
            Py_DECREF(error);
            ab_post_own(self, loop);
        }
        else {
            PyErr_SetRaisedException(error);
            ab_reject_due(self, loop);
        }
    }
    // In the child of a fork the link is the parent's, and nobody's.
    link->starts_run = false;
    Py_XDECREF(task);
    Py_XDECREF(run); // the last reference, if the factory dropped it
}

/* ---- in the user's executor ---- */

/* The exception that is set is why `run` did not start. */
static void
reject_unstarted(Batcher *self, PyObject *run, PyObject *loop)
{
    struct ab_batch *batch = ab_run_take_batch(run);
    if (batch != NULL) {
        reject_with_current_error(self, batch, loop);
    }
    else {
        ab_drop_error();
    }
}

static PyObject *
submit(Batcher *self, PyObject *items)
{
    struct ab_state *state = self->state;
    PyObject *method =
        PyObject_GetAttr((PyObject *)self, state->str_process_batch);
    if (method == NULL) {
        return NULL;
    }
    PyObject *args[] = {self->executor, method, items};
    PyObject *future = PyObject_VectorcallMethod(
        state->str_submit, args,
        (self->is_keyword ? 2 : 3) | PY_VECTORCALL_ARGUMENTS_OFFSET,
        self->is_keyword ? state->kw_batch : NULL);
    Py_DECREF(method);
    return future;
}

static void
start_in_executor(Batcher *self, struct ab_batch *batch, PyObject *items,
                  PyObject *loop)
{
    PyObject *run = ab_run_new(self, NULL, batch);
    if (run == NULL) {
        reject_with_current_error(self, batch, loop);
        return;
    }
    ab_run_begin_yield(run);
    PyObject *future = submit(self, items);
    PyObject *answer = NULL;
    if (future != NULL) {
        answer = PyObject_CallMethodOneArg(
            future, self->state->str_add_done_callback, run);
        Py_DECREF(future);
    }
    if (answer == NULL) {
        reject_unstarted(self, run, loop);
    }
    Py_XDECREF(answer);
    Py_DECREF(run);
}

/* ---- on this worker ---- */

static PyObject *
call_in_context(Batcher *self, PyObject *items)
{
    PyObject *context = PyContext_Copy(self->context);
    PyObject *result = NULL;
    if (context != NULL && PyContext_Enter(context) == 0) {
        result = ab_call_process_batch(self, items);
        PyObject *error = PyErr_GetRaisedException();
        (void)PyContext_Exit(context);
        if (error != NULL) {
            PyErr_SetRaisedException(error);
        }
    }
    Py_XDECREF(context);
    return result;
}

static void
run_here(Batcher *self, struct ab_batch *batch, PyObject *items)
{
    PyObject *result = call_in_context(self, items);
    ab_reclaim_worker(batch);
    Py_DECREF(items);
    if (result == NULL) {
        reject_with_current_error(self, batch, NULL);
    }
    else {
        ab_settle_result(self, batch, result, NULL);
        Py_DECREF(result);
    }
}

void
ab_dispatch_on_worker(Batcher *self)
{
    PyObject *items;
    struct ab_batch *batch = ab_cut(self, NULL, NULL, &items);
    if (batch == NULL) {
        return;
    }
    if (self->executor == NULL) {
        run_here(self, batch, items);
        return;
    }
    start_in_executor(self, batch, items, NULL);
    Py_DECREF(items);
}

void
ab_dispatch_on_loop(Batcher *self, struct ab_link *link, PyObject *loop)
{
    ab_mutex_lock(&self->core->mutex);
    enum ab_host host = self->core->synced_data.host;
    bool is_hinted = host == AB_HOST_LOOP
                         ? ab_hint_take_locked(self->core)
                         : self->core->synced_data.hint == AB_HINT_GIVEN;
    ab_mutex_unlock(&self->core->mutex);
    if (!is_hinted || host == AB_HOST_WORKER) {
        struct ab_todo todo = {0};
        ab_batcher_look(self->core, link->mailbox, &todo);
        ab_finish_todo(self, loop, &todo);
        return;
    }
    if (host == AB_HOST_LOOP) {
        ab_start_run(self, loop, true);
        return;
    }
    PyObject *items;
    struct ab_batch *batch = ab_cut(self, link, loop, &items);
    if (batch != NULL) {
        start_in_executor(self, batch, items, loop);
        Py_DECREF(items);
    }
}
