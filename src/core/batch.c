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
    if (host != NULL && now_ns >= host->synced_data.retry_ns) {
        host->synced_data.retry_ns = AB_NEVER;
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
        ab_batcher_try_later_locked(batcher, own, todo);
        status = AB_NO_MEMORY;
        goto done;
    }
    batch->is_running = batch->is_forming = true;
    batch->holders = 1;
    batch->reason = verdict.reason;
    batch->started_ns = now_ns;
    uint64_t most = (uint64_t)batcher->synced_data.limits.max_batch_size;
    batch->due = (uint64_t)view.waiting < most ? view.waiting : (size_t)most;
    // A batch in an executor does not end with the loop that submitted it.
    batch->host = batcher->synced_data.host == AB_HOST_LOOP ? host : NULL;
    batcher->synced_data.running++;
    batcher->synced_data.outstanding++;
    batcher->synced_data.hint_wait_ns = AB_HINT_WAIT_NS;
    if (host != NULL || batcher->synced_data.host == AB_HOST_EXECUTOR) {
        batcher->synced_data.home = host; // NULL: its loop gave no answer
    }
    if (batch->host != NULL) {
        ab_link_pend_locked(host, 1, todo);
    }
    *out = batch;
done:
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

/* The host looked at the waiters of the new entries, and set those aside that
 * were cancelled: the others move together, and have waited long enough.  What
 * it set aside may have forked: the child, where the batch has no permit,
 * counts nothing of it. */
static void
keep_waiting(struct ab_batch *batch, struct ab_todo *todo)
{
    if (!batch->is_running) {
        return;
    }
    struct ab_batcher *batcher = batch->batcher;
    int64_t now_ns = ab_clock_now_ns();
    size_t kept = batch->checked;
    for (size_t i = batch->checked; i < batch->length; i++) {
        struct ab_entry *entry = &batch->entries[i];
        if (entry->waiter != NULL) {
            ab_histogram_add(&batcher->synced_data.meter.queue_wait,
                             now_ns - entry->enqueued_ns);
            batch->entries[kept++] = *entry;
            continue;
        }
        ab_cost_subtract(&batch->cost, entry->cost);
        batcher->synced_data.meter.cancelled++;
        batcher->synced_data.outstanding--;
        ab_link_unpend_locked(entry->link, 1, todo);
    }
    batch->length = batch->checked = kept;
}

static struct ab_mailbox *
mailbox_of_host(const struct ab_batch *batch)
{
    return batch->host != NULL ? batch->host->mailbox : NULL;
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
ab_batch_fill(struct ab_batch *batch, size_t most, struct ab_todo *todo)
{
    struct ab_batcher *batcher = batch->batcher;
    struct ab_queue *queue = &batcher->synced_data.queue;
    ab_mutex_lock(&batcher->mutex);
    keep_waiting(batch, todo);
    const struct ab_entry *head;
    size_t added = 0;
    while (batch->is_running && added < most &&
           (head = ab_queue_head(queue)) != NULL &&
           ab_policy_fits(&batcher->synced_data.limits, batch->length,
                          &batch->cost, head->cost) &&
           make_room(batch)) {
        ab_cost_add(&batch->cost, head->cost);
        batch->entries[batch->length++] = ab_queue_pop(queue);
        added++;
    }
    batch->due -= added < batch->due ? added : batch->due;
    ab_backlog_admit_locked(batcher, mailbox_of_host(batch), todo);
    ab_mutex_unlock(&batcher->mutex);
    return added;
}

void
ab_batch_pause(struct ab_batch *batch, struct ab_todo *todo)
{
    ab_mutex_lock(&batch->batcher->mutex);
    keep_waiting(batch, todo); // whoever settles it meanwhile does not
    batch->is_forming = false;
    ab_mutex_unlock(&batch->batcher->mutex);
}

bool
ab_batch_resume(struct ab_batch *batch)
{
    ab_mutex_lock(&batch->batcher->mutex);
    batch->is_forming = !batch->is_aborted && !batch->is_settled;
    bool goes_on = batch->is_forming;
    ab_mutex_unlock(&batch->batcher->mutex);
    return goes_on;
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
    keep_waiting(batch, todo);
    bool has_items = batch->is_running && batch->length > 0;
    batch->started_ns = ab_clock_now_ns();
    struct ab_mailbox *own = mailbox_of_host(batch);
    if (has_items) {
        count_start(batch);
    }
    else {
        if (batch->is_running) {
            give_back_permit(batch, batch->started_ns, todo);
        }
        batch->holders = 0;
        ab_batch_end_locked(batch);
        ab_batcher_tell_idle_locked(batcher);
    }
    // There may be enough left for another batch and another permit.
    ab_decide_locked(batcher, own, ab_clock_now_ns(), todo);
    ab_mutex_unlock(&batcher->mutex);
    return has_items;
}

bool
ab_batch_formed(struct ab_batch *batch, unsigned long thread)
{
    ab_mutex_lock(&batch->batcher->mutex);
    batch->is_forming = false;
    bool is_aborted = batch->is_aborted;
    if (!is_aborted) {
        atomic_store_explicit(&batch->thread, thread, memory_order_relaxed);
    }
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
