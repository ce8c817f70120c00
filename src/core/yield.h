/* Letting other threads have the interpreter while a sync batch runs.
 *
 * A thread that runs Python beside a busy loop starves: the loop drops and
 * retakes the interpreter lock faster than a waiter can get it.  So, while a
 * sync batch runs, every known loop is asked to stay detached for a moment,
 * again and again, at a rate that leaves the loop most of its time.  Nobody
 * asks on a build without that lock.
 */
#ifndef AB_CORE_YIELD_H
#define AB_CORE_YIELD_H

#include "core/mailbox.h"

void ab_yield_begin(void); // a sync batch wants to run
void ab_yield_end(void);   // it ended

/* A loop that comes while one runs is asked, too. */
void ab_yield_join(struct ab_mailbox *mailbox);

/* The `fire` of a mailbox's timer: ask its loop, and write the fd that could
 * not be written before. */
void ab_yield_ask(struct ab_timer *timer);

/* The loop answered: it was away for `away_ns`.  Thread: loop. */
void ab_yield_answered(struct ab_mailbox *mailbox, int64_t away_ns);

/* The child of a fork runs none of the parent's batches. */
void ab_yield_after_fork_child(void);

#endif
