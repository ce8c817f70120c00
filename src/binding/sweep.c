/* Cancelled items that still wait: found by looking, for a future tells
 * nobody when it is cancelled; at once where callers wait for space.
 */
#include "binding/state.h"

#include "core/intake.h"
#include "core/leave.h"

#define AB_SWEEP_ENTRIES 256

struct sweep {
    PyObject *waiters[AB_SWEEP_ENTRIES]; /* owned */
    uint64_t numbers[AB_SWEEP_ENTRIES];
    size_t count;
    struct ab_cursor next;
    uint64_t losses; // of the queue when `next` was its
};

/* Strong references to the next waiters: a call of `done` may let anything
 * happen to the queue. */
static void
look_at_some(struct ab_batcher *core, size_t most, struct sweep *sweep)
{
    struct ab_queue *queue = &core->synced_data.queue;
    sweep->count = 0;
    ab_mutex_lock(&core->mutex);
    if (sweep->next.chunk == NULL || sweep->losses != queue->losses) {
        sweep->next = ab_queue_walk(queue, sweep->next.number);
        sweep->losses = queue->losses;
    }
    struct ab_entry *entry;
    while (sweep->count < most &&
           (entry = ab_queue_next(queue, &sweep->next)) != NULL) {
        sweep->waiters[sweep->count] = Py_NewRef((PyObject *)entry->waiter);
        sweep->numbers[sweep->count++] = sweep->next.number - 1;
    }
    ab_mutex_unlock(&core->mutex);
}

/* Drop those of the waiters that are done; how many. */
static size_t
drop_done(Batcher *self, PyObject *loop, struct sweep *sweep)
{
    uint64_t numbers[AB_SWEEP_ENTRIES];
    size_t count = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        if (ab_waiter_is_done(self->state, sweep->waiters[i])) {
            numbers[count++] = sweep->numbers[i];
        }
        Py_DECREF(sweep->waiters[i]);
    }
    if (count == 0) {
        return 0;
    }
    struct ab_entry gone[AB_SWEEP_ENTRIES];
    struct ab_todo todo = {0};
    count = ab_batcher_drop(self->core, numbers, count, gone, &todo);
    for (size_t i = 0; i < count; i++) {
        Py_DECREF((PyObject *)gone[i].value);
        ab_waiter_drop(self->state, (PyObject *)gone[i].waiter);
        Py_DECREF((PyObject *)gone[i].waiter);
    }
    ab_finish_todo(self, loop, &todo);
    return count;
}

void
ab_sweep(Batcher *self, PyObject *loop, bool only_head)
{
    struct sweep sweep;
    sweep.next = (struct ab_cursor){0};
    size_t most = only_head ? 1 : AB_SWEEP_ENTRIES;
    size_t dropped, dropped_in_all = 0;
    do {
        look_at_some(self->core, most, &sweep);
        dropped = drop_done(self, loop, &sweep);
        dropped_in_all += dropped;
    } while (sweep.count == most && (!only_head || dropped > 0));
    if (dropped_in_all > 0) {
        ab_deliver(self, loop);
    }
}

/* ---- noticing cancellation at once ---- */

/* Waiters of the running loop, or of none, that are queued and not watched:
 * strong references.  One waiter of many items in a row comes once. */
static size_t
find_unwatched(Batcher *self, PyObject *loop, PyObject **waiters, size_t most)
{
    struct ab_batcher *core = self->core;
    size_t count = 0;
    ab_mutex_lock(&core->mutex);
    struct ab_link *own = ab_link_of_locked(core, loop);
    struct ab_cursor cursor = ab_queue_walk(&core->synced_data.queue, 0);
    struct ab_entry *entry;
    void *last = NULL;
    while (count < most && (entry = ab_queue_next(&core->synced_data.queue,
                                                  &cursor)) != NULL) {
        bool is_ours = entry->link == own || entry->link->mailbox == NULL;
        if (entry->is_watched || !is_ours) {
            continue;
        }
        entry->is_watched = true;
        if (entry->waiter != last) {
            last = entry->waiter;
            waiters[count++] = Py_NewRef((PyObject *)last);
        }
    }
    ab_mutex_unlock(&core->mutex);
    return count;
}

void
ab_watch_queued(Batcher *self, PyObject *loop)
{
    if (!ab_batcher_has_backlog(self->core)) {
        return;
    }
    struct ab_state *state = self->state;
    PyObject *notice = PyObject_GetAttr((PyObject *)self, state->str__on_done);
    PyObject *waiters[AB_SWEEP_ENTRIES];
    size_t count;
    while (notice != NULL && (count = find_unwatched(self, loop, waiters,
                                                     AB_SWEEP_ENTRIES)) > 0) {
        for (size_t i = 0; i < count; i++) {
            PyObject *future = ab_waiter_future(state, waiters[i]);
            PyObject *answer = PyObject_CallMethodOneArg(
                future, state->str_add_done_callback, notice);
            if (answer == NULL) {
                ab_report_error(future);
            }
            Py_XDECREF(answer);
            Py_DECREF(waiters[i]);
        }
    }
    if (notice == NULL) {
        ab_report_error((PyObject *)self);
    }
    Py_XDECREF(notice);
}

static PyObject *
sweep_and_deliver(Batcher *self, PyObject *loop)
{
    ab_sweep(self, loop, false);
    ab_deliver(self, loop);
    Py_RETURN_NONE;
}

/* _sweep(): drop cancelled items now. */
PyObject *
Batcher_sweep(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    ab_mark_clear(&self->sweeps_soon);
    PyObject *loop = ab_running_loop(self->state);
    PyObject *answer = sweep_and_deliver(self, loop);
    Py_XDECREF(loop);
    return answer;
}

/* _on_done(future): a watched waiter ended.  However many are cancelled in
 * one loop iteration, they are swept once. */
PyObject *
Batcher_on_done(PyObject *op, PyObject *future)
{
    Batcher *self = Batcher_CAST(op);
    struct ab_state *state = self->state;
    int is_cancelled = ab_is_true_and_drop(
        PyObject_CallMethodNoArgs(future, state->str_cancelled));
    if (is_cancelled < 0) {
        return NULL;
    }
    if (!is_cancelled) {
        Py_RETURN_NONE;
    }
    PyObject *loop = ab_running_loop(state);
    if (loop == NULL) {
        return sweep_and_deliver(self, NULL);
    }
    PyObject *answer = Py_NewRef(Py_None);
    if (!ab_mark_set(&self->sweeps_soon)) {
        PyObject *sweep = PyObject_GetAttr(op, state->str__sweep);
        Py_SETREF(answer, sweep == NULL
                              ? NULL
                              : PyObject_CallMethodOneArg(
                                    loop, state->str_call_soon, sweep));
        Py_XDECREF(sweep);
    }
    Py_DECREF(loop);
    return answer;
}
