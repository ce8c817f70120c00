/* Entries that go another way than by a batch that ran: refused together,
 * cancelled, admitted late, or of a loop that closed.
 */
#ifndef AB_CORE_LEAVE_H
#define AB_CORE_LEAVE_H

#include "core/batcher.h"

enum ab_collect {
    AB_COLLECT_QUEUE = 1,
    AB_COLLECT_BACKLOG = 2,
    AB_COLLECT_RUNNING = 4,
};

/* Move the waiting entries of `link` (NULL: of all) from where `what` says
 * into a batch of their own that the caller holds and that has no permit: to
 * be stored into and settled.  `out` NULL where there are none. */
enum ab_status ab_batch_collect(struct ab_batcher *batcher,
                                struct ab_link *link, unsigned what,
                                struct ab_batch **out);

/* Drop those of the queue's entries that have these numbers, in ascending
 * order: their waiters are gone.  How many were there still; `out` has them.
 */
size_t ab_batcher_drop(struct ab_batcher *batcher, const uint64_t *numbers,
                       size_t count, struct ab_entry *out,
                       struct ab_todo *todo);

/* Take a caller out of the backlog: both entries.  False: it is not there. */
bool ab_batcher_withdraw(struct ab_batcher *batcher, uint64_t number,
                         struct ab_entry out[2], struct ab_todo *todo);

/* A batch that runs on the loop of `link`, held anew, or NULL. */
struct ab_batch *ab_batcher_hosted_by(struct ab_batcher *batcher,
                                      struct ab_link *link);

/* The batcher's home, if it is in `mailbox`, which closed: its loss is to be
 * reported even where nobody waits on it.  Named until ab_batcher_lost_loop.
 */
struct ab_link *ab_batcher_pop_home(struct ab_batcher *batcher,
                                    struct ab_mailbox *mailbox);

/* The loop of `link` closed: find another home, and decide again. */
void ab_batcher_lost_loop(struct ab_batcher *batcher, struct ab_link *link,
                          struct ab_todo *todo);

/* Inside the mutex: let callers that wait for space in, oldest first, as long
 * as there is room.  `own` and `todo` as in ab_decide_locked. */
void ab_backlog_admit_locked(struct ab_batcher *batcher,
                             struct ab_mailbox *own, struct ab_todo *todo);

/* The object is garbage, with all who wait: forget what is owed to them.
 * Queue and batches stay listed for the caller to empty, and end when they are
 * let go. How many references pending work held on the object: the caller's to
 * drop.
 */
size_t ab_batcher_forget(struct ab_batcher *batcher);

#endif
