#include "core/batch.h"

#include "core/clock.h"
#include "core/decide.h"
#include "core/leave.h"
#include "core/outbox.h"

#define AB_FIRST_CAPACITY 128 // of a batch; it grows as it is filled

/* ---- lists ---- */

void
ab_batch_list_append(struct ab_batch_list *list, struct ab_batch *batch)
{
    batch->list = list;
    batch->prev = list->last;
    batch->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = batch;
    list->last = batch;
}
void
ab_batch_list_remove(struct ab_batch *batch)
{
    struct ab_batch_list *list = batch->list;
    *(batch->prev != NULL ? &batch->prev->next : &list->first) = batch->next;
    *(batch->next != NULL ? &batch->next->prev : &list->last) = batch->prev;
}

struct ab_batch *
ab_batch_new_locked(struct ab_batcher *batcher, struct ab_batch_list *list,
                    size_t capacity)
{
    struct ab_batch *batch = ab_allocate(sizeof *batch);
    if (batch == NULL) {
        return NULL;
    }
    batch->entries = ab_allocate(capacity * sizeof *batch->entries);
    if (batch->entries == NULL) {
        ab_release(batch);
        return NULL;
    }
    batch->batcher = batcher;
    batch->capacity = capacity;
    batch->number = ++batcher->synced_data.batch_number;
    ab_batch_list_append(list, batch);
    return batch;
}

void
ab_batch_end_locked(struct ab_batch *batch)
{
    if (batch->is_running || batch->untold > 0 || batch->holders > 0 ||
        batch->list == NULL) { // the parent's, in the child of a fork
        return;
    }
    ab_batch_list_remove(batch);
    ab_release(batch->entries);
    ab_release(batch);
}

/* ---- the cut ---- */

