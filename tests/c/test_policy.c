/* Tables: what the policy says to a state of the queue. */
#include "core/policy.h"

#include "support.h"

#define NO_LIMIT AB_UNLIMITED

static const struct ab_limits plain = {
    .max_batch_size = 4,
    .max_batch_cost = 100,
    .max_queue_size = 10,
    .max_queue_cost = 1000,
    .concurrency = 2,
    .window_ns = 5 * MS,
};

static const struct {
    const char *promise;
    size_t waiting;
    struct ab_cost cost;
    int64_t oldest_ns, now_ns;
    size_t running;
    bool is_draining, is_flushing;
    enum ab_action action;
    enum ab_reason reason;
    int64_t due_ns;
} verdicts[] = {
    {"nothing waits", 0, {0, 0}, 0, 99, 0, true, true, AB_REST, 0, 0},
    {"no permit", 9, {1, 0}, 0, SECOND, 2, true, true, AB_REST, 0, 0},
    {"permits lowered", 9, {0, 9}, 0, SECOND, 3, 0, 0, AB_REST, 0, 0},
    {"wait", 3, {0, 99}, 7, 7, 1, 0, 0, AB_WAIT, 0, 5 * MS + 7},
    {"one ns left", 1, {0, 0}, 7, 5 * MS + 6, 0, 0, 0, AB_WAIT, 0, 5 * MS + 7},
    {"window", 1, {0, 0}, 7, 5 * MS + 7, 0, 0, 0, AB_CUT, AB_REASON_WINDOW, 0},
    {"late", 1, {0, 0}, 7, SECOND, 0, 0, 0, AB_CUT, AB_REASON_WINDOW, 0},
    {"clock behind", 1, {0, 0}, 7, 0, 0, 0, 0, AB_WAIT, 0, 5 * MS + 7},
    {"full", 4, {0, 0}, 0, 0, 0, 0, 0, AB_CUT, AB_REASON_FULL, 0},
    {"more than full",
     9,
     {0, 500},
     0,
     SECOND,
     1,
     true,
     true,
     AB_CUT,
     AB_REASON_FULL,
     0},
    {"cost", 2, {0, 100}, 0, 0, 0, true, true, AB_CUT, AB_REASON_COST, 0},
    {"cost of 128 bits", 2, {1, 0}, 0, 0, 0, 0, 0, AB_CUT, AB_REASON_COST, 0},
    {"drain", 1, {0, 0}, 0, 0, 0, true, true, AB_CUT, AB_REASON_DRAIN, 0},
    {"flush", 1, {0, 0}, 0, 0, 0, false, true, AB_CUT, AB_REASON_FLUSH, 0},
};

static void
each_state_has_its_verdict_and_reason(void)
{
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
        struct ab_view view = {.waiting = verdicts[i].waiting,
                               .cost = verdicts[i].cost,
                               .oldest_ns = verdicts[i].oldest_ns,
                               .running = verdicts[i].running,
                               .is_draining = verdicts[i].is_draining,
                               .is_flushing = verdicts[i].is_flushing};
        struct ab_verdict verdict =
            ab_policy_decide(&plain, &view, verdicts[i].now_ns);
        bool is_good = verdict.action == verdicts[i].action;
        if (verdict.action == AB_CUT) {
            is_good = is_good && verdict.reason == verdicts[i].reason;
        }
        if (verdict.action == AB_WAIT) {
            is_good = is_good && verdict.due_ns == verdicts[i].due_ns;
        }
        check(is_good, verdicts[i].promise, __FILE__, __LINE__);
    }
}

static void
without_a_window_a_free_permit_is_enough(void)
{
    struct ab_limits limits = plain;
    limits.window_ns = 0;
    struct ab_view view = {.waiting = 1, .oldest_ns = SECOND};
    struct ab_verdict verdict = ab_policy_decide(&limits, &view, 0);
    CHECK(verdict.action == AB_CUT && verdict.reason == AB_REASON_IDLE);
    view.running = 2;
    CHECK(ab_policy_decide(&limits, &view, 0).action == AB_REST);
}

static void
window_beyond_the_end_of_time_never_ends(void)
{
    struct ab_limits limits = plain;
    struct ab_view view = {.waiting = 1, .oldest_ns = 10 * SECOND};
    const int64_t windows[] = {INT64_MAX, INT64_MAX - 1,
                               INT64_MAX - 10 * SECOND + 1};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        limits.window_ns = windows[i];
        struct ab_verdict verdict =
            ab_policy_decide(&limits, &view, 20 * SECOND);
        CHECK(verdict.action == AB_WAIT);
        CHECK(verdict.due_ns == INT64_MAX);
    }
    limits.window_ns = INT64_MAX - 10 * SECOND;
    CHECK(ab_policy_decide(&limits, &view, 20 * SECOND).due_ns == INT64_MAX);
    limits.window_ns -= 1;
    CHECK(ab_policy_decide(&limits, &view, 20 * SECOND).due_ns ==
          INT64_MAX - 1);
}

