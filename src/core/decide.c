#include "core/decide.h"

#include "core/clock.h"
#include "core/leave.h"

#define AB_HINT_MAX_WAIT_NS 1000000000
#define AB_TRY_LATER_NS 10000000

void
ab_hint_lost_locked(struct ab_batcher *batcher)
{
    // A worker that took it is on its way whatever loops do.
    if (batcher->synced_data.host == AB_HOST_LOOP ||
        (batcher->synced_data.host == AB_HOST_EXECUTOR &&
         batcher->synced_data.hint == AB_HINT_GIVEN)) {
        batcher->synced_data.hint = AB_HINT_NONE;
    }
}

bool
ab_hint_take_locked(struct ab_batcher *batcher)
{
    if (batcher->synced_data.hint != AB_HINT_GIVEN) {
        return false;
    }
    batcher->synced_data.hint = AB_HINT_TAKEN;
    return true;
}

size_t
ab_prefetched_locked(struct ab_batcher *batcher)
{
    const struct ab_limits *limits = &batcher->synced_data.limits;
    uint64_t most = (uint64_t)limits->prefetch_batches;
    if (most == 0 || (uint64_t)batcher->synced_data.running <
                         (uint64_t)limits->concurrency) {
        return 0;
    }
    // One more than are assembled: the one being assembled.
    ab_prefetch_update(&batcher->synced_data.prefetch, limits,
                       &batcher->synced_data.queue, (size_t)most + 1);
    size_t batches = batcher->synced_data.prefetch.batches;
    return (uint64_t)batches < most ? batches : (size_t)most;
}

/* Nothing is ahead of its turn while a permit is free. */
static void
count_ahead(struct ab_batcher *batcher, struct ab_view *view)
{
    if (batcher->synced_data.limits.prefetch_batches == AB_UNLIMITED &&
        (uint64_t)view->running >=
            (uint64_t)batcher->synced_data.limits.concurrency) {
        view->ahead = view->waiting; // without a look at each of them
        view->ahead_cost = view->cost;
    }
    else if (ab_prefetched_locked(batcher) > 0) {
        view->ahead = batcher->synced_data.prefetch.entries;
        view->ahead_cost = batcher->synced_data.prefetch.cost;
    }
}

struct ab_view
ab_view_locked(struct ab_batcher *batcher)
{
    struct ab_queue *queue = &batcher->synced_data.queue;
    const struct ab_entry *oldest = ab_queue_head(queue);
    struct ab_view view = {
        .waiting = queue->length,
        .cost = queue->cost,
        .oldest_ns = oldest != NULL ? oldest->enqueued_ns : 0,
        .running = batcher->synced_data.running,
        .is_draining = batcher->synced_data.is_closing,
        .is_flushing = queue->head_number < batcher->synced_data.flush_number,
    };
    count_ahead(batcher, &view);
    return view;
}

static bool
is_hosted_by_workers(const struct ab_batcher *batcher)
{
    return batcher->synced_data.host == AB_HOST_WORKER ||
           (batcher->synced_data.host == AB_HOST_EXECUTOR &&
            batcher->synced_data.home == NULL);
}

/* Callers without a loop: any loop that runs will do, or a worker. */
static bool
do_loopless_wait(struct ab_batcher *batcher)
{
    const struct ab_link *link = ab_link_in_locked(batcher, NULL);
    return link != NULL && link->synced_data.pending > 0;
}

/* While permits are free one worker is idle or on its way: the timer, which
 * cannot start one, then finds somebody to wake. */
static void
want_idle_worker(struct ab_batcher *batcher, struct ab_todo *todo)
{
    if (todo != NULL && batcher->synced_data.idle_workers == 0 &&
        batcher->synced_data.workers < batcher->synced_data.max_workers &&
        (uint64_t)batcher->synced_data.workers <
            (uint64_t)batcher->synced_data.limits.concurrency) {
        batcher->synced_data.workers++;
        batcher->synced_data.idle_workers++;
        todo->start_worker = true;
    }
}

/* A worker hosts, or may have to: nobody knows whether the loop of an
 * executor's batcher still runs, and callers without a loop wait. */
