#include "core/policy.h"

const char *const ab_reason_names[AB_REASONS] = {
    "full", "cost", "window", "idle", "flush", "drain",
};

static struct ab_verdict
cut(enum ab_reason reason)
{
    return (struct ab_verdict){.action = AB_CUT, .reason = reason};
}

struct ab_verdict
ab_policy_decide(const struct ab_limits *limits, const struct ab_view *view,
                 int64_t now_ns)
{
    if (view->waiting == 0 ||
        (uint64_t)view->running >= (uint64_t)limits->concurrency) {
        return (struct ab_verdict){.action = AB_REST};
    }
    if ((uint64_t)view->waiting >= (uint64_t)limits->max_batch_size) {
        return cut(AB_REASON_FULL);
    }
    if (limits->max_batch_cost != AB_UNLIMITED &&
        ab_cost_reaches(&view->cost, limits->max_batch_cost)) {
        return cut(AB_REASON_COST);
    }
    if (view->is_draining) {
        return cut(AB_REASON_DRAIN);
    }
    if (view->is_flushing) {
        return cut(AB_REASON_FLUSH);
    }
    if (limits->window_ns == 0) {
        return cut(AB_REASON_IDLE);
    }
    int64_t waited_ns = now_ns - view->oldest_ns;
    if (waited_ns >= limits->window_ns) {
        return cut(AB_REASON_WINDOW);
    }
    return (struct ab_verdict){
        .action = AB_WAIT,
        .due_ns = view->oldest_ns > AB_UNLIMITED - limits->window_ns
                      ? AB_UNLIMITED
                      : view->oldest_ns + limits->window_ns,
    };
}

bool
ab_policy_fits(const struct ab_limits *limits, size_t size,
               const struct ab_cost *total, int64_t cost)
{
    if ((uint64_t)size >= (uint64_t)limits->max_batch_size) {
        return false;
    }
    if (size == 0 || limits->max_batch_cost == AB_UNLIMITED) {
        return true;
    }
    struct ab_cost sum = *total;
    ab_cost_add(&sum, cost);
    // Costs are whole numbers: a sum within the budget does not reach
    // budget + 1, which AB_UNLIMITED (excluded above) would overflow.
    return !ab_cost_reaches(&sum, limits->max_batch_cost + 1);
}

bool
ab_policy_admits(const struct ab_limits *limits, const struct ab_view *view,
                 size_t count, const struct ab_cost *cost)
{
    uint64_t room = (uint64_t)limits->max_queue_size;
    size_t queued = view->waiting - view->ahead;
    if (queued > room || count > room - queued) {
        return false;
    }
    if (limits->max_queue_cost == AB_UNLIMITED ||
        (queued == 0 && count == 1)) {
        return true;
    }
    struct ab_cost sum = view->cost;
    sum.high -= view->ahead_cost.high + (sum.low < view->ahead_cost.low);
    sum.low -= view->ahead_cost.low;
    sum.low += cost->low;
    sum.high += cost->high + (sum.low < cost->low);
    return !ab_cost_reaches(&sum, limits->max_queue_cost + 1);
}
