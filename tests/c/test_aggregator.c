/* The timer thread: it is watched by what it fires, never by waiting. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/aggregator.h"

#include "support.h"

#include <pthread.h>

#define MANY 10000

struct bell {
    struct ab_timer timer;
    atomic_int counts; // what arming took and nobody gave back
    atomic_int rings;
    pthread_t thread;
    int64_t fired_ns;
    int place; // among all that fired
};

static atomic_int total;

static void
take_count(struct ab_timer *timer)
{
    atomic_fetch_add(&((struct bell *)timer)->counts, 1);
}

static void
give_count(struct ab_timer *timer)
{
    atomic_fetch_sub(&((struct bell *)timer)->counts, 1);
}

static void
ring(struct ab_timer *timer)
{
    struct bell *bell = (struct bell *)timer;
    bell->thread = pthread_self();
    bell->fired_ns = ab_clock_now_ns();
    give_count(timer);
    bell->place = atomic_fetch_add(&total, 1);
    atomic_fetch_add(&bell->rings, 1);
}

#define NEW_BELL                                                              \
    {                                                                         \
        .timer = {                                                            \
            .fire = ring,                                                     \
            .acquire = take_count,                                            \
            .release = give_count                                             \
        }                                                                     \
    }

static bool
has_rung(void *context)
{
    return atomic_load(&((struct bell *)context)->rings) > 0;
}

static bool
have_rung(void *context)
{
    return atomic_load(&total) >= *(int *)context;
}

static void
fires_when_due_and_not_before(void)
{
    struct bell early = NEW_BELL, late = NEW_BELL;
    ab_clock_freeze();
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    int64_t now_ns = ab_clock_now_ns();
    CHECK(ab_aggregator_arm(&late.timer, now_ns + 11) == AB_OK);
    CHECK(ab_aggregator_arm(&early.timer, now_ns + 10) == AB_OK);
    CHECK_EQUAL(early.counts, 1);
    advance_clock(9);
    CHECK_EQUAL(early.rings, 0);
    advance_clock(1);
    CHECK(comes_true(has_rung, &early));
    CHECK_EQUAL(early.fired_ns, now_ns + 10);
    CHECK_EQUAL(late.rings, 0);
    advance_clock(1);
    CHECK(comes_true(has_rung, &late));
    CHECK_EQUAL(early.rings, 1);
    CHECK_EQUAL(early.counts, 0);
    CHECK_EQUAL(late.counts, 0);
    ab_aggregator_unreserve(true);
    ab_aggregator_unreserve(true);
}

static void
arming_again_keeps_the_earlier_time(void)
{
    struct bell bell = NEW_BELL;
    ab_clock_freeze();
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    int64_t now_ns = ab_clock_now_ns();
    CHECK(ab_aggregator_arm(&bell.timer, now_ns + 20) == AB_OK);
    CHECK(ab_aggregator_arm(&bell.timer, now_ns + 10) == AB_OK);
    CHECK(ab_aggregator_arm(&bell.timer, now_ns + 30) == AB_OK);
    CHECK_EQUAL(bell.counts, 1);
    CHECK_EQUAL(bell.timer.due_ns, now_ns + 10);
    advance_clock(10);
    CHECK(comes_true(has_rung, &bell));
    CHECK_EQUAL(bell.timer.slot, 0);
    advance_clock(100);
    CHECK_EQUAL(bell.rings, 1);
    ab_aggregator_unreserve(true);
}

static void
disarmed_timer_does_not_fire(void)
{
    struct bell quiet = NEW_BELL, loud = NEW_BELL;
    ab_clock_freeze();
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    int64_t now_ns = ab_clock_now_ns();
    CHECK(ab_aggregator_arm(&quiet.timer, now_ns + 10) == AB_OK);
    CHECK(ab_aggregator_arm(&loud.timer, now_ns + 20) == AB_OK);
    ab_aggregator_disarm(&quiet.timer);
    ab_aggregator_disarm(&quiet.timer);
    CHECK_EQUAL(quiet.counts, 0);
    advance_clock(20);
    CHECK(comes_true(has_rung, &loud)); // it would have come after
    CHECK_EQUAL(quiet.rings, 0);
    ab_aggregator_unreserve(true);
    ab_aggregator_unreserve(true);
}

static void
ten_thousand_timers_share_one_thread_and_fire_in_order(void)
{
    struct bell *bells = ab_allocate(MANY * sizeof *bells);
    REQUIRE(bells != NULL);
    struct dice dice = {7};
    ab_clock_freeze();
    int64_t now_ns = ab_clock_now_ns();
    int expected = 0;
    atomic_store(&total, 0);
    for (size_t i = 0; i < MANY; i++) {
        bells[i] = (struct bell)NEW_BELL;
        REQUIRE(ab_aggregator_reserve(true) == AB_OK);
        CHECK(ab_aggregator_arm(&bells[i].timer,
                                now_ns + 1 + (int64_t)roll(&dice, 5000)) ==
              AB_OK);
    }
    for (size_t i = 0; i < MANY; i++) {
        if (roll(&dice, 3) == 0) {
            ab_aggregator_disarm(&bells[i].timer);
        }
        else {
            expected++;
        }
    }
    advance_clock(6000);
    CHECK(comes_true(have_rung, &expected));
    const struct bell *by_place[MANY] = {NULL};
    for (size_t i = 0; i < MANY; i++) {
        CHECK_EQUAL(bells[i].counts, 0);
        if (bells[i].rings > 0) {
            by_place[bells[i].place] = &bells[i];
        }
        ab_aggregator_unreserve(true);
    }
    for (int i = 1; i < expected && !check_failed(); i++) {
        CHECK(by_place[i - 1]->timer.due_ns <= by_place[i]->timer.due_ns);
        CHECK(pthread_equal(by_place[i - 1]->thread, by_place[i]->thread));
    }
    ab_release(bells);
}

static void
due_time_below_a_millisecond_is_kept(void)
{
    // The best of many: a loaded machine is late now and then, a timer of
    // whole milliseconds always.
    int64_t best_ns = INT64_MAX;
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    for (int i = 0; i < 200 && best_ns > 500000; i++) {
        struct bell bell = NEW_BELL;
        int64_t due_ns = ab_clock_now_ns() + 200000;
        CHECK(ab_aggregator_arm(&bell.timer, due_ns) == AB_OK);
        REQUIRE(comes_true(has_rung, &bell));
        CHECK(bell.fired_ns >= due_ns);
        if (bell.fired_ns - due_ns < best_ns) {
            best_ns = bell.fired_ns - due_ns;
        }
    }
    CHECK(best_ns < 500000);
    ab_aggregator_unreserve(true);
}

static void
earlier_timer_wakes_the_sleeping_thread(void)
{
    struct bell never = NEW_BELL, far = NEW_BELL, soon = NEW_BELL;
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    CHECK(ab_aggregator_arm(&never.timer, AB_NEVER) == AB_OK);
    CHECK(ab_aggregator_arm(&far.timer, ab_clock_now_ns() + 3600 * SECOND) ==
          AB_OK);
    CHECK(ab_aggregator_arm(&soon.timer, ab_clock_now_ns() + MS) == AB_OK);
    CHECK(comes_true(has_rung, &soon));
    CHECK_EQUAL(far.rings + never.rings, 0);
    ab_aggregator_disarm(&far.timer);
    ab_aggregator_disarm(&never.timer);
    CHECK_EQUAL(far.counts + never.counts, 0);
    for (int i = 0; i < 3; i++) {
        ab_aggregator_unreserve(true);
    }
}

static void
thread_ends_with_its_last_user_and_starts_anew(void)
{
    // Ending fires what is left of those who need no thread.
    struct bell left = NEW_BELL, later = NEW_BELL;
    ab_clock_freeze();
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    REQUIRE(ab_aggregator_reserve(false) == AB_OK);
    CHECK(ab_aggregator_arm(&left.timer, AB_NEVER - 1) == AB_OK);
    CHECK_EQUAL(left.rings, 0);
    ab_aggregator_unreserve(true);
    CHECK(comes_true(has_rung, &left));
    REQUIRE(ab_aggregator_reserve(true) == AB_OK);
    CHECK(ab_aggregator_arm(&later.timer, ab_clock_now_ns()) == AB_OK);
    CHECK(comes_true(has_rung, &later));
    ab_aggregator_unreserve(true);
    ab_aggregator_unreserve(false);
}

static void
reservation_without_memory_reserves_nothing(void)
{
    fail_allocation_after(0);
    CHECK(ab_aggregator_reserve(true) == AB_NO_MEMORY);
    fail_allocation_after(-1);
    for (int i = 0; i < 8; i++) {
        CHECK(ab_aggregator_reserve(true) == AB_OK);
    }
    fail_allocation_after(0);
    CHECK(ab_aggregator_reserve(true) == AB_NO_MEMORY);
    fail_allocation_after(-1);
    for (int i = 0; i < 8; i++) {
        ab_aggregator_unreserve(true);
    }
}

const struct test aggregator_tests[] = {
    TEST(fires_when_due_and_not_before),
    TEST(arming_again_keeps_the_earlier_time),
    TEST(disarmed_timer_does_not_fire),
    TEST(ten_thousand_timers_share_one_thread_and_fire_in_order),
    TEST(due_time_below_a_millisecond_is_kept),
    TEST(earlier_timer_wakes_the_sleeping_thread),
    TEST(thread_ends_with_its_last_user_and_starts_anew),
    TEST(reservation_without_memory_reserves_nothing),
    TESTS_END,
};
