/* The batches that lie assembled ahead of their turn, and which of the waiting
 * entries are in them.
 *
 * Late binding wants each of them to go on growing until its turn, and the
 * order is strict.  So they are nothing but the first so many greedy batches
 * of the queue: no entry is moved, and a line through the queue says which
 * ones no longer count against its bounds.  Where nothing has left since, the
 * line goes on from where it stood: so a push costs what it adds.
 */
#ifndef AB_CORE_PREFETCH_H
#define AB_CORE_PREFETCH_H

#include "core/policy.h"
#include "core/queue.h"

struct ab_prefetch {
    struct ab_cursor line; // entries before it are ahead
    uint64_t losses;       // of the queue when the line began at its head
    size_t batches;        // ahead, the one that grows included
    size_t entries;        // in those
    struct ab_cost cost;
    size_t last_size; // of the batch that grows
    struct ab_cost last_cost;
};

/* Bring the line up to date, with up to `most` batches before it. */
void ab_prefetch_update(struct ab_prefetch *ahead,
                        const struct ab_limits *limits,
                        const struct ab_queue *queue, size_t most);

/* Have the next update begin anew: the limits changed. */
void ab_prefetch_reset(struct ab_prefetch *ahead);

#endif
