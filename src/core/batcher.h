/* The state of one batcher: its queue, its permits, and where its batches
 * run.  A batch is decided here (by the policy), bounded here (by the
 * permits), and cut in batch.h.  Callers come by intake.h.
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
#include "core/prefetch.h"
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
    AB_HINT_TAKEN, // a worker woke for it, or a run was started: it will cut
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
    struct ab_cond workers_wanted; // a hint, a time to keep, or to leave
    struct {
        struct ab_limits limits;
        enum ab_host host;
        struct ab_queue queue;         // accepted and not cut
        struct ab_prefetch prefetch;   // how much of it is ahead
        struct ab_batch_list batches;  // cut and not wholly told
        struct ab_batch_list backlog;  // callers that wait for space
        struct ab_batch_list watchers; // callers that wait for idleness
        uint64_t batch_number;
        size_t outstanding; // entries accepted and not told, and permits taken
        struct ab_link *links;
        struct ab_link *home; // the loop that hosts; NULL: none answers
        void *object_ref;     /* owned by the object: a weak reference to it */
        size_t running;       // permits taken
        size_t pending_links; // links with pending > 0
        enum ab_hint hint;
        int64_t hint_due_ns; // when an unanswered hint is given again
        int64_t hint_wait_ns;
        uint64_t flush_number; // entries below it go at once
        int64_t armed_ns;      // the timer fires then at the latest; AB_NEVER
        int64_t unarmed_ns;    // an idle worker keeps that time; AB_NEVER
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
    bool start_run;          // a task on the caller's loop, which will cut
    bool is_full;            // and what it will cut cannot grow any more
    bool is_away;     // the loop that hosts is not the caller's: does it run?
    int64_t retry_ns; // not 0: keep the time yourself and look again then
};

/* A batcher with one count, in the registry.  AB_OK or AB_NO_MEMORY. */
enum ab_status ab_batcher_new(struct ab_batcher **out, void *object);
void ab_batcher_acquire(struct ab_batcher *batcher);
void ab_batcher_release(struct ab_batcher *batcher);

/* The object goes: nothing is due any more, workers leave.  What it still
 * holds must have been taken out.  Gives back the object's count. */
void ab_batcher_orphan(struct ab_batcher *batcher);

/* Inside the mutex: from now on these limits count; something may be due by
 * them. */
void ab_batcher_set_limits_locked(struct ab_batcher *batcher,
                                  const struct ab_limits *limits);

/* Make the link of `mailbox` (NULL: of callers without a loop), which its
 * callers are found by from then on.  AB_OK or AB_NO_MEMORY. */
enum ab_status ab_batcher_link(struct ab_batcher *batcher,
                               struct ab_mailbox *mailbox);

/* Inside the mutex: find the link of a running loop (NULL: of callers without
 * one), and count entries in and out of it. */
struct ab_link *ab_link_of_locked(struct ab_batcher *batcher, void *loop);
struct ab_link *ab_link_in_locked(struct ab_batcher *batcher,
                                  const struct ab_mailbox *mailbox);
void ab_link_pend_locked(struct ab_link *link, size_t count,
                         struct ab_todo *todo);
void ab_link_unpend_locked(struct ab_link *link, size_t count,
                           struct ab_todo *todo);

/* Inside the mutex: wake the loops whose callers are to be told, by their fds:
 * whoever comes here has nothing of Python to tell them with. */
void ab_batcher_wake_untold_locked(struct ab_batcher *batcher);

/* In the child of a fork, whose thread owns the mutex. */
void ab_batcher_after_fork_child(struct ab_batcher *batcher) AB_UNCHECKED;

#endif
