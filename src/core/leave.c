#include "core/leave.h"

#include "core/batch.h"
#include "core/clock.h"
#include "core/decide.h"
#include "core/outbox.h"

/* ---- collecting those who will not be served ---- */

static bool
is_wanted(const struct ab_entry *entry, const struct ab_link *link)
{
    return entry->waiter != NULL && (link == NULL || entry->link == link);
}

static bool
is_source(const struct ab_batch *batch)
{
    return batch->list == &batch->batcher->synced_data.backlog ||
           (batch->is_running && !batch->is_forming);
}

/* Move the wanted entries of a list into `to`, or with NULL count them. */
static size_t
gather(struct ab_batch_list *list, const struct ab_link *link,
       struct ab_batch *to)
{
    size_t count = 0;
    for (struct ab_batch *batch = list->first, *next; batch != NULL;
         batch = next) {
        next = batch->next;
        bool is_pair = list == &batch->batcher->synced_data.backlog;
        if (to != NULL && link == NULL) {
            batch->is_aborted = true; // counts while it forms, or pauses
        }
        if (!is_source(batch)) {
            continue;
        }
        for (size_t i = 0; i < batch->length; i++) {
            struct ab_entry *entry = &batch->entries[i];
            if (!is_wanted(entry, link)) {
                continue;
            }
            count++;
            if (to != NULL) {
                to->entries[to->length] = *entry;
                if (is_pair && i == 0) {
                    // Its caller never saw the future: dropped, not told.
                    to->entries[to->length].kind = AB_SILENT;
                }
                to->length++;
                *entry = (struct ab_entry){0};
            }
        }
        if (to != NULL && is_pair && batch->entries[0].waiter == NULL) {
            ab_batch_end_locked(batch);
        }
    }
    return count;
}

static size_t
gather_queue(struct ab_queue *queue, const struct ab_link *link,
             struct ab_batch *to)
{
    size_t count = 0;
    struct ab_cursor cursor = ab_queue_walk(queue, 0);
    for (struct ab_entry *entry;
         (entry = ab_queue_next(queue, &cursor)) != NULL;) {
        if (is_wanted(entry, link)) {
            count++;
            if (to != NULL) {
                to->entries[to->length++] = ab_queue_take(queue, entry);
            }
        }
    }
    (void)ab_queue_head(queue);
    return count;
}

static size_t
gather_all(struct ab_batcher *batcher, const struct ab_link *link,
           unsigned what, struct ab_batch *to)
{
    size_t count = 0;
    if (what & AB_COLLECT_RUNNING) {
        count += gather(&batcher->synced_data.batches, link, to);
    }
    if (what & AB_COLLECT_QUEUE) {
        count += gather_queue(&batcher->synced_data.queue, link, to);
    }
    if (what & AB_COLLECT_BACKLOG) {
        count += gather(&batcher->synced_data.backlog, link, to);
    }
    return count;
}

