/* When a batch is due and how much it takes: pure functions of limits, the
 * state of a queue and the time.  Nothing here waits, locks or remembers.
 */
#ifndef AB_CORE_POLICY_H
#define AB_CORE_POLICY_H

#include "core/base.h"
#include "core/queue.h"

#define AB_UNLIMITED INT64_MAX

struct ab_limits {
    int64_t max_batch_size; // items; AB_UNLIMITED
    int64_t max_batch_cost; // AB_UNLIMITED
    int64_t max_queue_size; // items; AB_UNLIMITED
    int64_t max_queue_cost; // AB_UNLIMITED
    int64_t concurrency;    // permits; AB_UNLIMITED
    int64_t window_ns;      // 0: no window
    // Batches that are assembled beside the bounded queue while every permit
    // is taken; 0: none; AB_UNLIMITED.
    int64_t prefetch_batches;
};

/* Why a batch went.  The names are public, in `stats.reasons`. */
enum ab_reason {
    AB_REASON_FULL,   // max_batch_size items wait
    AB_REASON_COST,   // max_batch_cost is reached
    AB_REASON_WINDOW, // the oldest item has waited max_queue_time
    AB_REASON_IDLE,   // no window and a permit is free
    AB_REASON_FLUSH,  // flush() was called
    AB_REASON_DRAIN,  // stop() was called
    AB_REASONS,
};

extern const char *const ab_reason_names[AB_REASONS];

enum ab_action {
    AB_REST, // nothing to do until something changes
    AB_WAIT, // look again at due_ns
    AB_CUT,  // a batch is due now
};

struct ab_view {
    size_t waiting;      // entries in the queue
    struct ab_cost cost; // of those
    size_t ahead;        // of the waiting: they do not count as queued
    struct ab_cost ahead_cost;
    int64_t oldest_ns; // when the first of them was queued
    size_t running;    // permits taken
    bool is_draining, is_flushing;
};

struct ab_verdict {
    enum ab_action action;
    enum ab_reason reason; // AB_CUT
    int64_t due_ns;        // AB_WAIT
};

/* Late binding follows from this order: with no permit free nothing is due,
 * and the queue goes on growing until one is given back. */
struct ab_verdict ab_policy_decide(const struct ab_limits *limits,
                                   const struct ab_view *view, int64_t now_ns);

/* May an entry of cost `cost` join a batch of `size` entries that cost
 * `total` so far?  The first always may: an item dearer than the budget goes
 * alone. */
bool ab_policy_fits(const struct ab_limits *limits, size_t size,
                    const struct ab_cost *total, int64_t cost);

/* Is there room in the bounded queue for `count` more entries of cost `cost`?
 * With none in it there is room for one of any cost. */
bool ab_policy_admits(const struct ab_limits *limits,
                      const struct ab_view *view, size_t count,
                      const struct ab_cost *cost);

#endif
