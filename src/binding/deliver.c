/* Telling waiters: each on its own loop, and never so many in one loop
 * iteration that the loop stands still.  Callers without a loop are told where
 * their batch ends, all of them: a loop that left some for later may stop.
 */
#include "binding/batches.h"

#include "core/clock.h"

#ifndef _WIN32
#include <unistd.h>
#endif

#define AB_PARCELS 64
// Outside the reader, which has a budget of its own, at most this many
// waiters are told in a span; the rest go through the reader.
#define AB_SPAN_NS 5000000
#define AB_SPAN_WAITERS 1024

static enum ab_answer
answer_in(const struct ab_parcel *parcel)
{
    if (parcel->is_failed) {
        return AB_ANSWER_SHARED;
    }
    bool is_error = parcel->kind == AB_ITEM &&
                    PyObject_TypeCheck((PyObject *)parcel->value,
                                       (PyTypeObject *)PyExc_Exception);
    return is_error ? AB_ANSWER_ERROR : AB_ANSWER_RESULT;
}

/* Count the parcel; false: nobody is there to be told. */
static bool
sort_parcel(struct ab_state *state, const struct ab_parcel *parcel,
            bool is_dead, struct ab_told *told)
{
    bool is_gone = is_dead || parcel->kind == AB_SILENT ||
                   ab_waiter_is_done(state, (PyObject *)parcel->waiter);
    if (parcel->kind == AB_WATCHER || parcel->kind == AB_STOPPER) {
        told->watchers++;
    }
    else if (parcel->kind != AB_ITEM) {
        told->uncounted++;
        // A caller that waited for space and is refused.
        told->rejected += parcel->kind == AB_SPACE && parcel->is_failed;
    }
    else if (is_gone) {
        told->cancelled++;
    }
    else if (answer_in(parcel) != AB_ANSWER_RESULT) {
        told->failed++;
    }
    else {
        told->completed++;
    }
    return !is_gone;
}

/* A waiter that resumes finds itself in the statistics; and who waits for
 * idleness, that each is told. */
static void
tell_parcels(Batcher *self, struct ab_link *link, struct ab_parcel *parcels,
             size_t count, bool is_dead)
{
    struct ab_state *state = self->state;
    bool is_told[AB_PARCELS];
    struct ab_told told = {0};
    for (size_t i = 0; i < count; i++) {
        is_told[i] = sort_parcel(state, &parcels[i], is_dead, &told);
    }
    ab_link_count(link, &told);
    for (size_t i = 0; i < count; i++) {
        PyObject *waiter = parcels[i].waiter;
        PyObject *value = parcels[i].value;
        if (is_told[i]) {
            ab_waiter_tell(state, waiter, parcels[i].index, value,
                           answer_in(&parcels[i]));
        }
        else if (parcels[i].kind == AB_ITEM) {
            ab_waiter_drop(state, waiter);
        }
        Py_DECREF(waiter);
        Py_XDECREF(value);
    }
    struct ab_todo todo = {0};
    ab_link_told(link, &told, &todo);
    ab_finish_todo(self, NULL, &todo);
    if (told.uncounted > 0) { // somebody was admitted: watch it, too
        PyObject *loop = ab_running_loop(state);
        ab_watch_queued(self, loop);
        Py_XDECREF(loop);
    }
}

void
ab_tell_link(Batcher *self, struct ab_link *link, size_t *budget)
{
    while (*budget > 0) {
        struct ab_parcel parcels[AB_PARCELS];
        size_t count = ab_link_take(
            link, parcels, *budget < AB_PARCELS ? *budget : AB_PARCELS);
        if (count == 0) {
            return;
        }
        tell_parcels(self, link, parcels, count, false);
        *budget -= count;
    }
}

/* Tell waiters of the running loop here and now, as far as this span goes. */
static void
tell_own(Batcher *self, PyObject *loop)
{
    ab_mutex_lock(&self->core->mutex);
    struct ab_link *link = ab_link_of_locked(self->core, loop);
    bool has_any = link != NULL && link->synced_data.outbox != NULL;
    ab_mutex_unlock(&self->core->mutex);
    if (!has_any) {
        return;
    }
    struct ab_mailbox *mailbox = link->mailbox;
    int64_t now_ns = ab_clock_now_ns();
    if (now_ns - mailbox->thread_data.told_since_ns > AB_SPAN_NS) {
        mailbox->thread_data.told_since_ns = now_ns;
        mailbox->thread_data.told = 0;
    }
    size_t budget = mailbox->thread_data.told < AB_SPAN_WAITERS
                        ? AB_SPAN_WAITERS - mailbox->thread_data.told
                        : 0;
    size_t left = budget;
    ab_tell_link(self, link, &left);
    mailbox->thread_data.told += budget - left;
}

/* ---- callers without a loop ---- */

#define AB_DELIVERIES 16

/* Batchers whose callers this thread is telling, the innermost last.  In the
 * child of a fork those are the parent's. */
static _Thread_local struct {
    const struct ab_batcher *cores[AB_DELIVERIES];
    size_t count;
    long process;
} delivering;

static long
this_process(void)
{
#ifdef _WIN32
    return 0;
#else
    return (long)getpid();
#endif
}

static bool
is_delivered_here(const struct ab_batcher *core)
{
    bool is_found = false;
    for (size_t i = 0; i < delivering.count; i++) {
        is_found |= delivering.cores[i] == core;
    }
    return is_found && delivering.process == this_process();
}

/* How many there were before: what `count` is to be afterwards. */
static size_t
begin_delivery(const struct ab_batcher *core)
{
    if (delivering.process != this_process()) {
        delivering.process = this_process();
        delivering.count = 0;
    }
    size_t before = delivering.count;
    if (before < AB_DELIVERIES) {
        delivering.cores[delivering.count++] = core;
    }
    return before;
}

void
ab_deliver(Batcher *self, PyObject *loop)
{
    if (loop != NULL) {
        tell_own(self, loop);
    }
    // In a callback of one that is told: whoever tells goes on with the rest,
    // or each would be told inside the one before, as deep as there are many.
    size_t most = is_delivered_here(self->core) ? 0 : AB_PARCELS;
    for (;;) {
        struct ab_parcel parcels[AB_PARCELS];
        struct ab_link *link = NULL;
        struct ab_mailbox *wake;
        size_t count =
            ab_batcher_take_stray(self->core, parcels, most, &link, &wake);
        if (count > 0) {
            size_t before = begin_delivery(self->core);
            tell_parcels(self, link, parcels, count, link->mailbox != NULL);
            delivering.count = before;
        }
        else if (wake != NULL) {
            ab_wake_loop(self->state, wake);
            ab_mailbox_release(wake);
        }
        else {
            return;
        }
    }
}
