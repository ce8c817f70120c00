/* The aggregation thread: one per process, native, never attached to Python.
 * It sleeps until the earliest due time of all batchers and then lets the
 * owner of that time look at its queue.
 *
 * Two wishes pull apart: an item must go the moment its window ends, and a
 * thread that is woken for every change of a due time costs more than the
 * batches it serves.  So a due time may be early but never late: arming with
 * a later time than the one in the heap changes nothing, and what fires too
 * soon looks at its queue, finds nothing due, and arms anew.  A queue under
 * load thus wakes the thread at most once a window, an idle process never.
 */
#ifndef AB_CORE_AGGREGATOR_H
#define AB_CORE_AGGREGATOR_H

#include "core/base.h"

struct ab_timer {
    int64_t due_ns; // under the aggregator's mutex, as is slot
    size_t slot;    // place in the heap plus one; 0: not armed
    /* Called on the aggregation thread with no lock held.  It owns the count
     * on the timer's object that arming took, and gives it back. */
    void (*fire)(struct ab_timer *timer);
    /* Take and give back a count on the timer's object, no lock needed. */
    void (*acquire)(struct ab_timer *timer);
    void (*release)(struct ab_timer *timer);
};

/* Keep memory for one more timer, so that arming it cannot fail for lack of
 * memory.  The thread ends when no timer is left whose object needs it. */
enum ab_status ab_aggregator_reserve(bool needs_thread);
void ab_aggregator_unreserve(bool needs_thread);

/* Fire `timer` at `due_ns`, or earlier if it is armed already.  AB_OK, or
 * AB_NO_THREAD, and then nothing is armed.  Thread: any. */
enum ab_status ab_aggregator_arm(struct ab_timer *timer, int64_t due_ns);

/* Take `timer` out of the heap if it is in it.  It may be firing all the
 * same: whoever fires looks at the state first. */
void ab_aggregator_disarm(struct ab_timer *timer);

/* Let the thread look at the clock again: the test clock moved. */
void ab_aggregator_wake(void);

/* Fork: the lock is last in the order but for that of crew.h.  The child has
 * no thread and starts with an empty heap. */
void ab_aggregator_before_fork(void) AB_UNCHECKED;
void ab_aggregator_after_fork_parent(void) AB_UNCHECKED;
void ab_aggregator_after_fork_child(void) AB_UNCHECKED;

#endif
