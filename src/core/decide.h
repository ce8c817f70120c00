/* From a verdict of the policy to whoever must act on it: the timer, the home
 * loop, or a worker.
 */
#ifndef AB_CORE_DECIDE_H
#define AB_CORE_DECIDE_H

#include "core/batcher.h"

/* Look whether a batch is due, now that something changed. */
void ab_batcher_look(struct ab_batcher *batcher, struct ab_mailbox *own,
                     struct ab_todo *todo);

/* Inside the mutex: apply the policy, and hint, arm the timer, or leave work
 * in `todo`.  `own` is the mailbox of the loop that the caller runs on; NULL:
 * none.  A `todo` of NULL says that the caller is detached. */
void ab_decide_locked(struct ab_batcher *batcher, struct ab_mailbox *own,
                      int64_t now_ns, struct ab_todo *todo);

/* Inside the mutex: the home's loop, which was hinted, will not answer. */
void ab_hint_lost_locked(struct ab_batcher *batcher);

/* Inside the mutex: a run is to be started for the hint.  False: it is none's
 * any more, or somebody is on the way already. */
bool ab_hint_take_locked(struct ab_batcher *batcher);

/* Inside the mutex: look again soon, for there was no memory.  Both the thread
 * and the caller's loop keep the time: the one may not be there, or unable to
 * wake the other, which may stop. */
void ab_batcher_try_later_locked(struct ab_batcher *batcher,
                                 struct ab_mailbox *own, struct ab_todo *todo);

struct ab_view ab_view_locked(struct ab_batcher *batcher);

/* Inside the mutex: how many batches lie assembled behind the running ones. */
size_t ab_prefetched_locked(struct ab_batcher *batcher);

#endif