static void
cost_without_a_limit_is_never_the_reason(void)
{
    struct ab_limits limits = plain;
    limits.max_batch_cost = NO_LIMIT;
    struct ab_view view = {.waiting = 2, .cost = {0, UINT64_MAX - 1}};
    CHECK(ab_policy_decide(&limits, &view, 0).action == AB_WAIT);
    view.cost = (struct ab_cost){0, (uint64_t)INT64_MAX};
    CHECK(ab_policy_decide(&limits, &view, 0).action == AB_WAIT);
}

static void
no_limit_at_all_waits_for_the_window(void)
{
    struct ab_limits limits = {NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT,
                               NO_LIMIT, MS,       0};
    struct ab_view view = {.waiting = SIZE_MAX / 64, .running = SIZE_MAX / 64};
    CHECK(ab_policy_decide(&limits, &view, 0).action == AB_WAIT);
    CHECK(ab_policy_fits(&limits, SIZE_MAX / 64, &view.cost, INT64_MAX));
    CHECK(ab_policy_admits(&limits, &view, SIZE_MAX / 64, &view.cost));
}

static void
batch_takes_what_fits_and_an_oversize_item_alone(void)
{
    struct ab_cost none = {0, 0}, some = {0, 60}, big = {0, 101};
    CHECK(ab_policy_fits(&plain, 3, &some, 40));
    CHECK(!ab_policy_fits(&plain, 3, &some, 41));
    CHECK(!ab_policy_fits(&plain, 4, &none, 0));
    CHECK(ab_policy_fits(&plain, 0, &none, 101));
    CHECK(ab_policy_fits(&plain, 0, &none, INT64_MAX));
    CHECK(!ab_policy_fits(&plain, 1, &big, 0));
    CHECK(!ab_policy_fits(&plain, 1, &none, INT64_MAX));
    struct ab_limits limits = plain;
    limits.max_batch_cost = INT64_MAX - 1;
    CHECK(ab_policy_fits(&limits, 1, &none, INT64_MAX - 1));
    CHECK(!ab_policy_fits(&limits, 1, &none, INT64_MAX));
    CHECK(!ab_policy_fits(&limits, 1, &some, INT64_MAX - 1));
}

static void
queue_admits_up_to_its_limits(void)
{
    struct ab_cost cost = {0, 10};
    struct ab_view view = {.waiting = 8, .cost = {0, 900}};
    CHECK(ab_policy_admits(&plain, &view, 2, &cost));
    CHECK(!ab_policy_admits(&plain, &view, 3, &cost));
    CHECK(!ab_policy_admits(&plain, &view, SIZE_MAX, &cost));
    cost.low = 100;
    CHECK(ab_policy_admits(&plain, &view, 1, &cost));
    cost.low = 101;
    CHECK(!ab_policy_admits(&plain, &view, 1, &cost));
    view.waiting = 11; // the limit was lowered
    CHECK(!ab_policy_admits(&plain, &view, 0, &cost));
}

static void
empty_queue_admits_one_of_any_cost(void)
{
    struct ab_view view = {0};
    struct ab_cost cost = {0, (uint64_t)INT64_MAX};
    CHECK(ab_policy_admits(&plain, &view, 1, &cost));
    CHECK(!ab_policy_admits(&plain, &view, 2, &cost));
    view.waiting = 1;
    CHECK(!ab_policy_admits(&plain, &view, 1, &cost));
    // A sum beyond 64 bits is no small one.
    view.cost = (struct ab_cost){0, UINT64_MAX};
    cost = (struct ab_cost){0, 2};
    CHECK(!ab_policy_admits(&plain, &view, 1, &cost));
    struct ab_limits limits = plain;
    limits.max_queue_cost = NO_LIMIT;
    CHECK(ab_policy_admits(&limits, &view, 9, &cost));
}

static void
what_is_ahead_does_not_count_as_queued(void)
{
    struct ab_cost cost = {0, 10};
    struct ab_view view = {
        .waiting = 15, .cost = {1, 900}, .ahead = 7, .ahead_cost = {1, 0}};
    CHECK(ab_policy_admits(&plain, &view, 2, &cost));
    CHECK(!ab_policy_admits(&plain, &view, 3, &cost));
    cost.low = 101;
    CHECK(!ab_policy_admits(&plain, &view, 1, &cost));
    view.ahead_cost = (struct ab_cost){0, 901}; // borrows from the high half
    CHECK(!ab_policy_admits(&plain, &view, 1, &cost));
    view.ahead = 15; // the queue proper is empty
    CHECK(ab_policy_admits(&plain, &view, 1, &cost));
}

static void
every_reason_has_a_name(void)
{
    for (size_t i = 0; i < AB_REASONS; i++) {
        CHECK(ab_reason_names[i] != NULL && *ab_reason_names[i] != '\0');
    }
}

const struct test policy_tests[] = {
    TEST(each_state_has_its_verdict_and_reason),
    TEST(without_a_window_a_free_permit_is_enough),
    TEST(window_beyond_the_end_of_time_never_ends),
    TEST(cost_without_a_limit_is_never_the_reason),
    TEST(no_limit_at_all_waits_for_the_window),
    TEST(batch_takes_what_fits_and_an_oversize_item_alone),
    TEST(queue_admits_up_to_its_limits),
    TEST(empty_queue_admits_one_of_any_cost),
    TEST(what_is_ahead_does_not_count_as_queued),
    TEST(every_reason_has_a_name),
    TESTS_END,
};
