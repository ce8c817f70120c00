#include "core/outbox.h"

#include "core/batch.h"
#include "core/clock.h"

static void
publish(struct ab_batch *batch, struct ab_entry *entry)
{
    struct ab_link *link = entry->link;
    entry->batch = batch;
    entry->next = NULL;
    *link->synced_data.outbox_end = entry;
    link->synced_data.outbox_end = &entry->next;
    batch->untold++;
}

void
ab_batch_publish_locked(struct ab_batch *batch)
{
    batch->is_settled = true;
    for (size_t i = 0; i < batch->length; i++) {
        if (batch->entries[i].waiter != NULL) {
            publish(batch, &batch->entries[i]);
        }
    }
}

static size_t
take_parcels(struct ab_link *link, struct ab_parcel *parcels, size_t count)
{
    size_t taken = 0;
    while (taken < count && link->synced_data.outbox != NULL) {
        struct ab_entry *entry = link->synced_data.outbox;
        struct ab_batch *batch = entry->batch;
        link->synced_data.outbox = entry->next;
        if (entry->next == NULL) {
            link->synced_data.outbox_end = &link->synced_data.outbox;
        }
        parcels[taken++] = (struct ab_parcel){
            .value = entry->value,
            .waiter = entry->waiter,
            .kind = entry->kind,
            .index = entry->index,
            .is_failed = batch->is_failed,
        };
        *entry = (struct ab_entry){0};
        batch->untold--;
        ab_batch_end_locked(batch);
    }
    return taken;
}

size_t
ab_link_take(struct ab_link *link, struct ab_parcel *parcels, size_t count)
{
    ab_mutex_lock(&link->batcher->mutex);
    size_t taken = take_parcels(link, parcels, count);
    ab_mutex_unlock(&link->batcher->mutex);
    return taken;
}

void
ab_link_count(struct ab_link *link, const struct ab_told *told)
{
    struct ab_batcher *batcher = link->batcher;
    struct ab_meter *meter = &batcher->synced_data.meter;
    ab_mutex_lock(&batcher->mutex);
    meter->completed += told->completed;
    meter->failed += told->failed;
    meter->cancelled += told->cancelled;
    meter->rejected += told->rejected;
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_link_told(struct ab_link *link, const struct ab_told *told,
             struct ab_todo *todo)
{
    struct ab_batcher *batcher = link->batcher;
    size_t outstanding =
        told->completed + told->failed + told->cancelled + told->uncounted;
    ab_mutex_lock(&batcher->mutex);
    if (link->synced_data.pending > 0) { // else one of them forked: a child
        AB_ASSERT(batcher->synced_data.outstanding >= outstanding);
        batcher->synced_data.outstanding -= outstanding;
        ab_link_unpend_locked(link, outstanding + told->watchers, todo);
        ab_batcher_tell_idle_locked(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
}

size_t
ab_batcher_take_stray(struct ab_batcher *batcher, struct ab_parcel *parcels,
                      size_t count, struct ab_link **link,
                      struct ab_mailbox **wake)
{
    size_t taken = 0;
    *wake = NULL;
    ab_mutex_lock(&batcher->mutex);
    for (struct ab_link *each = batcher->synced_data.links;
         each != NULL && taken == 0 && *wake == NULL;
         each = each->synced_data.next) {
        if (each->synced_data.outbox == NULL) {
            continue;
        }
        enum ab_posted posted =
            each->mailbox != NULL ? ab_mailbox_post(each->mailbox, each, false)
                                  : AB_POST_CLOSED;
        if (posted == AB_POSTED_WAKE) {
            ab_mailbox_acquire(each->mailbox);
            *wake = each->mailbox;
        }
        else if (posted == AB_POST_CLOSED) {
            // Under the same lock: what is owed keeps the link from here on.
            taken = take_parcels(each, parcels, count);
            *link = each;
        }
    }
    ab_mutex_unlock(&batcher->mutex);
    return taken;
}

/* Those who wait for idleness, or only those who stop the batcher. */
static void
tell_watchers(struct ab_batcher *batcher, bool is_idle)
{
    struct ab_batch *next;
    for (struct ab_batch *watch = batcher->synced_data.watchers.first;
         watch != NULL; watch = next) {
        next = watch->next;
        if (is_idle || watch->entries[0].kind == AB_STOPPER) {
            ab_batch_list_remove(watch);
            ab_batch_list_append(&batcher->synced_data.batches, watch);
            ab_batch_publish_locked(watch);
        }
    }
}

bool
ab_batcher_is_drained_locked(const struct ab_batcher *batcher)
{
    return batcher->synced_data.queue.length == 0 &&
           batcher->synced_data.running == 0 &&
           batcher->synced_data.backlog.first == NULL;
}

void
ab_batcher_tell_idle_locked(struct ab_batcher *batcher)
{
    if (!ab_batcher_is_drained_locked(batcher)) {
        return;
    }
    if (batcher->synced_data.is_closing) {
        ab_meter_turn(&batcher->synced_data.meter, AB_ACCOUNT_NONE,
                      ab_clock_now_ns());
    }
    if (batcher->synced_data.is_closing && batcher->synced_data.workers > 0) {
        ab_cond_broadcast(&batcher->workers_wanted); // the last one comes back
        return;
    }
    // A loop that has stopped, or is blocked, may be told long after that.
    tell_watchers(batcher, batcher->synced_data.outstanding == 0);
}

void
ab_batcher_tell_watchers(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    tell_watchers(batcher, true);
    ab_mutex_unlock(&batcher->mutex);
}
