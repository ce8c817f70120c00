#include "core/batch.h"

#include "core/clock.h"

#define AB_FIRST_CAPACITY 128 // of a batch; it grows as it is filled

/* ---- lists ---- */

static void
append(struct ab_batch_list *list, struct ab_batch *batch)
{
    batch->list = list;
    batch->prev = list->last;
    batch->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = batch;
    list->last = batch;
}

static void
take_off(struct ab_batch *batch)
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
    append(list, batch);
    return batch;
}

void
ab_batch_end_locked(struct ab_batch *batch)
{
    if (batch->is_running || batch->untold > 0 || batch->holders > 0
        || batch->list == NULL) { // the parent's, in the child of a fork
        return;
    }
    take_off(batch);
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
    if (verdict.action != AB_CUT || !was_hinted
        || batcher->synced_data.is_orphaned) {
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
    while ((head = ab_queue_head(queue)) != NULL
           && ab_policy_fits(&batcher->synced_data.limits, batch->live,
                             &batch->cost, head->cost)
           && make_room(batch)) {
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
    ab_meter_turn(&batcher->synced_data.meter,
                  batcher->synced_data.running > 0, now_ns);
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
    ab_meter_turn(meter, true, batch->started_ns);
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
    struct ab_mailbox *own =
        batch->host != NULL ? batch->host->mailbox : NULL;
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

void
ab_batch_settle(struct ab_batch *batch, bool is_failed,
                struct ab_mailbox *own, struct ab_todo *todo)
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

/* ---- collecting those who will not be served ---- */

static bool
is_wanted(const struct ab_entry *entry, const struct ab_link *link)
{
    return entry->waiter != NULL && (link == NULL || entry->link == link);
}

static bool
is_source(const struct ab_batch *batch)
{
    return batch->list == &batch->batcher->synced_data.backlog
           || (batch->is_running && !batch->is_forming);
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
        if (to != NULL && batch->is_forming && link == NULL) {
            batch->is_aborted = true;
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
    ab_backlog_admit_locked(batcher);
done:
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

/* ---- telling ---- */

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
ab_link_told(struct ab_link *link, const struct ab_told *told,
             struct ab_todo *todo)
{
    struct ab_batcher *batcher = link->batcher;
    struct ab_meter *meter = &batcher->synced_data.meter;
    size_t outstanding = told->completed + told->failed + told->cancelled
                         + told->uncounted;
    ab_mutex_lock(&batcher->mutex);
    meter->completed += told->completed;
    meter->failed += told->failed;
    meter->cancelled += told->cancelled;
    AB_ASSERT(batcher->synced_data.outstanding >= outstanding);
    batcher->synced_data.outstanding -= outstanding;
    ab_link_unpend_locked(link, outstanding + told->watchers, todo);
    ab_batcher_tell_idle_locked(batcher);
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
            each->mailbox != NULL
                ? ab_mailbox_post(each->mailbox, each, false)
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

static void
tell_watchers(struct ab_batcher *batcher)
{
    struct ab_batch *watch;
    while ((watch = batcher->synced_data.watchers.first) != NULL) {
        take_off(watch);
        append(&batcher->synced_data.batches, watch);
        ab_batch_publish_locked(watch);
    }
}

void
ab_batcher_tell_idle_locked(struct ab_batcher *batcher)
{
    if (batcher->synced_data.outstanding > 0) {
        return;
    }
    if (batcher->synced_data.is_closing && batcher->synced_data.workers > 0) {
        ab_cond_broadcast(&batcher->workers_wanted); // the last one comes back
        return;
    }
    tell_watchers(batcher);
}

void
ab_batcher_tell_watchers(struct ab_batcher *batcher)
{
    ab_mutex_lock(&batcher->mutex);
    tell_watchers(batcher);
    ab_mutex_unlock(&batcher->mutex);
}

/* ---- waiting for space, and cancelled items ---- */

void
ab_backlog_admit_locked(struct ab_batcher *batcher)
{
    struct ab_batch *pair;
    while ((pair = batcher->synced_data.backlog.first) != NULL) {
        struct ab_view view = ab_view_locked(batcher);
        struct ab_entry *entry = &pair->entries[0];
        struct ab_cost cost = {.low = (uint64_t)entry->cost};
        if (!ab_policy_admits(&batcher->synced_data.limits, &view, 1,
                              &cost)) {
            return;
        }
        entry->enqueued_ns = ab_clock_now_ns();
        if (ab_queue_push(&batcher->synced_data.queue, entry, 1) != AB_OK) {
            ab_batcher_try_later_locked(batcher);
            return;
        }
        *entry = (struct ab_entry){0};
        batcher->synced_data.meter.submitted++;
        take_off(pair);
        append(&batcher->synced_data.batches, pair);
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
        ab_backlog_admit_locked(batcher);
        ab_decide_locked(batcher, NULL, ab_clock_now_ns(), todo);
        ab_batcher_tell_idle_locked(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
    return pair != NULL;
}

bool
ab_batcher_drop(struct ab_batcher *batcher, uint64_t number,
                struct ab_entry *out, struct ab_todo *todo)
{
    ab_mutex_lock(&batcher->mutex);
    bool is_dropped =
        ab_queue_drop(&batcher->synced_data.queue, number, out);
    if (is_dropped) {
        batcher->synced_data.meter.cancelled++;
        batcher->synced_data.outstanding--;
        ab_link_unpend_locked(out->link, 1, todo);
        ab_backlog_admit_locked(batcher);
        ab_decide_locked(batcher, NULL, ab_clock_now_ns(), todo);
        ab_batcher_tell_idle_locked(batcher);
    }
    ab_mutex_unlock(&batcher->mutex);
    return is_dropped;
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
    batcher->synced_data.retry_ns = AB_NEVER;
    if (batcher->synced_data.home == link) {
        batcher->synced_data.home = NULL;
        if (batcher->synced_data.hint == AB_HINT_GIVEN
            && batcher->synced_data.host != AB_HOST_WORKER) {
            batcher->synced_data.hint = AB_HINT_NONE;
        }
    }
    for (struct ab_link *other = batcher->synced_data.links;
         other != NULL && batcher->synced_data.home == NULL;
         other = other->synced_data.next) {
        // Relaxed: a loop that closes just now reports its own loss.
        if (other->mailbox != NULL
            && atomic_load_explicit(&other->mailbox->loop,
                                    memory_order_relaxed)
                   != NULL) {
            batcher->synced_data.home = other;
        }
    }
    ab_decide_locked(batcher, NULL, ab_clock_now_ns(), todo);
    ab_mutex_unlock(&batcher->mutex);
}