static bool
may_need_worker(struct ab_batcher *batcher)
{
    if (batcher->synced_data.host != AB_HOST_EXECUTOR) {
        return batcher->synced_data.host == AB_HOST_WORKER;
    }
    return batcher->synced_data.home == NULL || do_loopless_wait(batcher);
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
    if (batcher->synced_data.armed_ns > due_ns &&
        ab_aggregator_arm(&batcher->timer, due_ns) == AB_OK) {
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
    if (mailbox == own && todo != NULL &&
        link->batcher->synced_data.host == AB_HOST_LOOP) {
        todo->start_run = true; // a letter would be a loop iteration more
        return true;
    }
    switch (ab_mailbox_post(mailbox, link, mailbox != own)) {
    case AB_POST_CLOSED:
        return false;
    case AB_POSTED_WAKE:
        AB_ASSERT(todo != NULL && todo->wake == NULL);
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
 * more rarely.  The timer comes here in time, detached, or a loop that watches
 * no fd: only fds are written. */
static void
repeat_hint(struct ab_batcher *batcher, int64_t now_ns)
{
    batcher->synced_data.hint = AB_HINT_GIVEN; // whoever comes first
    ab_cond_signal(&batcher->workers_wanted);  // of an executor's batcher
    bool asks_all = do_loopless_wait(batcher);
    for (struct ab_link *link = batcher->synced_data.links; link != NULL;
         link = link->synced_data.next) {
        if (link->synced_data.pending > 0 || asks_all) {
            (void)post_hint(link, NULL, NULL);
        }
    }
    if (batcher->synced_data.hint_wait_ns < AB_HINT_MAX_WAIT_NS) {
        batcher->synced_data.hint_wait_ns *= 2;
    }
    batcher->synced_data.hint_due_ns =
        now_ns + batcher->synced_data.hint_wait_ns;
}

/* The loop of the caller keeps the time: no thread can, or it could not wake
 * the host.  A time that another loop keeps may be lost with that loop. */
static void
keep_time_here(struct ab_batcher *batcher, struct ab_mailbox *own,
               int64_t due_ns, struct ab_todo *todo)
{
    struct ab_link *link = ab_link_in_locked(batcher, own);
    if (link != NULL && link->synced_data.retry_ns > due_ns) {
        link->synced_data.retry_ns = due_ns;
        todo->retry_ns = due_ns;
    }
}

static void
hint_loop(struct ab_batcher *batcher, struct ab_mailbox *own, int64_t now_ns,
          struct ab_todo *todo)
{
    if (batcher->synced_data.hint == AB_HINT_NONE) {
        if (!hint_any_loop(batcher, own, todo)) {
            return;
        }
        batcher->synced_data.hint =
            todo != NULL && todo->start_run ? AB_HINT_TAKEN : AB_HINT_GIVEN;
        batcher->synced_data.hint_due_ns =
            now_ns + batcher->synced_data.hint_wait_ns;
    }
    else if (now_ns >= batcher->synced_data.hint_due_ns) {
        repeat_hint(batcher, now_ns);
    }
    const struct ab_link *home = batcher->synced_data.home;
    if (home->synced_data.pending == 0 ||
        batcher->synced_data.pending_links > 1) {
        arm(batcher, batcher->synced_data.hint_due_ns);
    }
    if (todo != NULL && own != NULL && home->mailbox != own) {
        todo->is_away = true;
        if (!own->has_fd) { // nor may the home, and then nobody asks it again
            keep_time_here(batcher, own, batcher->synced_data.hint_due_ns,
                           todo);
        }
    }
}

static void
keep_time(struct ab_batcher *batcher, struct ab_mailbox *own, int64_t due_ns,
          struct ab_todo *todo)
{
    const struct ab_link *home = batcher->synced_data.home;
    bool is_workers = is_hosted_by_workers(batcher);
    if (is_workers || (home != NULL && home->mailbox->has_fd)) {
        arm(batcher, due_ns);
    }
    if (batcher->synced_data.armed_ns <= due_ns) {
        return;
    }
    if (is_workers) {
        if (batcher->synced_data.unarmed_ns > due_ns) {
            batcher->synced_data.unarmed_ns = due_ns;
            ab_cond_signal(&batcher->workers_wanted);
        }
    }
    else if (todo != NULL && own != NULL) {
        keep_time_here(batcher, own, due_ns, todo);
    }
    else if (todo != NULL && home != NULL) {
        (void)post_hint(batcher->synced_data.home, NULL, todo); // it will
    }
}

void
ab_decide_locked(struct ab_batcher *batcher, struct ab_mailbox *own,
                 int64_t now_ns, struct ab_todo *todo)
{
    if (batcher->synced_data.is_orphaned ||
        batcher->synced_data.host == AB_HOST_UNKNOWN) {
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
        if (todo != NULL) {
            todo->is_full = verdict.reason == AB_REASON_FULL ||
                            verdict.reason == AB_REASON_COST;
        }
    }
    if (may_need_worker(batcher)) {
        want_idle_worker(batcher, todo);
    }
    // Looked at anew: the last loop may just have turned out to be closed.
    if (verdict.action == AB_CUT &&
        batcher->synced_data.hint == AB_HINT_NONE &&
        is_hosted_by_workers(batcher)) {
        hint_worker(batcher);
    }
}

void
ab_batcher_try_later_locked(struct ab_batcher *batcher, struct ab_mailbox *own,
                            struct ab_todo *todo)
{
    int64_t due_ns = ab_clock_now_ns() + AB_TRY_LATER_NS;
    arm(batcher, due_ns);
    if (own != NULL) {
        keep_time_here(batcher, own, due_ns, todo);
    }
}

void
ab_batcher_look(struct ab_batcher *batcher, struct ab_mailbox *own,
                struct ab_todo *todo)
{
    int64_t now_ns = ab_clock_now_ns();
    ab_mutex_lock(&batcher->mutex);
    struct ab_link *link = ab_link_in_locked(batcher, own);
    if (link != NULL) {
        // Its loop kept the time, maybe, and came a little early: asked anew.
        link->synced_data.retry_ns = AB_NEVER;
    }
    ab_backlog_admit_locked(batcher, own, todo);
    ab_decide_locked(batcher, own, now_ns, todo);
    ab_mutex_unlock(&batcher->mutex);
}