enum ab_status
ab_batch_cut(struct ab_batcher *batcher, struct ab_link *host,
             struct ab_batch **out, struct ab_todo *todo)
{
    enum ab_status status = AB_OK;
    int64_t now_ns = ab_clock_now_ns();
    *out = NULL;
    ab_mutex_lock(&batcher->mutex);
    bool was_hinted = batcher->synced_data.hint != AB_HINT_NONE;
    batcher->synced_data.hint = AB_HINT_NONE;
    if (now_ns >= batcher->synced_data.retry_ns) {
        batcher->synced_data.retry_ns = AB_NEVER;
    }
    struct ab_mailbox *own = host != NULL ? host->mailbox : NULL;
    struct ab_view view = ab_view_locked(batcher);
    struct ab_verdict verdict =
        ab_policy_decide(&batcher->synced_data.limits, &view, now_ns);
    if (verdict.action != AB_CUT || !was_hinted ||
        batcher->synced_data.is_orphaned) {
        ab_decide_locked(batcher, own, now_ns, todo);
        goto done;
    }
    struct ab_batch *batch = ab_batch_new_locked(
        batcher, &batcher->synced_data.batches,
        view.waiting < AB_FIRST_CAPACITY ? view.waiting : AB_FIRST_CAPACITY);
    if (batch == NULL) {
        ab_batcher_try_later_locked(batcher);
        status = AB_NO_MEMORY;
        goto done;
    }
    batch->is_running = batch->is_forming = true;
    batch->holders = 1;
    batch->reason = verdict.reason;
    // A batch in an executor does not end with the loop that submitted it.
    batch->host = batcher->synced_data.host == AB_HOST_LOOP ? host : NULL;
    batcher->synced_data.running++;
    batcher->synced_data.outstanding++;
    batcher->synced_data.hint_wait_ns = AB_HINT_WAIT_NS;
    if (host != NULL) {
        batcher->synced_data.home = host;
    }
    if (batch->host != NULL) {
        ab_link_pend_locked(host, 1, todo);
    }
    *out = batch;
done:
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

/* Entries without a waiter are cancelled items the host has set aside. */
static void
count_out_cancelled(struct ab_batch *batch, struct ab_todo *todo)
{
    struct ab_batcher *batcher = batch->batcher;
    for (; batch->checked < batch->length; batch->checked++) {
        struct ab_entry *entry = &batch->entries[batch->checked];
        if (entry->waiter != NULL) {
            continue;
        }
        batch->live--;
        ab_cost_subtract(&batch->cost, entry->cost);
        batcher->synced_data.meter.cancelled++;
        batcher->synced_data.outstanding--;
        ab_link_unpend_locked(entry->link, 1, todo);
    }
}

static bool
make_room(struct ab_batch *batch)
{
    if (batch->length < batch->capacity) {
        return true;
    }
    size_t capacity = batch->capacity * 2;
    struct ab_entry *entries =
        ab_resize(batch->entries, capacity * sizeof *entries);
    if (entries == NULL) {
        return false; // the batch goes smaller; the rest stays queued
    }
    batch->entries = entries;
    batch->capacity = capacity;
    return true;
}

size_t
ab_batch_fill(struct ab_batch *batch, struct ab_todo *todo)
{
    struct ab_batcher *batcher = batch->batcher;
    struct ab_queue *queue = &batcher->synced_data.queue;
    ab_mutex_lock(&batcher->mutex);
    count_out_cancelled(batch, todo);
    size_t before = batch->length;
    const struct ab_entry *head;
    while ((head = ab_queue_head(queue)) != NULL &&
           ab_policy_fits(&batcher->synced_data.limits, batch->live,
                          &batch->cost, head->cost) &&
           make_room(batch)) {
        ab_cost_add(&batch->cost, head->cost);
        batch->entries[batch->length++] = ab_queue_pop(queue);
        batch->live++;
    }
    ab_backlog_admit_locked(batcher);
    size_t added = batch->length - before;
    ab_mutex_unlock(&batcher->mutex);
    return added;
}

/* Give the permit back: called from here and nowhere else. */
static void
give_back_permit(struct ab_batch *batch, int64_t now_ns, struct ab_todo *todo)
{
    struct ab_batcher *batcher = batch->batcher;
    batch->is_running = batch->is_forming = false;
    AB_ASSERT(batcher->synced_data.running > 0);
    batcher->synced_data.running--;
    batcher->synced_data.outstanding--;
    if (batcher->synced_data.running == 0) {
        ab_meter_turn(&batcher->synced_data.meter, AB_ACCOUNT_IDLE, now_ns);
    }
    if (batch->host != NULL) {
        ab_link_unpend_locked(batch->host, 1, todo);
        batch->host = NULL;
    }
}

static void
count_start(struct ab_batch *batch)
{
    struct ab_meter *meter = &batch->batcher->synced_data.meter;
    for (size_t i = 0; i < batch->length; i++) {
        ab_histogram_add(&meter->queue_wait,
                         batch->started_ns - batch->entries[i].enqueued_ns);
    }
    meter->batches++;
    meter->batched_items += batch->length;
    meter->reasons[batch->reason]++;
    meter->total_cost.low += batch->cost.low;
    meter->total_cost.high +=
        batch->cost.high + (meter->total_cost.low < batch->cost.low);
    ab_meter_turn(meter, AB_ACCOUNT_BUSY, batch->started_ns);
}

bool
ab_batch_start(struct ab_batch *batch, struct ab_todo *todo)
{
    struct ab_batcher *batcher = batch->batcher;
    ab_mutex_lock(&batcher->mutex);
    count_out_cancelled(batch, todo);
    size_t kept = 0;
    for (size_t i = 0; i < batch->length; i++) {
        if (batch->entries[i].waiter != NULL) {
            batch->entries[kept++] = batch->entries[i];
        }
    }
    AB_ASSERT(kept == batch->live);
    batch->length = kept;
    batch->started_ns = ab_clock_now_ns();
    struct ab_mailbox *own = batch->host != NULL ? batch->host->mailbox : NULL;
    if (kept > 0) {
        count_start(batch);
    }
    else {
        give_back_permit(batch, batch->started_ns, todo);
        batch->holders = 0;
        ab_batch_end_locked(batch);
        ab_batcher_tell_idle_locked(batcher);
    }
    // There may be enough left for another batch and another permit.
    ab_decide_locked(batcher, own, ab_clock_now_ns(), todo);
    ab_mutex_unlock(&batcher->mutex);
    return kept > 0;
}

bool
ab_batch_formed(struct ab_batch *batch)
{
    ab_mutex_lock(&batch->batcher->mutex);
    batch->is_forming = false;
    bool is_aborted = batch->is_aborted;
    ab_mutex_unlock(&batch->batcher->mutex);
    return !is_aborted;
}

/* ---- results ---- */

void
ab_batch_store(struct ab_batch *batch, size_t from, void **rows, size_t count)
{
    ab_mutex_lock(&batch->batcher->mutex);
    for (size_t i = 0; i < count; i++) {
        struct ab_entry *entry = &batch->entries[from + i];
        if (entry->waiter != NULL && !batch->is_settled) {
            void *old = entry->value;
            entry->value = rows[i];
            rows[i] = old;
        }
    }
    ab_mutex_unlock(&batch->batcher->mutex);
}

void
ab_batch_settle(struct ab_batch *batch, bool is_failed, struct ab_mailbox *own,
                struct ab_todo *todo)
{
    struct ab_batcher *batcher = batch->batcher;
    int64_t now_ns = ab_clock_now_ns();
    ab_mutex_lock(&batcher->mutex);
    if (!batch->is_settled) {
        batch->is_failed = is_failed;
        if (batch->is_running) {
            ab_histogram_add(&batcher->synced_data.meter.batch_time,
                             now_ns - batch->started_ns);
            give_back_permit(batch, now_ns, todo);
        }
        ab_batch_publish_locked(batch);
        ab_decide_locked(batcher, own, now_ns, todo);
        ab_batcher_tell_idle_locked(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_batch_let_go(struct ab_batch *batch)
{
    struct ab_batcher *batcher = batch->batcher;
    ab_mutex_lock(&batcher->mutex);
    AB_ASSERT(batch->holders > 0);
    batch->holders--;
    ab_batch_end_locked(batch);
    ab_mutex_unlock(&batcher->mutex);
}
