#include "core/batcher.h"

#include "core/batch.h"
#include "core/clock.h"
#include "core/decide.h"
#include "core/leave.h"
#include "core/registry.h"

/* ---- lifetime ---- */

static struct ab_batcher *
of_timer(struct ab_timer *timer)
{
    return (struct ab_batcher *)((char *)timer -
                                 offsetof(struct ab_batcher, timer));
}
static void
acquire_by_timer(struct ab_timer *timer)
{
    ab_batcher_acquire(of_timer(timer));
}

static void
release_by_timer(struct ab_timer *timer)
{
    ab_batcher_release(of_timer(timer));
}

static void
look_by_timer(struct ab_timer *timer)
{
    struct ab_batcher *batcher = of_timer(timer);
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.armed_ns = AB_NEVER;
    ab_backlog_admit_locked(batcher, NULL, NULL);
    ab_batcher_wake_untold_locked(batcher); // who was admitted
    ab_decide_locked(batcher, NULL, ab_clock_now_ns(), NULL);
    ab_mutex_unlock(&batcher->mutex);
    ab_batcher_release(batcher);
}

enum ab_status
ab_batcher_new(struct ab_batcher **out, void *object)
{
    struct ab_batcher *batcher = ab_allocate(sizeof *batcher);
    if (batcher == NULL) {
        return AB_NO_MEMORY;
    }
    if (ab_aggregator_reserve(true) != AB_OK) {
        ab_release(batcher);
        return AB_NO_MEMORY;
    }
    ab_count_init(&batcher->refs);
    batcher->object = object;
    batcher->timer = (struct ab_timer){.fire = look_by_timer,
                                       .acquire = acquire_by_timer,
                                       .release = release_by_timer};
    ab_mutex_init(&batcher->mutex);
    ab_cond_init(&batcher->workers_wanted);
    ab_queue_init(&batcher->synced_data.queue);
    batcher->synced_data.armed_ns = AB_NEVER;
    batcher->synced_data.unarmed_ns = AB_NEVER;
    batcher->synced_data.hint_wait_ns = AB_HINT_WAIT_NS;
    ab_registry_add_batcher(batcher);
    *out = batcher;
    return AB_OK;
}

void
ab_batcher_acquire(struct ab_batcher *batcher)
{
    ab_count_acquire(&batcher->refs);
}

void
ab_batcher_release(struct ab_batcher *batcher)
{
    // The registry may hand out a count while it holds its lock: leave the
    // list before the count is looked at, in ab_batcher_orphan.
    if (!ab_count_release(&batcher->refs)) {
        return;
    }
    struct ab_link *link = batcher->synced_data.links;
    while (link != NULL) {
        struct ab_link *next = link->synced_data.next;
        if (link->mailbox != NULL) {
            ab_mailbox_release(link->mailbox);
        }
        ab_release(link);
        link = next;
    }
    ab_queue_fini(&batcher->synced_data.queue);
    ab_cond_fini(&batcher->workers_wanted);
    ab_mutex_fini(&batcher->mutex);
    ab_release(batcher);
}

void
ab_batcher_orphan(struct ab_batcher *batcher)
{
    ab_registry_remove_batcher(batcher);
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.is_orphaned = true;
    batcher->synced_data.is_closing = true;
    ab_cond_broadcast(&batcher->workers_wanted);
    ab_mutex_unlock(&batcher->mutex);
    ab_aggregator_disarm(&batcher->timer);
    ab_aggregator_unreserve(true);
    ab_batcher_release(batcher);
}

void
ab_batcher_set_limits_locked(struct ab_batcher *batcher,
                             const struct ab_limits *limits)
{
    batcher->synced_data.limits = *limits;
    ab_prefetch_reset(&batcher->synced_data.prefetch);
}

/* ---- links ---- */

static void
forget_dead_links(struct ab_batcher *batcher)
{
    struct ab_link **slot = &batcher->synced_data.links;
    while (*slot != NULL) {
        struct ab_link *link = *slot;
        // Whoever closed the home's loop comes to that later, and decides.
        if (link->mailbox == NULL || link->synced_data.pending > 0 ||
            link == batcher->synced_data.home ||
            atomic_load_explicit(&link->mailbox->loop, memory_order_relaxed) !=
                NULL ||
            ab_mailbox_names(link->mailbox, link)) {
            slot = &link->synced_data.next;
            continue;
        }
        *slot = link->synced_data.next;
        ab_mailbox_release(link->mailbox);
        ab_release(link);
    }
}

