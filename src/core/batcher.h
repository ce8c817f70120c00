/* The state of one batcher: its queue, its permits, and where its batches
 * run.  A batch is decided here (by the policy), bounded here (by the
 * permits), and cut in batch.h.
 *
 * A grant is only a hint.  Deciding that a batch is due changes nothing but
 * `hint`; the permit is taken at the cut, by whoever cuts.  A hint that is
 * lost with a loop that stops therefore loses nothing: the next push, or the
 * timer where other loops wait, gives it anew.
 *
 * Lifetime: counted.  The Python object holds one count, as do an armed
 * timer, a worker and a posted letter; what comes back late finds the core
 * alive and `is_orphaned` set.
 */
#ifndef AB_CORE_BATCHER_H
#define AB_CORE_BATCHER_H

#include "core/aggregator.h"
#include "core/mailbox.h"
#include "core/meter.h"
#include "core/policy.h"
#include "core/queue.h"
#include "core/sync.h"

/* Who cuts and starts a batch. */
enum ab_host {
    AB_HOST_UNKNOWN,  // process_batch was not looked at yet: nothing is due
    AB_HOST_LOOP,     // a loop, and only a loop: process_batch is async
    AB_HOST_WORKER,   // one of the batcher's own workers
    AB_HOST_EXECUTOR, // a loop where one runs, else a worker; both only submit
};

enum ab_hint {
    AB_HINT_NONE,
    AB_HINT_GIVEN, // a host was told and has not come yet
    AB_HINT_TAKEN, // a worker woke for it and is on its way to the cut
};

struct ab_batch;

struct ab_batch_list {
    struct ab_batch *first, *last;
};

struct ab_batcher {
    struct ab_count refs;
    struct ab_timer timer;           // the window, or an unanswered hint
    struct ab_batcher *next, **slot; // in the registry; NULL: it left
    uint64_t number;                 // by age
    void *object; /* borrowed; the Python object; alive while one is pending */
    struct ab_mutex mutex;
    struct ab_cond workers_wanted; // a hint for a worker, or time to leave
    struct {
        struct ab_limits limits;
        enum ab_host host;
        struct ab_queue queue;         // accepted and not cut
        struct ab_batch_list batches;  // cut and not wholly told
        struct ab_batch_list backlog;  // callers that wait for space
        struct ab_batch_list watchers; // callers that wait for idleness
        uint64_t batch_number;
        size_t outstanding; // entries accepted and not told, and permits taken
        struct ab_link *links;
        struct ab_link *home; // the loop that hosts; NULL: none open
        void *object_ref;     /* owned by the object: a weak reference to it */
        size_t running;       // permits taken
        size_t pending_links; // links with pending > 0
        enum ab_hint hint;
        int64_t hint_due_ns; // when an unanswered hint is given again
        int64_t hint_wait_ns;
        uint64_t flush_number; // entries below it go at once
        int64_t armed_ns; // the timer fires then at the latest; AB_NEVER
        int64_t retry_ns; // a caller keeps that time itself; AB_NEVER
        size_t workers, idle_workers, max_workers;
        bool is_closing, is_orphaned;
        struct ab_meter meter;
    } synced_data;
};

/* How long a hint goes unanswered before it is given again, at first. */
#define AB_HINT_WAIT_NS 20000000

/* What a call leaves for its attached caller to do once the mutex is free.
 * Thread of everything below: any, unless it says otherwise. */
struct ab_todo {
    int refs; // references on the object to add (> 0) or to drop (< 0)
    struct ab_mailbox *wake; // acquired; its loop must be woken
    bool start_worker;       // counted as idle already
    bool is_away; // the loop that hosts is not the caller's: does it run?
    int64_t retry_ns; // not 0: keep the time yourself and look again then
};

/* A batcher with one count, in the registry.  AB_OK or AB_NO_MEMORY. */
enum ab_status ab_batcher_new(struct ab_batcher **out, void *object);
void ab_batcher_acquire(struct ab_batcher *batcher);
void ab_batcher_release(struct ab_batcher *batcher);

/* The object goes: nothing is due any more, workers leave.  What it still
 * holds must have been taken out.  Gives back the object's count. */
