/* The allocator hooks, the counts, and the clock. */
#include "support.h"

static void
memory_comes_zeroed(void)
{
    unsigned char *block = ab_allocate(1000);
    REQUIRE(block != NULL);
    size_t others = 0;
    for (size_t i = 0; i < 1000; i++) {
        others += block[i] != 0;
    }
    CHECK_EQUAL(others, 0);
    ab_release(block);
}

static void
failed_resize_keeps_the_block(void)
{
    char *block = ab_allocate(1);
    REQUIRE(block != NULL);
    *block = 'x';
    fail_allocation_after(0);
    CHECK(ab_resize(block, 1000) == NULL);
    CHECK(has_allocation_failed());
    CHECK(*block == 'x');
    ab_release(block);
}

static void
last_owner_alone_frees(void)
{
    struct ab_count count;
    ab_count_init(&count);
    ab_count_acquire(&count);
    CHECK(!ab_count_release(&count));
    CHECK(ab_count_release(&count));
}

static void
frozen_clock_moves_by_advance_alone(void)
{
    CHECK(!ab_clock_is_frozen());
    ab_clock_freeze();
    int64_t start_ns = ab_clock_now_ns();
    CHECK(ab_clock_is_frozen());
    CHECK(ab_clock_now_ns() == start_ns);
    ab_clock_advance(1);
    CHECK_EQUAL(ab_clock_now_ns() - start_ns, 1);
    ab_clock_advance(3600 * SECOND);
    CHECK_EQUAL(ab_clock_now_ns() - start_ns, 3600 * SECOND + 1);
    ab_clock_freeze(); // again: nothing changes
    CHECK_EQUAL(ab_clock_now_ns() - start_ns, 3600 * SECOND + 1);
}

static void
thawed_clock_goes_on_from_the_frozen_moment(void)
{
    int64_t before_ns = ab_clock_now_ns();
    ab_clock_freeze();
    ab_clock_advance(3600 * SECOND);
    int64_t frozen_ns = ab_clock_now_ns();
    ab_clock_thaw();
    CHECK(!ab_clock_is_frozen());
    int64_t after_ns = ab_clock_now_ns();
    CHECK(after_ns >= frozen_ns);
    CHECK(after_ns - before_ns >= 3600 * SECOND);
    ab_clock_thaw(); // again: nothing changes
    CHECK(ab_clock_now_ns() >= after_ns);
}

static void
system_time_follows_the_clock(void)
{
    int64_t now_ns = ab_clock_now_ns();
    CHECK(ab_clock_to_system_ns(now_ns) == now_ns);
    ab_clock_freeze();
    ab_clock_advance(10 * SECOND);
    ab_clock_thaw();
    int64_t system_ns = ab_clock_to_system_ns(ab_clock_now_ns());
    CHECK(system_ns >= now_ns);
    CHECK(system_ns < now_ns + 9 * SECOND);
}

const struct test base_tests[] = {
    TEST(memory_comes_zeroed),
    TEST(failed_resize_keeps_the_block),
    TEST(last_owner_alone_frees),
    TEST(frozen_clock_moves_by_advance_alone),
    TEST(thawed_clock_goes_on_from_the_frozen_moment),
    TEST(system_time_follows_the_clock),
    TESTS_END,
};