struct ab_link *
ab_link_of_locked(struct ab_batcher *batcher, void *loop)
{
    struct ab_link *link = batcher->synced_data.links;
    while (link != NULL) {
        // Relaxed: the caller runs on `loop`, whose own thread wrote it.
        void *its_loop = link->mailbox == NULL
                             ? NULL
                             : atomic_load_explicit(&link->mailbox->loop,
                                                    memory_order_relaxed);
        if (its_loop == loop && (loop != NULL || link->mailbox == NULL)) {
            break;
        }
        link = link->synced_data.next;
    }
    return link;
}

struct ab_link *
ab_link_in_locked(struct ab_batcher *batcher, const struct ab_mailbox *mailbox)
{
    struct ab_link *link = batcher->synced_data.links;
    while (link != NULL && link->mailbox != mailbox) {
        link = link->synced_data.next;
    }
    return link;
}

enum ab_status
ab_batcher_link(struct ab_batcher *batcher, struct ab_mailbox *mailbox)
{
    enum ab_status status = AB_OK;
    ab_mutex_lock(&batcher->mutex);
    struct ab_link *link = ab_link_in_locked(batcher, mailbox);
    if (link != NULL) {
        goto done;
    }
    forget_dead_links(batcher);
    link = ab_allocate(sizeof *link);
    if (link == NULL) {
        status = AB_NO_MEMORY;
        goto done;
    }
    link->batcher = batcher;
    link->mailbox = mailbox;
    if (mailbox != NULL) {
        ab_mailbox_acquire(mailbox);
    }
    link->synced_data.outbox_end = &link->synced_data.outbox;
    link->synced_data.retry_ns = AB_NEVER;
    link->synced_data.next = batcher->synced_data.links;
    batcher->synced_data.links = link;
done:
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

void
ab_link_pend_locked(struct ab_link *link, size_t count, struct ab_todo *todo)
{
    if (link->synced_data.pending == 0 && count > 0) {
        link->batcher->synced_data.pending_links++;
        todo->refs++;
        if (link->mailbox != NULL) {
            ab_mailbox_keep(link->mailbox, link);
        }
    }
    link->synced_data.pending += count;
}

void
ab_link_unpend_locked(struct ab_link *link, size_t count, struct ab_todo *todo)
{
    AB_ASSERT(link->synced_data.pending >= count);
    link->synced_data.pending -= count;
    if (link->synced_data.pending == 0 && count > 0) {
        link->batcher->synced_data.pending_links--;
        todo->refs--;
        if (link->mailbox != NULL) {
            ab_mailbox_unkeep(link->mailbox, link);
        }
    }
}

void
ab_batcher_wake_untold_locked(struct ab_batcher *batcher)
{
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        if (link->synced_data.outbox != NULL && link->mailbox != NULL &&
            link->mailbox->has_fd) {
            (void)ab_mailbox_post(link->mailbox, link, true);
        }
    }
}

/* ---- fork ---- */

void
ab_batcher_after_fork_child(struct ab_batcher *batcher)
{
    ab_cond_init(&batcher->workers_wanted);
    // The parent's entries are the parent's: their references leak here.
    // Chunks and batches leak with them: no allocator is safe to call yet.
    ab_queue_init(&batcher->synced_data.queue);
    ab_prefetch_reset(&batcher->synced_data.prefetch);
    for (struct ab_batch *batch = batcher->synced_data.batches.first;
         batch != NULL; batch = batch->next) {
        // Whoever forms or runs it may be here, and may still settle it.
        batch->is_running = false;
        batch->is_aborted = batch->is_settled = true;
        batch->host = NULL;
        batch->list = NULL;
    }
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        // Somebody may be telling what came out of it.
        link->synced_data.pending = 0;
        link->synced_data.outbox = NULL;
    }
    batcher->synced_data.batches = (struct ab_batch_list){0};
    batcher->synced_data.backlog = (struct ab_batch_list){0};
    batcher->synced_data.watchers = (struct ab_batch_list){0};
    batcher->synced_data.links = batcher->synced_data.home = NULL;
    batcher->synced_data.outstanding = batcher->synced_data.running = 0;
    batcher->synced_data.pending_links = 0;
    batcher->synced_data.hint = AB_HINT_NONE;
    batcher->synced_data.hint_wait_ns = AB_HINT_WAIT_NS;
    batcher->synced_data.armed_ns = batcher->synced_data.unarmed_ns = AB_NEVER;
    batcher->synced_data.flush_number = 0;
    batcher->synced_data.workers = batcher->synced_data.idle_workers = 0;
    batcher->synced_data.meter = (struct ab_meter){0};
    ab_mutex_unlock(&batcher->mutex);
}
