#include "core/prefetch.h"

void
ab_prefetch_reset(struct ab_prefetch *ahead)
{
    *ahead = (struct ab_prefetch){0}; // without a place in any chunk
}

/* Put an entry of cost `cost` before the line, if one more batch at most is
 * needed for it. */
static bool
join(struct ab_prefetch *ahead, const struct ab_limits *limits, int64_t cost,
     size_t most)
{
    if (ahead->batches == 0 ||
        !ab_policy_fits(limits, ahead->last_size, &ahead->last_cost, cost)) {
        if (ahead->batches == most) {
            return false;
        }
        ahead->batches++;
        ahead->last_size = 0;
        ahead->last_cost = (struct ab_cost){0};
    }
    ahead->last_size++;
    ahead->entries++;
    ab_cost_add(&ahead->last_cost, cost);
    ab_cost_add(&ahead->cost, cost);
    return true;
}

void
ab_prefetch_update(struct ab_prefetch *ahead, const struct ab_limits *limits,
                   const struct ab_queue *queue, size_t most)
{
    if (ahead->losses != queue->losses || ahead->line.chunk == NULL) {
        ab_prefetch_reset(ahead);
        ahead->losses = queue->losses;
        ahead->line = ab_queue_walk(queue, 0);
    }
    struct ab_cursor next = ahead->line;
    const struct ab_entry *entry;
    while ((entry = ab_queue_next(queue, &next)) != NULL &&
           join(ahead, limits, entry->cost, most)) {
        ahead->line = next;
    }
}