enum ab_status
ab_batch_collect(struct ab_batcher *batcher, struct ab_link *link,
                 unsigned what, struct ab_batch **out)
{
    enum ab_status status = AB_OK;
    *out = NULL;
    ab_mutex_lock(&batcher->mutex);
    size_t count = gather_all(batcher, link, what, NULL);
    // Made even for none: gathering also marks the batches that are forming.
    struct ab_batch *batch = ab_batch_new_locked(
        batcher, &batcher->synced_data.batches, count > 0 ? count : 1);
    if (batch == NULL) {
        status = AB_NO_MEMORY;
        goto done;
    }
    gather_all(batcher, link, what, batch);
    batch->holders = count > 0;
    if (count > 0) {
        *out = batch;
    }
    else {
        ab_batch_end_locked(batch);
    }
    ab_backlog_admit_locked(batcher, NULL, NULL);
done:
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

/* ---- waiting for space, and cancelled items ---- */

void
ab_backlog_admit_locked(struct ab_batcher *batcher, struct ab_mailbox *own,
                        struct ab_todo *todo)
{
    struct ab_batch *pair;
    while ((pair = batcher->synced_data.backlog.first) != NULL) {
        struct ab_view view = ab_view_locked(batcher);
        struct ab_entry *entry = &pair->entries[0];
        struct ab_cost cost = {.low = (uint64_t)entry->cost};
        if (!ab_policy_admits(&batcher->synced_data.limits, &view, 1, &cost)) {
            return;
        }
        entry->enqueued_ns = ab_clock_now_ns();
        if (ab_queue_push(&batcher->synced_data.queue, entry, 1) != AB_OK) {
            ab_batcher_try_later_locked(batcher, own, todo);
            return;
        }
        *entry = (struct ab_entry){0};
        batcher->synced_data.meter.submitted++;
        ab_batch_list_remove(pair);
        ab_batch_list_append(&batcher->synced_data.batches, pair);
        ab_batch_publish_locked(pair);
    }
}

bool
ab_batcher_withdraw(struct ab_batcher *batcher, uint64_t number,
                    struct ab_entry out[2], struct ab_todo *todo)
{
    ab_mutex_lock(&batcher->mutex);
    struct ab_batch *pair = batcher->synced_data.backlog.first;
    while (pair != NULL && pair->number != number) {
        pair = pair->next;
    }
    if (pair != NULL) {
        out[0] = pair->entries[0];
        out[1] = pair->entries[1];
        ab_batch_end_locked(pair);
        batcher->synced_data.outstanding -= 2;
        ab_link_unpend_locked(out[0].link, 2, todo);
        ab_backlog_admit_locked(batcher, NULL, todo);
        ab_decide_locked(batcher, NULL, ab_clock_now_ns(), todo);
        ab_batcher_tell_idle_locked(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
    return pair != NULL;
}

static size_t
take_numbered(struct ab_queue *queue, const uint64_t *numbers, size_t count,
              struct ab_entry *out)
{
    size_t taken = 0;
    struct ab_cursor cursor = ab_queue_walk(queue, count > 0 ? numbers[0] : 0);
    struct ab_entry *entry = ab_queue_next(queue, &cursor);
    for (size_t i = 0; i < count && entry != NULL; i++) {
        while (entry != NULL && cursor.number <= numbers[i]) {
            entry = ab_queue_next(queue, &cursor);
        }
        if (entry != NULL && cursor.number == numbers[i] + 1) {
            out[taken++] = ab_queue_take(queue, entry);
        }
    }
    (void)ab_queue_head(queue); // holes at the head go at once
    return taken;
}

size_t
ab_batcher_drop(struct ab_batcher *batcher, const uint64_t *numbers,
                size_t count, struct ab_entry *out, struct ab_todo *todo)
{
    ab_mutex_lock(&batcher->mutex);
    size_t taken =
        take_numbered(&batcher->synced_data.queue, numbers, count, out);
    batcher->synced_data.meter.cancelled += taken;
    batcher->synced_data.outstanding -= taken;
    for (size_t i = 0; i < taken; i++) {
        ab_link_unpend_locked(out[i].link, 1, todo);
    }
    if (taken > 0) {
        ab_backlog_admit_locked(batcher, NULL, todo);
        ab_decide_locked(batcher, NULL, ab_clock_now_ns(), todo);
        ab_batcher_tell_idle_locked(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
    return taken;
}

/* ---- a loop that closed ---- */

struct ab_batch *
ab_batcher_hosted_by(struct ab_batcher *batcher, struct ab_link *link)
{
    ab_mutex_lock(&batcher->mutex);
    struct ab_batch *batch = batcher->synced_data.batches.first;
    while (batch != NULL && (batch->host != link || batch->is_forming)) {
        batch = batch->next;
    }
    if (batch != NULL) {
        batch->holders++;
    }
    ab_mutex_unlock(&batcher->mutex);
    return batch;
}

struct ab_link *
ab_batcher_pop_home(struct ab_batcher *batcher, struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&batcher->mutex);
    struct ab_link *home = batcher->synced_data.home;
    if (home != NULL && home->mailbox == mailbox) {
        ab_mailbox_pop(mailbox, home);
    }
    else {
        home = NULL;
    }
    ab_mutex_unlock(&batcher->mutex);
    return home;
}

void
ab_batcher_lost_loop(struct ab_batcher *batcher, struct ab_link *link,
                     struct ab_todo *todo)
{
    ab_mutex_lock(&batcher->mutex);
    ab_mailbox_unpop(link->mailbox, link);
    if (batcher->synced_data.home == link) {
        batcher->synced_data.home = NULL;
        ab_hint_lost_locked(batcher);
    }
    for (struct ab_link *other = batcher->synced_data.links;
         other != NULL && batcher->synced_data.home == NULL;
         other = other->synced_data.next) {
        // Relaxed: a loop that closes just now reports its own loss.
        if (other->mailbox != NULL &&
            atomic_load_explicit(&other->mailbox->loop,
                                 memory_order_relaxed) != NULL) {
            batcher->synced_data.home = other;
        }
    }
    ab_decide_locked(batcher, NULL, ab_clock_now_ns(), todo);
    ab_mutex_unlock(&batcher->mutex);
}

/* ---- an object that is collected with its work ---- */

size_t
ab_batcher_forget(struct ab_batcher *batcher)
{
    size_t refs = 0;
    ab_mutex_lock(&batcher->mutex);
    struct ab_batch_list *lists[] = {&batcher->synced_data.batches,
                                     &batcher->synced_data.backlog,
                                     &batcher->synced_data.watchers};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        for (struct ab_batch *batch = lists[i]->first; batch != NULL;
             batch = batch->next) {
            batch->is_running = batch->is_forming = false;
            batch->is_settled = true;
            batch->host = NULL;
            batch->untold = 0;
        }
    }
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        link->synced_data.outbox = NULL;
        link->synced_data.outbox_end = &link->synced_data.outbox;
        if (link->synced_data.pending > 0) {
            link->synced_data.pending = 0;
            refs++;
            if (link->mailbox != NULL) {
                ab_mailbox_unkeep(link->mailbox, link);
            }
        }
    }
    batcher->synced_data.pending_links = 0;
    batcher->synced_data.outstanding = batcher->synced_data.running = 0;
    batcher->synced_data.is_closing = true;
    ab_mutex_unlock(&batcher->mutex);
    return refs;
}
