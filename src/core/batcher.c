#include "core/batcher.h"

#include "core/batch.h"
#include "core/clock.h"
#include "core/registry.h"

#define AB_HINT_MAX_WAIT_NS 1000000000
#define AB_TRY_LATER_NS 10000000

static atomic_bool workers_quit; // set once, at the end of the interpreter

/* ---- lifetime ---- */

static struct ab_batcher *
of_timer(struct ab_timer *timer)
{
    return (struct ab_batcher *)((char *)timer
                                 - offsetof(struct ab_batcher, timer));
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
    ab_backlog_admit_locked(batcher);
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
    batcher->synced_data.retry_ns = AB_NEVER;
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

/* ---- links ---- */

static void
forget_dead_links(struct ab_batcher *batcher)
{
    struct ab_link **slot = &batcher->synced_data.links;
    while (*slot != NULL) {
        struct ab_link *link = *slot;
        if (link->mailbox == NULL || link->synced_data.pending > 0
            || atomic_load_explicit(&link->mailbox->loop,
                                    memory_order_relaxed)
                   != NULL
            || ab_mailbox_names(link->mailbox, link)) {
            slot = &link->synced_data.next;
            continue;
        }
        *slot = link->synced_data.next;
        if (batcher->synced_data.home == link) {
            batcher->synced_data.home = NULL;
            if (batcher->synced_data.hint == AB_HINT_GIVEN
                && batcher->synced_data.host != AB_HOST_WORKER) {
                batcher->synced_data.hint = AB_HINT_NONE;
            }
        }
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

enum ab_status
ab_batcher_link(struct ab_batcher *batcher, struct ab_mailbox *mailbox)
{
    enum ab_status status = AB_OK;
    ab_mutex_lock(&batcher->mutex);
    struct ab_link *link = batcher->synced_data.links;
    while (link != NULL && link->mailbox != mailbox) {
        link = link->synced_data.next;
    }
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
ab_link_unpend_locked(struct ab_link *link, size_t count,
                      struct ab_todo *todo)
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

/* ---- deciding ---- */

struct ab_view
ab_view_locked(const struct ab_batcher *batcher)
{
    struct ab_queue *queue = (struct ab_queue *)&batcher->synced_data.queue;
    const struct ab_entry *oldest = ab_queue_head(queue);
    return (struct ab_view){
        .waiting = queue->length,
        .cost = queue->cost,
        .oldest_ns = oldest != NULL ? oldest->enqueued_ns : 0,
        .running = batcher->synced_data.running,
        .is_draining = batcher->synced_data.is_closing,
        .is_flushing = queue->head_number < batcher->synced_data.flush_number,
    };
}

static bool
is_hosted_by_workers(const struct ab_batcher *batcher)
{
    return batcher->synced_data.host == AB_HOST_WORKER
           || (batcher->synced_data.host == AB_HOST_EXECUTOR
               && batcher->synced_data.home == NULL);
}

/* While permits are free one worker is idle or on its way: the timer, which
 * cannot start one, then finds somebody to wake. */
static void
want_idle_worker(struct ab_batcher *batcher, struct ab_todo *todo)
{
    if (todo != NULL && batcher->synced_data.idle_workers == 0
        && batcher->synced_data.workers < batcher->synced_data.max_workers
        && (uint64_t)batcher->synced_data.workers
               < (uint64_t)batcher->synced_data.limits.concurrency) {
        batcher->synced_data.workers++;
        batcher->synced_data.idle_workers++;
        todo->start_worker = true;
    }
}

static void
hint_worker(struct ab_batcher *batcher)
{
    // With none idle the busy ones look again when they are done.
    if (batcher->synced_data.idle_workers > 0) {
        batcher->synced_data.hint = AB_HINT_GIVEN;
        ab_cond_signal(&batcher->workers_wanted);
    }
}

static void
arm(struct ab_batcher *batcher, int64_t due_ns)
{
    if (batcher->synced_data.armed_ns > due_ns
        && ab_aggregator_arm(&batcher->timer, due_ns) == AB_OK) {
        batcher->synced_data.armed_ns = due_ns;
    }
}

/* Post the hint to `link`, if its loop is open and can be woken from here. */
static bool
post_hint(struct ab_link *link, struct ab_mailbox *own, struct ab_todo *todo)
{
    struct ab_mailbox *mailbox = link->mailbox;
    if (mailbox == NULL || (todo == NULL && !mailbox->has_fd)) {
        return false;
    }
    switch (ab_mailbox_post(mailbox, link, mailbox != own)) {
    case AB_POST_CLOSED:
        return false;
    case AB_POSTED_WAKE:
        AB_ASSERT(todo->wake == NULL);
        ab_mailbox_acquire(mailbox);
        todo->wake = mailbox;
        return true;
    default:
        return true;
    }
}

static bool
hint_any_loop(struct ab_batcher *batcher, struct ab_mailbox *own,
              struct ab_todo *todo)
{
    struct ab_link *home = batcher->synced_data.home;
    if (home != NULL && post_hint(home, own, todo)) {
        return true;
    }
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        if (link != home && post_hint(link, own, todo)) {
            batcher->synced_data.home = link;
            return true;
        }
    }
    return false;
}

/* A loop that stopped does not answer; where others wait they are asked, ever
 * more rarely.  Only the timer comes here in time, and it is detached. */
static void
repeat_hint(struct ab_batcher *batcher, int64_t now_ns)
{
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        if (link->synced_data.pending > 0) {
            (void)post_hint(link, NULL, NULL);
        }
    }
    if (batcher->synced_data.hint_wait_ns < AB_HINT_MAX_WAIT_NS) {
        batcher->synced_data.hint_wait_ns *= 2;
    }
    batcher->synced_data.hint_due_ns =
        now_ns + batcher->synced_data.hint_wait_ns;
}

static void
hint_loop(struct ab_batcher *batcher, struct ab_mailbox *own, int64_t now_ns,
          struct ab_todo *todo)
{
    if (batcher->synced_data.hint == AB_HINT_NONE) {
        if (!hint_any_loop(batcher, own, todo)) {
            return;
        }
        batcher->synced_data.hint = AB_HINT_GIVEN;
        batcher->synced_data.hint_due_ns =
            now_ns + batcher->synced_data.hint_wait_ns;
    }
    else if (now_ns >= batcher->synced_data.hint_due_ns) {
        repeat_hint(batcher, now_ns);
    }
    const struct ab_link *home = batcher->synced_data.home;
    if (home->synced_data.pending == 0
        || batcher->synced_data.pending_links > 1) {
        arm(batcher, batcher->synced_data.hint_due_ns);
    }
    if (todo != NULL) {
        todo->is_away = own != NULL && home->mailbox != own;
    }
}

static void
keep_time(struct ab_batcher *batcher, struct ab_mailbox *own, int64_t due_ns,
          struct ab_todo *todo)
{
    const struct ab_link *home = batcher->synced_data.home;
    bool reaches_host = is_hosted_by_workers(batcher)
                        || (home != NULL && home->mailbox->has_fd);
    if (reaches_host) {
        arm(batcher, due_ns);
    }
    if (batcher->synced_data.armed_ns <= due_ns
        || batcher->synced_data.retry_ns <= due_ns || todo == NULL) {
        return;
    }
    if (own != NULL) {
        batcher->synced_data.retry_ns = due_ns;
        todo->retry_ns = due_ns;
    }
    else if (home != NULL) {
        (void)post_hint(batcher->synced_data.home, NULL, todo); // it will
    }
}

void
ab_decide_locked(struct ab_batcher *batcher, struct ab_mailbox *own,
                 int64_t now_ns, struct ab_todo *todo)
{
    if (batcher->synced_data.is_orphaned
        || batcher->synced_data.host == AB_HOST_UNKNOWN) {
        return;
    }
    struct ab_view view = ab_view_locked(batcher);
    struct ab_verdict verdict =
        ab_policy_decide(&batcher->synced_data.limits, &view, now_ns);
    if (verdict.action == AB_REST) {
        return;
    }
    if (verdict.action == AB_WAIT) {
        keep_time(batcher, own, verdict.due_ns, todo);
    }
    else if (!is_hosted_by_workers(batcher)) {
        hint_loop(batcher, own, now_ns, todo);
    }
    if (is_hosted_by_workers(batcher)) { // also if its last loop just closed
        want_idle_worker(batcher, todo);
        if (verdict.action == AB_CUT
            && batcher->synced_data.hint == AB_HINT_NONE) {
            hint_worker(batcher);
        }
    }
}

void
ab_batcher_try_later_locked(struct ab_batcher *batcher)
{
    arm(batcher, ab_clock_now_ns() + AB_TRY_LATER_NS);
}

/* ---- what callers do ---- */

void
ab_batcher_begin_locked(struct ab_batcher *batcher, int64_t now_ns)
{
    if (batcher->synced_data.meter.since_ns == 0) {
        ab_meter_turn(&batcher->synced_data.meter, false, now_ns);
    }
}

/* May a caller on `loop` hand in anything?  Finds its link. */
static enum ab_status
enter(struct ab_batcher *batcher, void *loop, struct ab_link **link)
{
    if (batcher->synced_data.is_closing) {
        return AB_CLOSED;
    }
    bool needs_worker = batcher->synced_data.host == AB_HOST_WORKER
                        || (batcher->synced_data.host == AB_HOST_EXECUTOR
                            && batcher->synced_data.home == NULL
                            && loop == NULL);
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
    struct ab_view view = ab_view_locked(batcher);
    if (batcher->synced_data.backlog.first != NULL
        || !ab_policy_admits(&batcher->synced_data.limits, &view, count,
                             &cost)) {
        status = AB_FULL;
        goto done;
    }
    status = ab_queue_push(&batcher->synced_data.queue, entries, count);
    if (status != AB_OK) {
        goto done;
    }
    ab_batcher_begin_locked(batcher, now_ns);
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
    ab_backlog_admit_locked(batcher);
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
        if (link != own && link->synced_data.pending > 0
            && link->mailbox != NULL && link->mailbox->has_fd) {
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
        watch->entries[0].kind = AB_WATCHER;
        watch->length = 1;
        ab_link_pend_locked(link, 1, todo);
        ab_batcher_tell_idle_locked(batcher);
        status = AB_OK;
    }
    ab_mutex_unlock(&batcher->mutex);
    return status;
}

void
ab_batcher_look(struct ab_batcher *batcher, struct ab_mailbox *own,
                struct ab_todo *todo)
{
    int64_t now_ns = ab_clock_now_ns();
    ab_mutex_lock(&batcher->mutex);
    // Whoever kept the time may come a little early: asked anew if so.
    batcher->synced_data.retry_ns = AB_NEVER;
    ab_backlog_admit_locked(batcher);
    ab_decide_locked(batcher, own, now_ns, todo);
    ab_mutex_unlock(&batcher->mutex);
}

void
ab_batcher_flush(struct ab_batcher *batcher, struct ab_mailbox *own,
                 struct ab_todo *todo)
{
    ab_mutex_lock(&batcher->mutex);
    batcher->synced_data.flush_number =
        batcher->synced_data.queue.tail_number;
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
    if (batcher->synced_data.hint == AB_HINT_GIVEN) {
        batcher->synced_data.hint = AB_HINT_NONE; // lost with the old home
    }
    ab_mutex_unlock(&batcher->mutex);
}

/* ---- workers ---- */

static bool
may_leave(const struct ab_batcher *batcher)
{
    return batcher->synced_data.is_orphaned
           || (batcher->synced_data.is_closing
               && batcher->synced_data.outstanding == 0)
           || ab_workers_are_quitting();
}

/* The worker that leaves holds nothing of Python any more. */
static void
wake_by_fd(struct ab_batcher *batcher)
{
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        if (link->synced_data.outbox != NULL && link->mailbox != NULL
            && link->mailbox->has_fd) {
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
    while (batcher->synced_data.hint != AB_HINT_GIVEN
           && !may_leave(batcher)) {
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
    if (batcher->synced_data.idle_workers == 0
        && batcher->synced_data.hint == AB_HINT_GIVEN) {
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

/* ---- fork ---- */

void
ab_batcher_after_fork_child(struct ab_batcher *batcher)
{
    ab_cond_init(&batcher->workers_wanted);
    // The parent's entries are the parent's: their references leak here.
    // Chunks and batches leak with them: no allocator is safe to call yet.
    ab_queue_init(&batcher->synced_data.queue);
    for (struct ab_batch *batch = batcher->synced_data.batches.first;
         batch != NULL; batch = batch->next) {
        // Whoever runs it may be here, and may still settle it.
        batch->is_running = false;
        batch->is_settled = true;
        batch->list = NULL;
    }
    batcher->synced_data.batches = (struct ab_batch_list){0};
    batcher->synced_data.backlog = (struct ab_batch_list){0};
    batcher->synced_data.watchers = (struct ab_batch_list){0};
    batcher->synced_data.links = batcher->synced_data.home = NULL;
    batcher->synced_data.outstanding = batcher->synced_data.running = 0;
    batcher->synced_data.pending_links = 0;
    batcher->synced_data.hint = AB_HINT_NONE;
    batcher->synced_data.hint_wait_ns = AB_HINT_WAIT_NS;
    batcher->synced_data.armed_ns = batcher->synced_data.retry_ns = AB_NEVER;
    batcher->synced_data.flush_number = 0;
    batcher->synced_data.workers = batcher->synced_data.idle_workers = 0;
    batcher->synced_data.meter = (struct ab_meter){0};
    ab_mutex_unlock(&batcher->mutex);
}
