/* Cancelled items that still wait: found by looking, for a future tells
 * nobody when it is cancelled; at once where callers wait for space.
 *
 * Looking costs as much as the queue is long.  Before a refusal that is little
 * beside what it saves; but an overload is refused thousands of times, and
 * must not be made worse by looking each time.  So refusals look as often as
 * takes a tenth of the time, and two milliseconds in one go.
 */
#include "binding/batches.h"

#include "core/clock.h"
#include "core/intake.h"
#include "core/leave.h"

#define AB_SWEEP_ENTRIES 256
#define AB_SWEEP_SHARE 10 // refusals look for one part in ten of the time
#define AB_SWEEP_BURST_NS INT64_C(2000000) // and for as long as this at once

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

/* Drop those of the waiters that are done, or with `only_head` those before
 * the first that waits; how many. */
static size_t
drop_done(Batcher *self, PyObject *loop, struct sweep *sweep, bool only_head)
{
    uint64_t numbers[AB_SWEEP_ENTRIES];
    size_t count = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        if ((!only_head || count == i) &&
            ab_waiter_is_done(self->state, sweep->waiters[i])) {
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
    bool goes_on;
    do {
        look_at_some(self->core, most, &sweep);
        dropped = drop_done(self, loop, &sweep, only_head);
        dropped_in_all += dropped;
        goes_on = sweep.count == most && (!only_head || dropped == most);
        most = most < AB_SWEEP_ENTRIES ? 2 * most : most;
    } while (goes_on);
    if (dropped_in_all > 0) {
        ab_deliver(self, NULL);
    }
}

void
ab_sweep_for_room(Batcher *self, PyObject *loop)
{
    struct ab_batcher *core = self->core;
    int64_t began_ns = ab_clock_now_ns();
    ab_mutex_lock(&core->mutex);
    bool is_paid = self->sweep_paid_ns <= began_ns;
    ab_mutex_unlock(&core->mutex);
    if (!is_paid) {
        return;
    }
    ab_sweep(self, loop, false);
    int64_t price_ns = AB_SWEEP_SHARE * (ab_clock_now_ns() - began_ns);
    int64_t credit_ns = began_ns - AB_SWEEP_SHARE * AB_SWEEP_BURST_NS;
    ab_mutex_lock(&core->mutex);
    if (self->sweep_paid_ns < credit_ns) {
        self->sweep_paid_ns = credit_ns;
    }
    self->sweep_paid_ns += price_ns;
    ab_mutex_unlock(&core->mutex);
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

/* Note that the running loop is to sweep, or did.  False: it was noted.  On a
 * loop that the batcher does not know nothing is. */
static bool
mark_sweep(Batcher *self, PyObject *loop, bool is_soon)
{
    ab_mutex_lock(&self->core->mutex);
    struct ab_link *link = ab_link_of_locked(self->core, loop);
    bool changes = link == NULL;
    if (link != NULL) {
        changes = link->synced_data.sweeps_soon != is_soon;
        link->synced_data.sweeps_soon = is_soon;
    }
    ab_mutex_unlock(&self->core->mutex);
    return changes;
}

static PyObject *
sweep_and_deliver(Batcher *self, PyObject *loop)
{
    ab_sweep(self, loop, false);
    ab_deliver(self, NULL);
    Py_RETURN_NONE;
}

/* _sweep(): drop cancelled items now. */
PyObject *
Batcher_sweep(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = ab_running_loop(self->state);
    (void)mark_sweep(self, loop, false);
    PyObject *answer = sweep_and_deliver(self, loop);
    Py_XDECREF(loop);
    return answer;
}

static int
call_sweep_soon(Batcher *self, PyObject *loop)
{
    struct ab_state *state = self->state;
    PyObject *sweep = PyObject_GetAttr((PyObject *)self, state->str__sweep);
    PyObject *handle =
        sweep != NULL
            ? PyObject_CallMethodOneArg(loop, state->str_call_soon, sweep)
            : NULL;
    Py_XDECREF(sweep);
    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

/* _on_done(future): a watched waiter ended.  The first that is cancelled in a
 * loop iteration is swept at once, all others together, in the next one: the
 * loop may stop before. */
PyObject *
Batcher_on_done(PyObject *op, PyObject *future)
{
    Batcher *self = Batcher_CAST(op);
    int is_cancelled = ab_is_true_and_drop(
        PyObject_CallMethodNoArgs(future, self->state->str_cancelled));
    if (is_cancelled < 0) {
        return NULL;
    }
    if (!is_cancelled) {
        Py_RETURN_NONE;
    }
    PyObject *loop = ab_running_loop(self->state);
    if (loop == NULL) {
        return sweep_and_deliver(self, NULL);
    }
    if (!mark_sweep(self, loop, true)) {
        Py_DECREF(loop);
        Py_RETURN_NONE;
    }
    if (call_sweep_soon(self, loop) < 0) {
        (void)mark_sweep(self, loop, false);
        ab_report_error(op);
    }
    PyObject *answer = sweep_and_deliver(self, loop);
    Py_DECREF(loop);
    return answer;
}