void ab_batcher_orphan(struct ab_batcher *batcher);

/* Make the link of `mailbox` (NULL: of callers without a loop), which its
 * callers are found by from then on.  AB_OK or AB_NO_MEMORY. */
enum ab_status ab_batcher_link(struct ab_batcher *batcher,
                               struct ab_mailbox *mailbox);

/* Accept `count` entries, all or none, from a caller that runs on `loop`, or
 * on none: AB_OK, AB_FULL, AB_CLOSED, AB_QUITTING, AB_NO_LINK or
 * AB_NO_MEMORY. */
enum ab_status ab_batcher_push(struct ab_batcher *batcher, void *loop,
                               struct ab_entry *entries, size_t count,
                               struct ab_todo *todo);

/* Queue entries[0] behind all that wait for space; entries[1] is told when
 * it is admitted, which may be before this returns.  `number` names the
 * pair.  As push, but that it is never full. */
enum ab_status ab_batcher_wait_for_space(struct ab_batcher *batcher,
                                         void *loop,
                                         const struct ab_entry entries[2],
                                         uint64_t *number,
                                         struct ab_todo *todo);

/* Do callers wait for space? */
bool ab_batcher_has_backlog(struct ab_batcher *batcher);

/* Let the other loops look at those of their waiters that are queued. */
void ab_batcher_alert_loops(struct ab_batcher *batcher, void *own_loop);

/* Count an item that was refused before it got here. */
void ab_batcher_count_rejected(struct ab_batcher *batcher, size_t count);

/* Have `watcher` told when nothing is queued, running or untold. */
enum ab_status ab_batcher_watch(struct ab_batcher *batcher, void *loop,
                                const struct ab_entry *watcher,
                                struct ab_todo *todo);

/* Look whether a batch is due, now that something changed. */
void ab_batcher_look(struct ab_batcher *batcher, struct ab_mailbox *own,
                     struct ab_todo *todo);

/* Dispatch what is queued now, without waiting for windows. */
void ab_batcher_flush(struct ab_batcher *batcher, struct ab_mailbox *own,
                      struct ab_todo *todo);

/* Take no new entries; what is queued goes at once. */
void ab_batcher_begin_drain(struct ab_batcher *batcher,
                            struct ab_mailbox *own, struct ab_todo *todo);

/* Make `loop` the home: the home's loop does not run any more. */
void ab_batcher_move_home(struct ab_batcher *batcher, void *loop);

/* Inside the mutex, for the core's own files.  `own` is the mailbox of the
 * loop that the caller runs on; NULL: none.  ab_decide_locked applies the
 * policy: hints, arms the timer, or leaves work in `todo`; a `todo` of NULL
 * says that the caller is detached. */
void ab_decide_locked(struct ab_batcher *batcher, struct ab_mailbox *own,
                      int64_t now_ns, struct ab_todo *todo);
/* The first use starts the account of busy and idle time. */
void ab_batcher_begin_locked(struct ab_batcher *batcher, int64_t now_ns);
void ab_batcher_try_later_locked(struct ab_batcher *batcher);
struct ab_link *ab_link_of_locked(struct ab_batcher *batcher, void *loop);
void ab_link_pend_locked(struct ab_link *link, size_t count,
                         struct ab_todo *todo);
void ab_link_unpend_locked(struct ab_link *link, size_t count,
                           struct ab_todo *todo);
struct ab_view ab_view_locked(const struct ab_batcher *batcher);

/* Workers.  Waiting is detached; every worker holds a count.  True: a batch
 * may be due, cut it.  False: leave; the worker is no longer counted, and may
 * have been the last that a stop waited for: see the outboxes of loops that
 * watch no fd. */
bool ab_worker_wait(struct ab_batcher *batcher, bool is_new);
void ab_worker_failed_to_start(struct ab_batcher *batcher);
void ab_workers_quit(void); // the interpreter ends: all leave when idle
void ab_workers_resume(void); // a new interpreter begins
bool ab_workers_are_quitting(void);

void ab_batcher_after_fork_child(struct ab_batcher *batcher) AB_UNCHECKED;

#endif
