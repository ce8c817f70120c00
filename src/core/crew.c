#include "core/crew.h"

#include "core/clock.h"
#include "core/decide.h"
#include "core/outbox.h"
#include "core/registry.h"

static atomic_bool workers_quit; // set at the end of the interpreter

static bool
may_leave(const struct ab_batcher *batcher)
{
    return batcher->synced_data.is_orphaned ||
           (batcher->synced_data.is_closing &&
            batcher->synced_data.outstanding == 0) ||
           ab_workers_are_quitting();
}

/* The worker that leaves holds nothing of Python any more. */
static void
wake_by_fd(struct ab_batcher *batcher)
{
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        if (link->synced_data.outbox != NULL && link->mailbox != NULL &&
            link->mailbox->has_fd) {
            (void)ab_mailbox_post(link->mailbox, link, true);
        }
    }
}

bool
ab_worker_wait(struct ab_batcher *batcher, bool is_new)
{
    ab_mutex_lock(&batcher->mutex);
    if (!is_new) {
        batcher->synced_data.idle_workers++;
        // Whoever decided while this worker was busy found nobody to wake.
        ab_decide_locked(batcher, NULL, ab_clock_now_ns(), NULL);
    }
    while (batcher->synced_data.hint != AB_HINT_GIVEN && !may_leave(batcher)) {
        ab_cond_wait(&batcher->workers_wanted, &batcher->mutex);
    }
    batcher->synced_data.idle_workers--;
    bool has_work = !may_leave(batcher);
    if (has_work) {
        batcher->synced_data.hint = AB_HINT_TAKEN;
    }
    else {
        batcher->synced_data.workers--;
        ab_batcher_tell_idle_locked(batcher);
        wake_by_fd(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
    return has_work;
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
    atomic_store(&workers_quit, false);
}

bool
ab_workers_are_quitting(void)
{
    return atomic_load(&workers_quit);
}
