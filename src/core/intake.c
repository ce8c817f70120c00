#include "core/intake.h"

#include "core/batch.h"
#include "core/clock.h"
#include "core/crew.h"
#include "core/decide.h"
#include "core/leave.h"
#include "core/outbox.h"

static void
begin(struct ab_batcher *batcher, int64_t now_ns)
{
    if (batcher->synced_data.meter.account == AB_ACCOUNT_NONE) {
        ab_meter_turn(&batcher->synced_data.meter, AB_ACCOUNT_IDLE, now_ns);
    }
}

void
ab_batcher_begin(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    begin(batcher, ab_clock_now_ns());
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_batcher_reopen(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.is_closing = false;
    begin(batcher, ab_clock_now_ns());
    ab_mutex_unlock(&batcher->mutex);
}

static bool
has_host(const struct ab_batcher *batcher)
{
    const struct ab_link *home = batcher->synced_data.home;
    // Relaxed: a loop that closes just now comes to this mutex, too, and
    // takes what it finds queued.
    return batcher->synced_data.host != AB_HOST_LOOP ||
           (home != NULL &&
            atomic_load_explicit(&home->mailbox->loop, memory_order_relaxed) !=
                NULL);
}

bool
ab_batcher_has_host(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    bool is_hosted = batcher->synced_data.is_closing || has_host(batcher);
    ab_mutex_unlock(&batcher->mutex);
    return is_hosted;
}

/* May a caller on `loop` hand in anything?  Finds its link. */
static enum ab_status
enter(struct ab_batcher *batcher, void *loop, struct ab_link **link)
{
    if (batcher->synced_data.is_closing) {
        return AB_CLOSED;
    }
    if (loop == NULL && !has_host(batcher)) {
        return AB_NO_HOST;
    }
    bool needs_worker =
        batcher->synced_data.host == AB_HOST_WORKER ||
        (batcher->synced_data.host == AB_HOST_EXECUTOR && loop == NULL);
    if (needs_worker && ab_workers_are_quitting()) {
        return AB_QUITTING;
    }
    *link = ab_link_of_locked(batcher, loop);
    if (*link == NULL) {
        return AB_NO_LINK;
    }
    if (batcher->synced_data.home == NULL && loop != NULL) {
        batcher->synced_data.home = *link;
    }
    return AB_OK;
}

static bool
has_room(struct ab_batcher *batcher, size_t count, const struct ab_cost *cost)
{
    const struct ab_limits *limits = &batcher->synced_data.limits;
    if (batcher->synced_data.backlog.first != NULL) {
        return false;
    }
    if (limits->max_queue_size == AB_UNLIMITED &&
        limits->max_queue_cost == AB_UNLIMITED) {
        return true;
    }
    struct ab_view view = ab_view_locked(batcher);
    return ab_policy_admits(limits, &view, count, cost);
}

enum ab_status
ab_batcher_push(struct ab_batcher *batcher, void *loop,
                struct ab_entry *entries, size_t count, struct ab_todo *todo)
{
    struct ab_cost cost = {0};
    struct ab_link *link;
    ab_mutex_lock(&batcher->mutex);
    int64_t now_ns = ab_clock_now_ns(); // inside: times ascend in the queue
    enum ab_status status = enter(batcher, loop, &link);
    if (status != AB_OK) {
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        entries[i].kind = AB_ITEM;
        entries[i].link = link;
        entries[i].enqueued_ns = now_ns;
        ab_cost_add(&cost, entries[i].cost);
    }
    if (!has_room(batcher, count, &cost)) {
        status = AB_FULL;
        goto done;
    }
    status = ab_queue_push(&batcher->synced_data.queue, entries, count);
    if (status != AB_OK) {
        goto done;
    }
    begin(batcher, now_ns);
    batcher->synced_data.meter.submitted += count;
    batcher->synced_data.outstanding += count;
    ab_link_pend_locked(link, count, todo);
    ab_decide_locked(batcher, link->mailbox, now_ns, todo);
done:
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

enum ab_status
ab_batcher_wait_for_space(struct ab_batcher *batcher, void *loop,
                          const struct ab_entry entries[2], uint64_t *number,
                          struct ab_todo *todo)
{
    struct ab_link *link;
    ab_mutex_lock(&batcher->mutex);
    enum ab_status status = enter(batcher, loop, &link);
    if (status != AB_OK) {
        goto done;
    }
    struct ab_batch *pair =
        ab_batch_new_locked(batcher, &batcher->synced_data.backlog, 2);
    if (pair == NULL) {
        status = AB_NO_MEMORY;
        goto done;
    }
    for (int i = 0; i < 2; i++) {
        pair->entries[i] = entries[i];
        pair->entries[i].kind = i == 0 ? AB_ITEM : AB_SPACE;
        pair->entries[i].is_watched = false;
        pair->entries[i].link = link;
    }
    pair->length = 2;
    *number = pair->number;
    batcher->synced_data.outstanding += 2;
    ab_link_pend_locked(link, 2, todo);
    ab_backlog_admit_locked(batcher, link->mailbox, todo);
    ab_decide_locked(batcher, link->mailbox, ab_clock_now_ns(), todo);
done:
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

bool
ab_batcher_has_backlog(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    bool has_any = batcher->synced_data.backlog.first != NULL;
    ab_mutex_unlock(&batcher->mutex);
    return has_any;
}

void
ab_batcher_alert_loops(struct ab_batcher *batcher, void *own_loop)
{
    ab_mutex_lock(&batcher->mutex);
    const struct ab_link *own = ab_link_of_locked(batcher, own_loop);
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        // A loop that watches no fd notices at the next cut.
        if (link != own && link->synced_data.pending > 0 &&
            link->mailbox != NULL && link->mailbox->has_fd) {
            (void)ab_mailbox_post(link->mailbox, link, true);
        }
    }
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_batcher_count_rejected(struct ab_batcher *batcher, size_t count)
{
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.meter.rejected += count;
    ab_mutex_unlock(&batcher->mutex);
}

enum ab_status
ab_batcher_watch(struct ab_batcher *batcher, void *loop,
                 const struct ab_entry *watcher, struct ab_todo *todo)
{
    enum ab_status status = AB_NO_MEMORY;
    ab_mutex_lock(&batcher->mutex);
    struct ab_link *link = ab_link_of_locked(batcher, loop);
    struct ab_batch *watch = NULL;
    if (link == NULL) {
        status = AB_NO_LINK;
    }
    else {
        watch =
            ab_batch_new_locked(batcher, &batcher->synced_data.watchers, 1);
    }
    if (watch != NULL) {
        watch->entries[0] = *watcher;
        watch->entries[0].link = link;
        watch->length = 1;
        ab_link_pend_locked(link, 1, todo);
        ab_batcher_tell_idle_locked(batcher);
        status = AB_OK;
    }
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

void
ab_batcher_flush(struct ab_batcher *batcher, struct ab_mailbox *own,
                 struct ab_todo *todo)
{
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.flush_number = batcher->synced_data.queue.tail_number;
    ab_decide_locked(batcher, own, ab_clock_now_ns(), todo);
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_batcher_begin_drain(struct ab_batcher *batcher, struct ab_mailbox *own,
                       struct ab_todo *todo)
{
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.is_closing = true;
    ab_decide_locked(batcher, own, ab_clock_now_ns(), todo);
    ab_batcher_tell_idle_locked(batcher);
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_batcher_move_home(struct ab_batcher *batcher, void *loop)
{
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.home = ab_link_of_locked(batcher, loop);
    ab_hint_lost_locked(batcher); // with the old home
    ab_mutex_unlock(&batcher->mutex);
}
