#include "core/crew.h"

#include "core/clock.h"
#include "core/decide.h"
#include "core/outbox.h"
#include "core/registry.h"

static atomic_bool workers_quit; // set at the end of the interpreter

static struct {
    struct ab_mutex mutex;
    struct ab_cond ended; // timed from the first wait on
    bool is_timed;
    size_t alive;         // of all batchers, less those nobody waits for
    struct ab_mutex line; // of those that leave
} workers = {
#ifdef _WIN32
    .mutex = {SRWLOCK_INIT},
    .ended = {CONDITION_VARIABLE_INIT},
    .line = {SRWLOCK_INIT},
#else
    .mutex = {PTHREAD_MUTEX_INITIALIZER},
    .ended = {PTHREAD_COND_INITIALIZER},
    .line = {PTHREAD_MUTEX_INITIALIZER},
#endif
};

static bool
may_leave(const struct ab_batcher *batcher)
{
    return batcher->synced_data.is_orphaned ||
           (batcher->synced_data.is_closing &&
            ab_batcher_is_drained_locked(batcher)) ||
           ab_workers_are_quitting();
}

/* Wait for a change, or for the time that only a worker keeps. */
static void
wait_idle(struct ab_batcher *batcher)
{
    int64_t due_ns = batcher->synced_data.unarmed_ns;
    int64_t now_ns = ab_clock_now_ns();
    if (now_ns < due_ns) {
        ab_cond_wait_for_due(&batcher->workers_wanted, &batcher->mutex,
                             due_ns);
        return;
    }
    batcher->synced_data.unarmed_ns = AB_NEVER;
    ab_decide_locked(batcher, NULL, now_ns, NULL);
}

bool
ab_worker_wait(struct ab_batcher *batcher, bool is_new)
{
    ab_mutex_lock(&batcher->mutex);
    if (!is_new) {
        // A worker that comes back was busy.  With no busy one counted it is
        // the one that forked: the child counts it from here on.
        if (batcher->synced_data.workers ==
            batcher->synced_data.idle_workers) {
            batcher->synced_data.workers++;
        }
        batcher->synced_data.idle_workers++;
        // Whoever decided while this worker was busy found nobody to wake.
        ab_decide_locked(batcher, NULL, ab_clock_now_ns(), NULL);
    }
    while (batcher->synced_data.hint != AB_HINT_GIVEN && !may_leave(batcher)) {
        wait_idle(batcher);
    }
    batcher->synced_data.idle_workers--;
    bool has_work = !may_leave(batcher);
    if (has_work) {
        batcher->synced_data.hint = AB_HINT_TAKEN;
        if (batcher->synced_data.unarmed_ns != AB_NEVER) {
            ab_cond_signal(&batcher->workers_wanted); // another keeps it
        }
    }
    else {
        batcher->synced_data.workers--;
        ab_batcher_tell_idle_locked(batcher);
        ab_batcher_wake_untold_locked(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
    return has_work;
}

void
ab_worker_return_hint(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    if (batcher->synced_data.hint == AB_HINT_TAKEN) {
        batcher->synced_data.hint = AB_HINT_NONE;
    }
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_worker_failed_to_start(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.idle_workers--;
    batcher->synced_data.workers--;
    if (batcher->synced_data.idle_workers == 0 &&
        batcher->synced_data.hint == AB_HINT_GIVEN) {
        batcher->synced_data.hint = AB_HINT_NONE;
    }
    ab_batcher_tell_idle_locked(batcher);
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_workers_quit(void)
{
    atomic_store(&workers_quit, true);
    struct ab_batcher *batcher = NULL;
    while ((batcher = ab_registry_next(batcher)) != NULL) {
        ab_mutex_lock(&batcher->mutex);
        ab_cond_broadcast(&batcher->workers_wanted);
        ab_mutex_unlock(&batcher->mutex);
    }
}

void
ab_workers_resume(void)
{
    if (ab_workers_are_quitting()) {
        // One that was given up may have ended, in the line, with the last.
        ab_mutex_init(&workers.line);
        ab_mutex_lock(&workers.mutex);
        workers.alive = 0; // some, if a signal ended the wait for them
        ab_mutex_unlock(&workers.mutex);
    }
    atomic_store(&workers_quit, false);
}

bool
ab_workers_are_quitting(void)
{
    return atomic_load(&workers_quit);
}

/* ---- all of them ---- */

void
ab_workers_count(int change)
{
    ab_mutex_lock(&workers.mutex);
    ptrdiff_t alive = (ptrdiff_t)workers.alive + change;
    workers.alive = alive > 0 ? (size_t)alive : 0; // the one that forked
    ab_cond_broadcast(&workers.ended);
    ab_mutex_unlock(&workers.mutex);
}

bool
ab_workers_wait_for_none(int64_t longest_ns)
{
    int64_t due_ns = ab_clock_now_ns() + longest_ns;
    ab_mutex_lock(&workers.mutex);
    if (!workers.is_timed) {
        // Made here it knows the clock of our times, and nobody waits yet.
        ab_cond_init(&workers.ended);
        workers.is_timed = true;
    }
    while (workers.alive > 0 && ab_clock_now_ns() < due_ns) {
        ab_cond_wait_for_due(&workers.ended, &workers.mutex, due_ns);
    }
    bool is_none = workers.alive == 0;
    ab_mutex_unlock(&workers.mutex);
    return is_none;
}

void
ab_workers_line_up(void)
{
    ab_mutex_lock(&workers.line);
}

void
ab_workers_move_up(void)
{
    ab_mutex_unlock(&workers.line);
}

void
ab_workers_before_fork(void)
{
    ab_mutex_lock(&workers.mutex);
}

void
ab_workers_after_fork_parent(void)
{
    ab_mutex_unlock(&workers.mutex);
}

void
ab_workers_after_fork_child(void)
{
    ab_cond_init(&workers.ended); // the parent's threads may wait in it
    workers.alive = 0;
    // Who stood at its head is the parent's, and was not waited for: it waits
    // for the interpreter lock itself, which the forking thread may have.
    ab_mutex_init(&workers.line);
    ab_mutex_unlock(&workers.mutex);
}
